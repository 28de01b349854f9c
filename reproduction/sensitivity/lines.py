"""The table's lines: one for each choice, other option and set, the default's scores beside the other's."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from reid_core.datasets.table import GALLERY, JUNK, PERSON, QUERY, SUBSET
from reid_core.matching import learn
from reid_core.training import run_folder
from reproduction import intervals, paper, scoring
from reproduction.sensitivity.bench import PLAIN, REPORTED, Bench, Option, Way
from reproduction.sensitivity.variants import Comparison, Study
from reproduction.tables import MEASURED, PEOPLE, SCORES

OUTPUTS = ("c1", "c2", "r5+c1+c2")
NO_JUNK = "not run: the set has no junk images"
ONE_SEED = "not run: one seed only"
KEYS = ["seed", PERSON, "queries"]
VALUES = ("default_{}", "other_{}", "{}_difference", "{}_low", "{}_high", "{}_spread")
COLUMNS = [
    "kind", "variant", "choice", "default", "other", "set", "model", "metric", "reranked", "matching",
    *(value.format(score) for score in SCORES for value in VALUES),
    "default_loss", "other_loss", "seeds", "other_seeds", "iterations", "queries", "runs", "status", "note",
]  # fmt: skip
NAMES = ("kind", "variant", "side", "set", "model", "metric", "reranked")  # of the rows behind one side of a line


def seed_lines(name: str, benches: Mapping[str, Bench], not_run: Mapping[str, str]) -> list[dict]:
    """What the seed alone does: the lowest and the highest score of the default's runs."""
    bench, lines = benches.get(name), []
    for way in dict.fromkeys((PLAIN, REPORTED[name])):
        line = _about("seed", "seed", "Seed of the training", "lowest", "highest", name, way)
        if bench is None or len(bench.folders) < 2:
            lines.append(line | {"status": not_run.get(name, ONE_SEED)})
            continue
        scores, nothing = _by_seed(bench.rows(bench.folders, way)), np.full(2, np.nan)
        spread = scores.std(axis=0, ddof=1) * 2**0.5
        line |= _columns(scores.min(axis=0), scores.max(axis=0), nothing, nothing, spread)
        lines.append(line | _runs(bench, bench.folders))
    return lines


def matching_lines(
    benches: Mapping[str, Bench], choices: Sequence[Option], pairings: int, not_run: Mapping[str, str]
) -> list[dict]:
    """The choices of matching, made again on the default runs of every set.

    `pairings`: how many seeds, from 0, XQDA's random pairing is drawn with besides that of the released code; none: no
    such lines. Raises ValueError below 0."""
    if pairings < 0:
        raise ValueError(f"sensitivity_pairings is {pairings}; it is a number of seeds, at least 0 (0: none).")
    lines = []
    for name in paper.SETS:
        bench, reason = benches.get(name), not_run.get(name)
        for option in choices:
            way, lacking = option.way(name), reason
            if not reason and option.needs == "junk":
                gallery = bench.images[bench.images[SUBSET] == GALLERY]
                lacking = "" if (gallery[PERSON] == JUNK).any() else NO_JUNK
            line = _about("matching", option.field, option.choice, option.default, option.other, name, way, option.note)
            found = {"status": lacking} if lacking else _paired(bench, way, bench.again(way, option.changes))
            lines.append(line | found)
        if pairings:
            lines.append(_pairing_line(bench, name, pairings, not_run))
    return lines


def _pairing_line(bench: Bench | None, name: str, pairings: int, not_run: Mapping[str, str]) -> dict:
    way, other = ("xqda", True), f"seeds 0 to {pairings - 1}"
    note = "XQDA pairs the training images at random; the mean over these seeds."
    line = _about("matching", "xqda_pairing", "XQDA's random pairing", "seed 5489", other, name, way, note)
    if bench is None:
        return line | {"status": not_run[name]}
    each = pd.concat([
        bench.score(folder, way, learned=learn(bench.vectors(folder), bench.how.xqda_solver, pairing=pairing))
        for folder in bench.folders for pairing in range(pairings)
    ])  # fmt: skip
    return line | _paired(bench, way, each.groupby(KEYS, as_index=False).mean())


