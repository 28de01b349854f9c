"""From runs to the rows of Tables 2 and 3: which sets, which runs, which features, which scores.

A *set* is one of `reid_core.paper.SETS` (CUHK03 with its two kinds of boxes counts twice). A *run* is one training,
named model-trainset-seed. Each function takes explicit inputs and returns a table; the notebooks save what they show.
"""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reid_core import datasets, evaluation, features, paper, reranking, xqda
from reid_core import distance as distances
from reid_core.datasets import table as columns
from reid_core.provenance import REPOSITORY


@dataclass(frozen=True)
class Matching:
    """Settings of metric, re-ranking and scoring; the defaults are those behind the paper's numbers ([13])."""

    ap: str = "trapezoid"
    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    half: str = "official"
    jaccard: str = "weighted"
    xqda_solver: str = "svd"
    junk_in_pool: bool = True


def resolve(path: str | os.PathLike) -> Path:
    """A path of a profile: absolute, or relative to the repository (so a notebook runs from any folder)."""
    return Path(path) if Path(path).is_absolute() else REPOSITORY / path


def load_set(data_root: str | os.PathLike, name: str) -> pd.DataFrame:
    """Image table of market1501, cuhk01, cuhk03_labeled or cuhk03_detected under `data_root`."""
    base, _, boxes = name.partition("_")
    return datasets.load(base, resolve(data_root), **({"boxes": boxes} if boxes else {}))


def training_table(
    data_root: str | os.PathLike, train_set: str, combined_boxes: str = "labeled"
) -> pd.DataFrame:
    """Labelled training images of one set, or of Market-1501 + CUHK03 + CUHK01 for `combined` (Sec. 3.3).

    `combined_boxes`: which of CUHK03's two forms the combined set takes. The paper prints the combined training
    under "labeled" in Table 4; CUHK03's two splits differ in two people (1202, 1390), which are left out of the
    combined training so that one model may be scored on both forms.
    """
    if train_set != paper.COMBINED:
        return datasets.combine({train_set.partition("_")[0]: load_set(data_root, train_set)})
    names = (paper.MARKET1501, f"cuhk03_{combined_boxes}", "cuhk01")
    tables = {name.partition("_")[0]: load_set(data_root, name) for name in names}
    scored_on = [load_set(data_root, name) for name in paper.SETS]
    return datasets.combine(tables, leave_out=datasets.combined.test_people(scored_on))


def run_name(model: str, train_set: str, seed: int) -> str:
    """Name of a run's folder.

    >>> run_name("hcn", "combined", 0)
    'hcn-combined-seed0'
    """
    return f"{model}-{train_set}-seed{seed}"


def run_folder(results_root: str | os.PathLike, model: str, train_set: str, seed: int) -> Path:
    """Folder of the run that a row's `model` (baseline, hcn, combined) means for a set."""
    if model == paper.COMBINED:
        model, train_set = "hcn", paper.COMBINED
    return resolve(results_root) / "runs" / run_name(model, train_set, seed)


def extract(
    run_dir: Path, images: pd.DataFrame, name: str, data_root, results_root, **options
) -> features.Features:
    """Features of a set under a run, kept in `features/<run>/<set>.safetensors` and reused while nothing changed."""
    path = resolve(results_root) / "features" / run_dir.name / f"{name}.safetensors"
    return features.extract(run_dir, images, data_root=resolve(data_root), path=path, **options)


def split(found: features.Features) -> dict[str, tuple[np.ndarray, pd.DataFrame]]:
    """{subset: (features (n, d) float32, rows)} for train, query and gallery."""
    subset = found.table[columns.SUBSET].to_numpy()
    return {
        name: (found.values[subset == name], found.table[subset == name].reset_index(drop=True))
        for name in (columns.TRAIN, columns.QUERY, columns.GALLERY)
    }


def match(found: features.Features, metric: str, reranked: bool, matching: Matching) -> tuple:
    """Distance (Q, G) of a set's queries and gallery images, with their tables and the seconds it took.

    `metric` is euclidean (squared) or xqda (squared-type, fitted on the training images of the same set). With
    `reranked`, the k-reciprocal distance of Eq. (4). Junk stays in the pool while re-ranking unless
    `matching.junk_in_pool` is false.
    """
    parts = split(found)
    (query, query_table), (gallery, gallery_table) = parts[columns.QUERY], parts[columns.GALLERY]
    if not matching.junk_in_pool:
        keep = gallery_table[columns.PERSON].to_numpy() != columns.JUNK
        gallery, gallery_table = gallery[keep], gallery_table[keep].reset_index(drop=True)
    started = time.perf_counter()
    learned = None
    if metric == "xqda":
        train, rows = parts[columns.TRAIN]
        learned = xqda.XQDA(solver=matching.xqda_solver).fit(
            train, rows[columns.PERSON].to_numpy(), rows[columns.CAMERA].to_numpy()
        )
    if reranked:
        settings = {"k1": matching.k1, "k2": matching.k2, "lambda_value": matching.lambda_value}
        settings |= {"half": matching.half, "jaccard": matching.jaccard, "metric": learned}
        matrix = reranking.k_reciprocal(query, gallery, **settings)
    elif learned is not None:
        matrix = learned.distance(query, gallery)
    else:
        matrix = distances.squared_euclidean(query, gallery)
    return matrix, query_table, gallery_table, time.perf_counter() - started


def score(
    found: features.Features,
    matching: Matching,
    metrics: Iterable[str] = ("euclidean", "xqda"),
    reranked: Iterable[bool] = (False, True),
) -> pd.DataFrame:
    """Rank-1, rank-5, rank-10, mAP (fractions) of one set's features for each metric, with and without re-ranking."""
    rows = []
    for metric in metrics:
        for again in reranked:
            matrix, query_table, gallery_table, seconds = match(found, metric, again, matching)
            result = evaluation.evaluate(matrix, query_table, gallery_table, ap=matching.ap)
            ranks = {f"rank{k}": float(result.cmc[min(k, len(result.cmc)) - 1]) for k in (1, 5, 10)}
            counts = {"queries": len(query_table), "gallery": len(gallery_table)}
            counts["queries_without_match"] = int((~result.per_query["valid"]).sum())
            rows.append({"metric": metric, "reranked": again, **ranks, "mAP": result.mAP, **counts,
                         "seconds_match": seconds})  # fmt: skip
    return pd.DataFrame(rows)
