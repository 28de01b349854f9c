"""k-reciprocal sets and vectors of all images (paper, Section 3.4; Zhong et al., CVPR 2017), as sparse rows."""

from dataclasses import replace
from itertools import pairwise

import torch

from reid_core.reranking.neighbours import Neighbours
from reid_core.reranking.sparse_rows import SparseRows

WORK_AT_ONCE = (1 << 18, 1 << 23)  # values at a time: on the CPU, about its cache; on other devices


def reciprocal(index: torch.Tensor) -> SparseRows:
    """Eq. (2): of (n, k) neighbour indices, those that have the row's image among their own k, with value 1."""
    listed = SparseRows.of_lists(index, torch.ones_like(index, dtype=torch.float32))
    return listed.where(listed.transpose().at(listed)[1])


def expanded_sets(index: torch.Tensor, half: int) -> SparseRows:
    """The expanded sets R*, with value 1.

    To R(i), the k1-reciprocal neighbours of i, is added each of their own reciprocal sets with half the neighbourhood
    that lies in R(i) by more than two thirds. index: (n, k1 + 1) neighbours, nearest first."""
    wide, narrow = reciprocal(index), reciprocal(index[:, :half])
    shared = (wide @ narrow).at(wide)  # a reciprocal relation is symmetric: |R(i) and narrow(j)| at (i, j)
    accepted = wide.where(3 * shared[0] * shared[1] > 2 * narrow.sizes()[wide.column])
    union = wide + accepted @ narrow
    return replace(union, value=torch.ones_like(union.value))


def weigh(sets: SparseRows, found: Neighbours, pair_distance) -> SparseRows:
    """Gaussian weights exp(-d), divided by their sum in each row; d is the distance divided by the row's largest.

    Distances are looked up among the neighbours found; `pair_distance(row, column)` gives the few others."""
    row = sets.entry_rows()
    distance, known = SparseRows.of_lists(found.index, found.distance).at(sets)
    distance[~known] = pair_distance(row[~known], sets.column[~known].long())
    weight = torch.exp(-distance / found.farthest[row])
    total = torch.segment_reduce(weight, "sum", lengths=sets.sizes(), initial=0)
    return replace(sets, value=weight / total[row])


def average(vectors: SparseRows, neighbours: torch.Tensor) -> SparseRows:
    """Local query expansion: row i becomes the mean of the rows `neighbours[i]`, (n, k2)."""
    share = torch.full(neighbours.shape, 1 / neighbours.shape[1], device=neighbours.device)
    return SparseRows.of_lists(neighbours, share) @ vectors


def blocks_of_work(rows: SparseRows, inverted: SparseRows):
    """(start, stop) of consecutive rows for which `shared_mass` visits and gives about WORK_AT_ONCE values."""
    entries = torch.zeros(len(rows.column) + 1, dtype=torch.int64, device=rows.start.device)
    torch.cumsum(inverted.sizes()[rows.column], 0, out=entries[1:])
    work = entries[rows.start].cpu() + inverted.width * torch.arange(len(rows) + 1)
    marks = torch.arange(0, int(work[-1]), WORK_AT_ONCE[rows.start.device.type != "cpu"])
    return pairwise(sorted({*torch.searchsorted(work, marks).tolist(), len(rows)}))


def fixed_point(rows: SparseRows) -> SparseRows:
    """Values cut to multiples of 2^-40, in float64: their sums are exact, so the order of adding does not show."""
    return replace(rows, value=(rows.value.double() * 2.0**40).trunc_() / 2.0**40)
