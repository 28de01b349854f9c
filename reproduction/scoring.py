"""Runs and published methods scored on sets: the numbers of Tables 2 and 3, and of models across data sets."""

import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from reid_core import datasets, evaluation, features, model, reranking, training, xqda
from reid_core import distance as distances
from reid_core.datasets.table import CAMERA, DATASET, GALLERY, LABEL, PERSON, QUERY, SUBSET, TRAIN
from reid_core.training import run_folder
from reproduction import experiment, literature, paper, tables

UNTRAINED = "untrained"
COLUMNS = ("model", "method", "set", "metric", "reranked", "seed", "rank1", "mAP", "run", "note")


@dataclass(frozen=True)
class Matching:
    """Settings of metric, re-ranking and scoring; the defaults are those behind the printed numbers ([13]).

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
        reranking.Settings(
            self.k1, self.k2, self.lambda_value, half=self.half, jaccard=self.jaccard
        )  # fmt: skip


def extract(
    run_dir: Path,
    images: pd.DataFrame,
    name: str,
    data_root: str | os.PathLike,
    results_root: str | os.PathLike,
    output: str = "r5",
) -> features.Features:
    """Features of a set under a run, kept in `features/<run>/<set>.safetensors`, reused while nothing changed.

    Outputs other than R5's, such as "c1" or "r5+c1+c2", are kept beside it in `<set>-<output>.safetensors`.
    Raises ValueError for a run of embedded data and a set that is not, or the other way round; warns where the run
    has learnt from people whom the set tests.
    """
    experiment.check_source(run_dir, data_root)
    _warn_of_leaks(run_dir, images, name)
    stem = name if output == "r5" else f"{name}-{output}"
    results = experiment.resolve(results_root)
    below = run_dir.is_relative_to(results / "runs")
    run = run_dir.relative_to(results / "runs") if below else run_dir.name
    path = results / "features" / run / f"{stem}.safetensors"
    return features.extract(
        run_dir, images, data_root=experiment.resolve(data_root), output=output, path=path
    )


def _warn_of_leaks(run_dir: Path, images: pd.DataFrame, name: str) -> None:
    learnt = pd.read_csv(run_dir / run_folder.LABELS, dtype={DATASET: str}).assign(**{SUBSET: TRAIN})
    people = datasets.leaked_people(learnt, [images])
    if len(people):
        named = ", ".join(f"{row.dataset} {row.person_id}" for row in people.head(5).itertuples())
        warnings.warn(
            f"{run_dir.name} has learnt from {len(people)} of the people whom {name} tests: {named}. Scores on them "
            "tell nothing. Train without them: leaked_people: leave_out, and own data among own_sets.",
            stacklevel=3,
        )


def extract_untrained(run_dir: Path, images: pd.DataFrame, data_root: str | os.PathLike) -> features.Features:
    """Features of a set under a finished run's network as it was before training: same recipe, random weights."""
    run = run_folder.read(run_dir)
    recipe = training.Recipe.from_dict(run["recipe"])
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        network = model.MODELS[run["model"]](run["num_classes"], recipe.backbone, **recipe.network_settings())
    size = {"height": recipe.height, "width": recipe.width}
    return features.extract(network.eval(), images, data_root=experiment.resolve(data_root), **size)


def split(found: features.Features) -> dict[str, tuple[np.ndarray, pd.DataFrame]]:
    """{subset: (features (n, d) float32, rows)} for train, query and gallery."""
    subset = found.table[SUBSET].to_numpy()
    return {
        name: (found.values[subset == name], found.table[subset == name].reset_index(drop=True))
        for name in (TRAIN, QUERY, GALLERY)
    }


@dataclass(frozen=True)
class Matched:
    """A distance (Q, G), the tables of its rows and columns, and the seconds of matching and of the metric's fit."""

    distance: np.ndarray
    query: pd.DataFrame
    gallery: pd.DataFrame
    seconds: float
    seconds_fit: float = 0.0


def learn(found: features.Features, solver: str = "svd", pairing: int = 5489) -> xqda.XQDA:
    """XQDA fitted on the training images of a set; people are told apart by `label` where the table has one.

    `pairing` is the seed of the random pairing of training images, XQDA's random_state.
    """
    train, rows = split(found)[TRAIN]
    person = rows[LABEL if LABEL in rows else PERSON].to_numpy()
    return xqda.XQDA(solver, random_state=pairing).fit(train, person, rows[CAMERA].to_numpy())


