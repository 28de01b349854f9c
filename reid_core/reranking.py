"""k-reciprocal re-ranking (paper, Section 3.4; Zhong et al., CVPR 2017), exact, with memory linear in the images.

The released method holds several (N, N) arrays for N images of queries and gallery together. Nothing in it needs
them: each image's k-reciprocal vector has a few dozen non-zeros, so neighbours are found tile by tile and
everything after is sparse.
"""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from reid_core import reciprocal
from reid_core.distance import check_features, check_finite, is_tensor, squared_norms
from reid_core.neighbours import Neighbours, expand_duplicates, nearest, points, representatives

HALVES = ("official", "ports")
JACCARDS = ("weighted", "set")


def k_reciprocal(
    query,
    gallery,
    *,
    k1=20,
    k2=6,
    lambda_value=0.3,
    metric=None,
    device=None,
    half="official",
    jaccard="weighted",
    progress=True,
    out=None,
):
    """Distance of queries to gallery images re-ranked by their k-reciprocal neighbourhoods (Eq. 4).

    final = (1 - lambda) Jaccard + lambda d, with d the squared distance divided by the largest in the query's row
    over queries and gallery together. Two images are k1-reciprocal if each is among the first k1 + 1 of the other,
    itself included. To the reciprocal set of an image are added those of its members, taken with half the
    neighbourhood, that lie in it by more than two thirds.

    Args:
        query: (Q, d) float32, NumPy array or torch tensor.
        gallery: (G, d) float32, of the same kind. Junk images stay in while re-ranking, as in the released toolchain.
        k1, k2: neighbours of the reciprocal sets and of the local query expansion, 1 <= k2 <= k1.
        lambda_value: weight of the original distance, in [0, 1].
        metric: a fitted XQDA, whose distance takes the place of the Euclidean one, or None.
        device: torch device to compute on; None keeps tensors where they are and arrays on the CPU.
        half: entries of the half neighbourhood: "official" rounds (k1 + 1) / 2 half up (released MATLAB code), "ports"
            k1 / 2 half to even, plus one (Python ports). They differ for k1 = 3 mod 4.
        jaccard: "weighted" compares Gaussian-weighted vectors after averaging the first k2 (every released
            implementation, and the printed numbers); "set" is the plain Jaccard distance of Eq. (5), without k2.
        progress: show progress and time left on stderr.
        out: (Q, G) float32 array to write to row block by row block, such as a memory map; made if None.

    Returns:
        (Q, G) float32, `out` where given; else a NumPy array for arrays, a tensor on the computing device for tensors.

    Raises:
        ValueError: features empty, not float32, not finite or of unequal width; k1, k2, lambda_value, half or jaccard
            out of range; a metric that does not fit; `out` of another shape or dtype.

    Ties: bitwise equal images keep ascending index order (queries before gallery); no image is forced into its own
    neighbourhood.
    """
    _check(query, gallery, k1, k2, lambda_value, metric, half, jaccard)
    device = _device(query, device)
    shape = (len(query), len(gallery))
    if out is None:
        out = torch.empty(shape, device=device) if is_tensor(query) else np.empty(shape, np.float32)
    elif tuple(out.shape) != shape or not str(out.dtype).endswith("float32"):
        raise ValueError(f"out has shape {tuple(out.shape)} and dtype {out.dtype}; expected {shape} float32.")
    target = out if is_tensor(out) else torch.from_numpy(out)
    corner = target if target.device == device and not isinstance(out, np.memmap) else None
    for rows, block in _blocks(
        query, gallery, k1, k2, lambda_value, metric, device, half, jaccard, progress, corner
    ):
        if block.data_ptr() != target[rows].data_ptr():
            target[rows].copy_(block)
    return out


def k_reciprocal_blocks(
    query,
    gallery,
    *,
    k1=20,
    k2=6,
    lambda_value=0.3,
    metric=None,
    device=None,
    half="official",
    jaccard="weighted",
    progress=True,
):
    """`k_reciprocal` as a stream of (row slice, (b, G) tensor) in query order, for results too large to hold."""
    _check(query, gallery, k1, k2, lambda_value, metric, half, jaccard)
    device = _device(query, device)
    return _blocks(query, gallery, k1, k2, lambda_value, metric, device, half, jaccard, progress)


def _blocks(query, gallery, k1, k2, lambda_value, metric, device, half, jaccard, progress, corner=None):
    """Row blocks of the result, written into `corner`, the whole result, where there is one and it can be used."""
    features = _joined(query, gallery, device)
    n_query, n = len(query), len(features)
    unique, group = representatives(features)
    if len(unique) < n:
        features, corner = features[unique], None
    cloud = points(features, metric)
    plain = corner.numpy() if corner is not None and device.type == "cpu" else corner
    found = nearest(cloud, k1 + 1, corner=plain, progress=progress)
    found = _to_device(
        found if len(unique) == n else expand_duplicates(_to_host(found), group, k1 + 1), device
    )
    found.farthest.masked_fill_(found.farthest <= 0, 1)  # only where no distance of the row is positive

    sets = reciprocal.expanded_sets(found.index, half_neighbourhood(k1, half))
    if jaccard == "weighted":
        sets = reciprocal.weigh(sets, found, lambda row, column: _pair_distance(cloud, group, row, column))
        sets = reciprocal.average(sets, found.index[:, :k2]) if k2 > 1 else sets
    yield from _final(sets, cloud, group, found.farthest, n_query, lambda_value, jaccard, progress, corner)