def fit_lines(benches: Mapping[str, Bench], images: pd.DataFrame | None, not_run: Mapping[str, str]) -> list[dict]:
    """XQDA for the combined model fitted on the training images of all its sets, not of the one it is tested on.

    `images`: those of the combined set, labelled; None where it is absent."""
    way, lines, learned = ("xqda", True), [], {}
    for name in paper.SETS:
        line = _about("matching", "xqda_fit", "Combined HCN: XQDA fitted on", "the tested set", "all sets", name, way,
                      "The paper does not say.") | {"model": paper.COMBINED}  # fmt: skip
        if reason := not_run.get(name) or not_run.get(paper.COMBINED):
            lines.append(line | {"status": reason})
            continue
        bench = benches[name]
        for folder in bench.folders:
            if folder not in learned:
                vectors = scoring.extract(bench.kit, folder, images, paper.COMBINED)
                learned[folder] = learn(vectors, bench.how.xqda_solver)
        scores = [bench.score(folder, way, learned=learned[folder]) for folder in bench.folders]
        lines.append(line | _paired(bench, way, pd.concat(scores)))
    return lines


def feature_lines(name: str, benches: Mapping[str, Bench], not_run: Mapping[str, str]) -> list[dict]:
    """Other outputs of the default runs as the retrieval feature: C1, C2, or all three joined."""
    bench, lines = benches.get(name), []
    outputs = [bench.outputs(folder) for folder in bench.folders] if bench else []
    for output in outputs[0] if outputs else OUTPUTS:
        for way in dict.fromkeys((PLAIN, REPORTED[name])):
            note = "Section 3.2 takes R5's output; joined, each part has length 1."
            line = _about("feature", output, "Feature", "R5", output.upper(), name, way, note)
            if bench is None:
                lines.append(line | {"status": not_run[name]})
                continue
            found = zip(bench.folders, outputs, strict=True)
            scores = [bench.score(folder, way, vectors=one[output]) for folder, one in found]
            lines.append(line | _paired(bench, way, pd.concat(scores)))
    return lines


def training_lines(study: Study, benches: Mapping[str, Bench], trained: pd.DataFrame) -> list[dict]:
    """The variants of network and training and the controls beside their defaults; `trained` is what `train` returned.

    A measured line holds the people behind both sides, too, which `people` puts into a table."""
    failures = dict(zip(trained["run"], trained["failure"], strict=True))
    lines = []
    for one in study.comparisons:
        failed = [failure for run in (*one.default_runs, *one.other_runs) if (failure := failures.get(run.name))]
        reason = one.not_run or next(iter(failed), "")
        for way in dict.fromkeys((PLAIN, REPORTED[one.set])):
            line = _about(one.kind, one.variant, one.choice, one.default, one.other, one.set, way, one.note)
            found = {"status": reason} if reason else _trained(benches[one.set], one, way)
            lines.append(line | found | {"model": one.model})
    return lines


def _trained(bench: Bench, one: Comparison, way: Way) -> dict:
    """Columns of a comparison of trainings, and the people behind both sides."""
    folders = {"default": [run.folder for run in one.default_runs], "other": [run.folder for run in one.other_runs]}
    default, other = (bench.rows(there, way) for there in folders.values())
    found = [intervals.interval(other, score, default) for score in SCORES]
    runs = _runs(bench, *folders.values()) | {f"{side}_loss": _final_loss(there) for side, there in folders.items()}
    parts = [bench.rows([folder], way).assign(side=side, run=bench.run(folder))
             for side, there in folders.items() for folder in there]  # fmt: skip
    return _compared(default, other, found) | runs | {PEOPLE: pd.concat(parts)}


