"""What one method of the literature made of one set: the distance, its times, and how faithful it is.

What each of the three times holds: *features* reads all images that the method uses and describes each alone (the
training images too where there is learning); *train* learns; *match* compares all queries with the gallery, and
re-ranks. Features and networks that are kept on disk report the seconds that they once took, not their reading.
"""

import time
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Outcome:
    """What one method made of one set.

    distance: (Q, G) float32, smaller is more alike; `squared` says of which kind it is.
    seconds_features, seconds_train, seconds_match: as above; 0 where there is nothing to learn.
    faithful: how near the row comes to its paper, a key of `reproduction.tables.FAITHFUL`.
    note: what stands behind the row, for the reader of the table.
    run: name of the run folder of what was trained on the kit's loop.
    """

    distance: np.ndarray
    squared: bool
    seconds_features: float
    seconds_train: float
    seconds_match: float
    faithful: str
    note: str
    run: str | None = None


class Clock:
    """Seconds spent under each name.

    >>> clock = Clock()
    >>> with clock("train"):
    ...     pass
    >>> clock["train"] < 1, clock["match"]
    (True, 0.0)
    """

    def __init__(self):
        self._seconds = {}

    @contextmanager
    def __call__(self, name: str):
        started = time.perf_counter()
        yield
        self._seconds[name] = self[name] + time.perf_counter() - started

    def __getitem__(self, name: str) -> float:
        return self._seconds.get(name, 0.0)

    def outcome(self, distance, faithful, note, *, squared=True, run=None, **seconds) -> Outcome:
        """The seconds counted here, unless `seconds` gives those of features or train."""
        reading, learning = (seconds.get(name, self[name]) for name in ("features", "train"))
        return Outcome(distance, squared, reading, learning, self["match"], faithful, note, run)
