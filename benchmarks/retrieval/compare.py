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
        "rerank_torchreid",
        "rerank_fastreid",
        "jaccard_fastreid_faiss",
    ),
    "neighbours": ("product", "neighbours_ours", "neighbours_faiss"),
    "evaluation": ("evaluate_argsort", "evaluate_ours", "evaluate_torchreid"),
    "XQDA": ("xqda_port", "xqda_svd", "xqda_eigh"),
}
WIDE = {"CUHK01": 2328, "Market-1501": 11630}  # five pairs of six are of two cameras: 1,940 and 9,692 rows
SAME_ALGORITHM = ("rerank_torchreid", "rerank_fastreid")
DIMENSIONS, SEED = 2048, 0


def measure(task: str, n_query: int, n_gallery: int, *, peers=None, **settings) -> dict:
    """Run one task in its own process; a task that fails (a missing peer, too little memory) says why."""
    settings = (
        dict(task=task, n_query=n_query, n_gallery=n_gallery, dimensions=DIMENSIONS, seed=SEED) | settings
    )
    path = os.pathsep.join(str(p) for p in (REPOSITORY, peers and Path(peers).resolve()) if p)
    print(f"{task}, {n_query:,} x {n_gallery:,} ... ", end="", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("tasks.py")), json.dumps(settings)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"killed by signal {-done.returncode}"])[-1]
        print(why, file=sys.stderr)
        return {"note": why}
    report = json.loads(done.stdout.splitlines()[-1])
    print(f"{report['seconds']:.2f} s, {report['peak_gib']:.2f} GiB", file=sys.stderr)
    return report


def compare(size: str, groups, without, peers, device) -> pd.DataFrame:
    """One row a task: time, ratio to the group's first, memory, scores, difference from ours."""
    n_query, n_gallery, n_train = SIZES[size]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for group in groups:
            shape = (n_train // 8, n_train - n_train // 8) if group == "XQDA" else (n_query, n_gallery)
            for task in (task for task in GROUPS[group] if task not in without):
                saved = Path(folder) / f"{task}.npy"
                extra = {"save": str(saved)} if "rerank" in task else {}
                if device == "cuda" and task == "rerank_ours":
                    extra["device"] = device
                report = measure(task, *shape, peers=peers, **extra)
                rows.append({"size": size, "group": group, "task": task, **report})
                if task in SAME_ALGORITHM and saved.exists() and "rerank_ours" not in without:
                    rows[-1] |= agreement(saved, Path(folder) / "rerank_ours.npy")
                    saved.unlink()
    table = pd.DataFrame(rows)
    first = table.groupby("group", sort=False)["seconds"].transform("first")
    table.insert(4, "ratio", table["seconds"] / first)
    return table


def agreement(theirs: Path, ours: Path) -> dict:
    """Largest difference from ours, and the share of values that differ by more than 1e-5.

    Rounding decides which of two neighbours at almost one distance is the nearer; few values follow from such cases.
    """
    ours, theirs = (np.load(path, mmap_mode="r") for path in (ours, theirs))
    largest, off = 0.0, 0
    for start in range(0, len(ours), 256):
        difference = np.abs(ours[start : start + 256] - theirs[start : start + 256])
        largest, off = max(largest, float(difference.max())), off + int((difference > 1e-5).sum())
    return {"largest_difference": largest, "share_over_1e-5": off / ours.size}


def scaling(peers, peer_limit: int, sizes) -> pd.DataFrame:
    """Time and memory of the streamed re-ranking, and of a peer as far as it goes, against the number of images."""
    rows = []
    for n in sizes:
        n_query = min(3368, n // 7)
        for task in ("product", "rerank_and_score_stream", "rerank_torchreid"):
            if task == "rerank_torchreid" and n > peer_limit:
                continue
            rows.append({"n": n, "task": task, **measure(task, n_query, n - n_query, peers=peers)})
    return pd.DataFrame(rows)


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
    for axis, column, label in zip(
        axes, ("seconds", "peak_gib"), ("time (s)", "peak memory (GiB)"), strict=True
    ):
        for task, group in table.dropna(subset=["seconds"]).groupby("task", sort=False):
            axis.loglog(group["n"], group[column], "o-", markersize=4, label=names[task])
        axis.set(xlabel="images N (queries and gallery)", ylabel=label)
        axis.grid(alpha=0.3)
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
    parser.add_argument(
        "--wide", action="store_true", help="also XQDA on 26,960 dimensions (a quarter of an hour)"
    )
    parser.add_argument(
        "--scaling-sizes", nargs="*", type=int, default=[3000, 6000, 12000, 25000, 50000, 100000]
    )
    parser.add_argument("--peer-limit", type=int, default=25000, help="largest N to run the peer at")
    arguments = parser.parse_args()
    if arguments.device is None:
        import torch

        arguments.device = "cuda" if torch.cuda.is_available() else "cpu"

    RESULTS.mkdir(parents=True, exist_ok=True)
    tables = [
        compare(size, arguments.groups, arguments.without, arguments.peers, arguments.device)
        for size in arguments.sizes
    ]
    if tables:
        table = pd.concat(tables)
        table.to_csv(RESULTS / "retrieval.csv", index=False)
        print(table.to_string(index=False, float_format="{:.4g}".format, na_rep=""))
    if arguments.wide:
        table = wide()
        table.to_csv(RESULTS / "xqda_wide.csv", index=False)
        print(table.to_string(index=False, float_format="{:.4g}".format, na_rep=""))
    if arguments.scaling:
        table = scaling(arguments.peers, arguments.peer_limit, arguments.scaling_sizes)
        table.to_csv(RESULTS / "retrieval_scaling.csv", index=False)
        plot(table, RESULTS / "retrieval_scaling.png")
        print(table.to_string(index=False, float_format="{:.4g}".format, na_rep=""))


if __name__ == "__main__":
    main()
