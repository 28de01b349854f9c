"""A verdict for every claim of the paper's text, from the tables that the notebooks wrote.

Words of the verdicts. Embedded data can neither confirm nor refute the paper: a claim there "holds", "does not hold"
or is "undecided (within the seeds' spread)". On official data the words are "reproduced", "not reproduced" and the
same "undecided". "not measured" says what is missing. With one seed the spread is not known, and the verdict says so.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reproduction import paper, results_folder, tables

WORDS = {"embedded": ("holds", "does not hold"), "official": ("reproduced", "not reproduced")}
UNDECIDED = "undecided (within the seeds' spread)"
NOT_MEASURED = "not measured"

SCORES = {"rank1": "rank-1", "mAP": "mAP"}
NAMES = {"baseline": "baseline", "hcn": "HCN", "combined": "combined HCN"}

SLIGHTLY = 3.0  # points: "slightly lower" allows at most this much
SERVES = 3.0  # points of mAP: a model "serves" a set if it is at most this far below the set's own model
SOONER = 0.05  # share of iterations saved that counts as "sooner"
LOWER = 0.90  # share of the iterations at which a curve must be lower to be called lower


@dataclass(frozen=True)
class Finding:
    """What was measured for a claim: the words for `ours`, whether it holds, whether seeds can tell."""

    ours: str
    holds: bool | None
    within_spread: bool = False
    seeds: int = 1


def judge(results: Path, data_source: str) -> pd.DataFrame:
    """One line per claim of `paper.CLAIMS`: claim, paper's figure, ours, verdict, threshold, confound, files.

    `results` is a results folder with the tables that `results_folder.NEEDED` names for 09_claims, and its
    cross_dataset.csv; a claim whose file is absent is "not measured". The column files names those that a verdict was
    read from. Raises ValueError for a damaged one.
    """
    lines = []
    for claim in paper.CLAIMS:
        asked = Results(results)
        try:
            finding = _CHECKS[claim.key](asked)
        except FileNotFoundError as error:
            finding = Finding(f"needs {Path(error.filename).name}", None)
        lines.append({
            "claim": claim.key, "section": claim.section, "text": claim.text, "paper": claim.paper,
            "ours": finding.ours, "verdict": verdict(finding, data_source), "threshold": claim.threshold,
            "confound": claim.confound, "files": " ".join(asked.names),
        })  # fmt: skip
    return pd.DataFrame(lines)


class Results:
    """A results folder for one claim; `names` are the files that the claim asked for."""

    def __init__(self, folder: Path):
        self._folder, self.names = folder, {}  # a dict keeps the order and each name once

    def table(self, stem: str) -> pd.DataFrame:
        self.names[f"{stem}.csv"] = None
        return results_folder.read_csv(self._folder / f"{stem}.csv")


def verdict(finding: Finding, data_source: str) -> str:
    """The words for a finding.

    >>> verdict(Finding("41.0 against 40.0", True), "embedded")
    'holds (one seed: spread not known)'
    >>> verdict(Finding("41.0 against 40.0", True, within_spread=True, seeds=3), "official")
    "undecided (within the seeds' spread)"
    """
    if finding.holds is None:
        return NOT_MEASURED
    if finding.within_spread:
        return UNDECIDED
    word = WORDS[data_source][0 if finding.holds else 1]
    return word if finding.seeds != 1 else f"{word} (one seed: spread not known)"


def _seeds_table(results: Results, name: str) -> pd.DataFrame:
    return results.table("table3_seeds" if name == paper.MARKET1501 else "table2_seeds")


def _scores(results: Results, name: str, model: str, metric: str, reranked: bool = True) -> pd.DataFrame:
    """Per seed: rank-1 and mAP in per cent."""
    table = _seeds_table(results, name)
    chosen = table[(table["set"] == name) & (table["model"] == model) & (table["metric"] == metric)
                   & (table["reranked"] == reranked)]  # fmt: skip
    return 100 * chosen.set_index("seed")[["rank1", "mAP"]]


def _difference(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.Series, pd.Series, int]:
    """Mean difference of two methods paired by seed, its spread over seeds (0 for one), number of seeds."""
    paired = (a - b).dropna()
    spread = paired.std(ddof=1) if len(paired) > 1 else pd.Series(0.0, index=paired.columns)
    return paired.mean(), spread, len(paired)


def _compare(
    results: Results, name: str, ours: tuple, theirs: tuple, margins: dict[str, float], at_most: float | None = None
) -> Finding:
    """Is `ours` (model, metric) above `theirs` by at least the margins (and at most `at_most`)?"""
    a, b = _scores(results, name, *ours), _scores(results, name, *theirs)
    if a.empty or b.empty:
        return Finding("not run", None)
    mean, spread, seeds = _difference(a, b)
    words = "; ".join(
        f"{SCORES[score]} {a[score].mean():.1f} ({NAMES[ours[0]]}) against {b[score].mean():.1f} ({NAMES[theirs[0]]}),"
        f" {mean[score]:+.1f}"
        for score in margins
    )
    holds = all(mean[score] > 0 and mean[score] >= margin for score, margin in margins.items())
    holds &= at_most is None or all(mean[score] <= at_most for score in margins)
    edges = [(score, margin) for score, margin in margins.items()]
    edges += [(score, at_most) for score in margins if at_most is not None]
    close = seeds > 1 and any(abs(mean[score] - edge) < spread[score] for score, edge in edges)
    return Finding(words, bool(holds), close, seeds)


_BOTH = {"rank1": 0.0, "mAP": 0.0}


def _beats(name: str, ours: str, theirs: str, metric: str, margins: dict | None = None, at_most: float | None = None):
    return lambda results: _compare(results, name, (ours, metric), (theirs, metric), margins or _BOTH, at_most)


def _table1(results: Results) -> Finding:
    table = results.table("table1").set_index("dataset")
    columns = ("identities found", "training identities found", "testing identities found")
    found = table.loc[list(paper.TABLE1), list(columns)]
    if found[list(columns[:2])].isna().any(axis=None):
        return Finding("not all sets are there", None)
    ids, train, test = (found[column].fillna(0).astype(int) for column in columns)
    left_out = int(table.loc["Combined", "left out"])
    holds = bool((ids == train + test).all()) and train["Combined"] == train.drop("Combined").sum() - left_out
    words = ", ".join(f"{name} {ids[name]} = {train[name]} + {test[name]}" for name in found.index)
    words += f" ({left_out} left out of training, tested in the other form of CUHK03)" if left_out else ""
    return Finding(words, holds, seeds=0)


def _beats_literature(results: Results) -> Finding:
    name = paper.MARKET1501
    ours = _scores(results, name, "combined", "euclidean")
    table = _seeds_table(results, name)
    rows = [row.method for row in paper.rows(3) if row.model is None and row.printed and row.source == paper.PAPER]
    found = {method: table[(table["set"] == name) & (table["method"] == method)] for method in rows}
    missing = [method for method, lines in found.items() if lines.empty]
    if missing or ours.empty:
        return Finding(f"{', '.join(missing) or 'our model'}: not measured", None)
    scores = {method: 100 * lines[["rank1", "mAP"]].mean() for method, lines in found.items()}
    words = "; ".join(f"{method} {value['rank1']:.1f}/{value['mAP']:.1f}" for method, value in scores.items())
    mean = ours.mean()
    margins = pd.DataFrame([mean - value for value in scores.values()])
    return Finding(
        f"ours {mean['rank1']:.1f}/{mean['mAP']:.1f}; {words}", *_all_above(margins, ours.std(ddof=1)), len(ours)
    )


def _all_above(margins: pd.DataFrame, spread: pd.Series) -> tuple[bool, bool]:
    """Whether all margins are above 0, and whether the seeds' spread (missing for one seed) leaves that open.

    It is settled where some margin is below 0 by more than the spread, however close the others are.
    """
    spread = spread.fillna(0.0)
    close = bool((margins.abs() < spread).any(axis=None)) and not (margins <= -spread).any(axis=None)
    return bool((margins > 0).all(axis=None)), close


def _loss_lower(results: Results) -> Finding:
    found = results.table("convergence")
    words = "; ".join(
        f"{paper.SET_TITLES[row['set']]} {100 * row['share_lower']:.0f}% of iterations"
        for _, row in found.groupby("set", sort=False)["share_lower"].mean().reset_index().iterrows()
    )
    return _per_set(found, "share_lower", LOWER, words)


def _sooner(results: Results) -> Finding:
    found = results.table("convergence")
    saved = 1 - found["hcn_iterations_to_baseline_final"].fillna(np.inf) / found["baseline_iterations"]
    found = found.assign(saved=saved.clip(lower=-1))
    words = "; ".join(
        f"{paper.SET_TITLES[name]} {value:+.0%} iterations saved" if value > -1 else
        f"{paper.SET_TITLES[name]} not reached"
        for name, value in found.groupby("set", sort=False)["saved"].mean().items()
    )  # fmt: skip
    return _per_set(found, "saved", SOONER, words)


def _per_set(found: pd.DataFrame, column: str, threshold: float, words: str) -> Finding:
    groups = found.groupby("set", sort=False)[column]
    if set(groups.groups) != set(paper.SETS):
        missing = ", ".join(sorted(set(paper.SETS) - set(groups.groups)))
        return Finding(f"{words}; {missing} not run".strip("; "), None)
    mean, seeds = groups.mean(), int(groups.count().min())
    spread = groups.std(ddof=1).fillna(0.0)
    close = seeds > 1 and bool(((mean - threshold).abs() < spread).any())
    return Finding(words, bool((mean >= threshold).all()), close, seeds)


def _half_time(results: Results) -> Finding:
    """The steady speed of an iteration decides: another load while one of the runs trained shows in their clocks."""
    found, forms = results.table("table4"), results.table("table4_forms")
    total = found[found["train_set"] == "total"].set_index("method")["ours_hours"]
    iterations = found[found["train_set"] == "total"].set_index("method")["iterations"]
    if total[["Zhong [13]", "Our"]].isna().any():
        return Finding("not all runs are there", None)
    share, implied = total["Our"] / total["Zhong [13]"], iterations["Our"] / iterations["Zhong [13]"]
    steady = forms[forms["method"] == "Our"].set_index("form")["share_of_baselines"]
    words = (
        f"{_time(total['Our'])} against {_time(total['Zhong [13]'])} ({share:.0%}) by the runs' clocks; from the steady"
        f" speed {', '.join(f'{value:.0%} ({form} heads)' for form, value in steady.items())};"
        f" the iteration counts alone imply {implied:.0%}"
    )
    trained = found.loc[(found["method"] == "Our") & (found["train_set"] == paper.COMBINED), "form"].iloc[0]
    return Finding(words, bool(steady[trained] < 0.5), seeds=0)


def _time(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 3600:.0f} s"


def _figure4(results: Results) -> Finding:
    found = results.table("figure4")
    holds = np.allclose(found["ap_step"].round(2), [item[2] for item in paper.FIGURE4]) and (found["cmc"] == 1).all()
    step, trapezoid = (", ".join(f"{v:.2f}" for v in found[c]) for c in ("ap_step", "ap_trapezoid"))
    return Finding(f"step AP {step}; trapezoid AP {trapezoid}; CMC 1 for all", bool(holds), seeds=0)


def _cross(results: Results) -> Finding:
    found = results.table("cross_dataset")
    found = found[found["test_set"].isin(paper.SETS)]  # own data may be there, too
    pivot = found.pivot_table(index=["seed", "test_set"], columns="train_set", values="mAP")
    tested = set(pivot.index.get_level_values("test_set"))
    if paper.COMBINED not in pivot or tested != set(paper.SETS):
        return Finding("not all runs are there", None)
    gains = pd.DataFrame(  # a line a seed, a column a set
        {name: (own := pivot.xs(name, level="test_set"))[paper.COMBINED] - own[name] for name in sorted(tested)}
    )
    words = "; ".join(f"{paper.SET_TITLES[name]} {gain:+.1f} points of mAP" for name, gain in gains.mean().items())
    margins = (gains.mean() + SERVES).to_frame().T
    return Finding(words, *_all_above(margins, gains.std(ddof=1)), len(gains))


def _variant(name: str, results: Results) -> Finding:
    """Sec. 3.2's claims on the architecture: mAP with the variant `name` of 10_sensitivity no higher than without."""
    found = results.table("sensitivity")
    lines = found[(found["kind"] == "training") & (found["variant"] == name) & found["reranked"]]
    if lines.empty or lines["status"].iloc[0] != tables.MEASURED:
        return Finding(lines["status"].iloc[0] if len(lines) else f"{name}: not measured", None)
    line = lines.iloc[0]
    gap, spread, seeds = line["mAP_difference"], line["mAP_spread"], str(line["seeds"]).split()
    known = f"seeds alone: ±{spread:.1f}" if np.isfinite(spread) else "one seed"
    words = (
        f"{paper.SET_TITLES[line['set']]}: mAP {line['default_mAP']:.1f}, {line['other_mAP']:.1f} with it"
        f" ({gap:+.1f}; {known})"
    )
    return Finding(words, bool(gap <= 0), bool(abs(gap) < spread), len(seeds))


