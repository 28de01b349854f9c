"""Floors of XQDA and LOMO: where their time goes, beside the arithmetic at the rates that this machine reaches.

    OMP_NUM_THREADS=1 python benchmarks/retrieval/floors.py [--rows 1800] [--solver eigh]

XQDA on made rows of 26,960 dimensions: the operations of each step at the rate of a float64 product. LOMO on made
pictures: the arithmetic of each stage timed alone. Processor time, so that other work on the machine counts little.
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
    """Least processor seconds of some tries."""
    return min(timeit.repeat(work, timer=time.process_time, number=1, repeat=tries))


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
    people = 2 * random.standard_normal((n // 4, d), dtype=np.float32)  # who differ in some direction at any size
    views = [people[person] + random.standard_normal((len(person), d), dtype=np.float32) for _ in range(2)]
    views = [view / np.linalg.norm(view, axis=1, keepdims=True) for view in views]
    a = random.standard_normal((1500, 1500))
    rate = 2 * 1500**3 / fastest(lambda: a @ a.copy())
    profile = cProfile.Profile(time.process_time)
    begun = time.process_time()
    fitted = profile.runcall(XQDA(solver=solver).fit_views, *views, person, person)
    whole, r = time.process_time() - begun, len(fitted.values_)
    n = 2 * len(person)
    flops = {  # of LAPACK's user guide; both covariances as symmetric products
        "qr": 2 * n**2 * (d - n / 3),
        "covariances": 2 * n**3,
        "cholesky": n**3 / 3,
        "cho_solve": 2 * n**3 if solver == "svd" else 0,
        "<lambda>": n**3,  # the matrix whose eigenvectors are wanted: "eigh" whitens it, "svd" squares it
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


def lomo_floor(n: int = lomo.CACHED) -> None:
    """Milliseconds an image of each stage, beside its arithmetic alone, done in place on arrays that fit into cache."""
    random = np.random.default_rng(0)
    smooth = random.integers(0, 220, (n, 16, 6, 3)).repeat(8, axis=1).repeat(8, axis=2)
    pixels = (smooth + random.integers(0, 36, (n, 128, 48, 3))).astype(np.uint8)
    light = np.moveaxis(pixels, -1, 0).astype(np.float32, order="C") + 1  # 3 planes
    plane, gray = light[0].astype(np.int16), [np.ones((n, 128 >> i, 48 >> i), np.uint16) for i in range(lomo.LEVELS)]
    rows, columns, scratch = np.ones((128, 128), np.float32), np.ones((48, 48), np.float32), np.empty_like(light)
    places, lengths = [], []
    for bins in (512, 81, 81):
        for down, right in ((25, 9), (12, 4), (6, 2)):
            cell = np.arange(down * right).reshape(down, 1, right, 1) * bins
            places.append((cell + random.integers(0, bins, (down, 5, right, 5))).ravel())
            lengths.append(down * right * bins)
    maxima = np.ones((n, lomo.dimension()), np.intp)
    described, logarithm = maxima.astype(np.float32), np.ones(101, np.float32)

    def passes(array: np.ndarray, count: int) -> float:
        return count * fastest(lambda: np.add(array, 1, out=array), 15)

    floors = {
        "4 logarithms a value": 4 * fastest(lambda: np.log(light, out=scratch)),
        "2 blurs": 2 * fastest(lambda: np.matmul(np.matmul(rows, light, out=scratch), columns)),
        "16 passes of Retinex": passes(scratch, 16),
        "HSV: 20 passes, 3 divisions": passes(plane, 20) + fastest(lambda: np.divide(light, 7, out=scratch)),
        "SILTP: 2 radii x 20 passes": sum(passes(part, 40) for part in gray),
        "9 counts": n * fastest(lambda: [np.bincount(p, minlength=m) for p, m in zip(places, lengths, strict=True)]),
        "logarithms of counts": fastest(lambda: logarithm.take(maxima)) + passes(described, 3),
    }
    names = ("multiscale_retinex", "hsv_bins", "gray_level", "siltp", "_sum_2x2", "_band_maxima", "unit")
    ours, plain = (fastest(lambda r=r: lomo.describe(pixels, retinex=r), 15) / n for r in (True, False))
    profile = cProfile.Profile(time.process_time)
    profile.runcall(lambda: [lomo.describe(pixels) for _ in range(20)])
    print(f"LOMO: {1 / ours:.0f} images/s, {1 / plain:.0f} without Retinex")
    for name, seconds in floors.items():
        print(f"  floor {name:28s} {1e3 * seconds / n:.3f} ms an image")
    print(f"  sum {1e3 * sum(floors.values()) / n:.3f} ms, ours {1e3 * ours:.3f} ms, of which (under a profiler)")
    for name, seconds in seconds_of(profile, names).items():
        print(f"  {name:20s} {1e3 * seconds / 20 / n:.3f} ms an image")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1800)
    parser.add_argument("--solver", choices=("svd", "eigh"), default="eigh")
    asked = parser.parse_args()
    lomo_floor()
    xqda(asked.rows, asked.solver)
