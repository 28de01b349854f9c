"""One task of the retrieval benchmark in a process of its own, so that its peak memory is its own.

Run by compare.py: `python tasks.py '{"task": ..., "n_query": ..., ...}'` prints one JSON line.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import resource
import sys
import time
import types
from pathlib import Path

import numpy as np
import pandas as pd

ROWS = 2048
COMPARED = 100  # images whose distances to ten times as many others show whether two metrics agree


def features(n_query, n_gallery, dimensions, seed):
    """Seeded stand-ins for network features: people in groups that look alike, cameras with a shift of their own."""
    random = np.random.default_rng(seed)
    n = n_query + n_gallery
    n_people = max(8, n // 30)
    person, camera = random.integers(0, n_people, n), random.integers(0, 6, n)
    groups = random.standard_normal((max(2, n_people // 6), dimensions), dtype=np.float32)
    people = groups[random.integers(0, len(groups), n_people)]
    people += 0.45 * random.standard_normal((n_people, dimensions), dtype=np.float32)
    cameras = 0.35 * random.standard_normal((6, dimensions), dtype=np.float32)
    x = np.empty((n, dimensions), np.float32)
    for start in range(0, n, ROWS):
        rows = slice(start, min(start + ROWS, n))
        block = random.standard_normal((rows.stop - start, dimensions), dtype=np.float32)
        block *= random.uniform(1.0, 3.5, (len(block), 1)).astype(np.float32)
        block += people[person[rows]] + cameras[camera[rows]]
        np.maximum(block, 0, out=block)
        x[rows] = block / np.linalg.norm(block, axis=1, keepdims=True)
    table = pd.DataFrame({"person_id": person + 1, "camera_id": camera})
    return x[:n_query], x[n_query:], table[:n_query], table[n_query:]


def peer(name: str):
    """A single module of an installed package, without running the package's own (old) imports."""
    *parents, _ = name.split(".")
    path = None
    for depth in range(1, len(parents) + 1):
        package = ".".join(parents[:depth])
        spec = importlib.machinery.PathFinder.find_spec(package, path)
        if spec is None:
            raise ModuleNotFoundError(f"No package {package}; see benchmarks/retrieval/README.md for the peers.")
        sys.modules[package] = types.ModuleType(package)
        path = sys.modules[package].__path__ = list(spec.submodule_search_locations)
    return importlib.import_module(name)


def peak_memory() -> int:
    """Most bytes this process has held; not getrusage's figure where there is a better one, as that begins at the
    parent's size."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Clock:
    """Wall and processor seconds of a block."""

    def __enter__(self):
        self._wall, self._processor = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.wall = time.perf_counter() - self._wall
        self.processor = time.process_time() - self._processor


def euclidean(a, b):
    """Distances, not squared, as peers ask for them."""
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * (a @ b.T)
    return np.sqrt(np.maximum(squared, 0, out=squared), out=squared)


def on(device, *arrays):
    """Arrays as they are, or as tensors on the GPU."""
    if device != "cuda":
        return arrays
    import torch

    return tuple(torch.from_numpy(array).cuda() for array in arrays)


def finish(device) -> None:
    """Wait for the GPU."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def product(query, gallery, device=None, **_):
    """The floor: a general float32 product of all pairs, thrown away block by block."""
    from reid_core.distance import inner_products

    x = np.concatenate([query, gallery])
    x, other = on(device, x, x.copy())  # another array, or NumPy would use the symmetry
    inner_products(x[:ROWS], other[:ROWS])  # warm
    finish(device)
    with Clock() as clock:
        for start in range(0, len(x), ROWS):
            inner_products(x[start : start + ROWS], other)
        finish(device)
    return clock, None


def rerank_ours(query, gallery, device=None, **_):
    from reid_core.reranking import k_reciprocal

    query, gallery = on(device, query, gallery)
    if device == "cuda":
        k_reciprocal(query, gallery, half="ports", progress=False)  # warm
    finish(device)
    with Clock() as clock:
        result = k_reciprocal(query, gallery, half="ports", progress=False)
        finish(device)
    return clock, result


