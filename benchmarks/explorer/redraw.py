"""How long the explorer of notebook 08 takes from a change of a control to the picture, at Market-1501's size.

    python benchmarks/explorer/redraw.py [--changes 200] [--dimensions 256]

Seeded features stand in for a network's: 3,368 queries and 19,732 gallery images with Market-1501's counts of people,
cameras, distractors and junk. The pictures are rendered, a few hundred files used again and again. Each change goes
through the controls' own callbacks and ends with the PNG that is handed to the front end. Their time, and what the
rankings hold, do not depend on the features' dimensions; the first look at a method does, and is printed apart.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from reid_core import datasets, reranking
from reid_core.datasets.table import CAMERA, PERSON
from reid_core.datasets.table import build as image_table
from reid_core.distance import squared_euclidean
from reid_core.matching import Matched
from reproduction import embedded, explorer, ranklists
from reproduction.ranklists import Method

QUERIES, PEOPLE, CAMERAS = 3368, 750, 6
GOOD, DISTRACTORS, JUNK_IMAGES = 13_115, 2_798, 3_819
SET, FACTS = "market1501", {"data_source": "embedded", "profile": "benchmark"}


def tables(folder: Path, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Image tables of the queries and the gallery, over pictures rendered into `folder`."""
    embedded.render(folder / "data", embedded.Sizes.named("tiny"), 0)
    paths = datasets.load(SET, folder / "data")["image_path"].to_numpy()

    def table(subset, person):
        camera = rng.integers(1, CAMERAS + 1, len(person))
        return image_table(SET, subset, person, camera, paths[rng.integers(0, len(paths), len(person))])

    good = 1 + np.arange(GOOD) % PEOPLE
    gallery = np.concatenate([good, np.zeros(DISTRACTORS, int), np.full(JUNK_IMAGES, -1)])
    return table("query", 1 + np.arange(QUERIES) % PEOPLE), table("gallery", rng.permutation(gallery))


def features(table: pd.DataFrame, people: np.ndarray, cameras: np.ndarray, rng) -> np.ndarray:
    """(N, d) float32 of unit length: person, camera and noise; junk and distractors are people of their own."""
    person = table[PERSON].to_numpy()
    centre = np.where(person[:, None] > 0, people[person], rng.normal(size=(len(table), people.shape[1])))
    values = centre + cameras[table[CAMERA]] + 1.6 * rng.normal(size=centre.shape)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def rankings(folder: Path, dimensions: int) -> ranklists.Rankings:
    """Two models' rankings, Euclidean, as it is and re-ranked."""
    query, gallery = tables(folder, np.random.default_rng(0))

    def make(name, method):
        rng = np.random.default_rng([1, method.model == "hcn"])
        people, cameras = (rng.normal(size=(PEOPLE + 1, dimensions)), rng.normal(size=(CAMERAS + 1, dimensions)))
        q, g = (features(table, people, cameras, rng) for table in (query, gallery))
        distance = reranking.k_reciprocal(q, g) if method.reranked else squared_euclidean(q, g)
        return ranklists.rank(Matched(distance, query, gallery, 0.0))

    return ranklists.Rankings(make, {SET: ("baseline", "hcn")})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--changes", type=int, default=200, help="number of changes to time")
    parser.add_argument("--dimensions", type=int, default=256, help="of the stand-in features")
    given = parser.parse_args()
    shown = []
    explorer.display = lambda picture, **_: shown.append(picture) or Screen(shown)
    with tempfile.TemporaryDirectory() as folder:
        made = rankings(Path(folder), given.dimensions)
        upper, lower = Method("hcn", "euclidean", True), Method("baseline", "euclidean", False)
        for method in (lower, Method("hcn", "euclidean", False), upper):
            started = time.perf_counter()
            made(SET, method)
            print(f"first look at {explorer.title(method)}: {time.perf_counter() - started:.1f} s", file=sys.stderr)
        opened = explorer.Explorer(made, FACTS, explorer.Choice(SET, upper, lower, "number", 0))
        opened.draw()
        seconds = []
        for number, rule in enumerate(np.resize(list(explorer.RULES), given.changes)):
            if rule != opened.rule.value:
                seconds.append(timed(lambda rule=rule: setattr(opened.rule, "value", rule)))
            place = int(np.random.default_rng([2, number]).integers(2, QUERIES))
            seconds.append(timed(lambda place=place: setattr(opened.number, "value", place)))
        kept = made(SET, upper)
    assert len(shown) == len(seconds) + 1, "every change draws once"
    wall, processor = np.array(seconds).T
    size = kept.index.nbytes + kept.distance.nbytes + kept.passed_over.nbytes
    size += int(kept.per_query.memory_usage(deep=True).sum())
    print(f"{len(seconds)} changes: median {np.median(wall):.3f} s, largest {wall.max():.3f} s")
    print(f"processor time: median {np.median(processor):.3f} s, largest {processor.max():.3f} s")
    print(f"a ranking holds {size / 2**20:.2f} MiB; its PNG has {len(shown[-1].data) / 1000:.0f} kB")


class Screen:
    """Takes each picture that replaces another."""

    def __init__(self, shown: list):
        self.update = shown.append


def timed(change) -> tuple[float, float]:
    """Seconds that a change took, and the processor's seconds, which a busy machine does not lengthen as much."""
    started, worked = time.perf_counter(), time.process_time()
    change()
    return time.perf_counter() - started, time.process_time() - worked


if __name__ == "__main__":
    main()
