"""Sparse (n, n) matrices by rows on any torch device: the few operations that re-ranking is made of.

Products and sums of duplicates go through SciPy on the CPU, where its hash and counting sorts are ten times faster
than general sorts, and through torch's sort elsewhere. Every sum has a fixed order, so equal input gives equal bits.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
import torch

ROWS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class SparseRows:
    """Row i holds `value[start[i]:start[i + 1]]` at `column[start[i]:start[i + 1]]`, columns ascending."""

    start: torch.Tensor  # (n + 1,) int64
    column: torch.Tensor  # (m,) int32
    value: torch.Tensor  # (m,) float32, or float64 in fixed point
    width: int

    @staticmethod
    def of(row, column, value, shape: tuple[int, int]) -> "SparseRows":
        """From entries sorted by row, then column."""
        start = torch.zeros(shape[0] + 1, dtype=torch.int64, device=row.device)
        torch.cumsum(torch.bincount(row, minlength=shape[0]), 0, out=start[1:])
        return SparseRows(start, column.int(), value.float(), shape[1])

    @staticmethod
    def of_lists(index: torch.Tensor, value: torch.Tensor) -> "SparseRows":
        """From (n, k) column numbers, distinct in each row but in any order, and their values."""
        n, k = index.shape
        start = torch.arange(0, n * k + 1, k, device=index.device)
        pairs = index.long() << 32 | value.float().view(torch.int32).long() & 0xFFFFFFFF  # one integer is sorted faster
        pairs = (pairs.sort(1)[0] if pairs.device.type != "cpu" else torch.from_numpy(np.sort(pairs, 1))).flatten()
        return SparseRows(start, (pairs >> 32).int(), pairs.int().view(torch.float32), n)

    @cached_property
    def csr(self) -> scipy.sparse.csr_array:
        """The same memory as SciPy's, on the CPU."""
        parts = (self.value.numpy(), self.column.numpy(), self.start.numpy())
        return scipy.sparse.csr_array(parts, shape=(len(self), self.width))

    def __len__(self) -> int:
        return len(self.start) - 1

    def sizes(self) -> torch.Tensor:
        return self.start.diff()

    def entry_rows(self) -> torch.Tensor:
        """Row number of every entry, int64."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.start.device), self.sizes())

    def rows(self, first: int, last: int) -> "SparseRows":
        """Rows first to last - 1, as views."""
        entries = slice(int(self.start[first]), int(self.start[last]))
        start = self.start[first : last + 1] - self.start[first]
        return SparseRows(start, self.column[entries], self.value[entries], self.width)

    def where(self, kept: torch.Tensor) -> "SparseRows":
        """The entries that the (m,) mask keeps."""
        return SparseRows.of(self.entry_rows()[kept], self.column[kept], self.value[kept], (len(self), self.width))

    def at(self, places: "SparseRows") -> tuple[torch.Tensor, torch.Tensor]:
        """Own values at the entries of `places`, and whether there is one: (m,) float32 and bool."""
        own, asked = self._keys(), places._keys()
        if len(own) == 0:
            return torch.zeros_like(asked, dtype=torch.float32), torch.zeros_like(asked, dtype=torch.bool)
        on_cpu = _on_cpu(self)  # NumPy goes on from the place of the key before
        found = torch.from_numpy(own.numpy().searchsorted(asked.numpy())) if on_cpu else torch.searchsorted(own, asked)
        found.clamp_(max=len(own) - 1)
        return self.value[found], own[found] == asked

    def transpose(self) -> "SparseRows":
        if _on_cpu(self):
            return _from_scipy(self.csr.T.tocsr())
        order = torch.argsort(self.column, stable=True)
        return SparseRows.of(self.column[order], self.entry_rows()[order], self.value[order], (self.width, len(self)))

    def gather(self, rows) -> tuple[torch.Tensor, torch.Tensor]:
        """Entries of `rows` one row after the other: for each its position in `rows`, and in this matrix."""
        size = self.sizes()[rows]
        position = torch.repeat_interleave(torch.arange(len(rows), device=size.device), size)
        offset = self.start[:-1][rows] - (size.cumsum(0) - size)
        return position, torch.arange(len(position), device=size.device) + offset[position]

    def shared_mass(self, inverted: "SparseRows") -> torch.Tensor:
        """Sum of element-wise minima of each row with every row of another matrix, whose transpose is given: dense."""
        if _on_cpu(self):
            held = inverted.csr[self.column.numpy()]
            np.minimum(held.data, np.repeat(self.value.numpy(), np.diff(held.indptr)), out=held.data)
            parts = (held.data, held.indices, held.indptr[self.start.numpy()])
            return torch.from_numpy(scipy.sparse.csr_array(parts, shape=(len(self), inverted.width)).toarray())
        position, entry = inverted.gather(self.column)
        least = torch.minimum(self.value[position], inverted.value[entry])
        cell = self.entry_rows()[position] * inverted.width + inverted.column[entry]
        return least.new_zeros(len(self) * inverted.width).index_add_(0, cell, least).view(len(self), -1)

    def __add__(self, other: "SparseRows") -> "SparseRows":
        if _on_cpu(self):
            return _from_scipy(self.csr + other.csr)
        keys = torch.cat([self._keys(), other._keys()])
        return _summed(keys, torch.cat([self.value, other.value]), len(self), self.width)

    def __matmul__(self, other: "SparseRows") -> "SparseRows":
        if _on_cpu(self):
            return _from_scipy((self.csr @ other.csr).T.tocsr().T.tocsr())  # columns are sorted by counting so
        parts = []
        for first in range(0, len(self), ROWS_AT_ONCE):
            part = self.rows(first, min(first + ROWS_AT_ONCE, len(self)))
            position, entry = other.gather(part.column)
            keys = part.entry_rows()[position] * other.width + other.column[entry]
            parts.append(_summed(keys, part.value[position] * other.value[entry], len(part), other.width))
        start = torch.cat([parts[0].start[:1], torch.cat([part.sizes() for part in parts]).cumsum(0)])
        column, value = (torch.cat([getattr(part, name) for part in parts]) for name in ("column", "value"))
        return SparseRows(start, column, value, other.width)

    def _keys(self) -> torch.Tensor:
        return self.entry_rows() * self.width + self.column


def _on_cpu(matrix: SparseRows) -> bool:
    return matrix.column.device.type == "cpu"


def _summed(keys, values, n: int, width: int) -> SparseRows:
    """Sum the values of equal keys (row * width + column)."""
    keys, order = torch.sort(keys, stable=True)
    keys, count = torch.unique_consecutive(keys, return_counts=True)
    total = torch.segment_reduce(values[order], "sum", lengths=count) if len(count) else values
    return SparseRows.of(keys // width, keys % width, total, (n, width))


def _from_scipy(matrix: scipy.sparse.csr_array) -> SparseRows:
    start, column = torch.from_numpy(matrix.indptr).long(), torch.from_numpy(matrix.indices).int()
    return SparseRows(start, column, torch.from_numpy(matrix.data), matrix.shape[1])