_DETECTED, _LABELED, _MARKET = paper.CUHK03_DETECTED, paper.CUHK03_LABELED, paper.MARKET1501
_CHECKS: dict[str, Callable[[Results], Finding]] = {
    "table1": _table1,
    "hcn_beats_baseline_cuhk03_detected": _beats(_DETECTED, "hcn", "baseline", "xqda"),
    "hcn_beats_baseline_cuhk03_labeled": _beats(_LABELED, "hcn", "baseline", "xqda"),
    "hcn_beats_baseline_market1501": _beats(_MARKET, "hcn", "baseline", "euclidean"),
    "combined_beats_hcn_cuhk03_detected": _beats(_DETECTED, "combined", "hcn", "xqda"),
    "combined_beats_hcn_cuhk03_labeled": _beats(_LABELED, "combined", "hcn", "xqda"),
    "combined_below_hcn_market1501": _beats(_MARKET, "hcn", "combined", "euclidean", at_most=SLIGHTLY),
    "gain_rank1_cuhk03_detected": _beats(_DETECTED, "combined", "baseline", "xqda", {"rank1": 9.0}),
    "gain_map_cuhk03_detected": _beats(_DETECTED, "combined", "baseline", "xqda", {"mAP": 7.9}),
    "gain_cuhk03_labeled": _beats(_LABELED, "combined", "baseline", "xqda"),
    "beats_13_market1501": _beats(_MARKET, "combined", "baseline", "euclidean"),
    "beats_literature_market1501": _beats_literature,
    "r5_loss_lower": _loss_lower,
    "converges_sooner": _sooner,
    "half_training_time": _half_time,
    "figure4": _figure4,
    "cross_dataset": _cross,
    "conv1_does_not_help": functools.partial(_variant, "conv1"),
    "skipping_beats_adjacent": functools.partial(_variant, "adjacent"),
}


def summary(verdicts: Iterable[str]) -> str:
    """How many claims have which verdict, in one line.

    >>> summary(["holds", "holds (one seed: spread not known)", "does not hold"])
    '2 holds, 1 does not hold'
    """
    counts: dict[str, int] = {}
    for words in verdicts:
        word = words.partition(" (")[0]
        counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{count} {word}" for word, count in counts.items())
