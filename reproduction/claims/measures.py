"""How each claim of `paper.CLAIMS` is measured."""

import functools
from collections.abc import Callable

from reproduction import convergence, intervals, paper
from reproduction.claims import outside
from reproduction.claims.sides import (
    METRICS,
    NAMES,
    TITLES,
    Absent,
    Results,
    Side,
    across,
    compared,
    method,
    model,
    sets_of,
    studied,
)
from reproduction.claims.verdicts import BASELINE_NOT_DONE, ONE_TRAINING, SINGLE, Finding, Part, measured

SLIGHTLY = 3.0  # points: "slightly lower" allows at most this much
SERVES = 3.0  # points of mAP: a model "serves" a set if it is at most this far below the set's own model
BESIDE = {  # controls of notebook 10 that bear on a comparison, shown beside it
    "baseline": ("baseline_twice", "baseline_rate2", "baseline_rate3"),
    "hcn": ("combined_equal_updates",),
}
_DETECTED, _LABELED, _MARKET = paper.CUHK03_DETECTED, paper.CUHK03_LABELED, paper.MARKET1501
_CUHK03 = (_DETECTED, _LABELED)


def _beats(name: str, ours: str, theirs: str, results: Results, **claimed) -> Finding:
    """Is `ours` above `theirs` on a set in rank-1 and mAP, each as the paper's row is matched?"""
    sides = [model(results, name, which) for which in (ours, theirs)]
    return _with_controls(results, name, theirs, sides[0], compared(*sides, **claimed))


def _with_controls(results: Results, name: str, theirs: str, ours: Side, parts: list[Part]) -> Finding:
    """The finding with its other side's controls beside it; it holds only above a baseline at twice the schedule."""
    found = {}
    for variant in BESIDE[theirs]:
        title = variant.replace("_", " ")
        try:
            found[variant] = studied(results, "control", variant, "other", name, title)
        except (FileNotFoundError, Absent):
            continue
    words, doubt = [f"beside it {side.both}" for side in found.values()], ""
    if theirs == "baseline":
        twice = found.get("baseline_twice")
        if twice is None:
            words.append("baseline at twice the schedule: not run")
        elif any(part.found.value <= 0 for part in compared(ours, twice)):
            doubt = BASELINE_NOT_DONE
    return measured(parts, "; ".join(words), doubt=doubt)


def _slightly_below(results: Results) -> Finding:
    hcn, combined = (model(results, _MARKET, which) for which in ("hcn", "combined"))
    return measured(compared(hcn, combined, high=SLIGHTLY))


def _gain(score: str, points: float, results: Results) -> Finding:
    """The combined model's gain over [13] and over [19] on CUHK03 detected."""
    ours = model(results, _DETECTED, "combined")
    baseline = model(results, _DETECTED, "baseline")
    others = (baseline, method(results, _DETECTED, "LOMO+XQDA [19]"))
    parts = [part for theirs in others for part in compared(ours, theirs, [score], low=points, at_least=True)]
    return _with_controls(results, _DETECTED, "baseline", ours, parts)


def _beats_previous(table: int, name: str, results: Results) -> Finding:
    """The combined model above every row of previous methods that the paper prints for a set."""
    ours = model(results, name, "combined")
    parts = [part for theirs in _previous(results, table, name) for part in compared(ours, theirs)]
    return _with_controls(results, name, "baseline", ours, parts)


def _beats_literature(results: Results, ours: str = "combined") -> Finding:
    """One of our models above SCSP, DNS and the gated network."""
    side = model(results, _MARKET, ours)
    others = [theirs for theirs in _previous(results, 3, _MARKET) if theirs.name not in NAMES.values()]
    return measured([part for theirs in others for part in compared(side, theirs)])


def _previous(results: Results, table: int, name: str) -> list[Side]:
    """The rows that the paper itself prints for other methods on a set."""
    rows = [row for row in paper.ROWS if row.table == table and name in row.printed and row.source == paper.PAPER]
    return [
        method(results, name, row.method) if row.model is None else
        model(results, name, row.model, row.metric, row.reranked)
        for row in rows if row.model in (None, "baseline")
    ]  # fmt: skip


def _variant(kind: str, variant: str, scores: tuple[str, ...], results: Results) -> Finding:
    """HCN as it is above HCN with a setting of notebook 10, on every set where that was trained."""
    title = "HCN" if kind == "control" else "HCN as it is"
    parts = []
    for name in sets_of(results, kind, variant):
        sides = (studied(results, kind, variant, side, name, words)
                 for side, words in (("default", title), ("other", variant.replace("_", " "))))  # fmt: skip
        parts += compared(*sides, scores, place=f"{paper.SET_TITLES[name]}: ")
    return measured(parts)


def _reranking(results: Results) -> Finding:
    """Each of our models with re-ranking above the same without, on every set."""
    parts = []
    for name in paper.SETS:
        for which in NAMES:
            sides = (model(results, name, which, reranked=reranked) for reranked in (True, False))
            parts += compared(*sides, place=f"{paper.SET_TITLES[name]}: ", same=True)
    return _least(parts, "re-ranked against not")


