"""Scores of runs and of published methods on a small invented set, from the public stages alone."""

import json

import numpy as np
import pandas as pd
import pytest

from reid_core import evaluation, features, reranking, xqda
from reid_core.datasets import table as image_table
from reid_core.matching import Matching, match
from reproduction import literature, paper, scoring, tables
from reproduction.experiment import Experiment

HOW = Matching(k1=4, k2=2)
LABELED = paper.CUHK03_LABELED


def images(name=LABELED):
    """Four people to learn, five to find, a distractor and junk; two cameras."""
    rows = [("train", person, 1 + i % 2) for person in range(1, 5) for i in range(4)]
    rows += [("query", person, 1) for person in range(11, 16)]
    rows += [("gallery", person, 2) for person in (*range(11, 16), *range(11, 14), 0, -1, -1)]
    table = pd.DataFrame(rows, columns=["subset", "person_id", "camera_id"])
    table["dataset"], table["image_path"] = (name.partition("_")[0], [f"/{name}/{i}" for i in range(len(table))])
    return table[list(image_table.COLUMNS)]


def invented(run, table, shift=0.0):
    """Features (N, 5) of length 1 that differ from run to run and tell people apart only partly."""
    draw = np.random.default_rng(len(str(run)))
    centres = draw.normal(size=(99, 5))
    values = centres[table["person_id"].to_numpy() % 99] + draw.normal(scale=1.2, size=(len(table), 5)) + shift
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """An experiment of two seeds whose runs are finished and have invented features."""
    kit = Experiment("toy", tmp_path / "data", tmp_path / "results", [0, 1])
    monkeypatch.setattr(Experiment, "not_run", {})
    monkeypatch.setattr(Experiment, "source", "embedded")
    for model, name in (("baseline", LABELED), ("hcn", LABELED), ("hcn", paper.COMBINED)):
        for seed in kit.seeds:
            folder = kit.run(model, name, seed).folder
            folder.mkdir(parents=True)
            record = {"finished": True, "data_source": "embedded", "seconds": 60, "recipe": {"iterations": 9}}
            record |= {"form": "pooled", "device": "a device", "images": 1000 + seed, "num_classes": 63}
            (folder / "run.json").write_text(json.dumps(record))
    monkeypatch.setattr(
        scoring, "extract",
        lambda kit, run, table, name, output="r5": features.Features(invented(run, table), table, {"seconds": 7.0}),
    )  # fmt: skip
    return kit


def by_stages(run, metric, reranked):
    """Rank-1 and mAP of a run on the set: XQDA, k_reciprocal and evaluate, called by hand."""
    table, values = images(), invented(run.folder, images())
    parts = [table["subset"] == subset for subset in ("train", "query", "gallery")]
    train, query, gallery = (values[rows] for rows in parts)
    ids = [table.loc[parts[0], column].to_numpy() for column in ("person_id", "camera_id")]
    metric = xqda.XQDA().fit(train, *ids) if metric == "xqda" else None
    if reranked:
        distance = reranking.k_reciprocal(query, gallery, metric=metric, k1=4, k2=2)
    elif metric:
        distance = metric.distance(query, gallery)
    else:
        distance = ((query[:, None].astype(float) - gallery[None]) ** 2).sum(axis=2).astype(np.float32)
    return evaluation.evaluate(distance, table[parts[1]], table[parts[2]])


def test_every_run_is_scored_by_both_metrics_with_and_without_reranking(kit):
    scores = scoring.score_runs(kit, {LABELED: images()}, HOW)
    assert len(scores) == 3 * 2 * 2 * 2 and not scores.duplicated(["model", "seed", "metric", "reranked"]).any()
    for line in scores.itertuples():
        run = kit.run(line.model, LABELED, line.seed)
        expected = by_stages(run, line.metric, line.reranked)
        assert (line.rank1, line.mAP) == pytest.approx((expected.rank1, expected.mAP), abs=1e-6)
        assert line.run == run.name and line.queries == 5
        assert line.seconds_features == 7 and line.seconds_train >= 60
        assert line.note == f"Its network learns from 1,00{line.seed} images of 63 people."
    assert scores.groupby("model")["run"].first()["combined"] == "hcn-combined-seed0"


