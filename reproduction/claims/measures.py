"""How each claim of `CLAIMS` is measured."""

import contextlib
import functools
from collections.abc import Callable

import numpy as np

from reproduction import convergence, intervals, paper
from reproduction.claims import outside, sides
from reproduction.claims.sides import NAMES, Absent, Results, Side, compared
from reproduction.claims.verdicts import BASELINE_NOT_DONE, ONE_TRAINING, SINGLE, Finding, Part, measured

SLIGHTLY = 3.0  # points: "slightly lower" allows at most this much
SERVES = 3.0  # points of mAP: a model "serves" a set if it is at most this far below the set's own model
RERANKED = (("LOMO+XQDA [19]", "LOMO+XQDA"), ("SCSP+re-rank [3]", "SCSP [3]"), ("DNS+re-rank [20]", "DNS [20]"))
BESIDE = {  # controls of notebook 10 that bear on a comparison with a model, shown beside it
    "baseline": ("baseline_twice", "baseline_rate2", "baseline_rate3"),
    "hcn": ("combined_equal_updates",), "combined": (), "literature": (),
}  # fmt: skip
_DETECTED, _LABELED, _MARKET = paper.CUHK03_DETECTED, paper.CUHK03_LABELED, paper.MARKET1501
_CUHK03 = (_DETECTED, _LABELED)


def _beats(name: str, ours: str, theirs: str, results: Results, high: float = np.inf) -> Finding:
    """Is `ours` above `theirs` on a set in rank-1 and mAP, each as the paper's row is matched?"""
    side = sides.model(results, name, ours)
    return _with_controls(results, name, theirs, side, compared(side, sides.model(results, name, theirs), high=high))


def _with_controls(results: Results, name: str, theirs: str, ours: Side, parts: list[Part]) -> Finding:
    """The finding with its other side's controls beside it; it holds only above a baseline at twice the schedule."""
    found = {}
    for variant in BESIDE[theirs]:
        with contextlib.suppress(FileNotFoundError, Absent):
            found[variant] = sides.studied(results, "control", variant, "other", name)
    words, doubt = [f"beside it {side.both}" for side in found.values()], ""
    if theirs == "baseline" and (twice := found.get("baseline_twice")) is None:
        words.append("baseline at twice the schedule: not run")
    elif theirs == "baseline" and any(part.found.value <= 0 for part in compared(ours, twice)):
        doubt = BASELINE_NOT_DONE
    return Finding("; ".join([*map(str, parts), *words]), parts, doubt=doubt)


def _gain(score: str, points: float, results: Results) -> Finding:
    """The combined model's gain over [13] and over [19] on CUHK03 detected."""
    ours, baseline = (sides.model(results, _DETECTED, which) for which in ("combined", "baseline"))
    others = (baseline, sides.method(results, _DETECTED, "LOMO+XQDA [19]"))
    parts = [part for theirs in others for part in compared(ours, theirs, [score], low=points, at_least=True)]
    return _with_controls(results, _DETECTED, "baseline", ours, parts)


def _beats_rows(name: str, ours: str, models: tuple, results: Results) -> Finding:
    """One of our models above every row that the paper prints for others on a set, of the literature or of `models`."""
    side, parts = sides.model(results, name, ours), []
    for row in paper.ROWS:
        if row.source != paper.PAPER or name not in row.printed or row.model not in (None, *models):
            continue
        own = row.model and sides.model(results, name, row.model, row.metric, row.reranked)
        parts += compared(side, own or sides.method(results, name, row.method))
    return _with_controls(results, name, "baseline" if models else "literature", side, parts)


def _variant(kind: str, variant: str, scores: tuple[str, ...], results: Results, **claimed) -> Finding:
    """HCN as it is above HCN with a setting of notebook 10, on every set where that was trained."""
    parts = []
    for name in sides.sets_of(results, kind, variant):
        default, other = (sides.studied(results, kind, variant, side, name) for side in ("default", "other"))
        parts += compared(default, other, scores, place=f"{paper.SET_TITLES[name]}: ", **claimed)
    return measured(parts)


def _reranking(results: Results) -> Finding:
    """With re-ranking above without, on every set: each of our models, and the literature where measured both ways."""
    parts = []
    for name in paper.SETS:
        place = f"{paper.SET_TITLES[name]}: "
        for which in NAMES:
            both = (sides.model(results, name, which, reranked=reranked) for reranked in (True, False))
            parts += compared(*both, place=place, same=True)
        for rows in RERANKED:
            with contextlib.suppress(Absent):
                parts += compared(*(sides.method(results, name, row) for row in rows), place=place, same=True)
    return _least(parts, "re-ranked against not")


def _xqda(results: Results) -> Finding:
    """XQDA above [13]'s and [19]'s other metrics: Euclidean for both, KISSME for LOMO."""
    parts = []
    for name in _CUHK03:
        place = f"{paper.SET_TITLES[name]}: "
        both = (sides.model(results, name, "baseline", metric) for metric in ("xqda", "euclidean"))
        parts += compared(*both, place=place, same=True)
        lomo, *others = (sides.method(results, name, row) for row in ("LOMO+XQDA", "LOMO", "KISSME on LOMO"))
        for other in others:
            parts += compared(lomo, other, place=place, same=True)
    return _least(parts, "XQDA against another metric")


