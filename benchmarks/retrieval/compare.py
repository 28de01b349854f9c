"""Re-ranking, evaluation and XQDA against public peers: time, memory, scores, agreement. One command:

    python benchmarks/retrieval/compare.py [--peers FOLDER] [--sizes cuhk03-np market1501] [--scaling]

Each measurement is a process of its own (tasks.py) on the same seeded features. Peers are single modules of
packages from PyPI and optional; the README says how to put them into FOLDER. Writes CSV tables and a plot to
results/benchmarks/.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "results" / "benchmarks"
SIZES = {  # queries, gallery images, training images
    "tiny": (60, 300, 300),
    "cuhk03-np": (1400, 5332, 7365),
    "market1501": (3368, 19732, 12936),
}
GROUPS = {  # what each row is compared with comes first
    "re-ranking": (
        "product",
        "rerank_ours",
        "rerank_compat",
        "rerank_torchreid",
        "rerank_fastreid",
        "jaccard_fastreid_faiss",
    ),
    "neighbours": ("product", "neighbours_ours", "neighbours_faiss"),
    "evaluation": ("evaluate_argsort", "evaluate_ours", "evaluate_torchreid"),
    "XQDA": ("xqda_port", "xqda_svd", "xqda_eigh"),
}
WIDE = {"CUHK01": 2328, "Market-1501": 11630}  # five pairs of six are of two cameras: 1,940 and 9,692 rows
REFERENCE = {  # what must give the same as what
    "rerank_compat": "rerank_ours",
    "rerank_torchreid": "rerank_ours",
    "rerank_fastreid": "rerank_ours",
    "evaluate_torchreid": "evaluate_ours",
    "xqda_svd": "xqda_port",
}
DEVICE_TASKS = ("product", "rerank_ours", "rerank_and_score_stream", "neighbours_ours")
TOLERANCE, TINY_SHARE = 1e-5, 1e-4
DIMENSIONS, SEED = 2048, 0
COLUMNS = [
    *("size", "group", "task", "device", "seconds", "ratio", "processor_seconds", "peak_gib", "device_gib"),
    *("rank1", "mAP", "largest_difference", "share_over_1e-5", "agrees", "note"),
]


def measure(task: str, n_query: int, n_gallery: int, *, peers=None, timeout=None, **settings) -> dict:
    """Run one task in its own process; a task that fails (a missing peer, too little memory) says why.

    A `device` is for those that can use one; all others run on the CPU. After `timeout` seconds it is ended.
    """
    if task not in DEVICE_TASKS:
        settings["device"] = "cpu"
    settings = dict(task=task, n_query=n_query, n_gallery=n_gallery, dimensions=DIMENSIONS, seed=SEED) | settings
    path = os.pathsep.join(str(p) for p in (REPOSITORY, peers and Path(peers).resolve()) if p)
    print(f"{task}, {n_query:,} x {n_gallery:,} ... ", end="", file=sys.stderr, flush=True)
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("tasks.py")), json.dumps(settings)]
    told = {"env": os.environ | {"PYTHONPATH": path}, "capture_output": True, "text": True, "timeout": timeout}
    try:
        done, why = subprocess.run(command, **told), ""
    except subprocess.TimeoutExpired:
        why = f"not done in {timeout:.0f} s"
    else:
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"killed by signal {-done.returncode}"])[-1]
    if why:
        print(why, file=sys.stderr)
        return {"note": why}
    report = json.loads(done.stdout.splitlines()[-1])
    print(f"{report['seconds']:.2f} s, {report['peak_gib']:.2f} GiB", file=sys.stderr)
    return report


def compare(size: str, groups, without, peers, device) -> pd.DataFrame:
    """One row a task: time, ratio to the group's first, memory, scores, and whether it agrees with its reference."""
    n_query, n_gallery, n_train = SIZES[size]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for group in groups:
            shape = (n_train // 8, n_train - n_train // 8) if group == "XQDA" else (n_query, n_gallery)
            for task in (task for task in GROUPS[group] if task not in without):
                saved = Path(folder) / f"{task}.npy"
                report = measure(task, *shape, peers=peers, device=device, save=str(saved))
                rows.append({"size": size, "group": group, "task": task, **report})
                reference = Path(folder) / f"{REFERENCE.get(task)}.npy"
                if saved.exists() and reference.exists():
                    rows[-1] |= agreement(saved, reference)
                if saved.exists() and task not in REFERENCE.values():
                    saved.unlink()
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    first = table.groupby("group", sort=False)["seconds"].transform("first")
    table["ratio"] = table["seconds"] / first
    return table.dropna(axis=1, how="all")


def agreement(found: Path, reference: Path) -> dict:
    """Largest difference from the reference, the share of values that differ by more than 1e-5, and the verdict.

    Rounding decides which of two neighbours at almost one distance is the nearer; few values follow from such cases, so
    distances agree while that share is tiny. Scores (rank-1 and mAP) agree to four decimals. Distances larger than 1
    count relative to the largest.
    """
    reference, found = (np.load(path, mmap_mode="r") for path in (reference, found))
    if reference.shape == (2,):
        largest = float(np.abs(reference - found).max())
        return {"largest_difference": largest, "agrees": largest < 5e-5}
    largest, off, scale = 0.0, 0, max(1.0, float(np.abs(reference).max()))
    for start in range(0, len(reference), 256):
        difference = np.abs(reference[start : start + 256] - found[start : start + 256])
        largest, off = (max(largest, float(difference.max())), off + int((difference > TOLERANCE * scale).sum()))
    share = off / reference.size
    return {"largest_difference": largest, "share_over_1e-5": share, "agrees": share <= TINY_SHARE}


def disagreements(table: pd.DataFrame) -> list[str]:
    """A line for each task that does not give what it must."""
    found = table[table["agrees"].eq(False)] if "agrees" in table else table[:0]
    return [
        f"{line['task']} disagrees with {REFERENCE[line['task']]} at size {line['size']}: "
        f"largest difference {line['largest_difference']:.2g}"
        for line in found.to_dict("records")
    ]


def scaling(peers, peer_limit: int, sizes, device="cpu") -> pd.DataFrame:
    """Time and memory of the streamed re-ranking, and of a peer as far as it goes, against the number of images."""
    rows = []
    for n in sizes:
        n_query = min(3368, n // 7)
        for task in ("product", "rerank_and_score_stream", "rerank_torchreid"):
            if task == "rerank_torchreid" and n > peer_limit:
                continue
            why = refusal(task, n_query, n - n_query, device)
            report = {"note": why} if why else measure(task, n_query, n - n_query, peers=peers, device=device)
            rows.append({"n": n, "task": task, **report})
    return pd.DataFrame(rows)


def refusal(task: str, n_query: int, n_gallery: int, device: str) -> str | None:
    """Why a task will not fit into memory, features included, before they are made; None where it will."""
    from reid_core.machine import free_memory
    from reid_core.reranking.cost import estimate

    features = 4 * (n_query + n_gallery) * DIMENSIONS
    needs = {"cpu": features}
    if task == "product":
        needs[device] = needs.get(device, 0) + 2 * features
    elif task == "rerank_and_score_stream":
        cost = estimate(n_query, n_gallery, DIMENSIONS, device=device, holds_result=False)
        needs[device] = needs.get(device, 0) + cost.memory
    for place, memory in needs.items():
        if memory > (free := free_memory(place)):
            return (
                f"refused: {n_query:,} x {n_gallery:,} needs about {memory / 2**30:.1f} GiB on {place}, "
                f"{free / 2**30:.1f} GiB are free"
            )
    return None


def wide() -> pd.DataFrame:
    """XQDA on LOMO's 26,960 dimensions: as many images as leave CUHK01's and Market-1501's numbers of rows."""
    rows = []
    for name, images in WIDE.items():
        for task in ("xqda_eigh", "xqda_svd"):
            report = measure(task, images // 8, images - images // 8, dimensions=26960)
            rows.append({"as many rows as": name, "images": images, "task": task, **report})
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = {
        "product": "general product of all pairs",
        "rerank_and_score_stream": "ours, with evaluation",
        "rerank_torchreid": "torchreid",
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    measured = table.dropna(subset=["seconds"]) if "seconds" in table else table[:0]
    for axis, column, label in zip(axes, ("seconds", "peak_gib"), ("time (s)", "peak memory (GiB)"), strict=True):
        for task, group in measured.groupby("task", sort=False):
            axis.loglog(group["n"], group[column], "o-", markersize=4, label=names[task])
        axis.set(xlabel="images N (queries and gallery)", ylabel=label)
        axis.grid(alpha=0.3)
    if len(measured):
        axes[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", help="folder that holds the peers' packages")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=["cuhk03-np", "market1501"])
    parser.add_argument("--groups", nargs="*", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--without", nargs="*", default=[], help="tasks to leave out")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--scaling", action="store_true", help="also time and memory against N, with a plot")
    parser.add_argument("--wide", action="store_true", help="also XQDA on 26,960 dimensions (a quarter of an hour)")
    parser.add_argument(
        "--scaling-sizes",
        nargs="*",
        type=int,
        default=[3000, 6000, 12000, 25000, 50000, 100000],
        help="numbers of images; 523100 is Market-1501 + 500k (what does not fit into memory is refused)",
    )
    parser.add_argument("--peer-limit", type=int, default=25000, help="largest N to run the peer at")
    arguments = parser.parse_args()
    if arguments.device is None:
        import torch

        arguments.device = "cuda" if torch.cuda.is_available() else "cpu"

    RESULTS.mkdir(parents=True, exist_ok=True)
    wrong = []
    tables = [
        compare(size, arguments.groups, arguments.without, arguments.peers, arguments.device)
        for size in arguments.sizes
    ]
    if tables:
        table = pd.concat(tables)
        wrong = disagreements(table)
        table.to_csv(RESULTS / "retrieval.csv", index=False)
        print(table.to_string(index=False, float_format="{:.4g}".format, na_rep=""))
    if arguments.wide:
        table = wide()
        table.to_csv(RESULTS / "xqda_wide.csv", index=False)
        print(table.to_string(index=False, float_format="{:.4g}".format, na_rep=""))
    if arguments.scaling:
        table = scaling(arguments.peers, arguments.peer_limit, arguments.scaling_sizes, arguments.device)
        table.to_csv(RESULTS / "retrieval_scaling.csv", index=False)
        plot(table, RESULTS / "retrieval_scaling.png")
        print(table.to_string(index=False, float_format="{:.4g}".format, na_rep=""))
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