def test_a_runs_metric_is_fitted_once_for_its_plain_and_its_reranked_row(kit, monkeypatch):
    fits, own = [], xqda.XQDA.fit
    monkeypatch.setattr(xqda.XQDA, "fit", lambda *given: fits.append(1) or own(*given))
    scores = scoring.score_runs(kit, {LABELED: images()}, HOW).query("metric == 'xqda'")
    assert len(scores) == 2 * len(fits) == 3 * 2 * 2
    assert (scores.groupby("model")["seconds_train"].nunique() <= 2).all(), "the fit is in the time of both"


def test_every_score_has_its_peoples_sums(kit):
    scores = scoring.score_runs(kit, {LABELED: images()}, HOW)
    rows = scoring.by_person(scores)
    assert list(rows) == [
        "set",
        "model",
        "method",
        "metric",
        "reranked",
        "seed",
        "person_id",
        "queries",
        "rank1",
        "mAP",
    ]
    assert len(rows) == len(scores) * 5 and (rows["queries"] == 1).all()
    key = ["model", "metric", "reranked", "seed"]
    means = rows.groupby(key)[["rank1", "mAP"]].mean()
    expected = scores.set_index(key)[["rank1", "mAP"]].loc[means.index]
    assert np.allclose(means, expected) and means["rank1"].nunique() > 1
    run = kit.run("hcn", LABELED, 1)
    person = by_stages(run, "xqda", True).per_query.iloc[2]
    same = rows.query("model == 'hcn' and metric == 'xqda' and reranked and seed == 1 and person_id == 13").iloc[0]
    assert same["mAP"] == pytest.approx(person["ap"]) and same["rank1"] == (person["first_hit"] == 1)


def test_the_sums_of_a_persons_queries_are_one_row_and_an_own_name_stays():
    query = pd.DataFrame({"person_id": ["b", "a", "b"], "camera_id": "1"})
    gallery = pd.DataFrame({"person_id": ["a", "b"], "camera_id": "2"})
    score = scoring.evaluate(match_of(np.float32([[0, 1], [1, 0], [1, 0]]), query, gallery), "step")
    rows = scoring.by_person(pd.DataFrame([score | {"train_set": "x", "seed": 3}]), ("train_set", "seed"))
    assert list(rows) == ["train_set", "seed", "person_id", "queries", "rank1", "mAP"]
    assert rows.to_numpy().tolist() == [["x", 3, "a", 1, 0.0, 0.5], ["x", 3, "b", 2, 1.0, 1.5]]


def test_a_set_without_runs_has_no_scores_but_the_columns_of_a_table(kit):
    scores = scoring.score_runs(kit, {}, HOW)
    assert scores.empty and set(scores.columns) == set(scoring.COLUMNS)
    assert scoring.by_person(scores).empty and "person_id" in scoring.by_person(scores)


def test_the_rows_of_a_table_are_the_runs_and_then_the_literature(kit, monkeypatch):
    asked = []

    def method(task, **settings):
        asked.append((task.name, task.seed, [len(part) for part in task.images], settings))
        distance = np.zeros((len(task.images.query), len(task.images.gallery)), np.float32)
        return literature.Outcome(distance, True, 1.0, 2.0, 3.0, tables.REFERENCE, "a note")

    known = {name: literature.Method(name, method, {"bins": 8}) for name in ("Colour histogram", "SCSP [3]")}
    monkeypatch.setattr(literature, "METHODS", known)
    scores = scoring.rows(2, kit, {LABELED: images()}, HOW, [{"Colour histogram": {"bins": 4}}, "SCSP [3]"])
    assert asked == [(LABELED, 0, [16, 5, 11], {"bins": 4})], "SCSP is a row of Table 3 only"
    assert list(scores["model"].eq("literature")) == [False] * 24 + [True]
    last = scores.iloc[-1]
    assert (last["method"], last["note"], last["set"]) == ("Colour histogram", "a note", LABELED)
    people = scoring.by_person(scores)
    assert (people["model"] == "literature").sum() == 5 and people["method"].iloc[-1] == "Colour histogram"
    assert [last[f"seconds_{part}"] for part in tables.TIMES] == [1, 2, 3]


def test_reasons_for_what_is_not_run_are_of_sets_and_of_the_literature(kit, monkeypatch):
    monkeypatch.setattr(Experiment, "not_run", {paper.MARKET1501: "not run: Market-1501 not found"})
    reasons = scoring.not_run(kit, ["LOMO"])
    assert reasons[paper.MARKET1501] == "not run: Market-1501 not found" and "LOMO" not in reasons
    assert reasons["DNS [20]"] == "not run: not in this profile's literature"


