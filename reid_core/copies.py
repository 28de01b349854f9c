"""Features that are equal bit by bit, such as those of one file listed twice: measured once, so that they stay equal.

Products round differently from place to place: chance would order copies, by the last bit of their distances.
"""

from __future__ import annotations

import numpy as np
import torch

ROWS_AT_ONCE = 256  # of an array, 16 times as many of a tensor


def once(query, gallery, measure, norms, itself=0.0):
    """`measure(rows, columns)`, (Q, G), with copies measured only once; see `of_groups`. norms: squared lengths."""
    group = representatives(query, gallery, norms=norms)[1]
    return of_groups(group[: len(query)], group[len(query) :], measure, itself)


def of_groups(row_group: np.ndarray, column_group: np.ndarray, measure, itself: float | None = 0.0):
    """`measure(rows, columns)`, (Q, G), with only one of each group measured, and `itself` within a group.
    `measure` gets row numbers of both sides, or slice(None) for all; itself=None leaves what it gives."""
    (rows, row), (columns, column) = _distinct(row_group), _distinct(column_group)
    distance = measure(rows, columns)
    if itself is not None:
        _, same_row, same_column = np.intersect1d(row_group[rows], column_group[columns], return_indices=True)
        distance[same_row, same_column] = itself
    distance = distance if row is None else distance[row]
    if column is None:
        return distance
    # NumPy's distance[:, column] would be laid out by columns
    return distance[:, column] if torch.is_tensor(distance) else distance.take(column, 1)


def _distinct(group: np.ndarray) -> tuple[np.ndarray | slice, np.ndarray | None]:
    """The rows that come first of their group, ascending, and where among them each row's is; None: all are."""
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    rows = np.sort(first)
    return (slice(None), None) if len(rows) == len(group) else (rows, np.searchsorted(rows, first[number]))


def representatives(*parts, norms) -> tuple[np.ndarray, np.ndarray]:
    """First row of each group of bitwise equal rows (ascending), and for every row the number of its group.

    Rows count through all parts, (n, d) float32 arrays or tensors each; `norms` are their `squared_norms`, one a part.
    Both results are integer NumPy arrays, of one value a group and of (n,). 0.0 and -0.0 are equal.

    Looked at are only rows of equal length (not so on a GPU, whose sums depend on the place), grouped by a random
    integer combination of their bits, which is exact and so equal wherever they stand, then verified by value.
    """
    rows = first = np.arange(sum(map(len, parts)))
    if not (torch.is_tensor(parts[0]) and parts[0].is_cuda):
        lengths = np.concatenate(norms)
        order = np.argsort(lengths, kind="stable")
        again = np.flatnonzero(lengths[order][1:] == lengths[order][:-1])
        rows = np.union1d(order[again], order[again + 1])
    if len(rows):
        first = first.copy()
        first[rows] = rows[_first_equal(_gathered(parts, rows))]
    return np.unique(first, return_inverse=True)


def _gathered(parts, rows: np.ndarray):
    """Some rows of all parts, as if these were one, in ascending order."""
    if len(parts) == 1 and len(rows) == len(parts[0]):
        return parts[0]
    starts = np.cumsum([0, *map(len, parts)])
    own = np.split(rows, np.searchsorted(rows, starts[1:-1]))
    chosen = [part[mine - start] for part, mine, start in zip(parts, own, starts, strict=False)]
    return torch.cat(chosen) if torch.is_tensor(parts[0]) else np.concatenate(chosen)


def _first_equal(features) -> np.ndarray:
    """For every row the first that is equal to it: (n,) row numbers."""
    n, d = features.shape
    weights = np.random.default_rng(0).integers(1, 1 << 62, d) | 1
    sums = np.empty(n, np.int64)
    height = 16 * ROWS_AT_ONCE if torch.is_tensor(features) else ROWS_AT_ONCE
    for start in range(0, n, height):
        block = features[start : start + height] + 0.0
        if torch.is_tensor(block):
            bits = block.view(torch.int32).long()
            digest = (bits * bits.new_tensor(weights)).sum(1).cpu().numpy()
        else:
            digest = block.view(np.int32).astype(np.int64) @ weights
        sums[start : start + height] = digest
    first = np.arange(n)
    order = np.argsort(sums, kind="stable")
    _, start, count = np.unique(sums[order], return_index=True, return_counts=True)
    for begin, size in zip(start[count > 1], count[count > 1], strict=True):
        same = order[begin : begin + size]
        while len(same) > 1:  # rows of one sum, lowest index first: peel off group after group
            equal = (features[same] == features[same[0]]).all(1)
            equal = equal.cpu().numpy() if torch.is_tensor(equal) else equal
            first[same[equal]] = same[0]
            same = same[~equal]
    return first
