"""Would bounds spare re-ranking the product of all pairs? Counts and projected times, one thread, a few minutes.

    OMP_NUM_THREADS=1 python benchmarks/retrieval/bounds.py [--runs RUN ... --data-root ROOT] [--images 15000]

Features are rotated to their principal axes. The first m coordinates and the length of the rest bound every squared
distance from below and above; a pair is finished (the full product) only if the bounds leave it a chance to be among
either image's 21 nearest or to be either's farthest, or if it lies in the Q x G corner of the result. The thresholds
are the final ones, which no method has at its beginning, so the shares are the least possible. Two ways to finish: pair
by pair (rows gathered), or, for 64 rows at a time in the order of the people, whole columns in which any pair is left.
`multiplied` is the second way's part of the multiplications that are made now, times (in parts of the general product)
are projected with what looking at a distance costs now.

Data: test images of a rendered Market-1501 through trained runs (--runs), and made 2048-d features of people whose
spectrum falls as k^-a, normalised to length 1: a = 1 is about that of ImageNet's networks, 0 is isotropic.
"""

from __future__ import annotations

import argparse
import time
import timeit

import numpy as np
import pandas as pd

from reid_core import datasets, features
from reid_core.reranking.neighbours import nearest, points

LEADING = (32, 64, 128, 256, 512, 1024)
NEAREST, STRIP, SAMPLED = 21, 64, 1536


def of_run(run: str, output: str, root: str, images: int) -> tuple[np.ndarray, int]:
    """Features of a test set in the order of people within queries and gallery, and the number of queries."""
    table = datasets.load("market1501", root)
    parts = [table[table["subset"] == part].sort_values("person_id") for part in ("query", "gallery")]
    table = pd.concat(parts, ignore_index=True)
    table = table.iloc[np.linspace(0, len(table) - 1, min(images, len(table))).astype(int)].reset_index(drop=True)
    found = features.extract(run, table, data_root=root, output=output, device="cpu", progress=False)
    return found.values, int((table["subset"] == "query").sum())


def made(slope: float, images: int, dimensions: int = 2048, within: float = 0.5) -> tuple[np.ndarray, int]:
    """People and their images, both with a spectrum k^-slope; `within`: a person's share of the variance."""
    random = np.random.default_rng(0)
    scale = np.arange(1, dimensions + 1) ** (-slope / 2)
    person = np.sort(random.integers(0, images // 20, images))
    x = random.standard_normal((images // 20, dimensions))[person] * np.sqrt(1 - within)
    x += random.standard_normal((images, dimensions)) * np.sqrt(within)
    x = (x * scale).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True), images // 7


def principal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centred rows in their principal axes, most variance first, and the share of variance of each."""
    x = x - x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    return x @ vectors[:, ::-1].astype(np.float32), values[::-1] / values.sum()


def shares(x: np.ndarray, n_query: int, found) -> list[dict]:
    """For each m, the shares of all pairs that the bounds leave, from some strips of rows against all images."""
    kth, farthest = found.distance[:, -1].numpy(), found.farthest.numpy()
    rotated, variance = principal(x)
    starts = np.linspace(0, len(x) - STRIP, SAMPLED // STRIP).astype(int)
    rows = []
    for m in (m for m in LEADING if m <= x.shape[1] // 2):
        lead, rest = rotated[:, :m], np.linalg.norm(rotated[:, m:], axis=1)
        squares = np.square(lead).sum(1)
        counted = []
        for start in starts:
            own = slice(start, start + STRIP)
            apart = np.maximum(squares[own, None] + squares - 2 * lead[own] @ lead.T, 0)
            near = apart + (rest[own, None] - rest) ** 2 <= np.maximum(kth[own, None], kth)
            far = apart + (rest[own, None] + rest) ** 2 >= np.minimum(farthest[own, None], farthest)
            row, column = np.arange(start, start + STRIP)[:, None], np.arange(len(x))
            corner = (row < n_query) != (column < n_query)
            left = (near | far) & ~corner
            columns = left.any(0)[None] & ~corner
            counted.append([near.mean(), far.mean(), corner.mean(), left.mean(), columns.mean()])
        names = ("near", "far", "corner", "pairs_left", "columns_left")
        row = dict(zip(names, np.mean(counted, axis=0), strict=True))
        rows.append({"m": m, "variance": variance[:m].sum(), **row})
    return rows


def fastest(work, tries: int = 3) -> float:
    """Least processor seconds of some tries."""
    return min(timeit.repeat(work, timer=time.process_time, number=1, repeat=tries))


def costs(x: np.ndarray) -> dict[int | str, float]:
    """Seconds a pair: of a product over m dimensions, of one pair gathered, of looking at a distance as we do."""
    random, d = np.random.default_rng(1), x.shape[1]
    part = x[: min(len(x), 8192)]
    other = part.copy()  # another array, or NumPy would use the symmetry
    seconds = {}
    for m in (*(m for m in LEADING if m <= d // 2), d):
        a, b = np.ascontiguousarray(part[:1024, :m]), np.ascontiguousarray(other[:, :m])
        seconds[m] = fastest(lambda a=a, b=b: a @ b.T) / (len(a) * len(b))
    row, column = random.integers(0, len(x), (2, 8192))
    column.sort()
    gather = lambda: [np.einsum("nd,nd->n", x[row[i : i + 256]], x[column[i : i + 256]]) for i in range(0, 8192, 256)]  # noqa: E731
    seconds["gathered"] = fastest(gather) / 8192
    whole = fastest(lambda: nearest(points(part), NEAREST), 2)
    seconds["now"] = whole / (len(part) ** 2 / 2)
    seconds["looking"] = max(seconds["now"] - seconds[d], 0)
    return seconds


def study(name: str, x: np.ndarray, n_query: int) -> pd.DataFrame:
    """One row an m: shares, and projected times of the neighbours as parts of the general product's."""
    found = nearest(points(x), NEAREST)
    seconds, d = costs(x), x.shape[1]
    table = pd.DataFrame(shares(x, n_query, found))
    lead = table["m"].map(seconds) + seconds["looking"] + table["corner"] * seconds[d]
    general = 2 * seconds[d]
    table["gathered"] = (lead + table["pairs_left"] * seconds["gathered"]) / general
    table["by_columns"] = (lead + table["columns_left"] * seconds[d]) / general
    table["multiplied"] = table["m"] / d + table["corner"] + table["columns_left"]
    table["now"] = seconds["now"] / general
    table.insert(0, "features", f"{name}, {x.shape[0]:,} x {d}")
    print({key: f"{1e9 * value:.1f} ns" for key, value in seconds.items()})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="*", default=[], help="finished runs, RUN or RUN:OUTPUT, such as RUN:r5+c1+c2")
    parser.add_argument("--data-root", help="rendered data whose test images the runs describe")
    parser.add_argument("--images", type=int, default=15000)
    parser.add_argument("--slopes", nargs="*", type=float, default=[1.5, 1.0, 0.5, 0.0])
    asked = parser.parse_args()
    for run in asked.runs:
        folder, _, output = run.partition(":")
        x, n_query = of_run(folder, output or "r5", asked.data_root, asked.images)
        print(study(run.rpartition("/")[2], x, n_query).to_string(index=False, float_format="{:.3f}".format))
    for slope in asked.slopes:
        table = study(f"spectrum k^-{slope:g}", *made(slope, asked.images))
        print(table.to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
