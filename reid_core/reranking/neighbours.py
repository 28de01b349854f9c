"""Exact nearest neighbours of every image among all images, without an (N, N) array.

A search is matrix products of tiles and a running selection. On the CPU only tiles on and above the diagonal are
multiplied (the distance is symmetric) and each serves its rows and its columns; NumPy does it, as its products are up
to twice as fast there as torch's. Any other device multiplies full rows with torch; with TF32 at that precision, and in
float32, pair by pair, what its rounding may hide: almost equal distances may come in another order than by full rows.

Images with bitwise equal features are searched as one and expanded afterwards, lowest index first, because neither
tiles nor top-k selections promise an order (or even equal rounding) for them. Distinct features whose distances
fall together in float32 keep the order in which float32 sees them, lowest index first on the CPU.
"""

import functools
import itertools
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from reid_core import machine
from reid_core.distance import ROWS_AT_ONCE, expand, inner_products, power_of_two, single, squared_norms
from reid_core.progress import bar
from reid_core.reranking import tf32

TILE_ROWS, TILE_COLUMNS = 1024, 2048
PAIRS_AT_ONCE = 1024
STRIP = 1 << 18  # distances looked at together; about a core's second cache
TORCH_CELLS = 1 << 28  # distances at a time where torch searches
PROBED = 256  # rows that show whether a filter pays
ONE_SEARCH = Lock()  # at a time has BLAS on one thread, or the next could not tell how many there were
WORST = np.uint64(0xFF800000_FFFFFFFF)  # packed key of (infinity, last index)
warnings.filterwarnings("ignore", "Sparse CSR", module=__name__)  # for good: threads would restore each other's filters


@dataclass(frozen=True)
class Points:
    """Features in a form whose squared distance is norms_i + norms_j - 2 <left_i, right_j>, at least `floor`."""

    left: object  # (n, d) float32
    right: object  # (n, d) float32
    norms: object  # (n,) float32
    floor: float  # 0, or -inf where a metric allows negative values

    def __len__(self) -> int:
        return len(self.norms)

    def distance(self, rows, columns):
        """Squared distances of `rows` to `columns` (slices or index arrays): 2-D float32."""
        product = inner_products(self.left[rows], self.right[columns])
        return expand(product, self.norms[rows], self.norms[columns], floor=self.floor)

    def pair_distance(self, row, column, rows=slice(0, None)):
        """Squared distance of point row[i], counted from `rows`' first, to column[i]: (m,) float32, to itself 0."""
        left, norms = self.left[rows], self.norms[rows]
        if getattr(norms, "is_cuda", False):
            product = sampled_products(left, self.right, row, column)
        else:
            blocks = [slice(start, start + PAIRS_AT_ONCE) for start in range(0, max(1, len(row)), PAIRS_AT_ONCE)]
            parts = [(left[row[pairs]] * self.right[column[pairs]]).sum(1) for pairs in blocks]
            product = torch.cat(parts) if torch.is_tensor(norms) else np.concatenate(parts)
        distance = (norms[row] + self.norms[column] - 2 * product).clip(self.floor)
        distance[row + rows.start == column] = 0
        return distance


