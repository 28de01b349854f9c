"""Exact nearest neighbours of every image among all images, without an (N, N) array.

Every distance is written |x|^2 + |y|^2 - 2 <x, y>, so that a search is matrix products of tiles and a running
selection. On the CPU only tiles on and above the diagonal are multiplied (the distance is symmetric) and each serves
its rows and its columns; NumPy does it, as its products are up to twice as fast there as torch's. Any other
device multiplies full rows with torch.

Images with bitwise equal features are searched as one and expanded afterwards, lowest index first, because neither
tiles nor top-k selections promise an order (or even equal rounding) for them. Distinct features whose distances
fall together in float32 keep the order in which float32 sees them, lowest index first on the CPU.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from reid_core.distance import (
    ROWS_AT_ONCE,
    expand,
    inner_products,
    is_tensor,
    matmul_precision,
    squared_norms,
)

TILE_ROWS, TILE_COLUMNS = 1024, 32768
HASHED_ROWS, PAIRS_AT_ONCE = 512, 1024
STRIP = 1 << 20  # distances looked at together; fits into a processor's cache
TORCH_CELLS = 1 << 28  # distances at a time where torch searches
WORST = np.uint64(0xFF800000_FFFFFFFF)  # packed key of (infinity, last index)


@dataclass(frozen=True)
class Points:
    """Features in a form whose squared distance is norms_i + norms_j - 2 <left_i, right_j>, at least `floor`.

    left, right: (n, d) float32; norms: (n,) float32; floor: 0, or -inf where a metric allows negative values.
    """

    left: object
    right: object
    norms: object
    floor: float

    def __len__(self) -> int:
        return len(self.norms)

    def distance(self, rows, columns):
        """Squared distances of `rows` to `columns` (slices or index arrays): 2-D float32."""
        product = inner_products(self.left[rows], self.right[columns])
        return expand(product, self.norms[rows], self.norms[columns], floor=self.floor)

    def pair_distance(self, row, column):
        """Squared distance of point row[i] to point column[i]: (m,) float32, 0 where they are one."""
        parts = [
            (
                self.left[row[start : start + PAIRS_AT_ONCE]]
                * self.right[column[start : start + PAIRS_AT_ONCE]]
            ).sum(1)
            for start in range(0, len(row), PAIRS_AT_ONCE)
        ]
        concatenate = sys.modules["torch"].cat if is_tensor(self.norms) else np.concatenate
        product = concatenate([self.norms[:0], *parts])
        distance = (self.norms[row] + self.norms[column] - 2 * product).clip(self.floor)
        distance[row == column] = 0
        return distance


def points(features, metric=None) -> Points:
    """Euclidean points, or those of a fitted XQDA: projected once, M = E diag(w) E' split into signs and lengths.

    features: (n, d) float32, array or tensor, whose kind and device the points keep.
    """
    if metric is None:
        return Points(features, features, squared_norms(features), 0.0)
    values, vectors = np.linalg.eigh(metric.metric_)
    projection = metric.components_ @ (vectors * np.sqrt(np.abs(values)))
    signs = np.sign(values)
    if is_tensor(features):
        projection, signs = (
            sys.modules["torch"].from_numpy(a).to(features.device) for a in (projection, signs)
        )
        parts = [(block.double() @ projection).float() for block in features.split(ROWS_AT_ONCE)]
        right = sys.modules["torch"].cat(parts)
        return Points(right * signs.float(), right, (right.double().square() @ signs).float(), -np.inf)
    right = np.empty((len(features), len(signs)), np.float32)
    for start in range(0, len(features), ROWS_AT_ONCE):
        right[start : start + ROWS_AT_ONCE] = features[start : start + ROWS_AT_ONCE] @ projection
    norms = (np.square(right, dtype=np.float64) @ signs).astype(np.float32)
    return Points(right * signs.astype(np.float32), right, norms, -np.inf)


@dataclass(frozen=True)
class Neighbours:
    """index (n, k) and distance (n, k) float32 squared, nearest first; farthest (n,) largest distance of each row."""

    index: object
    distance: object
    farthest: object


def nearest(cloud: Points, k: int, *, corner=None, approximate=None, progress: bool = True) -> Neighbours:
    """The k nearest of each point among all, itself included at distance exactly 0 (not forced to be first).

    Fewer where there are fewer points. `corner`, (q, n - q) float32 of the cloud's kind, receives the distances of the
    first q points to all others on the way, for whoever needs them too. `approximate`, "tf32" (CUDA) or "bf16",
    multiplies tensors at that precision: faster, and the neighbours are then approximate.
    """
    if is_tensor(cloud.norms):
        return _nearest_torch(cloud, min(k, len(cloud)), corner, approximate, progress)
    return _nearest_numpy(cloud, min(k, len(cloud)), corner, progress)


def _nearest_numpy(cloud: Points, k: int, corner, progress: bool) -> Neighbours:
    n, workers = len(cloud), threads()
    best = np.full((n, k), WORST, np.uint64)
    threshold = np.full(n, np.inf, np.float32)
    farthest = np.full(n, -np.inf, np.float32)

    def look(strip, top: int, left: int, beyond: int):
        """Finish a strip of a product: serve its rows, and return what its columns from `beyond` on get from it."""
        rows, columns = slice(top, top + len(strip)), slice(left, left + strip.shape[1])
        strip += cloud.norms[rows, None]
        strip += cloud.norms[columns]
        np.maximum(strip, cloud.floor, out=strip)
        if left <= top:
            np.fill_diagonal(strip[:, top - left :], 0)
        if corner is not None and top < len(corner) < columns.stop:
            kept, first = strip[: len(corner) - top], max(left, len(corner))
            corner[top : top + len(kept), first - len(corner) : columns.stop - len(corner)] = kept[
                :, first - left :
            ]
        np.maximum(farthest[rows], strip.max(1), out=farthest[rows])
        row, column = _few_true(strip < threshold[rows, None])
        _merge(best, threshold, row + top, column + left, strip[row, column])
        strip = strip[:, beyond - left :]
        row, column = _few_true(strip < threshold[beyond : columns.stop])
        order = np.argsort(column, kind="stable")
        row, column = row[order], column[order]
        return strip.max(0), column + beyond, row + top, strip[row, column]

    bar = tqdm(
        total=n * (n + 1) // 2,
        desc="neighbours",
        unit="pair",
        unit_scale=True,
        delay=2,
        leave=False,
        disable=not progress,
    )
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, n, TILE_ROWS):
            stop = min(start + TILE_ROWS, n)
            twice = -2 * cloud.left[start:stop]
            for left in range(start, n, TILE_COLUMNS):
                right = min(left + TILE_COLUMNS, n)
                beyond = min(max(stop, left), right)  # columns from here on will not be rows of this panel
                product = twice @ cloud.right[left:right].T
                height = max(1, STRIP // (right - left))
                tops = range(0, stop - start, height)
                for first in range(0, len(tops), workers):  # thresholds are at most one round old
                    jobs = [
                        pool.submit(look, product[top : top + height], start + top, left, beyond)
                        for top in tops[first : first + workers]
                    ]
                    for job in jobs:
                        largest, row, column, distance = job.result()
                        np.maximum(farthest[beyond:right], largest, out=farthest[beyond:right])
                        _merge(best, threshold, row, column, distance)
                bar.update(
                    (stop - start) * (right - left)
                    - (left == start) * (stop - start) * (stop - start - 1) // 2
                )
    bar.close()
    distance, index = _unpack(best)
    return Neighbours(index, distance, farthest)


def threads() -> int:
    """Threads for what NumPy does on one core: OMP_NUM_THREADS where it is set, else the usable cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(asked) if asked.isdigit() and int(asked) > 0 else usable