def half_neighbourhood(k1: int, half: str) -> int:
    """Entries of the half neighbourhood, the image itself included.

    >>> half_neighbourhood(20, "official"), half_neighbourhood(20, "ports")
    (11, 11)
    >>> half_neighbourhood(7, "official"), half_neighbourhood(7, "ports")
    (4, 5)
    """
    return (k1 + 2) // 2 if half == "official" else round(k1 / 2) + 1


def _final(sets, cloud, group, farthest, n_query, lambda_value, jaccard, progress, corner):
    """Row blocks of (1 - lambda) Jaccard + lambda d: 1 - lambda + lambda d everywhere, less where sets share."""
    n, n_gallery = len(sets), len(sets) - n_query
    queries, inverted = sets.rows(0, n_query), sets.rows(n_query, n).transpose()
    size = sets.sizes()
    on_cpu = sets.column.device.type == "cpu"
    height, sub_height = ((1 << bits) // n_gallery + 1 for bits in ((25, 20) if on_cpu else (28, 26)))
    scratch = torch.zeros(min(sub_height, n_query) * n_gallery, dtype=torch.int64, device=sets.column.device)
    columns = slice(int(group[n_query]), None) if len(cloud) == n else group[n_query:]
    bar = tqdm(total=n_query, desc="re-ranking", unit="query", delay=2, disable=not progress)
    for start in range(0, n_query, height):
        rows = slice(start, min(start + height, n_query))
        if corner is None:
            block = cloud.distance(group[rows], columns)
            block = block if is_tensor(block) else torch.from_numpy(block)
        else:
            block = corner[rows]
        for first, last in reciprocal.blocks_of_work(queries.rows(start, rows.stop), inverted, sub_height):
            part = block[first:last]
            part *= lambda_value / farthest[start + first : start + last, None]
            part += 1 - lambda_value
            cell, mass = reciprocal.add_shared_mass(
                scratch[: part.numel()], queries.rows(start + first, start + last), inverted
            )
            if jaccard == "set":
                union = size[start + first + cell // n_gallery] + size[n_query + cell % n_gallery] - mass
            else:
                union = 2 - mass
            flat = part.view(-1)
            flat[cell] = flat[cell] - (1 - lambda_value) * (mass / union)
        yield rows, block
        bar.update(rows.stop - start)
    bar.close()


def _pair_distance(cloud, group, row, column):
    if is_tensor(cloud.norms):
        group = torch.from_numpy(group).to(row.device)
        return cloud.pair_distance(group[row], group[column])
    return torch.from_numpy(cloud.pair_distance(group[row.numpy()], group[column.numpy()]))


def _joined(query, gallery, device):
    """Queries and gallery as one (N, d) array: NumPy on the CPU, a tensor elsewhere."""
    if device.type == "cpu":
        query, gallery = ((f.detach().cpu().numpy() if is_tensor(f) else f) for f in (query, gallery))
        return np.concatenate([query, gallery])
    query, gallery = ((f if is_tensor(f) else torch.from_numpy(np.asarray(f))) for f in (query, gallery))
    return torch.cat([query.detach().to(device), gallery.detach().to(device)])


def _to_host(found: Neighbours) -> Neighbours:
    return Neighbours(*(part.cpu().numpy() if is_tensor(part) else part for part in vars(found).values()))


def _to_device(found: Neighbours, device) -> Neighbours:
    parts = (part if is_tensor(part) else torch.from_numpy(part) for part in vars(found).values())
    return Neighbours(*(part.to(device) for part in parts))


def _device(query, device) -> torch.device:
    return torch.device(device or (query.device if is_tensor(query) else "cpu"))


def _check(query, gallery, k1, k2, lambda_value, metric, half, jaccard) -> None:
    check_features(query, gallery)
    for name, features in (("query", query), ("gallery", gallery)):
        check_finite(squared_norms(features), name)
    if metric is not None and len(metric.components_) != query.shape[1]:
        raise ValueError(
            f"The metric was fitted on {len(metric.components_)} dimensions but the features have {query.shape[1]}."
        )
    for name, value in (("k1", k1), ("k2", k2)):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name}={value!r} must be a whole number, at least 1.")
    if k2 > k1:
        raise ValueError(
            f"k2={k2} exceeds k1={k1}; the query expansion averages among the k1 nearest, so lower k2."
        )
    if not 0 <= lambda_value <= 1:
        raise ValueError(
            f"lambda_value={lambda_value!r} must lie in [0, 1]; it weighs the original distance."
        )
    for name, value, choices in (("half", half, HALVES), ("jaccard", jaccard, JACCARDS)):
        if value not in choices:
            raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, choices))}.")