def test_models_are_crossed_with_the_sets_and_the_untrained_network_is_the_sets_own(kit, monkeypatch):
    untrained, looked_at, own = [], {}, scoring.extract

    def extract(kit, run, table, name):
        looked_at[run.name, name] = set(table["subset"])
        return own(kit, run, table, name)

    def initial(kit, run, table):
        untrained.append(run.name)
        assert set(table["subset"]) == {"query", "gallery"}
        return features.Features(invented("untrained", table), table, {})

    monkeypatch.setattr(scoring, "extract_untrained", initial)
    monkeypatch.setattr(scoring, "extract", extract)
    cross = scoring.score_across(kit, {LABELED: images(), "shop.csv": images("shop")}, HOW)
    assert set(cross["train_set"]) == {"untrained", LABELED, "combined"}, "no run on shop.csv"
    assert untrained == [f"hcn-{LABELED}-seed{seed}" for seed in (0, 0, 1, 1)]
    assert looked_at[f"hcn-{LABELED}-seed0", "shop.csv-test"] == {"query", "gallery"}, "no metric learns from others"
    assert looked_at[f"hcn-{LABELED}-seed0", LABELED] == {"train", "query", "gallery"}, "as the tables extracted them"
    line = cross[(cross["train_set"] == LABELED) & (cross["test_set"] == LABELED) & (cross["seed"] == 1)].iloc[0]
    expected = by_stages(kit.run("hcn", LABELED, 1), "euclidean", True)
    assert (line["rank1"], line["mAP"]) == pytest.approx((100 * expected.rank1, 100 * expected.mAP), abs=1e-4)
    assert line["run"] == f"hcn-{LABELED}-seed1"
    people = scoring.by_person(cross, ("train_set", "test_set", "seed"))
    assert list(people) == ["train_set", "test_set", "seed", "person_id", "queries", "rank1", "mAP"]
    same = people[people["train_set"].eq(LABELED) & people["test_set"].eq(LABELED) & people["seed"].eq(1)]
    assert 100 * same["mAP"].sum() / same["queries"].sum() == pytest.approx(line["mAP"])
    assert line["mAP_low"] < line["mAP"] < line["mAP_high"]
    assert (cross.loc[cross["train_set"] == "untrained", "run"] == "").all()


def test_evaluating_counts_queries_gallery_and_ranks():
    query = pd.DataFrame({"person_id": [1, 9], "camera_id": 1})
    gallery = pd.DataFrame({"person_id": [2, 1, 3], "camera_id": 2})
    table = scoring.evaluate(match_of(np.float32([[0, 1, 2], [0, 1, 2]]), query, gallery), "trapezoid")
    assert (table["rank1"], table["rank5"], table["rank10"]) == (0, 0.5, 0.5), "no match is never found"
    assert (table["queries"], table["gallery"], table["queries_without_match"]) == (2, 3, 1)


def match_of(distance, query, gallery):
    return scoring.Matched(distance, query, gallery, 0.0)


def test_scores_of_one_way_only():
    table = images()
    found = features.Features(invented("a", table), table, {})
    (line,) = scoring.score(found, HOW, ["xqda"], [True]).to_dict("records")
    again = scoring.evaluate(match(found, "xqda", True, HOW), "trapezoid")
    assert (line["metric"], line["reranked"], line["mAP"]) == ("xqda", True, again["mAP"])


@pytest.mark.parametrize("camera, protocol", [(1, "market"), (-1, "no_cameras")])
def test_a_score_and_its_line_in_a_table_say_the_protocol(camera, protocol):
    query = pd.DataFrame({"person_id": [1], "camera_id": camera, "image_path": ["/q"]})
    gallery = pd.DataFrame({"person_id": [1, 2], "camera_id": 2 if camera > 0 else camera, "image_path": ["/a", "/b"]})
    score = scoring.evaluate(match_of(np.float32([[0, 1]]), query, gallery), "step")
    line = {"model": "hcn", "set": LABELED, "metric": "euclidean", "reranked": False, "seed": 0, "run": "x"}
    table = tables.compare(paper.rows(3), [LABELED], pd.DataFrame([line | score]), {"ap": "step"})
    measured = table[table["status"] == tables.MEASURED]
    assert score["protocol"] == protocol and set(measured["protocol"]) == {protocol} and len(measured) >= 1