def _least(parts: list[Part], what: str) -> Finding:
    """A finding of many parts, told by the least of them."""
    least = min(parts, key=lambda part: part.room)
    held = sum(part.holds for part in parts)
    return Finding(f"{what}: {held} of {len(parts)} comparisons hold; the least: {least}", parts, one=SINGLE)


def _serves(results: Results) -> Finding:
    parts = []
    for name in paper.SETS:
        both = (sides.across(results, source, name) for source in (paper.COMBINED, name))
        parts += compared(*both, ["mAP"], place=f"{paper.SET_TITLES[name]}: ", low=-SERVES, at_least=True)
    return measured(parts)


def _transfers(results: Results) -> Finding:
    """Trained on a set of other people, against the same network before its training."""
    parts = []
    for name, sources in ((_DETECTED, (_MARKET,)), (_LABELED, (_MARKET,)), (_MARKET, _CUHK03)):
        for source in sources:
            both = (sides.across(results, trained, name) for trained in (source, "untrained"))
            parts += compared(*both, place=f"on {paper.SET_TITLES[name]}: ")
    return measured(parts)


def _large_and_small(results: Results) -> Finding:
    """What the combined set adds on a CUHK03 set, less what it adds on Market-1501; mAP, Euclidean and re-ranked."""
    parts = []
    for name in _CUHK03:
        pairs = [[sides.model(results, place, which, "euclidean") for place in (name, _MARKET)]
                 for which in ("combined", "hcn")]  # fmt: skip
        count = min(len(side.seeds) for pair in pairs for side in pair)
        rows = [tuple(side.first(count).rows for side in pair) for pair in pairs]
        gains = [pairs[0][place].score("mAP") - pairs[1][place].score("mAP") for place in (0, 1)]
        words = f"mAP {gains[0]:+.1f} on {paper.SET_TITLES[name]}, {gains[1]:+.1f} on Market-1501"
        parts.append(Part(words, intervals.interaction(*rows, "mAP")))
    return measured(parts, one=SINGLE)


def _losses(stem: str, measure: Callable, words: str, results: Results) -> Finding:
    """A comparison of loss curves on every set; its unit is per cent."""
    found = results.table(stem)
    if missing := [name for name in paper.SETS if name not in set(found["set"])]:
        raise Absent(f"{', '.join(missing)} not run")
    parts = []
    for name in paper.SETS:
        if (interval := measure(found[found["set"] == name])) is None:
            raise Absent(f"{paper.SET_TITLES[name]}: no loss level is reached by all trainings")
        parts.append(Part(f"{paper.SET_TITLES[name]}: per cent {words}", interval))
    if min(part.found.seeds for part in parts) > 1:
        return measured(parts)
    told = (f"{part.words}, {part.found.value:+.1f}" for part in parts)
    return Finding("; ".join(told), word=ONE_TRAINING)


CHECKS: dict[str, Callable[[Results], Finding]] = {
    **{f"hcn_beats_baseline_{name}": functools.partial(_beats, name, "hcn", "baseline") for name in paper.SETS},
    **{f"combined_beats_hcn_{name}": functools.partial(_beats, name, "combined", "hcn") for name in _CUHK03},
    "combined_below_hcn_market1501": functools.partial(_beats, _MARKET, "hcn", "combined", high=SLIGHTLY),
    "gain_due_to_cross_maps": functools.partial(_variant, "control", "heads_alone", intervals.SCORES),
    "gain_rank1_cuhk03_detected": functools.partial(_gain, "rank1", 9.0),
    "gain_map_cuhk03_detected": functools.partial(_gain, "mAP", 7.9),
    "gain_cuhk03_labeled": functools.partial(_beats_rows, _LABELED, "combined", ("baseline",)),
    "beats_13_market1501": functools.partial(_beats, _MARKET, "combined", "baseline"),
    "beats_literature_market1501": functools.partial(_beats_rows, _MARKET, "combined", ()),
    "best_of_four_market1501": functools.partial(_beats_rows, _MARKET, "baseline", ()),
    "reranking_improves": _reranking,
    "xqda_best_metric": _xqda,
    "cross_dataset": _serves,
    "transfer_to_unseen": _transfers,
    "large_helps_small": _large_and_small,
    "r5_loss_lower": functools.partial(_losses, "convergence", convergence.lower, "by which HCN's loss is lower"),
    "converges_sooner": functools.partial(_losses, "loss_levels", convergence.sooner, "of the iterations saved by HCN"),
    "conv1_does_not_help": functools.partial(_variant, "training", "conv1", ("mAP",), at_least=True),
    "skipping_beats_adjacent": functools.partial(_variant, "training", "adjacent", ("mAP",), at_least=True),
    "dropout_reduces_overfitting": functools.partial(_variant, "training", "no_dropout", ("mAP",)),
    **outside.CHECKS,
}
