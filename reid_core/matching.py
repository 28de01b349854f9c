"""From features to distances (Sections 3.3 and 3.4): Euclidean or XQDA, as they are or re-ranked by Eq. (4)."""

import time
from collections import namedtuple
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from reid_core import evaluation, reranking, xqda
from reid_core.datasets.table import CAMERA, LABEL, PERSON, SUBSET, SUBSETS
from reid_core.distance import squared_euclidean
from reid_core.features import Features


@dataclass(frozen=True)
class Matching:
    """Settings of metric, re-ranking and scoring; the defaults are those behind the printed numbers ([13]).

    Parameters
    ----------
    ap : average precision, "trapezoid" (the tables) or "step" (Figure 4), see `evaluation.evaluate`
    k1, k2, lambda_value, half, jaccard : of re-ranking, see `reranking.k_reciprocal`
    xqda_solver : "svd", the released code's, or "eigh", the text's of [19]
    junk_in_pool : whether junk images stay among the neighbours while re-ranking, as in the official toolchain

    Raises ValueError for a value that evaluation, XQDA or re-ranking would not take.
    """

    ap: str = "trapezoid"
    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    half: str = "official"
    jaccard: str = "weighted"
    xqda_solver: str = "svd"
    junk_in_pool: bool = True

    def __post_init__(self):
        for name, choices in (("ap", evaluation.AP_DEFINITIONS), ("xqda_solver", xqda.SOLVERS)):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {value!r}; it is one of {', '.join(choices)}.")
        for name in ("k1", "k2", "lambda_value"):
            if isinstance(value := getattr(self, name), bool) or not isinstance(value, Real):
                raise ValueError(f"{name} is {value!r}; it is a number, written without quotes.")
        if not isinstance(self.junk_in_pool, bool):
            raise ValueError(f"junk_in_pool is {self.junk_in_pool!r}; it is true or false.")
        reranking.Settings(**self._reranking)

    @property
    def _reranking(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("k1", "k2", "lambda_value", "half", "jaccard")}

    def reranked(self, query: np.ndarray, gallery: np.ndarray, metric: xqda.XQDA | None = None) -> np.ndarray:
        """Distance of Eq. (4), (Q, G) float32, of `query` (Q, d) and `gallery` (G, d) float32; see `k_reciprocal`."""
        return reranking.k_reciprocal_where_it_fits(query, gallery, metric=metric, **self._reranking)


Split = namedtuple("Split", SUBSETS)  # the three parts of a set, of one kind: image tables, or `Features`


def split(whole: pd.DataFrame | Features) -> Split:
    """The parts of a set's image table or of its features, each with rows numbered from 0."""
    if isinstance(whole, Features):
        return Split(*(whole.take(np.flatnonzero(whole.table[SUBSET] == name)) for name in SUBSETS))
    return Split(*(whole[whole[SUBSET] == name].reset_index(drop=True) for name in SUBSETS))


def people(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Person, by `label` where there is one (two sets may use one number for two people), and camera, (N,) each."""
    return table[LABEL if LABEL in table else PERSON].to_numpy(), table[CAMERA].to_numpy()


def learn(features: Features, solver: str = "svd", pairing: int = 5489) -> xqda.XQDA:
    """XQDA fitted on a set's training images; `pairing` seeds their random pairing, MATLAB's default as it is."""
    train = split(features).train
    return xqda.XQDA(solver, random_state=pairing).fit(train.values, *people(train.table))


@dataclass(frozen=True)
class Matched:
    """A distance (Q, G) float32, smaller is more alike, and the image tables of its Q rows and G columns.
    seconds: of comparing and re-ranking; seconds_fit: of the metric's fit, 0 for a metric that was given."""

    distance: np.ndarray
    query: pd.DataFrame
    gallery: pd.DataFrame
    seconds: float
    seconds_fit: float = 0.0


def match(features: Features, metric: str, reranked: bool, how: Matching, learned: xqda.XQDA | None = None) -> Matched:
    """Distance (Q, G) float32 of a set's queries and gallery images.

    Parameters
    ----------
    features : of a whole set: values (N, d) float32 with their image table
    metric : "euclidean" (squared) or "xqda" (squared-type); ValueError for another
    reranked, how : whether by the k-reciprocal distance of Eq. (4), which is no square; the settings
    learned : the XQDA to match with; None fits one on the training images of the same set (the paper does not say on
        which it is fitted). Without a use where the metric is Euclidean.
    """
    evaluation.check_choice("metric", metric, ("euclidean", "xqda"))
    _, query, gallery = split(features)
    if not how.junk_in_pool:
        gallery = gallery.subset(~evaluation.protocol(query.table, gallery.table).junk)
    started = time.perf_counter()
    learned = (learned or learn(features, how.xqda_solver)) if metric == "xqda" else None
    fitted = time.perf_counter()
    pair, compare = (query.values, gallery.values), learned.distance if learned else squared_euclidean
    distance = how.reranked(*pair, learned) if reranked else compare(*pair)
    return Matched(distance, query.table, gallery.table, time.perf_counter() - fitted, fitted - started)