def _few_true(mask) -> tuple[np.ndarray, np.ndarray]:
    """np.nonzero of a 2-D mask, quick where little is true: eight values at a time."""
    flat = mask.reshape(-1)
    whole = len(flat) // 8 * 8
    word = np.flatnonzero(flat[:whole].view(np.uint64))
    place = (word[:, None] * 8 + np.arange(8))[flat[:whole].reshape(-1, 8)[word]]
    return np.divmod(np.concatenate([place, whole + np.flatnonzero(flat[whole:])]), mask.shape[1])


def _merge(best, threshold, row, column, distance) -> None:
    """Put candidate `column`s at `distance` into the running k best of `row` (ascending)."""
    if len(row) == 0:
        return
    first = np.flatnonzero(np.diff(row, prepend=-1))
    count = np.diff(first, append=len(row))
    touched, k = row[first], best.shape[1]
    pool = np.full((len(touched), k + count.max()), WORST, np.uint64)
    pool[:, :k] = best[touched]
    slot = np.arange(len(row)) - np.repeat(first, count)
    pool[np.repeat(np.arange(len(touched)), count), k + slot] = _pack(distance, column)
    if pool.shape[1] > 8 * k:
        pool = np.partition(pool, k - 1, axis=1)[:, :k]
    pool.sort(axis=1)
    best[touched] = pool[:, :k]
    threshold[touched] = _unpack(pool[:, k - 1])[0]


