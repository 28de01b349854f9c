"""k-reciprocal sets and vectors of all images as sparse rows (Zhong et al., CVPR 2017): what re-ranking compares."""

from __future__ import annotations

from dataclasses import dataclass

import torch

ROWS_AT_ONCE = 4096
WORK_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class SparseRows:
    """n sparse rows: row i holds `column[start[i]:start[i + 1]]`, ascending, and the `value`s that go with them."""

    start: torch.Tensor  # (n + 1,) int64
    column: torch.Tensor  # (m,) int32
    value: torch.Tensor  # (m,) float32

    @staticmethod
    def of(row, column, value, n: int) -> SparseRows:
        """From entries sorted by row."""
        start = torch.zeros(n + 1, dtype=torch.int64, device=row.device)
        torch.cumsum(torch.bincount(row, minlength=n), 0, out=start[1:])
        return SparseRows(start, column, value)

    def __len__(self) -> int:
        return len(self.start) - 1

    def sizes(self) -> torch.Tensor:
        return self.start.diff()

    def entry_rows(self) -> torch.Tensor:
        """Row number of every entry."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.start.device), self.sizes())

    def rows(self, first: int, last: int) -> SparseRows:
        entries = slice(int(self.start[first]), int(self.start[last]))
        return SparseRows(
            self.start[first : last + 1] - self.start[first], self.column[entries], self.value[entries]
        )

    def gather(self, rows) -> tuple[torch.Tensor, torch.Tensor]:
        """Concatenate the entries of `rows`: for each its position in `rows`, and its own position."""
        size = self.sizes()[rows]
        which = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), size)
        offset = torch.arange(len(which), device=rows.device) - (size.cumsum(0) - size)[which]
        return which, self.start[rows][which] + offset

    def transpose(self, n_columns: int) -> SparseRows:
        order = torch.argsort(self.column, stable=True)
        return SparseRows.of(self.column[order], self.entry_rows()[order].int(), self.value[order], n_columns)


def is_reciprocal(index: torch.Tensor) -> torch.Tensor:
    """Of (n, k) neighbour indices, which have the row's image among their own k: (n, k) bool."""
    number = torch.arange(len(index), dtype=index.dtype, device=index.device)
    parts = [(index[index[rows]] == rows[:, None, None]).any(2) for rows in number.split(ROWS_AT_ONCE)]
    return torch.cat(parts)


def expanded_sets(index: torch.Tensor, near: torch.Tensor) -> SparseRows:
    """Expanded k-reciprocal sets R* of Section 3.4, with value 1.

    Args:
        index: (n, k1 + 1) int32 neighbours, nearest first.
        near: (n, h) its first columns, the half neighbourhood.
    """
    n = len(index)
    kept, near_kept = is_reciprocal(index), is_reciprocal(near)
    rows, columns = [], []
    for start in range(0, n, ROWS_AT_ONCE):
        own = index[start : start + ROWS_AT_ONCE]
        row, place = kept[start : start + ROWS_AT_ONCE].nonzero(as_tuple=True)
        member = own[row, place]
        theirs, valid = near[member], near_kept[member]
        own = torch.where(kept[start : start + ROWS_AT_ONCE], own, -1)
        inside = (theirs[:, :, None] == own[row][:, None, :]).any(2) & valid
        valid &= (3 * inside.sum(1) > 2 * valid.sum(1))[:, None]
        keys = torch.cat([row * n + member, (row[:, None] * n + theirs)[valid]])
        keys = torch.unique(keys)
        rows.append(keys // n + start)
        columns.append((keys % n).int())
    column = torch.cat(columns)
    return SparseRows.of(torch.cat(rows), column, torch.ones_like(column, dtype=torch.float32), n)


def weigh(sets: SparseRows, found, pair_distance) -> SparseRows:
    """Weights exp(-d) of each set, divided by their sum; d is the distance divided by the row's largest.

    Distances are looked up among the neighbours found; `pair_distance(row, column)` gives the few others.
    """
    distances = []
    for start in range(0, len(sets), ROWS_AT_ONCE):
        part = sets.rows(start, min(start + ROWS_AT_ONCE, len(sets)))
        row = part.entry_rows() + start
        same = found.index[row] == part.column[:, None]
        distance = found.distance[row, same.int().argmax(1)]
        missing = ~same.any(1)
        distance[missing] = pair_distance(row[missing], part.column[missing].long())
        distances.append(distance / found.farthest[row])
    weight = torch.exp(-torch.cat(distances))
    row = sets.entry_rows()
    total = torch.zeros(len(sets), dtype=torch.float64, device=row.device).index_add_(0, row, weight.double())
    return SparseRows(sets.start, sets.column, (weight / total[row]).float())


def average(vectors: SparseRows, neighbours: torch.Tensor) -> SparseRows:
    """Local query expansion: row i becomes the mean of the rows `neighbours[i]`, (n, k2)."""
    n, k2 = neighbours.shape
    rows, columns, values = [], [], []
    for start in range(0, n, ROWS_AT_ONCE):
        own = neighbours[start : start + ROWS_AT_ONCE]
        which, entry = vectors.gather(own.flatten())
        key, order = torch.sort((which // k2) * n + vectors.column[entry])
        key, run = torch.unique_consecutive(key, return_inverse=True)
        value = torch.zeros(len(key), dtype=torch.float64, device=key.device)
        value.index_add_(0, run, vectors.value[entry][order].double())
        rows.append(key // n + start)
        columns.append((key % n).int())
        values.append((value / k2).float())
    return SparseRows.of(torch.cat(rows), torch.cat(columns), torch.cat(values), n)


def blocks_of_work(rows: SparseRows, inverted: SparseRows, most_rows: int):
    """(start, stop) of consecutive rows whose `shared_mass` visits at most about WORK_AT_ONCE pairs of entries."""
    work = torch.zeros(len(rows) + 1, dtype=torch.int64, device=rows.start.device)
    work[1:] = inverted.sizes()[rows.column].cumsum(0)[rows.start[1:] - 1] if len(rows.column) else 0
    work[1:][rows.start[1:] == 0] = 0
    work = work.cpu()
    start = 0
    while start < len(rows):
        stop = int(torch.searchsorted(work, work[start] + WORK_AT_ONCE, right=True)) - 1
        stop = min(max(stop, start + 1), start + max(1, most_rows), len(rows))
        yield start, stop
        start = stop


def shared_mass(rows: SparseRows, inverted: SparseRows, n_gallery: int) -> torch.Tensor:
    """Sum of element-wise minima of each row with each gallery row: (b, n_gallery) float32.

    `inverted` lists, for each column, the gallery rows that hold it.
    """
    which, entry = inverted.gather(rows.column)
    least = torch.minimum(rows.value[which], inverted.value[entry])
    cell = rows.entry_rows()[which] * n_gallery + inverted.column[entry]
    mass = torch.zeros(len(rows) * n_gallery, device=cell.device)
    return mass.index_add_(0, cell, least).view(len(rows), n_gallery)
