"""`reid-core evaluate`: scores, with their intervals, of features or distances that any tool wrote."""

import json

import numpy as np
import pandas as pd

from reid_core import evaluation, feature_files, features
from reid_core.datasets.table import PATH, PERSON
from reid_core.features import Features
from reid_core.matching import Matched, Matching, match, split
from reproduction import intervals

RANKS = (1, 5, 10, 20)
MADE = ("model", "run", "output", "weights_digest", "data_source")  # of a feature file of ours
PASSED_OVER = {"market": "of the query's person, its own camera is passed over",
               "no_cameras": "only the query's own image is passed over",
               "single_gallery_shot": "one image of each gallery person, over random trials"}  # fmt: skip


def evaluate(
    files=None, *, query=None, gallery=None, train=None, images=None, metric="euclidean", rerank=False, ap="trapezoid",
    kind=None, protocol=None,
) -> dict:  # fmt: skip
    """All that is printed: settings, counts, and each score in per cent with the ends of its 95% interval.

    files, query, gallery, train, images: see `features.read`. metric: "euclidean" or "xqda", of the features as they
    are, or "cosine". kind: "distance" or "similarity" takes the files' matrix, without features it is told by images
    that are on both sides, or asked for. protocol: see `evaluation.evaluate`.
    Raises what `features.read` raises; ValueError for xqda without training features, and an unclear matrix."""
    if not files and (kind or not query):
        raise ValueError("There is nothing to score; give FILE, or features with --query and --gallery.")
    held, made = {what for what, _ in feature_files.fields(files).found} if files else {}, {}
    if kind or feature_files.DISTANCE in held and feature_files.VALUES not in held:
        if rerank or metric != "euclidean":
            raise ValueError("A matrix is scored as it is; --metric and --rerank need features.")
        matched, metric = distances(*feature_files.read_distance(files, query, gallery, images), kind), "as given"
    else:
        vectors = features.read(files, query=query, gallery=gallery, train=train, images=images)
        made = {name: vectors.meta[name] for name in MADE if name in vectors.meta}
        matched = compared(vectors, metric, rerank, Matching(ap=ap))
    result = evaluation.evaluate(matched.distance, matched.query, matched.gallery, ap=ap, protocol=protocol)
    person = matched.query[PERSON]
    return {"metric": metric, "reranked": bool(rerank), "ap": ap, "protocol": result.protocol, "queries": len(person),
            "gallery": len(matched.gallery), "queries_without_match": result.unmatched_queries,
            "people": person.nunique(), "scores": scores(result, person), "features": made}  # fmt: skip


def compared(vectors: Features, metric: str, rerank: bool, how: Matching) -> Matched:
    """The distances of a file's queries to its gallery."""
    sizes = {name: len(part) for name, part in split(vectors)._asdict().items()}
    if not sizes["query"] or not sizes["gallery"]:
        raise ValueError(f"Queries and a gallery are needed, but these files have {sizes}.")
    if metric == "xqda" and not sizes["train"]:
        raise ValueError("XQDA learns from training features with people and cameras; give them with --train.")
    if metric == "cosine":
        lengths = np.linalg.norm(vectors.values.astype(float), axis=1, keepdims=True)
        if not lengths.all():
            raise ValueError(f"Row {np.argmin(lengths)} of the features is 0 throughout; it has no direction.")
        vectors = Features((vectors.values / lengths).astype(np.float32), vectors.table, vectors.meta)
    return match(vectors, "euclidean" if metric == "cosine" else metric, rerank, how)


def distances(matrix: np.ndarray, query: pd.DataFrame, gallery: pd.DataFrame, kind: str | None) -> Matched:
    """A matrix (Q, G) as distances, its sign turned if it is a similarity: an image's entry with itself tells, the
    least of its row or the largest, where it is not both or neither."""
    rows = columns = np.arange(len(query) * query.equals(gallery))  # every image against every other
    if PATH in query and PATH in gallery:
        found = gallery[PATH].reset_index().drop_duplicates(PATH).merge(query[PATH].reset_index(), on=PATH)
        columns, rows = found["index_x"].to_numpy(), found["index_y"].to_numpy()
    least, largest = ((matrix[rows, columns] == end(matrix[rows], axis=1)).all() for end in (np.min, np.max))
    told = None if least == largest else "distance" if least else "similarity"
    if not (kind or told):
        raise ValueError("Nothing tells if this matrix is a distance or a similarity: say --distance or --similarity.")
    if kind and told and kind != told:
        raise ValueError(f"This matrix is no {kind}: by it no image is nearest to itself; it looks like a {told}.")
    return Matched(-matrix if (kind or told) == "similarity" else matrix, query, gallery, 0.0)


def scores(result: evaluation.Evaluation, person: pd.Series) -> dict[str, dict[str, float]]:
    """{score: {"value", "low", "high"}} in per cent: rank-1 to rank-20, mAP, and mINP of the queries with a match."""
    rows, found = result.per_query, {}
    hit, person = rows["first_hit"].astype(float), person.to_numpy()[rows["query"]]
    each = {f"rank{k}": (hit <= k).astype(float) for k in RANKS} | {"mAP": rows["ap"], "mINP": rows["inp"]}
    for name, values in each.items():
        people = values.dropna().groupby(person[values.notna()]).agg(["sum", "count"]).to_numpy(float)
        if len(people):
            sure = intervals.estimate(people[None, :, 0], queries=people[:, 1], least=0.0)
            found[name] = {"value": sure.value, "low": sure.low, "high": sure.high}
    return found


def describe(found: dict, as_json: bool = False) -> str:
    """The result of :func:`evaluate` as lines for a reader, or as JSON."""
    if as_json:
        return json.dumps(found, indent=2)
    lines = [f"{found['queries']:,} queries of {found['people']:,} people, {found['gallery']:,} gallery images"]
    if found["features"]:
        lines += ["features: " + ", ".join(f"{name} {value}" for name, value in found["features"].items())]
    lines += [f"metric {found['metric']}{', re-ranked' if found['reranked'] else ''}; AP by {found['ap']}"]
    lines += [f"protocol {found['protocol']}: {PASSED_OVER[found['protocol']]}"]
    if lost := found["queries_without_match"]:
        lines += [f"{lost} queries have no match: zero in all but mINP, which leaves them out"]
    lines += ["", "score      %    95% interval over test people"]
    each = "{:<7}{value:6.2f}   {low:6.2f} to {high:6.2f}".format
    return "\n".join(lines + [each(name, **x) for name, x in found["scores"].items()])
