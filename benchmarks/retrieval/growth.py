"""What bounds leave of all pairs as images are added, from sampled rows: one thread, a few minutes.

    OMP_NUM_THREADS=1 python benchmarks/retrieval/growth.py --runs RUN[:OUTPUT] ... --data-root ROOT
        [--sizes 8000 16000 32000 50000] [--slopes 1] [--rows 256] [--total 523100]

Features of rendered test images: queries and their people's images first, then distractors, as Market-1501 + 500k adds
them; and made ones (`bounds.made`). A sampled row's exact distances to all images give its final thresholds: the 21st
smallest and the largest. Counted are its pairs that a bound leaves at or below the first (near) or at or above the
second (far). A pair is left if either of its rows keeps it, so at most twice as many; the corner is extra.

1. Principal axes: the first m coordinates and the length of the rest bound a distance from both sides.
2. A product at lower precision. With factors x, y of n dimensions rounded to p significant bits, x' and y', and sums in
   float32 in any order:

       |computed - x.y| <= |x - x'| |y| + |x'| |y - y'| + g |x'| |y'|,   g = n u / (1 - n u),   u = 2^-23

   by Cauchy and Schwarz, and as n terms are added with an error of at most u each (cut off; 2^-24 where rounded; the
   products of two such factors are exact). |x - x'| is computed; it is at most 2^-p |x|, p = 8 for bf16 and 11 for
   TF32. A squared distance is off by at most twice that; today's float32 product, which is to be met to the bit, by
   at most 2 g |x| |y| of its own; centring, norms and their sums by 8 u (|x|^2 + |y|^2). `worst` is the largest
   error found, in parts of its bound.

Shares at --total images are those of a power law fitted to all sizes. Times are projected from
processor time in this process, a gathered pair as in `bounds.costs`, looking at a distance as today.
"""

import argparse

import numpy as np
import pandas as pd
from bounds import LEADING, NEAREST, costs, made

from reid_core import datasets, features
from reid_core.datasets import table as image_table

BITS = {"bf16": 8, "TF32": 11}
UNIT = 2.0**-23
QUERIES = 3368  # of Market-1501, at --total


def of_run(run: str, root: str) -> np.ndarray:
    """Features (N, d) float32 of the queries, their people's gallery images and the distractors, in this order."""
    table = datasets.load("market1501", root)
    test = table[table[image_table.SUBSET] != image_table.TRAIN]
    order = np.where(test[image_table.SUBSET] == image_table.QUERY, 0, np.where(test[image_table.PERSON] > 0, 1, 2))
    test = test.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)
    folder, _, output = run.partition(":")
    return features.extract(folder, test, data_root=root, output=output or "r5", device="cpu", progress=False).values


def turned(x: np.ndarray) -> np.ndarray:
    """The rows, centred, in the principal axes of at most 8,000 of them, most variance first."""
    some = x[np.random.default_rng(0).permutation(len(x))[:8000]]
    return (x - some.mean(0)) @ np.linalg.eigh(np.cov(some.T))[1][:, ::-1].astype(np.float32)


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """float32 values rounded to the nearest of so many significant bits, ties to even."""
    dropped = 24 - bits
    pattern = x.view(np.uint32)
    pattern = pattern + np.uint32((1 << dropped - 1) - 1) + (pattern >> np.uint32(dropped) & np.uint32(1))
    return (pattern & np.uint32(-1 << dropped & 0xFFFFFFFF)).view(np.float32)


def length(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(x, dtype=np.float64).sum(1))


