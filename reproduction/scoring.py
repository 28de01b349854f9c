"""Runs and published methods scored on sets: the numbers of Tables 2 and 3, and of models across data sets."""

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from reid_core import datasets, evaluation, features, training
from reid_core.datasets.table import DATASET, PERSON, SUBSET, TRAIN
from reid_core.matching import Matched, Matching, learn, match, split
from reid_core.training import run_folder
from reproduction import experiment, intervals, literature, paper, tables
from reproduction.experiment import Experiment
from reproduction.tables import PEOPLE

UNTRAINED = "untrained"
COLUMNS = ("model", "method", "set", "metric", "reranked", "seed", "rank1", "mAP", "run", "note", PEOPLE)
NAMES = ("set", "model", "method", "metric", "reranked", "seed")  # of a score in Tables 2 and 3


def extract(kit: Experiment, run_dir: Path, images: pd.DataFrame, name: str, output: str = "r5") -> features.Features:
    """Features of a set under a finished run: values (N, d) float32 of length 1, in the order of its table `images`.

    They are kept in `features/<run>/<set>.safetensors` while nothing has changed, those of another `output` than "r5",
    the retrieval feature of Section 3.2, beside it in `<set>-<output>.safetensors`. One pass through a run of the
    tables gives its R5 and all its outputs joined, which notebooks 10 and 11 score. Warns where the run has learnt from
    people whom the set tests. Raises ValueError for a run of embedded data and a set that is not, or the other way
    round, and what `features.extract` raises."""
    record, runs = run_folder.read(run_dir), kit.results / "runs"
    experiment.check_source(run_dir, record, kit)
    _warn_of_leaks(run_dir, images, name)
    folder = kit.results / "features" / (run_dir.relative_to(runs) if run_dir.is_relative_to(runs) else run_dir.name)
    how, path = {"data_root": kit.data}, folder / f"{name if output == 'r5' else f'{name}-{output}'}.safetensors"
    heads = "+".join(record.get("heads", ()))
    of_tables = name in paper.SETS and run_dir.parent == runs
    if output == "r5" and heads not in ("", "r5") and of_tables and not path.is_file():
        joined = features.extract(run_dir, images, output=heads, path=folder / f"{name}-{heads}.safetensors", **how)
        features.save(features.parts(joined)[output], path, kit.data)
    return features.extract(run_dir, images, output=output, path=path, **how)


def _warn_of_leaks(run_dir: Path, images: pd.DataFrame, name: str) -> None:
    labels = pd.read_csv(run_dir / run_folder.LABELS, dtype={DATASET: str}, keep_default_na=False)
    people = datasets.leaked_people(labels.assign(**{SUBSET: TRAIN}), [images])
    if len(people):
        named = ", ".join(f"{row.dataset} {row.person_id}" for row in people.head(5).itertuples())
        warnings.warn(
            f"{run_dir.name} has learnt from {len(people)} of the people whom {name} tests: {named}. Scores on them "
            "tell nothing. Train without them: leaked_people: leave_out, and own data among own_sets.",
            stacklevel=3,
        )


def extract_untrained(kit: Experiment, run_dir: Path, images: pd.DataFrame) -> features.Features:
    """Features (N, d) of a set under a run's network as it was before training: same recipe, random weights."""
    run = run_folder.read(run_dir)
    recipe = training.Recipe.from_dict(run["recipe"])
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        network = recipe.network(run["model"], run["num_classes"])
    size = {"height": recipe.height, "width": recipe.width}
    return features.extract(network.eval(), images, data_root=kit.data, **size)


def evaluate(matched: Matched, ap: str) -> dict[str, object]:
    """Rank-1, rank-5, rank-10 and mAP as fractions, counts and protocol behind them, and each test person's sums."""
    result = evaluation.evaluate(matched.distance, matched.query, matched.gallery, ap=ap)
    return {
        **{f"rank{k}": float(result.cmc[min(k, len(result.cmc)) - 1]) for k in (1, 5, 10)},
        "mAP": result.mAP,
        "queries": len(matched.query),
        "gallery": len(matched.gallery),
        "queries_without_match": result.unmatched_queries,
        "protocol": result.protocol,
        PEOPLE: intervals.by_person(result.per_query, matched.query[PERSON].to_numpy(), seed=0),
    }


