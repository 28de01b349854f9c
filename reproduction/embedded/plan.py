"""Which images there are: a pure function of sizes and seed, made before anything is drawn."""

import itertools
from typing import NamedTuple

import numpy as np

from reproduction.embedded.sizes import CUHK01Sizes, CUHK03Sizes, Market1501Sizes, scarce_people

MARKET1501, CUHK03, CUHK01 = 1, 2, 3
"""Numbers of the data sets in the keys of their random streams."""

MARKET_CAMERAS = 6
SEQUENCES = (6, 3, 3, 6, 3, 4)  # recordings of each Market-1501 camera
MATLAB_SEED = 5489  # MATLAB's rng(0), from which the new protocol of CUHK03 is drawn


class MarketImage(NamedTuple):
    """One file of Market-1501. `kind` is train, query, good, distractor or junk; `who` the person drawn."""

    folder: str
    name: str
    kind: str
    person_id: int
    camera_id: int
    who: int | None
    picture: int


class CampusFrame(NamedTuple):
    """One frame of CUHK03, cut to a box in either form or in one; pair, view and column count from 0."""

    pair: int
    person: int
    view: int
    column: int
    who: int
    picture: int
    labeled: bool
    detected: bool

    camera = property(lambda self: 2 * self.pair + self.view, doc="One of the ten cameras behind the five pairs.")


class CampusImage(NamedTuple):
    """One file of CUHK01."""

    name: str
    camera: int
    who: int
    picture: int


def allocate(rng: np.random.Generator, total: int, low: np.ndarray, high: np.ndarray, weight: np.ndarray):
    """Whole numbers between `low` and `high` that sum to `total`, the surplus falling as `weight` says."""
    if not low.sum() <= total <= high.sum():
        raise ValueError(f"{total} images do not fit: these people have {int(low.sum())} to {int(high.sum())} images.")
    counts = low.copy()
    while (missing := total - int(counts.sum())) > 0:
        room = high - counts
        share = np.where(room > 0, weight, 0)
        counts += np.minimum(rng.multinomial(missing, share / share.sum()), room)
    return counts


def market1501(sizes: Market1501Sizes, seed: int) -> list[MarketImage]:
    """All files of Market-1501 in writing order; `person_id` -1 is junk and 0 a distractor."""
    rng = np.random.default_rng((seed, MARKET1501, 0))
    people = sizes.train_people + sizes.test_people
    train, test = map(np.sort, np.split(rng.permutation(np.arange(1, people + 1)), [sizes.train_people]))
    names = FileNames(rng)
    images: list[MarketImage] = []

    def add(folder, kind, pid, cam, who, tracks=None, box=None):
        name = names.next(pid, cam, tracks, box)
        images.append(MarketImage(folder, name, kind, int(pid), int(cam), who, len(images)))

    seen_total = min(round(4.4 * sizes.train_people), sizes.train_images, MARKET_CAMERAS * sizes.train_people)
    for pid, cam, count in sightings(rng, train, seen_total, sizes.train_images):
        for _ in range(count):
            add("bounding_box_train", "train", pid, cam, int(pid), (pid, cam))
    for pid, cam, count in sightings(rng, test, sizes.query_images, sizes.good_images):
        add("query", "query", pid, cam, int(pid), (pid, cam), 0)
        for _ in range(count):
            add("bounding_box_test", "good", pid, cam, int(pid), (pid, cam))
    strangers = itertools.count(people + 1)
    for _ in range(sizes.distractor_images):
        who = next(strangers) if rng.random() < 0.45 else None
        add("bounding_box_test", "distractor", 0, rng.integers(1, 7), who)
    for _ in range(sizes.junk_images):
        who = int(rng.choice(test))
        add("bounding_box_test", "junk", -1, rng.integers(1, 7), who)
    return images


def sightings(rng, people: np.ndarray, pairs: int, images: int):
    """(person, camera, images) for `pairs` pairs, two to six cameras a person, that hold `images` images."""
    n = len(people)
    cameras = allocate(rng, pairs, np.full(n, 2), np.full(n, MARKET_CAMERAS), rng.gamma(6.0, size=n))
    seen = [(pid, cam + 1) for pid, k in zip(people, cameras, strict=True) for cam in np.sort(rng.permutation(6)[:k])]
    counts = allocate(rng, images, np.ones(len(seen), int), np.full(len(seen), 40), rng.gamma(1.6, size=len(seen)))
    return [(pid, cam, int(count)) for (pid, cam), count in zip(seen, counts, strict=True)]


