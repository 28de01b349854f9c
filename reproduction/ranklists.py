"""Rank lists of single queries, for Figure 5 and for looking around.

Of a whole distance matrix (266 MB at Market-1501's size) a `Ranking` keeps what a look needs, about 1 MB, so that all
methods stay in memory: every query's AP and its nearest gallery images, down to the tenth one that counts. What the
scoring passes over can be shown where it would stand; the nearest five of a query are kept, the others are counted.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from reid_core import evaluation, features
from reid_core.datasets.table import CAMERA, PATH, PERSON
from reid_core.matching import Matched, Matching, match
from reproduction import paper, scoring
from reproduction.experiment import MODELS, Experiment

TOP = 10
PASSED_OVER = 5


@dataclass(frozen=True)
class Method:
    """One way to retrieve: a model (baseline, hcn or combined), a metric (euclidean or xqda), re-ranked or not."""

    model: str
    metric: str
    reranked: bool

    @property
    def key(self) -> str:
        """As addresses of explorer.html name it: hcn-xqda-reranked."""
        return "-".join((self.model, self.metric, *["reranked"] * self.reranked))


@dataclass(frozen=True)
class Ranking:
    """The front of every query's list under one method.

    query, gallery: image tables of Q and G rows; per_query: `evaluation.Evaluation.per_query`; index, distance,
    is_match, flag: (Q, TOP + PASSED_OVER) rows of the gallery, nearest first, with their distances and the words of
    `evaluation.ranked`, -1 and NaN after the last; passed_over: (Q,) number of images before the TOP-th counted one
    that the scoring passes over."""

    query: pd.DataFrame
    gallery: pd.DataFrame
    per_query: pd.DataFrame
    index: np.ndarray
    distance: np.ndarray
    is_match: np.ndarray
    flag: np.ndarray
    passed_over: np.ndarray

    ap = property(lambda self: self.per_query["ap"].to_numpy(), doc="(Q,) average precision.")


def rank(matched: Matched, ap: str = "trapezoid") -> Ranking:
    """The ranking of a distance matrix, scored with the definition `ap`; the matrix itself is not kept."""
    per_query = evaluation.evaluate(matched.distance, matched.query, matched.gallery, ap=ap).per_query
    rule = evaluation.protocol(matched.query, matched.gallery)
    shape = (len(matched.query), TOP + PASSED_OVER)
    index, distance = np.full(shape, -1, np.int32), np.full(shape, np.nan, np.float32)
    is_match, flag, passed_over = np.zeros(shape, bool), np.full(shape, "", object), np.zeros(len(index), np.int64)
    for query, row in enumerate(matched.distance):
        order = _front(row, removed := rule.removed(query))
        passed_over[query] = removed[order].sum()
        order = order[~removed[order] | (removed[order].cumsum() <= PASSED_OVER)]
        place = query, slice(len(order))
        index[place], distance[place] = order, row[order]
        is_match[place] = np.isin(order, rule.split(query)[0])
        flag[place] = np.select([rule.junk[order], removed[order]], ["junk", rule.passed_over], "")
    return Ranking(matched.query, matched.gallery, per_query, index, distance, is_match, flag, passed_over)


def _front(row: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Columns of `row` in stable order down to the TOP-th one that is not removed; sorts only these."""
    counted, near = row[~removed], np.arange(len(row))
    if len(counted) > TOP:
        near = np.flatnonzero(row <= np.partition(counted, TOP - 1)[TOP - 1])
    order = near[np.argsort(row[near], kind="stable")]
    return order[: np.searchsorted((~removed[order]).cumsum(), TOP) + 1]


def retrieve(vectors: features.Features, metric: str, reranked: bool, how: Matching) -> Ranking:
    """The ranking of a set's queries by their features, (N, d) of the whole set with its table."""
    return rank(match(vectors, metric, reranked, how), how.ap)


class Rankings:
    """Rankings by set and method, each made by `make(set, method)` when it is first asked for, and then kept. `models`
    says what there is to choose from: {set: (model, ...)}."""

    def __init__(self, make: Callable[[str, Method], Ranking], models: Mapping[str, Sequence[str]]):
        self.models = {name: tuple(has) for name, has in models.items()}
        self._make, self._kept = make, {}

    def has(self, name: str, method: Method) -> bool:
        """Whether this ranking is there without any work."""
        return (name, method) in self._kept

    def __call__(self, name: str, method: Method) -> Ranking:
        """The ranking of a set by a method; what `make` raises, it raises."""
        if not self.has(name, method):
            made = self._make(name, method)
            kept = next((kept for (other, _), kept in self._kept.items() if other == name), made)
            self._kept[name, method] = replace(made, query=kept.query, gallery=kept.gallery)  # one set, the same rows
        return self._kept[name, method]