def leading(x: np.ndarray, rows: np.ndarray, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of the squared distances of some rows to all, by m coordinates and what is left."""
    lead, rest = x[:, :m].astype(np.float64), length(x[:, m:])
    squares = np.square(lead).sum(1)
    apart = np.maximum(squares[rows, None] + squares - 2 * lead[rows] @ lead.T, 0)
    return apart + (rest[rows, None] - rest) ** 2, apart + (rest[rows, None] + rest) ** 2


def reduced(x: np.ndarray, rows: np.ndarray, exact: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The same by a product of rounded factors, and the largest error in parts of its bound."""
    near = rounded(x, bits)
    own, long, error, squares = length(near), length(x), length(x - near), np.square(length(x))
    g = x.shape[1] * UNIT / (1 - x.shape[1] * UNIT)
    bound = error[rows, None] * long + own[rows, None] * error + g * own[rows, None] * own
    found = squares[rows, None] + squares - 2.0 * (near[rows] @ near.T)
    worst = float((np.abs(found - exact) / (2 * bound + 1e-12)).max())
    bound = 2 * bound + 2 * g * long[rows, None] * long + 8 * UNIT * (squares[rows, None] + squares)
    return found - bound, found + bound, worst


def shares(x: np.ndarray, sampled: int) -> list[dict]:
    """Pairs a row that each bound leaves, near and far, of N images in their principal axes."""
    rows = np.sort(np.random.default_rng(1).permutation(len(x))[:sampled])
    exact = np.square(length(x))
    exact = exact[rows, None] + exact - 2 * (x[rows].astype(np.float64) @ x.T.astype(np.float64))
    exact[np.arange(len(rows)), rows] = 0
    kth, farthest = np.partition(exact, NEAREST - 1, axis=1)[:, NEAREST - 1], exact.max(1)
    lines = []
    for name in (*(m for m in LEADING if m <= x.shape[1] // 2), *BITS):
        worst = 0.0
        if name in BITS:
            low, high, worst = reduced(x, rows, exact, BITS[name])
        else:
            low, high = leading(x, rows, name)
        near, far = (low <= kth[:, None]).sum(1), (high >= farthest[:, None]).sum(1)
        line = {"images": len(x), "bound": name, "near_a_row": near.mean(), "far_a_row": far.mean()}
        lines.append(line | {"near": near.mean() / len(x), "far": far.mean() / len(x), "worst": worst})
    return lines


def projected(table: pd.DataFrame, x: np.ndarray, total: int) -> pd.DataFrame:
    """Shares and hours of one thread at `total` images, today's and with each number of leading coordinates."""
    seconds, pairs, d = costs(x), total**2 / 2, x.shape[1]
    print({key: f"{1e9 * value:.1f} ns" for key, value in seconds.items()})
    corner, lines = QUERIES * (total - QUERIES), []
    for m in (m for m in LEADING if m <= d // 2):
        rows, at = table[table["bound"] == m], {}
        for name in ("near", "far"):
            power, factor = np.polyfit(np.log(rows["images"]), np.log(rows[name]), 1)
            at[name] = min(1.0, np.exp(factor) * total**power)
        left = min(1.0, 2 * (at["near"] + at["far"]))
        today = pairs * (seconds[d] + seconds["looking"])
        new = pairs * (seconds[m] + seconds["looking"] + left * seconds["gathered"]) + corner * seconds[d]
        line = {"m": m, **at, "at_most_left": left, "today_h": today / 3600, "bounds_h": new / 3600}
        lines.append(line | {"faster": today / new, "faster_if_none_left": pairs * (seconds[d] + seconds["looking"])
                             / (pairs * (seconds[m] + seconds["looking"]) + corner * seconds[d])})  # fmt: skip
    return pd.DataFrame(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="*", default=[], help="finished runs, RUN or RUN:OUTPUT, such as RUN:r5+c1+c2")
    parser.add_argument("--data-root", help="rendered data whose test images the runs describe")
    parser.add_argument("--sizes", nargs="*", type=int, default=[8000, 16000, 32000, 50000])
    parser.add_argument("--slopes", nargs="*", type=float, default=[1.0])
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--total", type=int, default=523_100)
    asked = parser.parse_args()
    for run in asked.runs:
        study(run.rpartition("/")[2], of_run(run, asked.data_root), asked)
    for slope in asked.slopes:
        study(f"spectrum k^-{slope:g}", made(slope, max(asked.sizes))[0], asked)


def study(name: str, x: np.ndarray, asked: argparse.Namespace) -> None:
    """Print all of one kind of features."""
    x = turned(x)
    table = pd.DataFrame([line for n in asked.sizes if n <= len(x) for line in shares(x[:n], asked.rows)])
    print(f"{name}, {x.shape[1]} dimensions, {asked.rows} sampled rows")
    print(table.to_string(index=False, float_format="{:.5f}".format))
    print(projected(table, x, asked.total).to_string(index=False, float_format="{:.6f}".format), flush=True)


if __name__ == "__main__":
    main()