class FileNames:
    """Official file names: person, camera and sequence, frame number, box number; never the same twice."""

    def __init__(self, rng: np.random.Generator):
        self.rng, self.used, self.tracks = rng, set(), {}

    def next(self, person_id: int, camera_id: int, track: tuple | None, box: int | None) -> str:
        """The name of one more image; images of one track lie some frames apart in one sequence."""
        start = self.tracks.get(track) if track else None
        if start is None:
            sequence = int(self.rng.integers(1, SEQUENCES[camera_id - 1] + 1))
            start = sequence, int(self.rng.integers(6, 3900)) * 25 + sequence % 3
        sequence, frame = start
        person = "-1" if person_id == -1 else f"{person_id:04d}"
        name, frame = None, frame - 25
        while name is None or name in self.used:
            frame += 25
            number = self.rng.integers(1, 7) if box is None else box
            name = f"{person}_c{camera_id}s{sequence}_{frame:06d}_{number:02d}.jpg"
        self.used.add(name)
        if track:
            self.tracks[track] = sequence, frame + 25 * int(self.rng.integers(0, 4))
        return name


def test_people(many: np.ndarray, count: int) -> np.ndarray:
    """Mask (n,) of the `count` people that CUHK03's new protocol takes for test, as Zhong et al. (CVPR 2017) drew them,
    of whom `many` (n,) bool says in file order whether both views hold more than one image."""
    order = matlab_order(len(many))
    return np.isin(np.arange(len(many)), order[many[order]][:count])


def matlab_order(n: int) -> np.ndarray:
    """MATLAB's `randperm(n)` from `rng(0)`: `argsort` of n draws of the Mersenne Twister seeded with 5489."""
    return np.argsort(np.random.RandomState(MATLAB_SEED).rand(n), kind="stable")


def cuhk03_counts(sizes: CUHK03Sizes, seed: int) -> dict[str, np.ndarray]:
    """(people, 2) images of each person in each view, for `labeled` and `detected`.

    As in the official release some people have a single image in one view and so cannot be test people, one of them
    only in `labeled`: a training person there and a test person in `detected`, as the last one drawn is the reverse."""
    rng = np.random.default_rng((seed, CUHK03, 0))
    n, test = sizes.people, sizes.test_people
    scarce = np.isin(np.arange(n), rng.choice(n, size=scarce_people(n), replace=False))
    odd = next(p for p in matlab_order(n) if not scarce[p])
    counts = {}
    for boxes in ("labeled", "detected"):
        few = scarce.copy()
        few[odd] = boxes == "labeled"
        tested = test_people(~few, test)
        low, high = np.full((n, 2), 2), np.full((n, 2), 5)
        low[few, 0] = high[few, 0] = 1
        per_view = np.zeros((n, 2), int)
        train, gallery = (getattr(sizes, f"{boxes}_{part}_images") for part in ("train", "gallery"))
        for part, total in ((~tested, train), (tested, gallery + 2 * test)):
            lowest, highest = low[part].ravel(), high[part].ravel()
            rng = np.random.default_rng((seed, CUHK03, 1))
            weight = rng.gamma(0.1, size=(n, 2)) * (2.5, 1.0)
            gaps = allocate(rng, int(highest.sum()) - total, 0 * lowest, highest - lowest, weight[part].ravel() + 1e-9)
            per_view[part] = (highest - gaps).reshape(-1, 2)
        counts[boxes] = per_view
    return counts


def cuhk03(sizes: CUHK03Sizes, seed: int) -> list[CampusFrame]:
    """All frames of CUHK03 in the order of pair, person, view and column."""
    counts = cuhk03_counts(sizes, seed)
    frames, who = [], 0
    for pair, people in enumerate(sizes.pair_people):
        for index in range(people):
            for view in range(2):
                labeled, detected = (int(counts[b][who, view]) for b in ("labeled", "detected"))
                picture = 20 * who + 10 * view
                frames += [
                    CampusFrame(pair, index, view, k, who, picture + k, k < labeled, k < detected)
                    for k in range(max(labeled, detected))
                ]
            who += 1
    return frames


def cuhk03_testsets(sizes: CUHK03Sizes, seed: int) -> list[np.ndarray]:
    """The twenty (k, 2) tables of 1-based (pair, person) of the first protocol; k = 100, or half the people."""
    everybody = np.array([(p + 1, k + 1) for p, people in enumerate(sizes.pair_people) for k in range(people)])
    rng, n = np.random.default_rng((seed, CUHK03, 2)), len(everybody)
    return [everybody[np.sort(rng.permutation(n)[: min(100, n // 2)])] for _ in range(20)]


def cuhk01(sizes: CUHK01Sizes) -> list[CampusImage]:
    """All files of CUHK01: images 1 and 2 from the first camera, 3 and 4 from the second."""
    return [
        CampusImage(f"{who + 1:04d}{k + 1:03d}.png", k // 2, who, 4 * who + k)
        for who in range(sizes.people)
        for k in range(4)
    ]