def of_runs(kit: Experiment, how: Matching, seed: int | None = None) -> Rankings:
    """The rankings that the finished runs of a seed, else of the first, allow, on the paper's sets and the own ones.
    Asked for another, it raises what `experiment.Run.check` raises, with the command that makes the run."""
    seed, models = kit.seeds[0] if seed is None else seed, (*MODELS, paper.COMBINED)
    names = [name for name in paper.SETS if name in kit.present] + [*kit.own_sets]
    trained = {name: [model for model in models if kit.run(model, name, seed).finished] for name in names}

    @functools.lru_cache(maxsize=1)  # one run has several methods
    def vectors(model: str, name: str) -> features.Features:
        return scoring.extract(kit, kit.run(model, name, seed).check().folder, kit.images(name), name)

    def make(name: str, method: Method) -> Ranking:
        return retrieve(vectors(method.model, name), method.metric, method.reranked, how)

    return Rankings(make, {name: has for name, has in trained.items() if has})


def gain(ours: Ranking, theirs: Ranking) -> pd.DataFrame:
    """Per query: AP and first hit of both methods, and the gain in AP of the first."""
    a, b = ours.per_query, theirs.per_query
    columns = {"query": a["query"], "person_id": ours.query[PERSON].to_numpy(), "ap_ours": a["ap"]}
    columns |= {"ap_theirs": b["ap"], "first_hit_ours": a["first_hit"], "first_hit_theirs": b["first_hit"]}
    return pd.DataFrame(columns).assign(gain=a["ap"] - b["ap"])


def representative(gain: pd.Series) -> dict[str, int]:
    """Three queries by rule, not by hand: the largest gain, the median, the largest loss (lowest index on ties).

    >>> representative(pd.Series([0.1, 0.5, -0.3]))
    {'largest gain': 1, 'median': 0, 'largest loss': 2}
    """
    order = np.argsort(gain.to_numpy(), kind="stable").tolist()
    return {"largest gain": int(gain.argmax()), "median": order[len(order) // 2], "largest loss": order[0]}


class Image(NamedTuple):
    """An image of a list: its row of the gallery and what `evaluation.ranked` says of it; rank None: passed over."""

    gallery_index: int
    rank: int | None
    distance: float
    is_match: bool
    flag: str
    camera_id: int
    image_path: str


def shown(ranking: Ranking, query: int, ignored: bool = False) -> Iterator[Image]:
    """One query's images, nearest first, down to the TOP-th counted one: what every page and picture shows of a list;
    with `ignored` those that the scoring passes over, too, flagged."""
    index = ranking.index[query][ranking.index[query] >= 0]
    about = (ranking.gallery[column].to_numpy()[index].tolist() for column in (CAMERA, PATH))
    kept = (getattr(ranking, name)[query].tolist() for name in ("distance", "is_match", "flag"))
    rank = 0
    for number, distance, is_match, flag, camera, path in zip(index.tolist(), *kept, *about, strict=False):
        rank += not flag
        if ignored or not flag:
            yield Image(number, None if flag else rank, distance, is_match, flag, camera, path)


def told(ranking: Ranking, query: int, ignored: bool = False) -> str:
    """A list in words: its AP, the first match, and how many more than those shown are passed over."""
    hit = ranking.per_query["first_hit"].iloc[query]
    match = "no match in the gallery" if pd.isna(hit) else f"first match at rank {hit}"
    more = ranking.passed_over[query] - PASSED_OVER
    return f"AP {ranking.ap[query]:.2f}, {match}" + (f"; {more} more passed over" if ignored and more > 0 else "")


def example(why: str, query: int, lists: Sequence[tuple[str, Ranking]], ignored: bool = False) -> dict:
    """What `reproduction.plots.rank_lists` draws for one query: its image and one ranked list a method."""
    about = lists[0][1].query.iloc[query]
    title = f"query {query}: person {about[PERSON]}, camera {about[CAMERA]}" + (f" ({why})" if why else "")
    return {"query": about[PATH], "title": title, "lists": [
        (f"{label}: {told(ranking, query, ignored)}", list(shown(ranking, query, ignored))) for label, ranking in lists
    ]}  # fmt: skip