def by_person(scores: pd.DataFrame, names: Sequence[str] = NAMES) -> pd.DataFrame:
    """Each test person's sums behind every score, in the scores' order: what the file <table>_people.csv keeps.

    `scores` has a line a score, its people's rows in the cell of `PEOPLE`. Columns: `names`, of a score, and those
    of `intervals.by_person`."""
    columns = list(dict.fromkeys([*names, *intervals.COLUMNS]))
    lines = scores.reindex(columns=[*names, PEOPLE]).to_dict("records")
    parts = [line.pop(PEOPLE).assign(**line)[columns] for line in lines]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def score(
    vectors: features.Features, how: Matching, metrics: Iterable[str] = ("euclidean", "xqda"),
    reranked: Sequence[bool] = (False, True),
) -> pd.DataFrame:  # fmt: skip
    """One set's features, (N, d) with their table, scored by each metric, with and without re-ranking: a line each.

    Columns: metric, reranked, seconds_fit, seconds_match, and the entries of :func:`evaluate`."""
    lines = []
    for metric in metrics:
        started = time.perf_counter()
        learned = learn(vectors, how.xqda_solver) if metric == "xqda" else None
        seconds = time.perf_counter() - started
        for again in reranked:
            matched = match(vectors, metric, again, how, learned)
            line = {"metric": metric, "reranked": again, "seconds_fit": seconds, "seconds_match": matched.seconds}
            lines.append(line | evaluate(matched, how.ap))
    return pd.DataFrame(lines)


def not_run(kit: Experiment, methods: Iterable) -> dict[str, str]:
    """{set, model or row: why it is not run}, for `tables.compare`: absent sets, and rows of the literature."""
    return kit.not_run | literature.not_run(methods)


def rows(
    table: int, kit: Experiment, sets: Mapping[str, pd.DataFrame], how: Matching, methods: Iterable
) -> pd.DataFrame:
    """All scores behind Table 2 or 3: every finished run, then the literature, one line a set and way of matching.

    `sets` are {name: image table}, `methods` those of the literature as :func:`literature.entries` reads them. Columns
    of :func:`tables.compare`'s `scores`; rank-1 and mAP as fractions."""
    ours = score_runs(kit, sets, how)
    return pd.concat([ours, score_literature(table, kit, sets, how, methods)], ignore_index=True)


def score_runs(kit: Experiment, sets: Mapping[str, pd.DataFrame], how: Matching) -> pd.DataFrame:
    """Every finished run scored on its set, both metrics, with and without re-ranking.

    Times as those of the literature: `seconds_features`, every image of the set through the network; `seconds_train`,
    the whole training (of the combined set: the one that serves every set) and the metric's fit; `seconds_match`."""
    parts = []
    for run in kit.runs(sets):
        vectors = extract(kit, run.folder, sets[run.set], run.set)
        scores = score(vectors, how)
        about = {"model": run.model, "set": run.set, "seed": run.seed, "run": run.name}
        seconds = run.record["seconds"] + scores.pop("seconds_fit")
        times = {"seconds_features": vectors.meta.get("seconds"), "seconds_train": seconds}
        about["note"] = "Its network learns from {images:,} images of {num_classes:,} people.".format(**run.record)
        parts.append(scores.assign(**about, **times))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def score_outputs(kit: Experiment, sets: Mapping[str, pd.DataFrame], how: Matching) -> pd.DataFrame:
    """Each output of a run as the retrieval feature, and all of them joined; both metrics, with and without re-ranking.

    The paper retrieves with R5's alone (Section 3.2). One line per finished run, output, metric and re-ranking, with
    the feature's `width`; rank-1 and mAP in per cent. The baseline has R5 alone."""
    parts = []
    for run in kit.runs(sets):
        vectors = extract(kit, run.folder, sets[run.set], run.set, "+".join(run.record["heads"]))
        about = {"set": run.set, "model": run.model, "seed": run.seed, "run": run.name}
        for output, part in (features.parts(vectors) | {vectors.meta["output"]: vectors}).items():
            parts.append(score(part, how).assign(**about, output=output, width=part.values.shape[1]))
    table = pd.concat(parts, ignore_index=True)
    table[["rank1", "mAP"]] *= 100
    return table[[*about, "output", "width", "metric", "reranked", "rank1", "mAP", "queries", "gallery", "protocol"]]


