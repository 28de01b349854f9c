"""Where re-ranking's time goes: seconds of its stages beside a general product of all pairs, in turns.

    OMP_NUM_THREADS=1 python benchmarks/retrieval/stages.py [--images 3000 6732] [--turns 5]

Least of all turns each; half of the product, as the search cuts it, is the floor. Of one thread seconds of the
processor are taken, which on a busy machine grow too, as its cores share caches, but all columns alike; of more
seconds of the wall, which tell of a quiet machine only.
"""

import argparse
import inspect
import time
from collections import Counter
from contextlib import ExitStack
from itertools import product as product_of
from unittest.mock import patch

import numpy as np
from tasks import features

from reid_core import reranking
from reid_core.reranking import neighbours, reciprocal

STAGES = {  # what of which module; products add up over the search's threads
    "check of the features": (reranking, "check_features"),
    "one array of both": (reranking, "_joined"),
    "copies": (reranking, "representatives"),
    "neighbours": (reranking, "nearest"),
    "  of these, products": (neighbours, "_product"),
    "reciprocal sets": (reciprocal, "expanded_sets"),
    "weights": (reciprocal, "weigh"),
    "query expansion": (reciprocal, "average"),
    "Jaccard and result": (reranking, "final_blocks"),
}
ROWS = 2048
clock = time.process_time if neighbours.threads() == 1 else time.perf_counter


def timed(function, spent: Counter, stage: str):
    """The function, or generator, with its seconds added up in spent[stage]."""

    def measured(*args, **kwargs):
        begun = clock()
        made = function(*args, **kwargs)
        spent[stage] += clock() - begun
        return made

    def steps(*args, **kwargs):
        made, following = function(*args, **kwargs), timed(next, spent, stage)
        while (step := following(made, None)) is not None:
            yield step

    return steps if inspect.isgeneratorfunction(function) else measured


def product(x, other) -> None:
    for start in range(0, len(x), ROWS):
        x[start : start + ROWS] @ other.T


def half(x) -> None:
    cloud = neighbours.points(x, norms=np.ones(len(x)))
    for tile in neighbours._tiles(len(x)):
        neighbours._product(cloud, *tile)


def measure(n: int, turns: int, dimensions: int = 2048) -> dict[str, float]:
    """Least seconds of the product, its half, ours, and ours by stage."""
    n_query = min(3368, n // 5)
    query, gallery, *_ = features(n_query, n - n_query, dimensions, 0)
    x = np.concatenate([query, gallery])
    other = x.copy()  # or NumPy would use the symmetry
    spent, least = Counter(), {}
    tasks = {
        "general product": lambda: product(x, other),
        "half of it": lambda: half(x),
        "k_reciprocal": lambda: reranking.k_reciprocal(query, gallery, progress=False),
    }
    with ExitStack() as stack:
        for stage, (module, name) in STAGES.items():
            stack.enter_context(patch.object(module, name, timed(getattr(module, name), spent, stage)))
        for turn, (name, task) in product_of(range(turns + 1), tasks.items()):
            spent.clear()
            timed(task, spent, name)()
            stages = spent if name == "k_reciprocal" else {name: spent[name]}
            if turn:  # the first warms up
                least |= {stage: min(seconds, least.get(stage, seconds)) for stage, seconds in stages.items()}
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[3000, 6732])
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    for n in asked.images:
        found = measure(n, asked.turns)
        print(f"N = {n:,}: seconds ({clock.__name__}), parts of the general product")
        for name in ("general product", "half of it", "k_reciprocal", *STAGES):
            print(f"  {name:24s} {found[name]:8.3f} {found[name] / found['general product']:6.3f}")


if __name__ == "__main__":
    main()
