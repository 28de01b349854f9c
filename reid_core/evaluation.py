"""Single-query evaluation (paper, Section 4.2): CMC and mean average precision under one protocol.

The protocol, as in the released toolchains of Market-1501 (Zheng et al., ICCV 2015) and of Zhong et al. (CVPR 2017):
from each query's ranked gallery the images of the same person in the same camera and all junk images (person -1) are
removed; distractors (person 0) stay and are always wrong. CMC and mAP share one mask of valid queries, those with a
true match left. Ties are stable: of two gallery images at one distance the one with the lower index comes first.

Average precision is the area under the precision-recall curve: the mean over the true matches, the k-th at rank r, of

- ``trapezoid``: the mean of the precision at its rank, k/r, and one rank before, (k-1)/(r-1), taken as 1 before the
  first rank. This is what the Market-1501 toolchain computes and what the printed mAP numbers use.
- ``step``: k/r alone, the standard definition. The 0.83 of the paper's Figure 4 (c), with hits at ranks 1 and 3, is
  this one; by trapezoid the same list has 0.79.

mINP (Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021) asks for the hardest
match: the mean, over the queries that have one, of the number of true matches over the rank of the last of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reid_core import ids
from reid_core.ids import CAMERA, DISTRACTOR, JUNK, PERSON

MAX_RANK = 50
AP_DEFINITIONS = ("trapezoid", "step")
UNMATCHED = ("zero", "skip")
MANY_MATCHES = 256
BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Protocol:
    """What each query's ranking leaves out and what counts as true, by the module's text; made by `protocol`.

    Attributes
    ----------
    query_person, query_camera : (Q,) ids, int64, or str where they are text
    person, camera : (G,) those of the gallery
    junk : (G,) bool, the images that no query ranks
    """

    query_person: np.ndarray
    query_camera: np.ndarray
    person: np.ndarray
    camera: np.ndarray
    junk: np.ndarray
    _by_person: np.ndarray
    _first: np.ndarray
    _last: np.ndarray

    def split(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns of the query's person, ascending: its true matches, and what its own camera saw."""
        own = self._by_person[self._first[query] : self._last[query]]
        other_camera = self.camera[own] != self.query_camera[query]
        return own[other_camera], own[~other_camera]

    def removed(self, query: int) -> np.ndarray:
        """(G,) bool: what this query's ranking leaves out, junk and its person's images in its own camera."""
        removed = self.junk.copy()
        removed[self.split(query)[1]] = True
        return removed


def protocol(query_table, gallery_table) -> Protocol:
    """The protocol for these tables, whose ids are checked.

    Parameters
    ----------
    query_table, gallery_table : Q and G rows with columns person_id and camera_id, of any type that
        `reid_core.ids.column` reads, the same on both sides. As numbers, person -1 is junk and 0 a distractor, in
        the gallery only; as text nobody is either.

    Raises ValueError for no rows, a missing column, ids that are missing, none or text on one side only, a query that
    is a distractor or junk, a gallery person below -1, and people "0", "-1", ... as text.

    >>> query = pd.DataFrame({"person_id": [7], "camera_id": [1]})
    >>> found = protocol(query, pd.DataFrame({"person_id": [7, -1, 7], "camera_id": [1, 2, 2]}))
    >>> found.split(0)[0].tolist(), found.removed(0).tolist()
    ([2], [True, True, False])
    """
    for name, table in (("query", query_table), ("gallery", gallery_table)):
        for column in (PERSON, CAMERA):
            if column not in table:
                raise ValueError(f"The {name} table lacks the column {column!r}; use a table of datasets.load.")
        if len(table) == 0:
            raise ValueError(f"The {name} table is empty; there is nothing to score.")
    query_person, person = ids.alike(query_table[PERSON], gallery_table[PERSON], PERSON)
    query_camera, camera = ids.alike(query_table[CAMERA], gallery_table[CAMERA], CAMERA)
    numbered = person.dtype.kind == "i"
    _check_people(query_person, "query", DISTRACTOR)
    _check_people(person, "gallery", JUNK - 1 if numbered else DISTRACTOR)
    by_person = np.argsort(person, kind="stable")
    ends = (np.searchsorted(person[by_person], query_person, side) for side in ("left", "right"))
    junk = person == JUNK if numbered else np.zeros(len(person), bool)
    return Protocol(query_person, query_camera, person, camera, junk, by_person, *ends)


def _check_people(person: np.ndarray, name: str, last: int) -> None:
    """Refuse people at or below `last`, as numbers or as their digits."""
    if person.dtype.kind == "i":
        wrong = np.flatnonzero(person <= last)
    else:
        digits = map(ids.INTEGER.fullmatch, np.char.strip(person))
        wrong = [row for row, match in enumerate(digits) if match and int(match[1]) <= last]
    if len(wrong):
        raise ValueError(
            f"Row {wrong[0]} of the {name} table has person_id {person[wrong[0]].item()!r} ({len(wrong)} such rows in "
            "all); 0 (distractor) and -1 (junk) are integers and occur in the gallery only. Number people from 1."
        )