def score_literature(
    table: int, kit: Experiment, sets: Mapping[str, pd.DataFrame], how: Matching, methods: Iterable, seed: int = 0
) -> pd.DataFrame:
    """Published methods and plain references (`literature.METHODS`) on the same images, one line each.

    Of the `methods`, which `literature.entries` reads, those that are not of this `table` or cannot run here
    (`literature.not_run`) are left out. What is trained on the kit's loop leaves a run folder among the others."""
    entries = literature.entries(methods)
    known = {row.method for row in paper.rows(table) if row.model is None} - set(literature.not_run(methods))
    lines = []
    for name, images in sets.items():
        task = literature.Task(kit, name, split(images), how, seed)
        for method in (method for method in entries if method.name in known):
            outcome = method.run(task)
            matched = Matched(outcome.distance, task.images.query, task.images.gallery, outcome.seconds_match)
            line = {"method": method.name, "model": "literature", "set": name, "seed": seed, "run": outcome.run}
            line |= {"faithful": outcome.faithful, "note": outcome.note}
            line |= {f"seconds_{part}": getattr(outcome, f"seconds_{part}") for part in tables.TIMES}
            lines.append(line | evaluate(matched, how.ap))
    return pd.DataFrame(lines, columns=None if lines else COLUMNS)


def score_across(kit: Experiment, sets: Mapping[str, pd.DataFrame], how: Matching) -> pd.DataFrame:
    """HCN trained on one set and tested on another: Euclidean, re-ranked; rank-1 and mAP in per cent, with mAP's 95%
    interval over other test people, and people's rows.

    The two forms of CUHK03 are one set of people and are not crossed. A set that is not of the paper need not have
    been trained on. "untrained" is the network of the set's own run (or else of the first set's) with its initial
    weights."""
    whole = [] if paper.COMBINED in kit.not_run else [paper.COMBINED]
    lines = []
    for seed in kit.seeds:
        trained = [name for name in sets if name in paper.SETS or kit.run("hcn", name, seed).record]
        for name, images in sets.items():
            people, tested = experiment.source_set(name), images[images[SUBSET] != TRAIN].reset_index(drop=True)
            sources = [other for other in trained if other == name or experiment.source_set(other) != people]
            initial = name if name in trained else trained[0]
            for source in [UNTRAINED, *sources, *whole]:
                run = kit.run("hcn", initial if source == UNTRAINED else source, seed)
                if source == UNTRAINED:
                    vectors = extract_untrained(kit, run.folder, tested)
                elif source in (name, *whole):  # the tables have them
                    vectors = extract(kit, run.folder, images, name)
                else:
                    vectors = extract(kit, run.folder, tested, f"{name}-test")
                scores = evaluate(match(vectors, "euclidean", True, how), how.ap)
                sure = intervals.interval(scores[PEOPLE], "mAP", least=0.0)
                lines.append({
                    "train_set": source, "test_set": name, "seed": seed, "rank1": 100 * scores["rank1"],
                    "mAP": 100 * scores["mAP"], "mAP_low": sure.low, "mAP_high": sure.high,
                    "run": "" if source == UNTRAINED else run.name,
                    "protocol": scores["protocol"], PEOPLE: scores[PEOPLE],
                })  # fmt: skip
    return pd.DataFrame(lines)