def _xqda(results: Results) -> Finding:
    """XQDA above [13]'s and [19]'s other metrics: Euclidean for both, KISSME for LOMO."""
    parts = []
    for name in _CUHK03:
        place = f"{paper.SET_TITLES[name]}: "
        sides = (model(results, name, "baseline", metric) for metric in ("xqda", "euclidean"))
        parts += compared(*sides, place=place, same=True)
        for other in ("LOMO", "KISSME on LOMO"):
            parts += compared(method(results, name, "LOMO+XQDA"), method(results, name, other), place=place, same=True)
    return _least(parts, "XQDA against another metric")


def _least(parts: list[Part], what: str) -> Finding:
    """A finding of many parts, told by the least of them."""
    least = min(parts, key=lambda part: part.room)
    held = sum(part.holds for part in parts)
    return Finding(f"{what}: {held} of {len(parts)} comparisons hold; the least: {least}", parts, one=SINGLE)


def _serves(results: Results) -> Finding:
    parts = []
    for name in paper.SETS:
        sides = across(results, paper.COMBINED, name), across(results, name, name)
        parts += compared(*sides, ["mAP"], place=f"{paper.SET_TITLES[name]}: ", low=-SERVES, at_least=True)
    return measured(parts)


def _transfers(results: Results) -> Finding:
    """Trained on a set of other people, against the same network before its training."""
    parts = []
    for name, sources in ((_DETECTED, (_MARKET,)), (_LABELED, (_MARKET,)), (_MARKET, _CUHK03)):
        for source in sources:
            sides = across(results, source, name), across(results, "untrained", name)
            parts += compared(*sides, ["mAP"], place=f"on {paper.SET_TITLES[name]}: ")
    return measured(parts)


def _large_and_small(results: Results) -> Finding:
    """What the combined set adds on a CUHK03 set, less what it adds on Market-1501; mAP, Euclidean and re-ranked."""
    parts = []
    for name in _CUHK03:
        pairs = [
            [model(results, place, which, "euclidean") for place in (name, _MARKET)] for which in ("combined", "hcn")
        ]
        count = min(len(side.seeds) for pair in pairs for side in pair)
        rows = [tuple(side.first(count).rows for side in pair) for pair in pairs]
        gains = [pairs[0][place].score("mAP") - pairs[1][place].score("mAP") for place in (0, 1)]
        words = f"{TITLES['mAP']} {gains[0]:+.1f} on {paper.SET_TITLES[name]}, {gains[1]:+.1f} on Market-1501"
        parts.append(Part(words, functools.partial(_interaction, *rows)))
    return measured(parts, one=SINGLE)


def _interaction(ours: tuple, theirs: tuple, level: float) -> intervals.Interval:
    return intervals.interaction(ours, theirs, "mAP", level=level)


def _losses(stem: str, measure: Callable, words: str, results: Results) -> Finding:
    """A comparison of loss curves on every set; its unit is per cent."""
    found = results.table(stem)
    missing = [name for name in paper.SETS if name not in set(found["set"])]
    if missing:
        raise Absent(f"{', '.join(missing)} not run")
    parts = []
    for name in paper.SETS:
        of_set = found[found["set"] == name]
        if measure(of_set) is None:
            raise Absent(f"{paper.SET_TITLES[name]}: no loss level is reached by all trainings")
        parts.append(Part(f"{paper.SET_TITLES[name]}: per cent {words}", functools.partial(measure, of_set)))
    if min(part.found.seeds for part in parts) > 1:
        return measured(parts)
    told = (f"{part.words}, {part.found.value:+.1f}" for part in parts)
    return Finding("; ".join(told), word=ONE_TRAINING)


CHECKS: dict[str, Callable[[Results], Finding]] = {
    **{f"hcn_beats_baseline_{name}": functools.partial(_beats, name, "hcn", "baseline") for name in METRICS},
    **{f"combined_beats_hcn_{name}": functools.partial(_beats, name, "combined", "hcn") for name in _CUHK03},
    "combined_below_hcn_market1501": _slightly_below,
    "gain_due_to_cross_maps": functools.partial(_variant, "control", "heads_alone", intervals.SCORES),
    "gain_rank1_cuhk03_detected": functools.partial(_gain, "rank1", 9.0),
    "gain_map_cuhk03_detected": functools.partial(_gain, "mAP", 7.9),
    "gain_cuhk03_labeled": functools.partial(_beats_previous, 2, _LABELED),
    "beats_13_market1501": functools.partial(_beats, _MARKET, "combined", "baseline"),
    "beats_literature_market1501": _beats_literature,
    "best_of_four_market1501": functools.partial(_beats_literature, ours="baseline"),
    "reranking_improves": _reranking,
    "xqda_best_metric": _xqda,
    "cross_dataset": _serves,
    "transfer_to_unseen": _transfers,
    "large_helps_small": _large_and_small,
    "r5_loss_lower": functools.partial(_losses, "convergence", convergence.lower, "by which HCN's loss is lower"),
    "converges_sooner": functools.partial(_losses, "loss_levels", convergence.sooner, "of the iterations saved by HCN"),
    "conv1_does_not_help": functools.partial(_variant, "training", "conv1", ("mAP",)),
    "skipping_beats_adjacent": functools.partial(_variant, "training", "adjacent", ("mAP",)),
    "dropout_reduces_overfitting": functools.partial(_variant, "training", "no_dropout", ("mAP",)),
    **outside.CHECKS,
}