def rerank_and_score_stream(query, gallery, tables, device=None, **_):
    """Re-ranking reduced straight to its evaluation; the (Q, G) result never exists."""
    from reid_core.evaluation import Evaluator
    from reid_core.reranking import k_reciprocal, k_reciprocal_blocks

    if device == "cuda":
        k_reciprocal(query[:100], gallery[:1000], half="ports", device=device, progress=False)  # warm
    with Clock() as clock:
        evaluator = Evaluator(*tables, ap="step", unmatched="skip")
        for _rows, block in k_reciprocal_blocks(query, gallery, half="ports", device=device):
            evaluator.update(block)
        evaluator.result()
    return clock, None


def rerank_compat(query, gallery, **_):
    from reid_core.compat import re_ranking

    with Clock() as clock:
        result = re_ranking(euclidean(query, gallery), euclidean(query, query), euclidean(gallery, gallery))
    return clock, result


def rerank_torchreid(query, gallery, **_):
    re_ranking = peer("torchreid.reid.utils.rerank").re_ranking
    with Clock() as clock:
        result = re_ranking(euclidean(query, gallery), euclidean(query, query), euclidean(gallery, gallery))
    return clock, result


def rerank_fastreid(query, gallery, **_):
    re_ranking = peer("fastreid.evaluation.rerank").re_ranking
    with Clock() as clock:
        result = re_ranking(euclidean(query, gallery), euclidean(query, query), euclidean(gallery, gallery))
    return clock, result


def jaccard_fastreid_faiss(query, gallery, **_):
    """Another algorithm: 20 neighbours instead of 21, weights from unnormalised distances, no original distance."""
    import torch

    jaccard = peer("fastreid.utils.compute_dist").compute_jaccard_distance
    with Clock() as clock:
        result = jaccard(torch.from_numpy(np.concatenate([query, gallery])), search_option=3)
    return clock, np.ascontiguousarray(result[: len(query), len(query) :])


def neighbours_ours(query, gallery, device=None, **_):
    from reid_core.reranking.neighbours import nearest, points

    (x,) = on(device, np.concatenate([query, gallery]))
    if device == "cuda":
        nearest(points(x), 21)  # warm
    finish(device)
    with Clock() as clock:
        nearest(points(x), 21)
        finish(device)
    return clock, None


def neighbours_faiss(query, gallery, **_):
    import faiss

    x = np.concatenate([query, gallery])
    with Clock() as clock:
        index = faiss.IndexFlatL2(x.shape[1])
        index.add(x)
        index.search(x, 21)
    return clock, None


def distance_of(query, gallery):
    from reid_core.distance import squared_euclidean

    return squared_euclidean(query, gallery)


def evaluate_argsort(query, gallery, **_):
    """What evaluation must beat: a bare argsort of the matrix."""
    distance = distance_of(query, gallery)
    with Clock() as clock:
        np.argsort(distance, axis=1)
    return clock, None


def evaluate_ours(query, gallery, tables, **_):
    from reid_core.evaluation import evaluate

    distance = distance_of(query, gallery)
    with Clock() as clock:
        result = evaluate(distance, *tables, ap="step", unmatched="skip")
    return clock, (result.rank1, result.mAP)


def evaluate_torchreid(query, gallery, tables, **_):
    score = peer("torchreid.reid.metrics.rank").eval_market1501
    columns = [table[name].to_numpy() for name in ("person_id", "camera_id") for table in tables]
    distance = distance_of(query, gallery)
    with Clock() as clock:
        cmc, mean_ap = score(distance, *columns, 50)
    return clock, (float(cmc[0]), float(mean_ap))


def xqda(solver):
    def fit(query, gallery, tables, **_):
        from reid_core.xqda import XQDA

        x = gallery.base  # both as one array, without a copy
        person, camera = (pd.concat(tables)[name].to_numpy() for name in ("person_id", "camera_id"))
        with Clock() as clock:
            fitted = XQDA(solver=solver).fit(x, person, camera)
        return clock, fitted.distance(x[:COMPARED], x[COMPARED : 11 * COMPARED])

    return fit