@dataclass(frozen=True)
class Evaluation:
    """Scores of one retrieval run.

    Attributes
    ----------
    rank1 : fraction (0-1) of the counted queries whose first image is a true match.
    mAP : mean average precision (0-1) of the counted queries.
    mINP : mean inverse negative penalty (0-1) of the queries with a true match, see the module's text; NaN without any.
    cmc : (50,) float64; `cmc[k - 1]` is the fraction of counted queries with a true match within rank k.
    per_query : one row a query: query (its index), ap, inp (its part of mINP, NaN without a match), first_hit (rank
        from 1, <NA> without a match), matches (true matches left by the protocol), valid (has any).
    unmatched_queries : number of queries without any true match.
    ap, unmatched : what was asked for.
    """

    rank1: float
    mAP: float
    mINP: float
    cmc: np.ndarray
    per_query: pd.DataFrame
    unmatched_queries: int
    ap: str
    unmatched: str


def evaluate(distance, query_table, gallery_table, *, ap="trapezoid", unmatched="zero") -> Evaluation:
    """Score a distance matrix.

    Parameters
    ----------
    distance : (Q, G) floating-point NumPy array, memory map or torch tensor on any device; squared or not, only
        its order counts.
    query_table, gallery_table : Q and G rows with columns person_id and camera_id, see `protocol`.
    ap : "trapezoid" (what the printed tables use) or "step"; see the module's text.
    unmatched : a query without any true match counts as "zero" (the official toolchain) or is left out ("skip",
        as other toolchains do).

    Raises ValueError for shapes that disagree, nothing to score, no floating-point dtype, NaN or infinity (the first
    such row is named), and what `protocol` raises.

    >>> gallery = pd.DataFrame({"person_id": [7, 3, 7], "camera_id": [2, 2, 3]})
    >>> query = pd.DataFrame({"person_id": [7], "camera_id": [1]})
    >>> round(evaluate(np.array([[0.1, 0.2, 0.3]]), query, gallery).mAP, 4)
    0.7917
    """
    evaluator = Evaluator(query_table, gallery_table, ap=ap, unmatched=unmatched)
    if getattr(distance, "ndim", None) != 2 or tuple(distance.shape) != evaluator.shape:
        shape = getattr(distance, "shape", type(distance).__name__)
        raise ValueError(
            f"The distance has shape {shape}, but the tables have {evaluator.shape[0]} queries and "
            f"{evaluator.shape[1]} gallery images; rows are queries, columns gallery images."
        )
    rows = max(1, BLOCK_BYTES // (evaluator.shape[1] * 8))
    for start in range(0, len(distance), rows):
        evaluator.update(distance[start : start + rows])
    return evaluator.result()


class Evaluator:
    """Streaming form of `evaluate`: feed row blocks of the distance in query order, then ask for the result.

    Nothing of the distance is kept, so a matrix that does not fit into memory can be scored as it is made. Takes the
    tables and settings of `evaluate`, and raises the same errors; `shape` is the (Q, G) that is expected.
    """

    def __init__(self, query_table, gallery_table, *, ap="trapezoid", unmatched="zero"):
        _check_choice("ap", ap, AP_DEFINITIONS)
        _check_choice("unmatched", unmatched, UNMATCHED)
        self.ap, self.unmatched = ap, unmatched
        self._protocol = protocol(query_table, gallery_table)
        self._junk, self.shape = np.flatnonzero(self._protocol.junk), (len(query_table), len(gallery_table))
        self._matches = np.zeros(self.shape[0], np.int64)
        self._first_hit = np.zeros(self.shape[0], np.int64)
        self._ap, self._inp = np.zeros(self.shape[0]), np.full(self.shape[0], np.nan)
        self._seen = 0

    def update(self, block) -> None:
        """Score the next (b, G) rows of the distance, floating point, array or tensor.

        Raises ValueError for another shape or dtype, more rows than queries, NaN or infinity.
        """
        block = _array(block)
        if not np.issubdtype(block.dtype, np.floating):
            raise ValueError(f"The distance has dtype {block.dtype}; expected a floating-point type.")
        if block.ndim != 2 or block.shape[1] != self.shape[1] or self._seen + len(block) > self.shape[0]:
            raise ValueError(
                f"A block of shape {block.shape} does not fit after row {self._seen} of a {self.shape} distance."
            )
        for row in block:
            if not (finite := np.isfinite(row)).all():
                raise ValueError(
                    f"Row {self._seen} of the distance holds NaN or infinity (first at column {np.argmin(finite)}); "
                    "look at this query's features."
                )
            self._score(self._seen, row)
            self._seen += 1

    def _score(self, query: int, row: np.ndarray) -> None:
        matches, same_camera = self._protocol.split(query)
        if len(matches) == 0:
            return
        kept = row.copy()
        kept[self._junk] = kept[same_camera] = np.inf
        ranks = _ranks(kept, matches)
        self._matches[query], self._first_hit[query] = len(ranks), ranks[0]
        self._ap[query], self._inp[query] = average_precision(ranks, self.ap), len(ranks) / ranks[-1]

    def result(self) -> Evaluation:
        """The scores, once every query's row has been seen. Raises ValueError before that."""
        if self._seen != self.shape[0]:
            raise ValueError(f"Only {self._seen} of {self.shape[0]} rows of the distance have been scored.")
        valid = self._matches > 0
        counted = np.ones_like(valid) if self.unmatched == "zero" else valid
        if not counted.any():
            raise ValueError(
                "Not one query has a true match in another camera, so unmatched='skip' leaves nothing to score; "
                "compare the ids of the two tables."
            )
        total = counted.sum()
        hits = np.bincount(self._first_hit[valid & (self._first_hit <= MAX_RANK)], minlength=MAX_RANK + 1)
        cmc = hits[1:].cumsum() / total
        first_hit = pd.Series(self._first_hit, dtype="Int64").where(valid)
        columns = {"ap": self._ap, "inp": self._inp, "first_hit": first_hit, "matches": self._matches, "valid": valid}
        per_query = pd.DataFrame(columns).rename_axis("query").reset_index()
        means = float(cmc[0]), float(self._ap.sum() / total), float(per_query["inp"].mean())
        return Evaluation(*means, cmc, per_query, int((~valid).sum()), self.ap, self.unmatched)


def average_precision(ranks, definition="trapezoid") -> float:
    """Average precision (0-1) of true matches at ranks (m,), integers from 1, ascending, m at least 1; definitions in
    the module's text.

    >>> round(average_precision([1, 3], "step"), 4), round(average_precision([1, 3]), 4)
    (0.8333, 0.7917)
    """
    _check_choice("ap", definition, AP_DEFINITIONS)
    ranks = np.asarray(ranks)
    precision = np.arange(1, len(ranks) + 1) / ranks
    if definition == "step":
        return float(precision.mean())
    before = np.where(ranks > 1, np.arange(len(ranks)) / np.maximum(ranks - 1, 1), 1.0)
    return float(((precision + before) / 2).mean())


def ranked(distance_row, query_row, gallery_table, top=10) -> pd.DataFrame:
    """One query's ranked gallery under the protocol, down to its `top`-th counted image (Figure 5).

    Parameters
    ----------
    distance_row : (G,) distances of this query.
    query_row : its row of the query table (a Series or mapping with person_id and camera_id).
    gallery_table : the G gallery rows.
    top : number of counted images; images the protocol removes stand between them, flagged, without a rank.

    Returns
    -------
    DataFrame, nearest first: gallery_index, rank (from 1; <NA> where removed), distance, is_match,
    flag ("junk", "same camera" or "").

    Raises ValueError for a row of another length than the gallery, NaN or infinity.
    """
    rule = protocol(pd.DataFrame({c: [query_row[c]] for c in (PERSON, CAMERA)}), gallery_table)
    distance = _array(distance_row)
    if distance.shape != rule.person.shape:
        raise ValueError(
            f"The distance row has shape {distance.shape}, but there are {len(rule.person)} gallery images."
        )
    if not np.isfinite(distance).all():
        raise ValueError("The distance row holds NaN or infinity; look at this query's features.")
    matches, same_camera = rule.split(0)
    flag = np.where(rule.junk, "junk", np.full(len(rule.junk), "", "U11"))
    flag[same_camera] = "same camera"
    order = np.argsort(distance, kind="stable")
    rank = (flag[order] == "").cumsum()
    order = order[: np.searchsorted(rank, top) + 1]  # everything up to the top-th counted image
    flag, rank = flag[order], pd.Series(rank[: len(order)], dtype="Int64")
    found = pd.DataFrame({"gallery_index": order, "rank": rank.where(flag == ""), "distance": distance[order]})
    return found.assign(is_match=np.isin(order, matches), flag=flag)


def _array(distance) -> np.ndarray:
    """As a NumPy array, which has no bfloat16: as float32 then, which holds the same values."""
    if not hasattr(distance, "detach"):  # asked so, importing this module need not import torch
        return np.asarray(distance)
    distance = distance.detach().cpu()
    return (distance.float() if str(distance.dtype) == "torch.bfloat16" else distance).numpy()


def _ranks(row: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """Ranks (from 1, ascending) of the columns `matches` in the stable order of `row`.

    Counts what precedes each match, one pass a match, or sorts once where there are very many.
    """
    if len(matches) > MANY_MATCHES:
        rank = np.empty(len(row), np.int64)
        rank[np.argsort(row, kind="stable")] = np.arange(1, len(row) + 1)
        return np.sort(rank[matches])
    count = np.count_nonzero
    return np.sort([1 + count(row[:m] <= row[m]) + count(row[m + 1 :] < row[m]) for m in matches])


def _check_choice(name: str, value, choices) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, choices))}.")