def match(
    found: features.Features,
    metric: str,
    reranked: bool,
    matching: Matching,
    learned: xqda.XQDA | None = None,
) -> Matched:
    """Distance of a set's queries and gallery images.

    `metric` is euclidean (squared) or xqda (squared-type): `learned`, or else fitted here on the training images of
    the same set (the paper does not say which). With `reranked`, the k-reciprocal distance of Eq. (4). Junk stays in
    the pool while re-ranking, as in the official toolchain, unless `matching.junk_in_pool` is false.
    """
    parts = split(found)
    (query, query_table), (gallery, gallery_table) = parts[QUERY], parts[GALLERY]
    if not matching.junk_in_pool:
        keep = ~evaluation.protocol(query_table, gallery_table).junk
        gallery, gallery_table = gallery[keep], gallery_table[keep].reset_index(drop=True)
    started = time.perf_counter()
    if metric == "xqda":
        learned = learned or learn(found, matching.xqda_solver)
    elif metric == "euclidean":
        learned = None
    else:
        raise ValueError(f"metric is {metric!r}; it is euclidean or xqda.")
    fitted = time.perf_counter()
    if reranked:
        settings = {"k1": matching.k1, "k2": matching.k2, "lambda_value": matching.lambda_value}
        settings |= {"half": matching.half, "jaccard": matching.jaccard}
        distance = reranking.k_reciprocal_where_it_fits(query, gallery, metric=learned, **settings)
    elif learned is not None:
        distance = learned.distance(query, gallery)
    else:
        distance = distances.squared_euclidean(query, gallery)
    seconds = time.perf_counter() - fitted
    return Matched(distance, query_table, gallery_table, seconds, fitted - started)


def evaluate(matched: Matched, ap: str) -> dict[str, object]:
    """Rank-1, rank-5, rank-10 and mAP as fractions, and the counts behind them."""
    result = evaluation.evaluate(matched.distance, matched.query, matched.gallery, ap=ap)
    return {
        **{f"rank{k}": float(result.cmc[min(k, len(result.cmc)) - 1]) for k in (1, 5, 10)},
        "mAP": result.mAP,
        "queries": len(matched.query),
        "gallery": len(matched.gallery),
        "queries_without_match": result.unmatched_queries,
    }


def score(
    found: features.Features,
    matching: Matching,
    metrics: Iterable[str] = ("euclidean", "xqda"),
    reranked: Sequence[bool] = (False, True),
) -> pd.DataFrame:
    """One set's features scored by each metric, with and without re-ranking: one line each."""
    lines = []
    for metric in metrics:
        for again in reranked:
            matched = match(found, metric, again, matching)
            line = {"metric": metric, "reranked": again}
            line |= {"seconds_fit": matched.seconds_fit, "seconds_match": matched.seconds}
            lines.append(line | evaluate(matched, matching.ap))
    return pd.DataFrame(lines)


def score_runs(
    runs: pd.DataFrame,
    sets: Mapping[str, pd.DataFrame],
    data_root: str | os.PathLike,
    results_root: str | os.PathLike,
    matching: Matching,
) -> pd.DataFrame:
    """Every run of `experiment.find_runs` scored on its set, both metrics, with and without re-ranking.

    Times as those of the literature: `seconds_features`, every image of the set through the network, as it took when
    the feature file was made; `seconds_train`, the whole training (of the combined set: the one training that serves
    every set) and the metric's fit; `seconds_match`, comparing and re-ranking.
    """
    parts = []
    for line in runs.itertuples():
        run_dir = experiment.run_folder(results_root, line.model, line.set, line.seed)
        found = extract(run_dir, sets[line.set], line.set, data_root, results_root)
        scores = score(found, matching)
        about_run = experiment.describe_run(data_root, results_root, line.model, line.set, line.seed)
        seconds = 3600 * about_run["hours"] + scores.pop("seconds_fit")
        about = {"model": line.model, "set": line.set, "seed": line.seed, "run": line.run}
        times = {"seconds_features": found.meta.get("seconds"), "seconds_train": seconds}
        parts.append(scores.assign(**about, **times))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def score_outputs(
    runs: pd.DataFrame,
    sets: Mapping[str, pd.DataFrame],
    data_root: str | os.PathLike,
    results_root: str | os.PathLike,
    matching: Matching,
) -> pd.DataFrame:
    """Each output of a run as the retrieval feature, and all of them joined; both metrics, with and without re-ranking.

    The paper retrieves with R5's alone (Section 3.2). One line per run of `experiment.find_runs`, output, metric and
    re-ranking, with the feature's `width`; rank-1 and mAP in per cent. The baseline has R5 alone.
    """
    parts = []
    for line in runs.itertuples():
        run_dir = experiment.run_folder(results_root, line.model, line.set, line.seed)
        network, _ = training.load_network(run_dir)
        found = extract(run_dir, sets[line.set], line.set, data_root, results_root, "+".join(network.widths))
        about = {"set": line.set, "model": line.model, "seed": line.seed, "run": line.run}
        for output, part in (features.parts(found) | {found.meta["output"]: found}).items():
            scores = score(part, matching)
            parts.append(scores.assign(**about, output=output, width=part.values.shape[1]))
    table = pd.concat(parts, ignore_index=True)
    table[["rank1", "mAP"]] *= 100
    return table[[*about, "output", "width", "metric", "reranked", "rank1", "mAP", "queries", "gallery"]]