def _final_loss(folders: Sequence[Path]) -> float:
    """Training loss of R5 over the last tenth of the iterations, the mean over the runs."""
    losses = [run_folder.loss_curve(folder)["loss_r5"].to_numpy() for folder in folders]
    return float(np.mean([loss[-max(1, len(loss) // 10) :].mean() for loss in losses]))


def _about(kind: str, variant: str, choice: str, default: str, other: str, name: str, way: Way, note: str = "") -> dict:
    return {
        "kind": kind, "variant": variant, "choice": choice, "default": default, "other": other, "set": name,
        "model": "hcn", "metric": way[0], "reranked": way[1], "status": MEASURED, "note": note,
        "matching": ("XQDA" if way[0] == "xqda" else "Euclidean") + (", re-ranked" if way[1] else ""),
    }  # fmt: skip


def _paired(bench: Bench, way: Way, other: pd.DataFrame) -> dict:
    """Columns of a choice made again on the default's own runs: their seeds drop out of each run's difference."""
    default = bench.rows(bench.folders, way)
    gaps = (other.set_index(KEYS) - default.set_index(KEYS)).reset_index()
    found = [intervals.interval(gaps, score) for score in SCORES]
    return _compared(default, other, found) | _runs(bench, bench.folders)


def _compared(default: pd.DataFrame, other: pd.DataFrame, found: Sequence[intervals.Interval]) -> dict:
    """Columns of both sides' scores, from rows of `intervals.by_person`, and of the intervals of their difference."""
    ends = np.array([[one.low, one.high] for one in found]).T
    return _columns(*(_by_seed(side).mean(axis=0) for side in (default, other)), *ends, np.full(2, np.nan))


def _by_seed(rows: pd.DataFrame) -> np.ndarray:
    """Rank-1 and mAP in per cent, (seeds, 2), of rows of `intervals.by_person`."""
    sums = rows.groupby("seed")[["queries", *SCORES]].sum()
    return 100 * sums[list(SCORES)].to_numpy() / sums[["queries"]].to_numpy()


def _columns(default: np.ndarray, other: np.ndarray, low: np.ndarray, high: np.ndarray, spread: np.ndarray) -> dict:
    """The columns VALUES; each argument is (2,): of rank-1 and mAP."""
    values = zip(VALUES, (default, other, other - default, low, high, spread), strict=True)
    return {name.format(score): both[i] for name, both in values for i, score in enumerate(SCORES)}


def _runs(bench: Bench, default: Sequence[Path], other: Sequence[Path] = ()) -> dict:
    """Columns on the runs behind a line: the default's, and the other's where these are runs of their own."""
    records = [[run_folder.read(folder)["recipe"] for folder in folders] for folders in (default, other or default)]
    seeds = [" ".join(str(recipe["seed"]) for recipe in recipes) for recipes in records]
    return {
        "model": bench.model, "seeds": seeds[0], "other_seeds": seeds[1], "iterations": records[0][0]["iterations"],
        "queries": int((bench.images[SUBSET] == QUERY).sum()), "runs": " ".join(map(bench.run, (*default, *other))),
    }  # fmt: skip


def table(lines: Sequence[dict], facts: Mapping[str, object]) -> pd.DataFrame:
    """All lines with the facts of the data: scores in per cent, differences and spreads in points.

    `difference` = other - default, the mean over the runs; `low` and `high` are its 95% interval over test people and
    seeds (`intervals.interval`; over one seed: over people alone). A seed line has none, but a `spread`: the standard
    deviation of the difference of two single runs that differ in the seed alone, s sqrt(2) for a deviation s over the
    seeds. The losses are those of R5 over the last tenth of the training: they tell a variant that did not train at the
    default's learning rate from one whose features are worse."""
    made = pd.DataFrame(lines, columns=COLUMNS).assign(**facts)
    return made.astype({"iterations": "Int64", "queries": "Int64"})


def people(lines: Sequence[dict]) -> pd.DataFrame:
    """Each test person's sums behind both sides of every measured comparison of trainings, a row a person and seed."""
    parts = [line[PEOPLE].assign(**{name: line[name] for name in NAMES if name != "side"})
             for line in lines if PEOPLE in line]  # fmt: skip
    columns = [*NAMES, *intervals.COLUMNS, "run"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def as_printed(table: pd.DataFrame) -> pd.DataFrame:
    """The table for reading: choice, options, set, matching, and per score both values, difference and interval."""
    shown = table[["choice", "default", "other", "set", "matching"]].replace({"set": paper.SET_TITLES})
    for score, title in zip(SCORES, ("rank-1", "mAP"), strict=True):
        sides = table[[f"default_{score}", f"other_{score}", "status"]].itertuples(index=False)
        shown[title] = [f"{a:.1f} → {b:.1f}" if status == MEASURED else status for a, b, status in sides]
        shown[f"{title} difference"] = table[f"{score}_difference"].map("{:+.1f}".format).replace("+nan", "")
        shown[f"{title} interval"] = [
            f"±{spread:.1f}".replace("±nan", "") if pd.isna(low) else f"{low:+.1f} to {high:+.1f}"
            for low, high, spread in table[[f"{score}_{end}" for end in ("low", "high", "spread")]].to_numpy(float)
        ]
    losses = table[["default_loss", "other_loss"]].to_numpy(float)
    shown["R5 loss"] = ["" if np.isnan(a) else f"{a:.2f} → {b:.2f}" for a, b in losses]
    return shown.assign(iterations=table["iterations"])
