"""What near-duplicates between training and test images do to the scores.

Two answers: the scores with and without the queries that have such an image among themselves and their true matches
(no training, so at hand after every run), and two trainings, with the images and without (a second results folder).
The paper does not say whether such images were looked for.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from reid_core import evaluation
from reid_core.datasets.table import DATASET, PATH, PERSON
from reid_core.matching import Matching, match
from reid_core.training import run_folder
from reproduction import paper, scoring, tables
from reproduction.experiment import Experiment, source_set

LEFT_OUT = "-left-out"


def affected(query: pd.DataFrame, gallery: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
    """(Q,) bool: the queries of which the image, or one of the true matches of `evaluation.protocol`, is among the test
    images of `pairs`, from `near_duplicates.find`."""
    seen = set(pairs["test_path"])
    marked, rule = gallery[PATH].isin(seen).to_numpy(), evaluation.protocol(query, gallery)
    matched = [marked[rule.split(row)[0]].any() for row in range(len(query))]
    return query[PATH].isin(seen).to_numpy() | np.array(matched)


def trained_on(pairs: pd.DataFrame, train_sets: Iterable[str], labels: pd.DataFrame) -> pd.DataFrame:
    """The pairs whose training image is of `train_sets` and of one of the people in a run's labels.csv: a combined
    training leaves out people whom another form of CUHK03 tests, so their images were not met."""
    trained = pd.MultiIndex.from_arrays([pairs["train_set"].map(source_set), pairs["train_person"]])
    known = trained.isin(pd.MultiIndex.from_frame(labels[[DATASET, PERSON]]))
    return pairs[known & pairs["train_set"].isin(list(train_sets)).to_numpy()]


def scores(kit: Experiment, sets: Mapping[str, pd.DataFrame], pairs: pd.DataFrame, how: Matching) -> pd.DataFrame:
    """Every finished run on its set, Euclidean, over all queries and over those that are not `affected`.

    Columns: model, set, seed, run, `queries`, `queries affected`, and per score (rank1, mAP; in per cent) the score
    over all queries, over the others (missing where there are none), and others - all."""
    lines = []
    for run in kit.runs(sets):
        vectors = scoring.extract(kit, run.folder, sets[run.set], run.set)
        matched = match(vectors, "euclidean", False, how)
        result = evaluation.evaluate(matched.distance, matched.query, matched.gallery, ap=how.ap)
        hits = result.per_query["first_hit"].eq(1).fillna(False).astype(float)
        of_query = result.per_query.assign(rank1=hits, mAP=result.per_query["ap"])
        trained = kit.parts if run.model == paper.COMBINED else (run.set,)
        labels = pd.read_csv(run.folder / run_folder.LABELS, keep_default_na=False)
        touched = affected(matched.query, matched.gallery, trained_on(pairs, trained, labels))
        lines.append({"model": run.model, "set": run.set, "seed": run.seed, "run": run.name,
                      "queries": len(touched), "queries affected": int(touched.sum())})  # fmt: skip
        for score in tables.SCORES:
            every, others = (100 * part[score].mean() for part in (of_query, of_query[~touched]))
            lines[-1] |= {score: every, f"{score} others": others, f"{score} difference": others - every}
    return pd.DataFrame(lines)


def counterpart(results: Path) -> Path:
    """The results folder that `results` is compared with: <profile> and <profile>-left-out.

    >>> counterpart(Path("results/paper")).name, counterpart(Path("results/paper-left-out")).name
    ('paper-left-out', 'paper')
    """
    name = results.name
    return results.with_name(name.removesuffix(LEFT_OUT) if name.endswith(LEFT_OUT) else name + LEFT_OUT)


def retrained(results: Path) -> pd.DataFrame | None:
    """Tables 2 and 3 with near-duplicates kept in training and left out of it, in per cent; None without both folders.

    One line per set and method that both folders measured: per score `kept`, `left out`, and left out - kept.
    Raises ValueError where one of the folders was made with another setting than its name says."""
    folders = sorted((results, counterpart(results)))  # the longer name comes last
    parts = []
    for setting, folder in zip(("kept", "left out"), folders, strict=True):
        if not (files := sorted(folder.glob("table[23].csv"))):
            return None
        table = pd.concat(map(pd.read_csv, files))
        if wrong := set(table["near_duplicates"]) - {"keep" if setting == "kept" else "leave_out"}:
            what = f"{folder} was made with near_duplicates: {min(wrong)}, but by its name they are {setting}"
            name = f"a name that does{'' if setting == 'kept' else ' not'} end in {LEFT_OUT}"
            raise ValueError(f"{what}. Make it again with the other setting, or under {name}.")
        measured = table[table["status"] == tables.MEASURED].set_index(["set", "method"])
        names = {f"ours_{score}": f"{score} {setting}" for score in tables.SCORES}
        parts.append(measured[list(names)].rename(columns=names))
    both = parts[0].join(parts[1], how="inner")
    for score in tables.SCORES:
        both[f"{score} difference"] = both[f"{score} left out"] - both[f"{score} kept"]
    return both.reset_index()
