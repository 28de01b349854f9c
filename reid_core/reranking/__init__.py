"""k-reciprocal re-ranking (paper, Section 3.4; Zhong et al., CVPR 2017), exact, with memory linear in the images.

The released method holds several (N, N) arrays for N images of queries and gallery together, but a k-reciprocal vector
has a few dozen non-zeros: here neighbours are found tile by tile, and everything after is sparse."""

import contextlib
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from reid_core.copies import of_groups, representatives
from reid_core.distance import ROWS_AT_ONCE, check_features, common_part, is_tensor, on_host, single, squared_norms
from reid_core.machine import free_memory
from reid_core.progress import bar, say, shown
from reid_core.protocols import check_choice
from reid_core.reranking import reciprocal
from reid_core.reranking.cost import estimate
from reid_core.reranking.neighbours import expand_duplicates, nearest, points
from reid_core.xqda import XQDA

ANNOUNCED_FLOPS = 10**13
BLOCK_CELLS = (1 << 25, 1 << 28)  # of the result at a time: on the CPU, on other devices
CHOICES = {"half": ("official", "ports"), "jaccard": ("weighted", "set")}


def k_reciprocal(
    query, gallery, *, k1=20, k2=6, lambda_value=0.3, metric=None, device=None, half="official", jaccard="weighted",
    progress=True, out=None,
):  # fmt: skip
    """Distance of queries to gallery images re-ranked by their k-reciprocal neighbourhoods (Eq. 4).

    final = (1 - lambda) Jaccard + lambda d, with d the squared distance divided by the largest in the query's row
    over queries and gallery together. Two images are k1-reciprocal if each is among the first k1 + 1 of the other,
    itself included. To the reciprocal set of an image are added those of its members, taken with half the
    neighbourhood, that lie in it by more than two thirds.

    Parameters
    ----------
    query : (Q, d) float32, NumPy array (a memory map too) or torch tensor.
    gallery : (G, d) float32, of the same kind. Junk images stay in while re-ranking, as in the released toolchain.
    k1, k2 : neighbours of the reciprocal sets and of the local query expansion, 1 <= k2 <= k1.
    lambda_value : weight of the original distance, in [0, 1].
    metric : a fitted XQDA, whose distance (squared already) takes the place of the Euclidean one, or None.
    device : torch device to compute on; None keeps tensors where they are and arrays on the CPU.
    half : entries of the half neighbourhood: "official" rounds (k1 + 1) / 2 half up (released MATLAB code), "ports"
        k1 / 2 half to even, plus one (Python ports). They differ for k1 = 3 mod 4.
    jaccard : "weighted" compares Gaussian-weighted vectors after averaging the first k2 (every released
        implementation, and the printed numbers); "set" is the plain Jaccard distance of Eq. (5), without k2.
    progress : show the expected time and memory where they are large, then progress and time left, on stderr.
    out : (Q, G) float32 array or tensor to write to row block by row block, such as a memory map; made if None.

    Returns (Q, G) float32, `out` where given; else an array for arrays, a tensor on the computing device for tensors.

    Raises ValueError for features empty, not float32, not finite or of unequal width; a setting out of range; a metric
    not fitted or of another width; `out` of another shape or dtype, not C-contiguous or not writable; MemoryError,
    before any computing, where the device's free memory does not hold the work or the host's the result.

    Bitwise equal images keep ascending index order (queries before gallery); no image is forced into its own
    neighbourhood. Equal input gives equal bits on one device; devices differ as float32 rounds.
    """
    settings = Settings(k1, k2, lambda_value, metric, device, half, jaccard)
    norms = settings.check(query, gallery)
    shape, device = (len(query), len(gallery)), settings.device_for(query)
    if out is not None and (tuple(out.shape) != shape or not str(out.dtype).endswith("float32")):
        raise ValueError(f"out has shape {tuple(out.shape)} and dtype {out.dtype}; expected {shape} float32.")
    if out is not None and not (out.is_contiguous() if is_tensor(out) else out.flags.carray):
        raise ValueError("out must be C-contiguous and writable: numpy.empty, or a memory map of mode 'r+'.")
    kept_on = None if out is not None else device if is_tensor(query) else torch.device("cpu")
    with shown(progress):
        settings.announce(query, gallery, kept_on)
        if out is None:
            out = torch.empty(shape, device=device) if is_tensor(query) else np.empty(shape, np.float32)
        for _ in _blocks(query, gallery, settings, norms, out):
            pass  # each is in its place
    return out


def k_reciprocal_where_it_fits(query, gallery, **settings):
    """`k_reciprocal` of NumPy arrays, on a GPU where there is one with enough free memory, else on the CPU."""
    if torch.cuda.is_available():
        with contextlib.suppress(MemoryError, torch.cuda.OutOfMemoryError):
            torch.cuda.empty_cache()  # what PyTorch keeps, cuSPARSE cannot take
            return k_reciprocal(query, gallery, device="cuda", **settings)
    return k_reciprocal(query, gallery, **settings)