def xqda_port(query, gallery, tables, **_):
    """The released XQDA code line by line in NumPy, on the same pairs."""
    from reid_core.xqda import official_pairs

    x = np.concatenate([query, gallery])
    person, camera = (pd.concat(tables)[name].to_numpy() for name in ("person_id", "camera_id"))
    with Clock() as clock:
        first, second = official_pairs(person, camera)
        gallery, probe = x[first].astype(np.float64), x[second].astype(np.float64)
        labels = np.unique(person[first])
        n_gallery, n_probe, d = len(gallery), len(probe), x.shape[1]
        gallery_sum, probe_sum = np.zeros((2, len(labels), d))
        gallery_weight, probe_weight, n_intra = np.zeros(n_gallery), np.zeros(n_probe), 0
        for k, label in enumerate(labels):
            in_gallery, in_probe = (np.flatnonzero(person[first] == label), np.flatnonzero(person[second] == label))
            gallery_sum[k], probe_sum[k] = gallery[in_gallery].sum(0), probe[in_probe].sum(0)
            n_intra += len(in_gallery) * len(in_probe)
            gallery_weight[in_gallery], probe_weight[in_probe] = len(in_probe) ** 0.5, len(in_gallery) ** 0.5
        gallery_cov, probe_cov = gallery.T @ gallery, probe.T @ probe
        gallery, probe = gallery_weight[:, None] * gallery, probe_weight[:, None] * probe
        intra = gallery.T @ gallery + probe.T @ probe - gallery_sum.T @ probe_sum - probe_sum.T @ gallery_sum
        g, p = gallery_sum.sum(0, keepdims=True), probe_sum.sum(0, keepdims=True)
        extra = n_probe * gallery_cov + n_gallery * probe_cov - g.T @ p - p.T @ g - intra
        intra /= n_intra
        extra /= n_gallery * n_probe - n_intra
        intra += 0.001 * np.eye(d)
        V, latent, _ = np.linalg.svd(np.linalg.solve(intra, extra))
        W = V[:, : max(1, (latent > 1).sum())]
        M = np.linalg.inv(W.T @ intra @ W) - np.linalg.inv(W.T @ extra @ W)
    query, gallery = x[:COMPARED] @ W, x[COMPARED : 11 * COMPARED] @ W
    distance = [np.einsum("gr,rs,gs->g", u - gallery, M, u - gallery, optimize=True) for u in query]
    return clock, np.float32(distance)


TASKS = {
    task.__name__: task
    for task in (
        product,
        rerank_ours,
        rerank_and_score_stream,
        rerank_compat,
        rerank_torchreid,
        rerank_fastreid,
        jaccard_fastreid_faiss,
        neighbours_ours,
        neighbours_faiss,
        evaluate_argsort,
        evaluate_ours,
        evaluate_torchreid,
        xqda_port,
    )
} | {"xqda_svd": xqda("svd"), "xqda_eigh": xqda("eigh")}


def main() -> None:
    settings = json.loads(sys.argv[1])
    query, gallery, *tables = features(*(settings[k] for k in ("n_query", "n_gallery", "dimensions", "seed")))
    clock, result = TASKS[settings["task"]](query, gallery, tables=tables, device=settings.get("device"))
    report = {"seconds": clock.wall, "processor_seconds": clock.processor, "peak_gib": peak_memory() / 2**30}
    if settings.get("device") == "cuda":
        import torch

        report["device_gib"] = torch.cuda.max_memory_allocated() / 2**30
    report["device"] = settings.get("device", "cpu")
    if isinstance(result, tuple):
        report["rank1"], report["mAP"] = result
    elif result is not None and settings["task"].startswith(("rerank", "jaccard")):
        from reid_core.evaluation import evaluate

        score = evaluate(result, *tables, ap="step", unmatched="skip")
        report["rank1"], report["mAP"] = score.rank1, score.mAP
    if result is not None and "save" in settings:
        np.save(settings["save"], result.cpu().numpy() if hasattr(result, "cpu") else np.asarray(result))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
