"""Rank lists of single queries, for Figure 5 and for looking around."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from reid_core import evaluation, features, scoring
from reid_core.datasets.table import PATH


def retrieve(found: features.Features, metric: str, reranked: bool, matching: scoring.Matching):
    """A set's distance with its per-query scores: (Matched, per_query DataFrame)."""
    matched = scoring.match(found, metric, reranked, matching)
    result = evaluation.evaluate(matched.distance, matched.query, matched.gallery, ap=matching.ap)
    return matched, result.per_query


def gain(ours: tuple, theirs: tuple) -> pd.DataFrame:
    """Per query: AP and first hit of both methods, and the gain in AP of the first."""
    (matched, a), (_, b) = ours, theirs
    columns = {"query": a["query"], "person_id": matched.query["person_id"].to_numpy(), "ap_ours": a["ap"]}
    columns |= {"ap_theirs": b["ap"], "first_hit_ours": a["first_hit"], "first_hit_theirs": b["first_hit"]}
    return pd.DataFrame(columns).assign(gain=a["ap"] - b["ap"])


def representative(gain: pd.Series) -> dict[str, int]:
    """Three queries by rule, not by hand: the largest gain, the median, the largest loss (lowest index on ties).

    >>> representative(pd.Series([0.1, 0.5, -0.3]))
    {'largest gain': 1, 'median': 0, 'largest loss': 2}
    """
    order = np.argsort(gain.to_numpy(), kind="stable")
    largest = int(np.argmax(gain.to_numpy()))
    return {"largest gain": largest, "median": int(order[len(order) // 2]), "largest loss": int(order[0])}


def nearest(retrieved: tuple, query: int, top: int = 10, ignored: bool = False) -> pd.DataFrame:
    """The ranked gallery of one query with image paths; `ignored` keeps junk and same-camera images, flagged."""
    matched, _ = retrieved
    ranked = evaluation.ranked(matched.distance[query], matched.query.iloc[query], matched.gallery, top)
    ranked[PATH] = matched.gallery[PATH].to_numpy()[ranked["gallery_index"]]
    return ranked if ignored else ranked[ranked["rank"].notna()].reset_index(drop=True)


def example(why: str, query: int, lists: Sequence[tuple[str, tuple]], top: int = 10) -> dict:
    """What `reid_core.plots.rank_lists` draws for one query: its image and one ranked list a method."""
    matched, _ = lists[0][1]
    labelled = []
    for label, retrieved in lists:
        ap = retrieved[1]["ap"].iloc[query]
        labelled.append((f"{label}\nAP {ap:.2f}", nearest(retrieved, query, top)))
    return {"query": matched.query[PATH].iloc[query], "title": f"query {query}: {why}", "lists": labelled}
