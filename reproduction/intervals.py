"""How far a score, or the difference of two, could be off: other test people, and other seeds.

A test set is a sample of people, and a training with one seed is a sample of trainings. Both are counted here:

- People. All queries of a person stand or fall together, so people are drawn, not queries: a bootstrap over test
  people, the same draws for both sides of a difference (paired), gives the variance that is due to them.
- Seeds. With several trainings a side, the variance of the mean over seeds is that of independent samples (Welch): two
  trainings with one seed number share no more than any two do. A method that draws nothing at random has none.

The two variances add up (crossed sampling: Owen, "The pigeonhole bootstrap", AOAS 2007, whose variance is this sum),
and the interval is Student's with Satterthwaite's degrees of freedom, since three seeds know their spread badly: a
bootstrap of three seeds alone would cover 80% instead of 95%. With one training a side the seeds' part is unknown: the
interval is about *these* trainings on other people, and says nothing of the method. The tests count how often
comparisons without a true difference are decided.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import stdtrit  # Student's quantile; scipy.stats takes ten times as long to load

from reid_core.datasets.table import PERSON

SCORES = ("rank1", "mAP")
LEVEL = 0.95
DRAWS = 2000
COLUMNS = ("seed", PERSON, "queries", *SCORES)


@dataclass(frozen=True)
class Interval:
    """A score or a difference in points (per cent), its interval, and what it was sampled from.

    middle, error, freedom: estimate, standard error, degrees of freedom; `unit` turns middle and ends into points.
    people: 0 where no test people are behind it. seeds: trainings on each side, the fewer of those that draw at random;
    1 leaves the spread of such a side out of `low` and `high`, which stay within `ends`; 0: no side draws anything."""

    middle: float
    error: float
    freedom: float
    people: int
    seeds: int
    level: float = LEVEL
    unit: Callable[[float], float] = float
    ends: tuple[float, float] = (-np.inf, np.inf)

    def at(self, level: float) -> "Interval":
        """The same at another level of confidence."""
        return replace(self, level=level)

    @functools.cached_property
    def _half(self) -> float:
        return self.error * float(stdtrit(self.freedom, (1 + self.level) / 2))

    value = property(lambda self: self.unit(self.middle))
    low = property(lambda self: max(self.unit(self.middle - self._half), self.ends[0]))
    high = property(lambda self: min(self.unit(self.middle + self._half), self.ends[1]))

    def above(self, threshold: float = 0.0) -> bool | None:
        """Whether the true value is above `threshold`: True, False, or None where the interval leaves it open.

        >>> Interval(2.0, 0.75, 56, 57, 3).above(), Interval(2.0, 1.25, 56, 57, 3).above()
        (True, None)
        """
        if self.low > threshold:
            return True
        return False if self.high < threshold else None


def by_person(per_query: pd.DataFrame, person: np.ndarray, seed: int) -> pd.DataFrame:
    """Sums over the queries of each test person: what every interval is made from.

    `per_query`: the rows of `evaluation.Evaluation.per_query`, one a query; `person`: (Q,), of each; `seed`: the
    training's. Returns the columns seed, person_id, queries, rank1 (queries whose first image matches) and mAP (sum of
    their average precisions, 0-1 each), sorted by person. A query without a match counts as zero."""
    hits = (per_query["first_hit"] == 1).fillna(False).astype(float)
    rows = pd.DataFrame({PERSON: person, "queries": 1, "rank1": hits, "mAP": per_query["ap"]})
    return rows.groupby(PERSON, as_index=False).sum().assign(seed=seed)[list(COLUMNS)]


def interval(
    ours: pd.DataFrame, score: str, theirs: pd.DataFrame | None = None, *, random=(True, True), least=-100.0
) -> Interval:
    """The mean over seeds of a score, or of `ours` - `theirs`, in points, with its interval.

    `ours`: rows of `by_person`, of one set, of several seeds one below the other; `score`: "rank1" or "mAP"; `theirs`:
    likewise, the other side of a difference; `random`: of each side, whether its training draws at random (bool); one
    without counts as known but for the test people; `least`: points below which none can be, 0 of scores.
    Raises ValueError where the two sides have other people or other numbers of queries, or a side repeats a seed."""
    queries, values = zip(*(_sums(rows, score) for rows in (ours, theirs) if rows is not None), strict=True)
    if not queries[-1].equals(queries[0]):
        raise ValueError("Two methods are compared on one set only: their test people or queries differ.")
    return estimate(*values, queries=queries[0].to_numpy(float), random=random, least=least)


def estimate(
    ours: np.ndarray, theirs: np.ndarray | None = None, *, queries: np.ndarray, random=(True, True), least=-100.0
) -> Interval:
    """`interval` from arrays: `ours`, `theirs` (seeds, P) sums of a score over a person's queries, `queries` (P,)."""
    sides = [ours] if theirs is None else [ours, theirs]
    total = sum(sign * side.mean(axis=0) for sign, side in zip((1, -1), sides, strict=False))
    means = [side.sum(axis=1) / queries.sum() for side, chance in zip(sides, random, strict=False) if chance]
    return replace(_together(total.sum() / queries.sum(), [(total, queries)], means), ends=(least, 100.0))