def k_reciprocal_blocks(query, gallery, *, progress=True, **settings):
    """`k_reciprocal` as a stream of (row slice, (b, G) float32 tensor) in query order, for results too large to hold.

    Takes k_reciprocal's settings, without `out`, and raises its errors at once. Blocks are on the computing device, for
    arrays too. `evaluation.Evaluator` scores them one by one: `for _, block in ...: evaluator.update(block)`."""
    settings = Settings(**settings)
    settings.check(query, gallery)
    with shown(progress):
        settings.announce(query, gallery, kept_on=None)
    return _blocks(query, gallery, settings, progress=progress)


@dataclass(frozen=True)
class Settings:
    """Settings of `k_reciprocal`, checked."""

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    metric: XQDA | None = None
    device: object = None
    half: str = "official"
    jaccard: str = "weighted"

    def __post_init__(self):
        for name in ("k1", "k2"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number, at least 1.")
        if self.k2 > self.k1:
            why = f"k2={self.k2} exceeds k1={self.k1}; the query expansion averages among the k1 nearest"
            raise ValueError(f"{why}, so lower k2.")
        if not 0 <= self.lambda_value <= 1:
            raise ValueError(f"lambda_value={self.lambda_value!r} must lie in [0, 1], the original distance's part.")
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)

    def check(self, query, gallery) -> tuple:
        """Squared lengths of both; raise ValueError unless the features are sound and go with metric and device."""
        norms = check_features(query, gallery)
        if self.metric is not None:
            self.metric.check_fitted(query.shape[1])
        return norms

    def device_for(self, query) -> torch.device:
        """The device to compute on as PyTorch calls it: "cuda" is the current one of several, the CPU has no number."""
        device = torch.device(self.device if self.device is not None else query.device if is_tensor(query) else "cpu")
        if device.type == "cuda" and device.index is None:
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("cpu") if device.type == "cpu" else device

    def announce(self, query, gallery, kept_on: torch.device | None) -> None:
        """Say what a long run takes; refuse what does not fit. `kept_on`: where (Q, G) is made; None: not here."""
        device = self.device_for(query)
        projected = None if self.metric is None else self.metric.components_.shape[1]
        how = {"k1": self.k1, "projected": projected, "device": device, "holds_result": kept_on == device}
        cost = estimate(len(query), len(gallery), query.shape[1], **how)
        needs = {device: cost.memory}
        if kept_on not in (None, device):
            needs[kept_on] = 4 * len(query) * len(gallery)
        size = f"Re-ranking {len(query):,} queries against {len(gallery):,} gallery images"
        for place, memory in needs.items():
            if memory > (free := free_memory(place)):
                remedy = "pass a memory map as `out` or use k_reciprocal_blocks, or " if place == kept_on else ""
                needed = f"{memory / 2**30:.1f} GiB more memory on device {place}"
                remedy += "use a machine with more memory or a smaller gallery"
                raise MemoryError(f"{size} needs about {needed}, but only {free / 2**30:.1f} GiB are free; {remedy}.")
        if cost.flops > ANNOUNCED_FLOPS:
            say(f"{size}: about {cost.seconds() / 60:.1f} min and {cost.memory / 2**30:.1f} GiB.")


