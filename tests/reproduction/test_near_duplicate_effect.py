"""Queries met in training, what they are worth, and the comparison of two results folders."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from synthetic_results import people_of

from reid_core.datasets import table
from reid_core.features import Features
from reid_core.matching import Matching
from reproduction import near_duplicate_effect as overlap
from reproduction import paper, scoring, tables
from reproduction.experiment import Experiment


def pairs(person=9, **test_paths):
    """Near-duplicates by training set: lists of test images."""
    rows = [(name, person, path) for name, paths in test_paths.items() for path in paths]
    found = pd.DataFrame(rows, columns=["train_set", "train_person", "test_path"])
    return found.astype({"train_set": str, "train_person": int, "test_path": str})


QUERY = table.build("market1501", "query", [1, 1, 2, 3], [1, 2, 1, 1], ["/q/0", "/q/1", "/q/2", "/q/3"])
GALLERY = table.build("market1501", "gallery", [1, 1, 2, 2, 3, 0], [1, 2, 2, 1, 2, 3], [f"/g/{n}" for n in range(6)])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["/q/2"], [False, False, True, False]),  # the query itself
        (["/g/1"], [True, False, False, False]),  # true match of query 0; in the camera of query 1
        (["/g/2", "/g/3"], [False, False, True, False]),
        (["/g/5"], [False, False, False, False]),  # a distractor matches nobody
        ([], [False, False, False, False]),
    ],
)
def test_a_query_is_affected_by_its_own_image_and_its_true_matches(found, expected):
    assert overlap.affected(QUERY, GALLERY, pairs(cuhk01=found)).tolist() == expected


def test_only_pairs_of_the_sets_and_people_that_were_trained_on_count():
    found = pd.concat([pairs(person=5, cuhk03_labeled=["/q/0"], cuhk03_detected=["/q/1"], cuhk01=["/q/2"]),
                       pairs(person=6, cuhk03_labeled=["/q/3"])])  # fmt: skip
    labels = pd.DataFrame({"label": [0, 1, 2], "dataset": ["cuhk03", "cuhk01", "cuhk01"], "person_id": [5, 5, 6]})
    both = overlap.trained_on(found, ["cuhk03_labeled", "cuhk01"], labels)
    assert both["test_path"].tolist() == ["/q/0", "/q/2"], "person 6 of CUHK03 was left out"
    assert overlap.trained_on(found, ["market1501"], labels).empty
    assert overlap.trained_on(found.iloc[:0], ["cuhk01"], labels).empty


def test_affected_queries_equal_those_of_a_loop():
    draw = np.random.default_rng(0)
    query = table.build("a", "query", draw.integers(1, 9, 60), draw.integers(1, 4, 60), [f"/q/{n}" for n in range(60)])
    gallery = table.build(
        "a", "gallery", draw.integers(-1, 9, 200), draw.integers(1, 4, 200), [f"/g/{n}" for n in range(200)]
    )
    found = draw.choice([*query["image_path"], *gallery["image_path"]], 12, replace=False)
    expected = [
        q.image_path in found
        or any(g.person_id == q.person_id and g.camera_id != q.camera_id and g.image_path in found
               for g in gallery.itertuples())
        for q in query.itertuples()
    ]  # fmt: skip
    assert 5 < sum(expected) < 55
    assert overlap.affected(query, gallery, pairs(a=found)).tolist() == expected


@pytest.fixture
def features(monkeypatch, tmp_path):
    """Queries 0-2 find their person at rank 1, query 3 the distractor; runs have learnt person 9 of two sets."""
    labels = pd.DataFrame({"label": [0, 1], "dataset": ["cuhk01", "market1501"], "person_id": [9, 9]})
    for name in ("hcn-market1501-seed0", "hcn-combined-seed0"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        labels.to_csv(tmp_path / "runs" / name / "labels.csv", index=False)
    angles = {"/q/0": 0, "/q/1": 3, "/q/2": 90, "/q/3": 200, "/g/0": 1, "/g/1": 2, "/g/2": 91, "/g/3": 92,
              "/g/4": 260, "/g/5": 201}  # fmt: skip
    train = table.build("market1501", "train", [9], 1, ["/t/0"])
    images = pd.concat([train, QUERY, GALLERY], ignore_index=True)
    turned = np.radians([angles.get(path, 0) for path in images["image_path"]])
    values = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    monkeypatch.setattr(scoring, "extract", lambda *given: Features(values, images, {}))
    return tmp_path


def kit_of(features, *models):
    """An experiment whose runs are these models' on Market-1501."""
    kit = Experiment("test", "data", features)
    runs = [kit.run(model, paper.MARKET1501, 0) for model in models]
    return SimpleNamespace(runs=lambda sets: runs, parts=kit.parts)


def test_scores_with_and_without_the_affected_queries(features):
    kit = kit_of(features, "hcn", "combined")
    found = overlap.scores(kit, {paper.MARKET1501: None}, pairs(cuhk01=["/q/3"]), Matching())
    hcn, combined = found.to_dict("records")
    assert hcn["queries affected"] == 0 and hcn["rank1 difference"] == 0
    assert (combined["queries"], combined["queries affected"]) == (4, 1)
    assert (combined["rank1"], combined["rank1 others"], combined["rank1 difference"]) == (75, 100, 25)
    assert combined["mAP"] < combined["mAP others"] == 100


def test_where_every_query_is_affected_nothing_is_claimed_of_the_others(features):
    everything = pairs(market1501=[f"/q/{n}" for n in range(4)])
    kit = kit_of(features, "hcn")
    (line,) = overlap.scores(kit, {paper.MARKET1501: None}, everything, Matching()).to_dict("records")
    assert line["queries affected"] == 4 and np.isnan(line["mAP others"]) and line["rank1"] == 75


def tables_of(folder, setting, shift=0.0):
    for number, sets in ((2, paper.SETS[:2]), (3, paper.SETS[2:])):
        lines = pd.DataFrame([
            {"model": "hcn", "set": name, "metric": metric, "reranked": False, "method": None, "seed": 0,
             "rank1": 0.5 + shift, "mAP": 0.4, "queries": 9, "queries_without_match": 0, "run": "r"}
            for name in sets for metric in ("euclidean", "xqda")
        ])  # fmt: skip
        lines["people"] = people_of(np.random.default_rng(0), lines[["rank1", "mAP"]])
        facts = {"data_source": "embedded", "profile": "smoke", "ap": "trapezoid", "near_duplicates": setting}
        table_ = tables.compare(paper.rows(number), sets, lines, facts)
        tables.save(table_, folder / f"table{number}.csv", **facts)
    return folder


def test_two_results_folders_are_compared_from_either(tmp_path):
    kept = tables_of(tmp_path / "smoke", "keep")
    assert overlap.retrained(kept) is None
    left_out = tables_of(tmp_path / "smoke-left-out", "leave_out", -0.1)
    both = overlap.retrained(kept)
    assert both.equals(overlap.retrained(left_out))
    assert list(both) == ["set", "method", "rank1 kept", "mAP kept", "rank1 left out", "mAP left out",
                          "rank1 difference", "mAP difference"]  # fmt: skip
    assert len(both) == 2 * len(paper.SETS)
    assert np.allclose(both["rank1 difference"], -10) and (both["mAP difference"] == 0).all()


def test_a_folder_made_with_another_setting_than_its_name_says_is_refused(tmp_path):
    kept = tables_of(tmp_path / "smoke", "keep")
    tables_of(tmp_path / "smoke-left-out", "keep")
    with pytest.raises(ValueError, match="smoke-left-out was made with near_duplicates: keep, but .* left out"):
        overlap.retrained(kept)