def score_literature(
    table: int,
    sets: Mapping[str, pd.DataFrame],
    methods: Iterable,
    data_root: str | os.PathLike,
    results_root: str | os.PathLike,
    matching: Matching,
    seed: int = 0,
) -> pd.DataFrame:
    """Published methods and plain references (`reproduction.literature.METHODS`) on the same images, one line each.

    `methods` are names of rows, or {name: settings}, as `reproduction.literature.chosen` reads them; those that are
    not of this `table`, or cannot run here (`literature_not_run`), are left out. What is trained on the kit's loop
    leaves a run folder among the others.
    """
    known = {row.method for row in paper.rows(table) if row.model is None} - set(literature_not_run(methods))
    lines = []
    for name, images in sets.items():
        parts = {
            subset: images[images[SUBSET] == subset].reset_index(drop=True)
            for subset in (TRAIN, QUERY, GALLERY)
        }
        for method, run in map(literature.chosen, methods):
            if method not in known:
                continue
            result = run(
                *parts.values(),
                matching=matching,
                seed=seed,
                data_root=experiment.resolve(data_root),
                run_dir=experiment.run_folder(results_root, method.partition(" ")[0].lower(), name, seed),
            )
            matched = Matched(result.distance, parts[QUERY], parts[GALLERY], result.seconds_match)
            line = {"method": method, "model": "literature", "set": name, "seed": seed, "run": result.run}
            line |= {"faithful": result.faithful, "note": result.note}
            line |= {f"seconds_{part}": getattr(result, f"seconds_{part}") for part in tables.TIMES}
            lines.append(line | evaluate(matched, matching.ap))
    return pd.DataFrame(lines, columns=None if lines else COLUMNS)


def literature_not_run(methods: Iterable) -> dict[str, str]:
    """{row: why it is not run} for rows of the literature that `methods` leaves out or that cannot run here."""
    entries = [entry if isinstance(entry, Mapping) else {entry: {}} for entry in methods]
    asked = {name: settings or {} for entry in entries for name, settings in entry.items()}
    found = {
        name: "not run: not in this profile's literature" for name in literature.METHODS if name not in asked
    }
    for name, settings in asked.items():
        needs = {key: settings[key] for key in ("weights", "backbone") if key in settings}
        if literature.why_not(name, **needs):
            found[name] = "not run: its pretrained weights are not here"
    return found


def score_across(
    sets: Mapping[str, pd.DataFrame],
    seeds: Iterable[int],
    data_root: str | os.PathLike,
    results_root: str | os.PathLike,
    matching: Matching,
    not_run: Mapping[str, str],
) -> pd.DataFrame:
    """HCN trained on one set and tested on another: Euclidean, re-ranked; rank-1 and mAP in per cent.

    The two forms of CUHK03 are one set of people and are not crossed. A set that is not of the paper need not have
    been trained on. "untrained" is the network of the set's own run (or else of the first set's) with its initial
    weights.
    """
    lines = []
    for seed in seeds:
        trained = [
            name for name in sets
            if name in paper.SETS or (experiment.run_folder(results_root, "hcn", name, seed) / run_folder.RUN).is_file()
        ]  # fmt: skip
        for name, images in sets.items():
            people = experiment.source_set(name)
            sources = [other for other in trained if other == name or experiment.source_set(other) != people]
            for source in [UNTRAINED, *sources, *({paper.COMBINED} - set(not_run))]:
                kind = paper.COMBINED if source == paper.COMBINED else "hcn"
                network = (name if name in trained else trained[0]) if source == UNTRAINED else source
                run_dir = experiment.run_folder(results_root, kind, network, seed)
                if source == UNTRAINED:
                    found = extract_untrained(run_dir, images, data_root)
                else:
                    found = extract(run_dir, images, name, data_root, results_root)
                scores = evaluate(match(found, "euclidean", True, matching), matching.ap)
                run = "" if source == UNTRAINED else experiment.run_name(kind, network, seed)
                lines.append({
                    "train_set": source, "test_set": name, "seed": seed, "rank1": 100 * scores["rank1"],
                    "mAP": 100 * scores["mAP"], "run": run,
                })  # fmt: skip
    return pd.DataFrame(lines)
