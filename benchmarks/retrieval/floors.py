"""Floors of XQDA and LOMO: where their time goes, beside the arithmetic at the rates that this machine reaches.

    OMP_NUM_THREADS=1 python benchmarks/retrieval/floors.py [--rows 1800] [--solver eigh]

XQDA on made rows of 26,960 dimensions: the operations of each step at the rate of a float64 product. LOMO on made
pictures: its logarithms, blurs and counts, each timed alone on arrays of the same size.
"""

import argparse
import cProfile
import pstats
import time
import timeit

import numpy as np

from reid_core.baselines import lomo
from reid_core.xqda import XQDA


def fastest(work, tries: int = 5) -> float:
    """Least seconds of some tries."""
    return min(timeit.repeat(work, number=1, repeat=tries))


def seconds_of(profile: cProfile.Profile, names: tuple[str, ...]) -> dict[str, float]:
    """Seconds in each function of the given names, with what it calls."""
    found = dict.fromkeys(names, 0.0)
    for (_, _, name), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items():
        if name in found:
            found[name] = max(found[name], cumulative)
    return found


def xqda(n: int, solver: str, d: int = 26960) -> None:
    random = np.random.default_rng(0)
    person = np.repeat(np.arange(n // 4), 2)
    people = random.standard_normal((n // 4, d), dtype=np.float32)
    views = [people[person] + random.standard_normal((len(person), d), dtype=np.float32) for _ in range(2)]
    views = [view / np.linalg.norm(view, axis=1, keepdims=True) for view in views]
    a = random.standard_normal((1500, 1500))
    rate = 2 * 1500**3 / fastest(lambda: a @ a.copy())
    profile = cProfile.Profile()
    begun = time.perf_counter()
    fitted = profile.runcall(XQDA(solver=solver).fit_views, *views, person, person)
    whole, r = time.perf_counter() - begun, len(fitted.values_)
    n = 2 * len(person)
    flops = {  # of LAPACK's user guide; both covariances as symmetric products
        "qr": 2 * n**2 * (d - n / 3),
        "covariances": 2 * n**3,
        "cholesky": n**3 / 3,
        "cho_solve": 2 * n**3 if solver == "svd" else 0,
        "_left_singular": n**3 if solver == "svd" else 0,  # A A', beside the eigenvectors
        "_whitened": n**3 if solver == "eigh" else 0,
        "eigh": 4 / 3 * n**3 + 2 * n**2 * r,
        "_apply_q": 4 * n * r * (d - n / 2),
    }
    measured = seconds_of(profile, tuple(flops))
    print(f"XQDA {solver}, {n:,} x {d:,}, r = {r}: {whole:.1f} s; float64 product {rate / 1e9:.0f} Gflop/s")
    for name, count in flops.items():
        print(f"  {name:15s} {count / 1e12:6.3f} Tflop, floor {count / rate:6.2f} s, took {measured[name]:6.2f} s")
    print(
        f"  sum of floors {sum(flops.values()) / rate:.1f} s; reading for tridiagonal form {4 / 3 * n**3 / 1e9:.0f} GB"
    )


def lomo_floor(n: int = 32) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 128, 48, 3), dtype=np.uint8)
    light = pixels.astype(np.float32) + 1
    rows, columns = np.ones((128, 128), np.float32), np.ones((144, 144), np.float32)
    wide = light.reshape(n, 128, 144)
    codes = [np.random.default_rng(1).integers(0, bins, size) for bins in (512, 81, 81) for size in (6144, 1536, 384)]
    lengths = [cells * bins for bins in (512, 81, 81) for cells in (225, 48, 12)]
    parts = {
        "4 logarithms a value": fastest(lambda: [np.log(light) for _ in range(4)]) / n,
        "2 blurs": 2 * fastest(lambda: rows @ wide @ columns) / n,
        "9 counts": fastest(lambda: [np.bincount(c, minlength=m) for c, m in zip(codes, lengths, strict=True)]),
    }
    ours, plain = (fastest(lambda r=r: lomo.describe(pixels, retinex=r)) / n for r in (True, False))
    print(f"LOMO: {1 / ours:.0f} images/s, {1 / plain:.0f} without Retinex")
    for name, seconds in parts.items():
        print(f"  {name:22s} {1e3 * seconds:.2f} ms an image")
    print(f"  sum {1e3 * sum(parts.values()):.2f} ms, ours {1e3 * ours:.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1800)
    parser.add_argument("--solver", choices=("svd", "eigh"), default="eigh")
    asked = parser.parse_args()
    lomo_floor()
    xqda(asked.rows, asked.solver)