def _blocks(query, gallery, settings: Settings, norms=None, out=None, *, progress=True):
    """Row blocks of the result, each written into `out` where there is one; norms: squared lengths, where known."""
    device = settings.device_for(query)
    features = _joined(query, gallery, device, as_array=device.type == "cpu")
    n_query, n = len(query), len(features)
    if (centre := common_part(features)) is not None:
        features -= centre if not is_tensor(features) else torch.from_numpy(centre).to(device)
    known = norms is not None and centre is None and not is_tensor(features)
    norms = np.concatenate([on_host(part) for part in norms]) if known else squared_norms(features)
    unique, group = representatives(features, norms=[norms])
    if len(unique) < n:
        features, norms = _kept(features, unique), norms[unique]
    target = out if out is None or is_tensor(out) else torch.from_numpy(out)
    # The search meets the distances that the result needs anyway, and can leave them where the result will be.
    in_place = target is not None and target.device == device and not isinstance(out, np.memmap) and len(unique) == n
    corner = target if in_place else None
    given = corner if corner is None or is_tensor(features) else corner.numpy()
    with shown(progress):  # left before the first block is handed out: nobody else's bars are touched
        cloud = points(features, settings.metric, norms)
        found = nearest(cloud, settings.k1 + 1, corner=given)
        done = bar(total=n_query, desc="re-ranking", unit="query", delay=2)
    if len(unique) < n:
        found = expand_duplicates(found, group, settings.k1 + 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on so few values more cost a CPU more than they bring, much more on a busy one
    try:
        vectors = reciprocal_vectors(found, partial(pair_distance, cloud, group), settings)
    finally:
        torch.set_num_threads(threads)
    for rows, block in final_blocks(vectors, cloud, group, found.farthest, n_query, settings, corner):
        if target is not None and not in_place:
            target[rows].copy_(block)
        yield rows, block
        done.update(len(block))
    done.close()


def reciprocal_vectors(found, pair_distance, settings: Settings):
    """The k-reciprocal vectors of all images, or with jaccard="set" the sets: (N, N) sparse rows."""
    found.farthest.masked_fill_(found.farthest <= 0, 1)  # only where no distance of the row is positive
    sets = reciprocal.expanded_sets(found.index, half_neighbourhood(settings.k1, settings.half))
    if settings.jaccard == "set":
        return sets
    vectors = reciprocal.weigh(sets, found, pair_distance)
    return reciprocal.average(vectors, found.index[:, : settings.k2]) if settings.k2 > 1 else vectors


def half_neighbourhood(k1: int, half: str) -> int:
    """Entries of the half neighbourhood, the image itself included.

    >>> half_neighbourhood(20, "official"), half_neighbourhood(20, "ports")
    (11, 11)
    >>> half_neighbourhood(7, "official"), half_neighbourhood(7, "ports")
    (4, 5)
    """
    return (k1 + 2) // 2 if half == "official" else round(k1 / 2) + 1


def final_blocks(sets, cloud, group, farthest, n_query, settings: Settings, corner):
    """Row blocks of (1 - lambda) Jaccard + lambda d: what two sets share is taken off 1 - lambda + lambda d."""
    lambda_value, on_cpu = float(settings.lambda_value), sets.column.device.type == "cpu"
    kind = np.asarray if on_cpu else torch.as_tensor  # on so few values torch's threads cost more than they bring
    n, n_gallery = len(sets), len(sets) - n_query
    queries = reciprocal.fixed_point(sets.rows(0, n_query))
    inverted = reciprocal.fixed_point(sets.rows(n_query, n).transpose())
    size, scale = kind(sets.sizes().float()), kind(lambda_value / farthest)
    height = BLOCK_CELLS[not on_cpu] // n_gallery + 1
    for start in range(0, n_query, height):
        rows = slice(start, min(start + height, n_query))
        block = _distances(cloud, group, rows, n_query) if corner is None else corner[rows]
        for first, last in reciprocal.blocks_of_work(queries.rows(start, rows.stop), inverted):
            own, part = slice(start + first, start + last), kind(block)[first:last]
            part *= scale[own, None]
            part += 1 - lambda_value
            mass = single(kind(queries.rows(own.start, own.stop).shared_mass(inverted)))
            union = 2 - mass if settings.jaccard == "weighted" else (size[own, None] + size[n_query:] - mass).clip(1)
            part -= (1 - lambda_value) * (mass / union)
        yield rows, block


def _distances(cloud, group, rows: slice, n_query: int) -> torch.Tensor:
    """Squared distances of some queries to all gallery images, equal for copies: (b, G)."""
    if len(cloud) == len(group):
        block = cloud.distance(rows, slice(n_query, None))
    else:
        row, column = group[rows], group[n_query:]
        block = of_groups(row, column, lambda r, c: cloud.distance(row[r], column[c]))
    return block if is_tensor(block) else torch.from_numpy(block)


def pair_distance(cloud, group, row, column):
    if is_tensor(cloud.norms):
        group = torch.from_numpy(group).to(row.device)
        return cloud.pair_distance(group[row], group[column])
    return torch.from_numpy(cloud.pair_distance(group[row.numpy()], group[column.numpy()]))


def _joined(query, gallery, device, as_array: bool):
    """Queries and gallery as one new (N, d) array or tensor on the device."""
    if as_array:
        return np.concatenate([f.detach().cpu().numpy() if is_tensor(f) else f for f in (query, gallery)])
    joined = torch.empty((len(query) + len(gallery), query.shape[1]), device=device)
    for features, part in zip((query, gallery), joined.split([len(query), len(gallery)]), strict=True):
        for start in range(0, len(features), ROWS_AT_ONCE):
            block = features[start : start + ROWS_AT_ONCE]
            block = block.detach() if is_tensor(block) else torch.from_numpy(np.array(block))
            part[start : start + ROWS_AT_ONCE] = block
    return joined


def _kept(features, rows):
    """features[rows] for ascending rows, moved to the front of the same memory block by block: no second copy."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        block = rows[start : start + ROWS_AT_ONCE]
        features[start : start + len(block)] = features[block]
    return features[: len(rows)]
