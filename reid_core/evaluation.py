"""Single-query evaluation (paper, Section 4.2): CMC and mean average precision under one protocol.

`reid_core.protocols` says what each query's ranking leaves out. CMC and mAP share one mask of valid queries, those
with a true match left. Ties are stable: of two gallery images at one distance the one with the lower index comes first.

Average precision is the area under the precision-recall curve: the mean over the true matches, the k-th at rank r, of

- ``trapezoid``: the mean of the precision at its rank, k/r, and one rank before, (k-1)/(r-1), taken as 1 before the
  first rank. This is what the Market-1501 toolchain computes and what the printed mAP numbers use.
- ``step``: k/r alone, the standard definition. The 0.83 of the paper's Figure 4 (c), with hits at ranks 1 and 3, is
  this one; by trapezoid the same list has 0.79.

mINP (Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021) asks for the hardest
match: the mean, over the queries that have one, of the number of true matches over the rank of the last of them.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reid_core import protocols
from reid_core.protocols import check_choice, protocol

MAX_RANK = 50
AP_DEFINITIONS = ("trapezoid", "step")
UNMATCHED = ("zero", "skip")
MANY_MATCHES = 256
BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Evaluation:
    """Scores of one retrieval run.

    Attributes
    ----------
    rank1, mAP : fractions (0-1) of the counted queries: whose first image is a true match; mean average precision.
    mINP : mean inverse negative penalty (0-1) of the queries with a true match, see the module's text; NaN without any.
    cmc : (50,) float64; `cmc[k - 1]` is the fraction of counted queries with a true match within rank k.
    per_query : one row a query: query (its index), ap, inp (its part of mINP, NaN without a match), first_hit (rank
        from 1, <NA> without a match), matches (true matches left by the protocol), valid (has any). With
        single_gallery_shot one row a query and trial, numbered by a column trial.
    unmatched_queries : number of queries without any true match.
    ap, unmatched, protocol : by which it was scored.
    """

    rank1: float
    mAP: float
    mINP: float
    cmc: np.ndarray
    per_query: pd.DataFrame
    unmatched_queries: int
    ap: str
    unmatched: str
    protocol: str


def evaluate(distance, query_table, gallery_table, *, ap="trapezoid", unmatched="zero", **how) -> Evaluation:
    """Score a distance matrix.

    Parameters
    ----------
    distance : (Q, G) floating-point array, memory map or torch tensor on any device; squared or not, order counts.
    query_table, gallery_table : Q and G rows with columns person_id and camera_id, see `protocol`.
    ap : "trapezoid" (what the printed tables use) or "step"; see the module's text.
    unmatched : a query without a true match counts as "zero" (the official toolchain) or is left out ("skip", others).
    **how : protocol ("market", "no_cameras" or "single_gallery_shot"; None goes by whether cameras are known), and of
        single_gallery_shot trials (10) and random_state (0), see `protocols.protocol`.

    Raises ValueError for shapes that disagree, nothing to score, no floating-point dtype, NaN or infinity (the first
    such row is named), and what `protocol` raises.

    >>> gallery = pd.DataFrame({"person_id": [7, 3, 7], "camera_id": [2, 2, 3]})
    >>> query = pd.DataFrame({"person_id": [7], "camera_id": [1]})
    >>> round(evaluate(np.array([[0.1, 0.2, 0.3]]), query, gallery).mAP, 4)
    0.7917
    """
    evaluator = Evaluator(query_table, gallery_table, ap=ap, unmatched=unmatched, **how)
    if tuple(shape := getattr(distance, "shape", ())) != evaluator.shape:
        tables = f"{evaluator.shape[0]} queries and {evaluator.shape[1]} gallery images"
        found = f"shape {shape or type(distance).__name__}, but the tables have {tables}"
        raise ValueError(f"The distance has {found}; rows are queries, columns gallery images.")
    rows = max(1, BLOCK_BYTES // (evaluator.shape[1] * 8))
    for start in range(0, len(distance), rows):
        evaluator.update(distance[start : start + rows])
    return evaluator.result()


class Evaluator:
    """Streaming form of `evaluate`, with its tables, settings and errors, for a distance that does not fit into memory:
    feed row blocks in query order, of which nothing is kept, then ask for the result. `shape`: the (Q, G) expected."""

    def __init__(self, query_table, gallery_table, *, ap="trapezoid", unmatched="zero", protocol=None, **drawn):
        check_choice("ap", ap, AP_DEFINITIONS)
        check_choice("unmatched", unmatched, UNMATCHED)
        self.ap, self.unmatched = ap, unmatched
        rule = self._protocol = protocols.protocol(query_table, gallery_table, protocol, **drawn)
        self._junk, self.shape = np.flatnonzero(rule.junk), (len(rule.query_person), len(rule.person))
        rows = self.shape[0], max(1, len(self._protocol.places))
        self._matches, self._first_hit = np.zeros((2, *rows), np.int64)
        self._ap, self._inp, self._seen = np.zeros(rows), np.full(rows, np.nan), 0

    def update(self, block) -> None:
        """Score the next (b, G) rows of the distance, floating point, array or tensor.
        Raises ValueError for another shape or dtype, more rows than queries, NaN or infinity."""
        block = _array(block)
        if block.ndim != 2 or block.shape[1] != self.shape[1] or self._seen + len(block) > self.shape[0]:
            raise ValueError(f"A {block.shape} block does not fit after row {self._seen} of a {self.shape} distance.")
        for row in block:
            if not (finite := np.isfinite(row)).all():
                found = f"NaN or infinity (first at column {np.argmin(finite)})"
                raise ValueError(f"Row {self._seen} of the distance holds {found}; look at this query's features.")
            self._score(self._seen, row)
            self._seen += 1

    def _score(self, query: int, row: np.ndarray) -> None:
        for trial in range(self._ap.shape[1]):
            drawn = len(self._protocol.places)
            matches, removed = self._protocol.shot(query, trial) if drawn else self._protocol.split(query)
            if len(matches) == 0:
                return
            kept = row.copy()
            kept[self._junk] = kept[removed] = np.inf
            ranks, at = _ranks(kept, matches), (query, trial)
            self._matches[at], self._first_hit[at] = len(ranks), ranks[0]
            self._ap[at], self._inp[at] = average_precision(ranks, self.ap), len(ranks) / ranks[-1]

    def result(self) -> Evaluation:
        """The scores, once every query's row has been seen. Raises ValueError before that."""
        if self._seen != self.shape[0]:
            raise ValueError(f"Only {self._seen} of {self.shape[0]} rows of the distance have been scored.")
        trials = self._ap.shape[1]
        parts = {"ap": self._ap, "inp": self._inp, "first_hit": self._first_hit, "matches": self._matches}
        per_query = pd.DataFrame({name: part.ravel() for name, part in parts.items()})
        valid = (per_query["matches"] > 0).to_numpy()
        counted = np.ones_like(valid) if self.unmatched == "zero" else valid
        if not counted.any():
            none = "Not one query has a true match that counts"
            raise ValueError(f"{none}, so unmatched='skip' leaves nothing to score; compare the two tables' ids.")
        total, first_hit = counted.sum(), per_query["first_hit"]
        cmc = np.bincount(first_hit[valid & (first_hit <= MAX_RANK)], minlength=MAX_RANK + 1)[1:].cumsum() / total
        per_query["first_hit"], per_query["valid"] = first_hit.astype("Int64").where(valid), valid
        per_query.insert(0, "query", np.arange(len(per_query)) // trials)
        if trials > 1:
            per_query.insert(1, "trial", np.arange(len(per_query)) % trials)
        means = float(cmc[0]), float(self._ap.sum() / total), float(per_query["inp"].mean())
        about = int((~valid).sum()) // trials, self.ap, self.unmatched, self._protocol.name
        return Evaluation(*means, cmc, per_query, *about)


def average_precision(ranks, definition="trapezoid") -> float:
    """Average precision (0-1) of true matches at ranks (m,), integers from 1, ascending; ValueError for others.

    >>> round(average_precision([1, 3], "step"), 4), round(average_precision([1, 3]), 4)
    (0.8333, 0.7917)
    """
    check_choice("ap", definition, AP_DEFINITIONS)
    ranks = np.asarray(ranks)
    if not ranks.size or ranks[0] < 1 or (np.diff(ranks) < 1).any():
        raise ValueError(f"Ranks are whole numbers from 1, ascending, at least one of them, not {ranks}.")
    precision = np.arange(1, len(ranks) + 1) / ranks
    if definition == "step":
        return float(precision.mean())
    before = np.where(ranks > 1, np.arange(len(ranks)) / np.maximum(ranks - 1, 1), 1.0)
    return float(((precision + before) / 2).mean())


def ranked(distance_row, query_row, gallery_table, top=10) -> pd.DataFrame:
    """One query's ranked gallery under the protocol, down to its `top`-th counted image (Figure 5).

    Parameters
    ----------
    distance_row, query_row : (G,) floating-point distances of a query, and its row of the query table (or a mapping).
    gallery_table : the G gallery rows.
    top : number of counted images; images the protocol removes stand between them, flagged, without a rank.

    Returns a table, nearest first: gallery_index, rank (from 1; <NA> where removed), distance, is_match, flag ("junk",
    "same camera", without cameras "own image", or "").
    Raises ValueError for a row of another length than the gallery, no floating-point dtype, NaN or infinity.
    """
    rule = protocol(pd.DataFrame([dict(query_row)]), gallery_table)
    distance = _array(distance_row)
    if distance.shape != rule.person.shape:
        raise ValueError(f"The distance row has shape {distance.shape} for {len(rule.person)} gallery images.")
    if not np.isfinite(distance).all():
        raise ValueError("The distance row holds NaN or infinity; look at this query's features.")
    matches, passed_over = rule.split(0)
    flag = np.where(rule.junk, "junk", np.full(len(rule.junk), "", "U11"))
    flag[passed_over] = rule.passed_over
    order = np.argsort(distance, kind="stable")
    rank = (flag[order] == "").cumsum()
    order = order[: np.searchsorted(rank, top) + 1]  # everything up to the top-th counted image
    flag, rank = flag[order], pd.Series(rank[: len(order)], dtype="Int64")
    found = pd.DataFrame({"gallery_index": order, "rank": rank.where(flag == ""), "distance": distance[order]})
    return found.assign(is_match=np.isin(order, matches), flag=flag)


def _array(distance) -> np.ndarray:
    """As a NumPy array, which has no bfloat16: as float32 then, which holds the same values."""
    if hasattr(distance, "detach"):  # asked so, importing this module need not import torch
        if distance.is_meta:
            raise ValueError("The distance is on device meta, which holds no values; compute it on another.")
        distance = (distance.float() if str(distance.dtype) == "torch.bfloat16" else distance).numpy(force=True)
    if isinstance(distance, np.ma.MaskedArray):
        raise ValueError("The distance is a masked array; give every entry a value, and what shall not count junk.")
    distance = np.asarray(distance)
    if not np.issubdtype(distance.dtype, np.floating):
        raise ValueError(f"The distance has dtype {distance.dtype}; expected a floating-point type.")
    return distance


def _ranks(row: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """Ranks (from 1, ascending) of the columns `matches` in the stable order of `row`: by counting what precedes each,
    one pass a match, or by sorting once where there are very many."""
    if len(matches) > MANY_MATCHES:
        rank = np.empty(len(row), np.int64)
        rank[np.argsort(row, kind="stable")] = np.arange(1, len(row) + 1)
        return np.sort(rank[matches])
    count = np.count_nonzero
    return np.sort([1 + count(row[:m] <= row[m]) + count(row[m + 1 :] < row[m]) for m in matches])