def _pack(distance, index) -> np.ndarray:
    """uint64 keys that sort by distance, then by index."""
    bits = np.ascontiguousarray(distance, np.float32).view(np.uint32)
    ordered = bits ^ np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    return ordered.astype(np.uint64) << np.uint64(32) | index.astype(np.uint64)


def _unpack(keys) -> tuple[np.ndarray, np.ndarray]:
    ordered = (keys >> np.uint64(32)).astype(np.uint32)
    bits = ordered ^ np.where(ordered >> 31, np.uint32(0x80000000), np.uint32(0xFFFFFFFF))
    return bits.view(np.float32), keys.astype(np.uint32).view(np.int32)


def _nearest_torch(cloud: Points, k: int, corner, approximate, progress: bool) -> Neighbours:
    torch = sys.modules["torch"]
    n, n_corner, device = len(cloud), 0 if corner is None else len(corner), cloud.norms.device
    index = torch.empty((n, k), dtype=torch.int32, device=device)
    distance = torch.empty((n, k), device=device)
    farthest = torch.empty(n, device=device)
    left, right = cloud.left, cloud.right
    if approximate == "bf16":
        left, right = left.bfloat16(), right.bfloat16()
    height = max(1, TORCH_CELLS // n)
    for start in tqdm(range(0, n, height), desc="neighbours", delay=2, leave=False, disable=not progress):
        rows = slice(start, min(start + height, n))
        with matmul_precision("tf32" if approximate == "tf32" else "ieee"):
            product = (left[rows] @ right.T).float()
        block = expand(product, cloud.norms[rows], cloud.norms, floor=cloud.floor)
        block.diagonal(start).zero_()
        if start < n_corner:
            corner[rows] = block[: n_corner - start, n_corner:]
        farthest[rows] = block.amax(1)
        distance[rows], found = block.topk(k, largest=False)
        index[rows] = found.int()
    return Neighbours(index, distance, farthest)


def representatives(features) -> tuple[np.ndarray, np.ndarray]:
    """First row of each group of bitwise equal rows (ascending), and for every row the number of its group.

    features: (n, d) float32, array or tensor. Both results are integer NumPy arrays, of one value a group and of (n,).
    0.0 and -0.0 are equal. Groups are found by a random integer combination of the rows' bits, exact and so equal
    for equal rows wherever they stand, then verified value by value.
    """
    n, d = features.shape
    weights = np.random.default_rng(0).integers(1, 1 << 62, d) | 1
    sums = np.empty(n, np.int64)
    height = 16 * HASHED_ROWS if is_tensor(features) else HASHED_ROWS
    for start in range(0, n, height):
        block = features[start : start + height] + 0.0
        if is_tensor(block):
            bits = block.view(sys.modules["torch"].int32).long()
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
            equal = equal.cpu().numpy() if is_tensor(equal) else equal
            first[same[equal]] = same[0]
            same = same[~equal]
    return np.unique(first, return_inverse=True)


def expand_duplicates(found: Neighbours, group: np.ndarray, k: int) -> Neighbours:
    """From neighbours of group representatives to neighbours of all images, copies in ascending index order.

    NumPy arrays in and out; `found` holds min(k, number of groups) neighbours of each representative, `group` (n,)
    the number of each image's group. There are min(k, n) neighbours of each image then.
    """
    members = np.argsort(group, kind="stable")
    size = np.bincount(group)
    first, taken = np.cumsum(size) - size, np.minimum(size, k)
    width = min(k, len(group))
    index, distance = np.empty((len(size), width), np.int32), np.empty((len(size), width), np.float32)
    plain = (size[found.index] == 1).all(1)
    if plain.any():  # lists without copies are full already
        index[plain], distance[plain] = members[first[found.index[plain]]], found.distance[plain]
    for row in np.flatnonzero(~plain):
        near = found.index[row]
        counts = taken[near]
        copy = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        keys = _pack(np.repeat(found.distance[row], counts), members[np.repeat(first[near], counts) + copy])
        keys.sort()
        distance[row], index[row] = _unpack(keys[:width])
    return Neighbours(index[group], distance[group], found.farthest[group])