def points(features, metric=None, norms=None) -> Points:
    """Euclidean points, or those of a fitted XQDA: projected once, M = E diag(w) E' split into signs and lengths.

    features: (n, d) float32, array or tensor; norms: their `squared_norms`, where known. Where squares would leave
    float32, all are scaled by a power of two, which changes no digit; distances are then in units of its square."""
    norms = squared_norms(features) if norms is None else norms
    largest = float(norms.max())
    if metric is None:
        factor = power_of_two(largest)
        features = features if factor == 1 else features * np.float32(factor)
        return Points(features, features, single(norms * factor**2), 0.0)
    values, vectors = np.linalg.eigh(metric.metric_)
    projection = metric.components_ @ (vectors * np.sqrt(np.abs(values)))
    projection *= power_of_two(largest * np.square(projection).sum())
    signs = np.sign(values)
    if torch.is_tensor(features):
        projection, signs = (torch.from_numpy(a).to(features.device) for a in (projection, signs))
        right = torch.cat([(block.double() @ projection).float() for block in features.split(ROWS_AT_ONCE)])
        return Points(right * signs.float(), right, (right.double().square() @ signs).float(), -np.inf)
    blocks = np.array_split(features, -(-len(features) // ROWS_AT_ONCE))
    right = np.concatenate([single(block @ projection) for block in blocks])
    return Points(right * single(signs), right, single(np.square(right, dtype=np.float64) @ signs), -np.inf)


def sampled_products(left, right, row, column) -> torch.Tensor:
    """<left[row[i]], right[column[i]]>, (m,), as entries of a sparse matrix: the (m, d) factors are not gathered."""
    pair, place = torch.unique(row * len(right) + column, return_inverse=True)
    row, column = pair // len(right), pair % len(right)
    start = torch.searchsorted(row, torch.arange(len(left) + 1, device=row.device))
    shape, zeros = (len(left), len(right)), left.new_zeros(len(pair))
    pattern = torch.sparse_csr_tensor(start, column, zeros, shape, check_invariants=False)
    return torch.sparse.sampled_addmm(pattern, left, right.T, beta=0).values()[place]


@dataclass(frozen=True)
class Neighbours:
    """Nearest first; tensors on the device of the points."""

    index: torch.Tensor  # (n, k) int32
    distance: torch.Tensor  # (n, k) float32, squared
    farthest: torch.Tensor  # (n,) float32, largest distance of each row


def nearest(cloud: Points, k: int, *, corner=None) -> Neighbours:
    """The k nearest of each point among all, itself included at distance exactly 0 (not forced to be first).

    Fewer where there are fewer points. `corner`, (q, n - q) float32 of the cloud's kind, receives the distances of the
    first q points to all others on the way, for whoever needs them too."""
    search = _nearest_torch if torch.is_tensor(cloud.norms) else _nearest_numpy
    return search(cloud, min(k, len(cloud)), corner)


def _nearest_numpy(cloud: Points, k: int, corner) -> Neighbours:
    # Every thread takes tile after tile. It multiplies alone, as threads of BLAS hold their cores after it, waiting for
    # more, and looks at the product by strips that fit into a processor's cache. What is farther than the k-th so far,
    # `threshold`, is not touched again: after the first tiles next to nothing passes, and a lock guards what it is
    # merged into. Strips are nearly as high as wide, so that the first bounds both sides well. Candidates are packed
    # into integers that sort by distance, then index, so that neither tiles nor threads show in the result.
    n, height = len(cloud), -(-TILE_ROWS // 4)
    best = np.full((n, k), WORST, np.uint64)
    threshold = np.full(n, np.inf, np.float32)
    farthest = np.full(n, cloud.floor, np.float32)
    merging = Lock()

    def look(strip, top: int, left: int, both: bool):
        """Make squared distances of products (h, w), in place; offer them to their rows or, `both`, columns as well."""
        rows, columns = slice(top, top + len(strip)), slice(left, left + strip.shape[1])
        strip *= -2
        strip += cloud.norms[rows, None]
        strip += cloud.norms[columns]
        own = np.arange(max(top, left), min(rows.stop, columns.stop))
        strip[own - top, own - left] = 0
        if corner is not None and top < len(corner) < columns.stop:
            begin = max(left, len(corner))
            part = corner[rows, begin - len(corner) : columns.stop - len(corner)]
            np.maximum(strip[: len(part), begin - left :], cloud.floor, out=part)
        row, column = _true(strip <= _reach(threshold[rows], strip, k, cloud.floor)[:, None])
        offers = [(rows, strip.max(1), row + top, column + left, strip[row, column])]
        if both:
            row, column = _true(strip <= _reach(threshold[columns], strip.T, k, cloud.floor))
            order = np.argsort(column.astype(np.uint16), kind="stable")  # 16 bits are sorted by counting
            row, column = row[order], column[order]
            offers.append((columns, strip.max(0), column + left, row + top, strip[row, column]))
        with merging:
            for side, largest, *candidates, distance in offers:
                np.maximum(farthest[side], largest, out=farthest[side])
                _merge(best, threshold, *candidates, np.maximum(distance, cloud.floor))

    def serve(start: int, first: int) -> int:
        product, width = _product(cloud, start, first), -(-STRIP // height)
        for below, beside in itertools.product(range(0, len(product), height), range(0, product.shape[1], width)):
            strip = product[below : below + height, beside : beside + width]
            look(strip, start + below, first + beside, first > start)
        return product.size if first > start else len(product) * (len(product) + 1) // 2

    tiles = _tiles(n)
    with (
        ONE_SEARCH,
        _blas().limit(limits=1),
        ThreadPoolExecutor(workers := min(threads(), len(tiles)) if len(_blas()) else 1) as pool,
        bar(total=n * (n + 1) // 2, desc="neighbours", unit="pair", unit_scale=True, delay=2) as done,
    ):
        for pairs in (pool.map if workers > 1 else map)(serve, *zip(*tiles, strict=True)):
            done.update(pairs)
    distance, index = _unpack(best)
    return Neighbours(*map(torch.from_numpy, (index, distance, farthest)))


def _tiles(n: int) -> list[tuple[int, int]]:
    """First row and column of the tiles on and above the diagonal: panels of TILE_ROWS rows meet themselves, then all
    to their right, TILE_COLUMNS at a time."""
    starts = range(0, n, TILE_ROWS)
    return [(start, first) for start in starts for first in (start, *range(start + TILE_ROWS, n, TILE_COLUMNS))]


def _product(cloud: Points, start: int, first: int) -> np.ndarray:
    """<left, right> of a tile. NumPy halves the work where both are the same memory: no metric tells sides apart."""
    left = cloud.left[start : start + TILE_ROWS]
    right = cloud.right[first : first + (TILE_COLUMNS if first > start else TILE_ROWS)]
    # It mirrors that half slowly where rows lie a power of two apart, hence 16 more.
    return np.matmul(left, right.T, out=np.empty((len(left), len(right) + 16), np.float32)[:, : len(right)])


@functools.cache
def _blas() -> ThreadpoolController:
    """NumPy's BLAS, where it lets its threads be counted; empty where not, as Apple's."""
    return ThreadpoolController().select(user_api="blas")


def nearest_of(distance: np.ndarray, k: int) -> Neighbours:
    """The k nearest of each point by its row of all distances, (n, n) float32; fewer where there are fewer points."""
    keys = np.empty((len(distance), min(k, len(distance))), np.uint64)
    for start in range(0, len(keys), PAIRS_AT_ONCE):
        block = _pack(distance[start : start + PAIRS_AT_ONCE], np.arange(len(keys)))
        block.partition(keys.shape[1] - 1)
        keys[start : start + PAIRS_AT_ONCE] = np.sort(block[:, : keys.shape[1]])
    nearest, index = _unpack(keys)
    return Neighbours(*map(torch.from_numpy, (index, nearest, distance.max(1))))


def threads() -> int:
    """Threads for what NumPy does on one core: OMP_NUM_THREADS where it is set, else the usable cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(asked) if asked.isdigit() and int(asked) > 0 else machine.cores()


def _reach(threshold, strip, k: int, floor: float) -> np.ndarray:
    """Thresholds of a strip's rows, those that met nobody yet bounded by it: k of its groups hold something as near."""
    size = strip.shape[1] // (4 * k)
    if size == 0 or not np.isinf(threshold[-1:]).any():
        return threshold
    groups = strip[:, : 4 * k * size].reshape(len(strip), size, 4 * k).min(1)
    kth = np.maximum(np.partition(np.ascontiguousarray(groups), k - 1, axis=1)[:, k - 1], np.float32(floor))
    return np.minimum(threshold, kth)


def _true(mask) -> tuple[np.ndarray, np.ndarray]:
    """np.nonzero of a 2-D mask, in a tenth of its time where little is true."""
    place = np.flatnonzero(mask)
    row = place // mask.shape[1]
    return row, place - row * mask.shape[1]


def _merge(best, threshold, row, column, distance) -> None:
    """Put candidate `column`s at `distance` into the running k best of `row` (ascending)."""
    if len(row) == 0:
        return
    (touched, count), k = np.unique(row, return_counts=True), best.shape[1]
    pool = np.full((len(touched), k + count.max()), WORST, np.uint64)
    pool[:, :k] = best[touched]
    skipped = k + np.arange(len(touched)) * pool.shape[1] - (count.cumsum() - count)
    pool.reshape(-1)[np.arange(len(row)) + np.repeat(skipped, count)] = _pack(distance, column)
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


def _nearest_torch(cloud: Points, k: int, corner) -> Neighbours:
    n, n_corner, device = len(cloud), 0 if corner is None else len(corner), cloud.norms.device
    index = torch.empty((n, k), dtype=torch.int32, device=device)
    distance = torch.empty((n, k), device=device)
    farthest = torch.empty(n, device=device)
    sieve = tf32.Filter(cloud, k)
    height = max(1, TORCH_CELLS // n & -128 or TORCH_CELLS // n)  # whole tiles of a product
    starts = [*range(0, n_corner, height), n_corner, *range(min(n_corner + PROBED, n), n, height), n]
    for start, stop in bar([*itertools.pairwise(starts)], desc="neighbours", unit="panel", delay=2):
        rows = torch.arange(start, stop, device=device)
        if sieve.pays and start >= n_corner:
            own = slice(start, stop)
            index[own], distance[own], farthest[own], crowded = sieve.search(own)
            rows = rows[crowded]
            sieve.pays = 2 * len(rows) <= len(crowded)  # or it does not tell these features apart
        if len(rows) == 0:
            continue
        block = cloud.distance(rows, slice(None))
        block[torch.arange(len(rows), device=device), rows] = 0
        if start < n_corner:
            corner[start:stop] = block[:, n_corner:]
        farthest[rows] = block.amax(1)
        distance[rows], found = block.topk(k, largest=False)
        index[rows] = found.int()
    return Neighbours(index, distance, farthest)


def expand_duplicates(found: Neighbours, group: np.ndarray, k: int) -> Neighbours:
    """From min(k, groups) neighbours of groups (n,) to min(k, n) of all n images, copies in ascending order."""
    device = found.index.device
    nearest, apart = found.index.cpu().numpy(), found.distance.cpu().numpy()
    members = np.argsort(group, kind="stable")
    size = np.bincount(group)
    first, taken = np.cumsum(size) - size, np.minimum(size, k)
    width = min(k, len(group))
    index, distance = np.empty((len(size), width), np.int32), np.empty((len(size), width), np.float32)
    plain = (size[nearest] == 1).all(1)
    if plain.any():  # lists without copies are full already
        index[plain], distance[plain] = members[first[nearest[plain]]], apart[plain]
    for row in np.flatnonzero(~plain):
        near = nearest[row]
        counts = taken[near]
        copy = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        keys = _pack(np.repeat(apart[row], counts), members[np.repeat(first[near], counts) + copy])
        keys.sort()
        distance[row], index[row] = _unpack(keys[:width])
    index, distance = (torch.from_numpy(part[group]).to(device) for part in (index, distance))
    return Neighbours(index, distance, found.farthest[torch.from_numpy(group).to(device)])
