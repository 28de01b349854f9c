"""Rank lists: the front of a list by hand and against the whole list, and the rankings that a results folder allows."""

import json

import numpy as np
import pandas as pd
import pytest
import toy_rankings
from toy_rankings import AGAIN, OTHER, PLAIN

from reid_core import evaluation, features
from reid_core.datasets.table import build
from reid_core.matching import Matched, Matching, match
from reproduction import paper, ranklists, scoring
from reproduction.experiment import Experiment
from reproduction.ranklists import Method


def nearest(*asked, **how) -> pd.DataFrame:
    return pd.DataFrame(ranklists.shown(*asked, **how), columns=ranklists.Image._fields).astype({"rank": "Int64"})


@pytest.fixture
def rankings(tmp_path):
    return toy_rankings.rankings(tmp_path)


def test_a_list_worked_by_hand(rankings):
    shown = nearest(rankings("market1501", PLAIN), 0, ignored=True)
    assert shown["gallery_index"].tolist() == [0, 3, 2, 1, 5, 4]
    assert shown["flag"].tolist() == ["same camera", "junk", "", "", "", ""]
    assert shown["rank"].fillna(0).tolist() == [0, 0, 1, 2, 3, 4]
    assert shown["is_match"].tolist() == [False, False, False, True, True, False]
    assert shown["camera_id"].tolist() == [1, 2, 2, 2, 3, 2]
    assert shown["distance"].tolist() == [0, 1, 2, 3, 4, 5]
    assert [path[-5] for path in shown["image_path"]] == list("032154")
    counted = nearest(rankings("market1501", PLAIN), 0)
    assert counted["gallery_index"].tolist() == [2, 1, 5, 4] and counted["rank"].tolist() == [1, 2, 3, 4]
    assert rankings("market1501", PLAIN).ap[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert rankings("market1501", AGAIN).ap[0] == 1


def test_what_is_kept_is_the_front_of_the_whole_list():
    """Against `evaluation.ranked`, which sorts the whole row, with ties, junk and fewer than TOP counted images."""
    rng = np.random.default_rng(3)
    for counted in (400, ranklists.TOP, 4):
        people = np.concatenate([rng.integers(1, 9, counted), np.full(60, -1)])
        gallery = build("market1501", "gallery", people, rng.integers(1, 4, len(people)), [""] * len(people))
        query = build("market1501", "query", [3, 4, 5], [1, 2, 3], [""] * 3)
        distance = rng.integers(0, 50, (3, len(gallery))).astype(np.float32)
        ranking = ranklists.rank(Matched(distance, query, gallery, 0.0))
        for number in range(3):
            whole = evaluation.ranked(distance[number], query.iloc[number], gallery, ranklists.TOP)
            passed = whole["flag"] != ""
            assert ranking.passed_over[number] == passed.sum()
            expected = whole[~passed | (passed.cumsum() <= ranklists.PASSED_OVER)].reset_index(drop=True)
            shown = nearest(ranking, number, ignored=True)
            pd.testing.assert_frame_equal(shown[expected.columns], expected, check_dtype=False)


def test_images_passed_over_beyond_those_kept_are_counted():
    gallery = build("market1501", "gallery", [-1] * 8 + [3], 2, [f"{n}" for n in range(9)])
    query = build("market1501", "query", [3], 1, ["q"])
    ranking = ranklists.rank(Matched(np.arange(9, dtype=np.float32)[None], query, gallery, 0.0))
    example = ranklists.example("", 0, [("ours", ranking)], ignored=True)
    label, shown = example["lists"][0]
    assert label == "ours: AP 1.00, first match at rank 1; 3 more passed over"
    assert [image.flag for image in shown] == ["junk"] * ranklists.PASSED_OVER + [""]


def test_rankings_are_made_once_and_share_the_tables_of_their_set(rankings):
    first, second = rankings("market1501", PLAIN), rankings("market1501", AGAIN)
    assert rankings("market1501", PLAIN) is first
    assert rankings.made == [("market1501", PLAIN), ("market1501", AGAIN)]
    assert second.gallery is first.gallery and second.query is first.query
    assert rankings.has("market1501", AGAIN) and not rankings.has("market1501", OTHER)


def test_gain_is_ours_minus_theirs_and_three_queries_are_chosen_by_it(rankings):
    table = ranklists.gain(rankings("market1501", AGAIN), rankings("market1501", OTHER))
    assert list(table["query"]) == [0, 1] and list(table["person_id"]) == [5, 7]
    assert table["gain"].tolist() == pytest.approx([1 - (1 / 3 + 2 / 4) / 2, 1 / 3 - 1])
    assert (table["gain"] == table["ap_ours"] - table["ap_theirs"]).all()
    assert table["first_hit_ours"].tolist() == [1, 3] and table["first_hit_theirs"].tolist() == [3, 1]
    assert ranklists.representative(pd.Series([0.2, 0.2, -0.1, -0.1])) == {
        "largest gain": 0, "median": 0, "largest loss": 2,
    }  # fmt: skip


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """An experiment of two seeds with finished runs of the first one, except for one that is under way."""
    kit = Experiment("toy", tmp_path / "data", tmp_path / "results", [3, 4], own_sets=["mein Laden ä.csv"])
    monkeypatch.setattr(Experiment, "not_run", {paper.CUHK03_DETECTED: "not run: CUHK03 not found"})
    monkeypatch.setattr(Experiment, "source", "embedded")
    done = [("baseline", paper.MARKET1501), ("hcn", paper.MARKET1501), ("hcn", "mein Laden ä.csv")]
    for model, name in (*done, ("hcn", paper.COMBINED)):
        folder = kit.run(model, name, 3).folder
        folder.mkdir(parents=True)
        record = {"finished": name != paper.COMBINED, "data_source": "embedded"}
        (folder / "run.json").write_text(json.dumps(record))
    return kit


def test_a_results_folder_offers_the_finished_runs_of_its_first_seed(kit):
    models = ranklists.of_runs(kit, Matching()).models
    assert models == {paper.MARKET1501: ("baseline", "hcn"), "mein Laden ä.csv": ("hcn",)}


def test_a_ranking_of_a_run_is_that_of_its_features(kit, monkeypatch):
    people = [("train", 1, 1), ("train", 1, 2), ("train", 2, 1), ("train", 2, 2), ("query", 5, 1), ("gallery", 6, 2),
              ("gallery", 5, 2)]  # fmt: skip
    rows = pd.DataFrame(people, columns=["subset", "person_id", "camera_id"])
    table = rows.assign(dataset="market1501", image_path=[f"/{n}" for n in range(len(rows))])
    asked = []

    def extract(kit, run, images, name):
        asked.append((run.name, name))
        values = np.random.default_rng(0).normal(size=(len(table), 3)).astype(np.float32)
        return features.Features(values, table, {})

    monkeypatch.setattr(scoring, "extract", extract)
    monkeypatch.setattr(Experiment, "images", lambda kit, name: table)
    made, how = ranklists.of_runs(kit, Matching(ap="step", k1=2, k2=1)), Matching(ap="step", k1=2, k2=1)
    found = made(paper.MARKET1501, Method("hcn", "euclidean", True))
    assert asked == [("hcn-market1501-seed3", paper.MARKET1501)]
    expected = ranklists.rank(match(extract(None, kit.results, None, ""), "euclidean", True, how), "step")
    assert np.array_equal(found.index, expected.index) and np.array_equal(found.ap, expected.ap)
    with pytest.raises(FileNotFoundError, match="hcn-combined-seed3: this run is not finished.*train_set=combined"):
        made(paper.MARKET1501, Method("combined", "xqda", False))
    with pytest.raises(FileNotFoundError, match="-p model=baseline -p 'train_set=mein Laden ä.csv' -p seed=3"):
        made("mein Laden ä.csv", Method("baseline", "xqda", False))