def interaction(
    ours: tuple[pd.DataFrame, pd.DataFrame], theirs: tuple[pd.DataFrame, pd.DataFrame], score: str
) -> Interval:
    """How much more `ours` is above `theirs` on one set than on another, in points, with its interval.

    Each is a pair of rows of `by_person`, on the one set and on the other: `ours` of the same trainings, `theirs` of
    different ones. The sets have different people, so that their variances add up."""
    people, means = [], []
    for pair in zip(ours, theirs, strict=True):
        (queries, a), (_, b) = sides = [_sums(rows, score) for rows in pair]
        people.append((a.mean(axis=0) - b.mean(axis=0), queries.to_numpy(float)))
        means.append([sums.sum(axis=1) / asked.sum() for asked, sums in sides])
    value = np.subtract(*(total.sum() / queries.sum() for total, queries in people))
    return _together(value, people, [means[0][0] - means[1][0], means[0][1], means[1][1]])


def saving(ours: np.ndarray, theirs: np.ndarray) -> Interval:
    """Per cent by which exp(`ours`) is less than exp(`theirs`): means of (S,) and (T,) numbers of one training each."""
    found = _together((theirs.mean() - ours.mean()) / 100, [], [ours / 100, theirs / 100])
    return replace(found, unit=lambda less: float(-100 * np.expm1(-less)))


def _together(value: float, people: list[tuple], means: list[np.ndarray]) -> Interval:
    """A fraction with its interval in points: `people` are (sums, queries) of sets, `means` a value a training."""
    variances = [
        (float(np.var((draws := _draws(len(queries))) @ total / (draws @ queries), ddof=1)), len(queries) - 1)
        if len(queries) > 1 else (np.inf, 0) for total, queries in people  # one person says nothing of others
    ]  # fmt: skip
    seeds = min(map(len, means), default=0)
    variances += [(float(np.var(mean, ddof=1)) / len(mean), len(mean) - 1) for mean in means if len(mean) > 1]
    total = sum(variance for variance, _ in variances)  # of independent parts; the freedom is Satterthwaite's
    freedom = total**2 / sum(variance**2 / df for variance, df in variances if df) if 0 < total < np.inf else np.inf
    counted = min((len(queries) for _, queries in people), default=0)
    return Interval(100 * value, 100 * total**0.5, freedom, counted, seeds)


def _sums(rows: pd.DataFrame, score: str) -> tuple[pd.Series, np.ndarray]:
    """(P,) queries by person, and (seeds, P) sums of the score over them."""
    if score not in SCORES:
        raise ValueError(f"score is {score!r}; it is one of {', '.join(SCORES)}.")
    if rows.duplicated(["seed", PERSON]).any():
        raise ValueError("A seed or a person occurs twice; give the rows of one method on one set.")
    table = rows.pivot(index="seed", columns=PERSON, values=[score, "queries"])
    if table.isna().any(axis=None) or (table["queries"] != table["queries"].iloc[0]).any(axis=None):
        raise ValueError("The seeds of a method were scored on other people; score them on one set.")
    return table["queries"].iloc[0].rename("queries"), table[score].to_numpy(float)


@functools.cache
def _draws(people: int) -> np.ndarray:
    """How often each person is drawn, (DRAWS, people) float64: the same for every comparison on a set."""
    equal = np.full(people, 1 / people)
    return np.random.RandomState(people).multinomial(people, equal, size=DRAWS).astype(float)
