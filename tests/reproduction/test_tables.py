import json

import numpy as np
import pandas as pd
import pytest

from reproduction import intervals, paper, scoring, tables

FACTS = {"data_source": "embedded", "profile": "test", "ap": "trapezoid"}


def scores(seeds=(0,), rank1=0.5, model="hcn"):
    return pd.DataFrame([
        {"model": model, "set": paper.MARKET1501, "metric": "euclidean", "reranked": True, "seed": seed,
         "rank1": rank1 + 0.02 * seed, "mAP": 0.4, "queries": 100, "queries_without_match": 1,
         "seconds_match": 1.0, "run": f"hcn-market1501-seed{seed}", "people": people(rank1 + 0.02 * seed, 0.4)}
        for seed in seeds
    ])  # fmt: skip


def people(rank1, ap, spread=0.0, count=50):
    """Sums of people with two queries each, half of them `spread` above and half below the score."""
    sign = np.where(np.arange(count) < count // 2, 1, -1)
    return pd.DataFrame({"seed": 0, "person_id": np.arange(count), "queries": 2,
                         "rank1": 2 * (rank1 + spread * sign), "mAP": 2 * (ap + spread * sign)})  # fmt: skip


def line(table, method):
    return table.set_index("method").loc[method]


def test_difference_is_ours_minus_the_papers_in_points():
    table = tables.compare(paper.rows(3), [paper.MARKET1501], scores(), FACTS)
    row = line(table, "HCN+re-rank")
    assert (row["paper_rank1"], row["ours_rank1"]) == (84.09, 50.0)
    assert row["rank1_difference"] == pytest.approx(-34.09)
    assert row["status"] == tables.MEASURED
    assert row["runs"] == "hcn-market1501-seed0"
    assert pd.isna(row["rank1_std"]), "one seed has no spread"


def test_mean_and_spread_over_seeds():
    row = line(tables.compare(paper.rows(3), [paper.MARKET1501], scores((0, 1, 2)), FACTS), "HCN+re-rank")
    assert row["ours_rank1"] == pytest.approx(52.0)
    assert row["rank1_std"] == pytest.approx(np.std([50, 52, 54], ddof=1))
    assert row["seeds"] == "0 1 2"


ENDS = ["ours_rank1_low", "ours_rank1_high", "ours_mAP_low", "ours_mAP_high"]


def test_one_seed_has_the_interval_of_its_people_and_a_method_without_training_the_same():
    """By hand: 50 people at 0.5 +- 0.2, a standard error of 0.2 / sqrt(50) = 2.83 points, and Student's t of 2.01."""
    each = [people(0.5, 0.4, spread=0.2)]
    ours = scores().assign(people=each)
    theirs = ours.assign(model="literature", method="DNS [20]", metric=None, reranked=None)
    table = tables.compare(paper.rows(3), [paper.MARKET1501], pd.concat([ours, theirs]), FACTS)
    half = 2.0096 * 20 / np.sqrt(50)
    for row in (line(table, "HCN+re-rank"), line(table, "DNS [20]")):
        assert row[ENDS].tolist() == pytest.approx([50 - half, 50 + half, 40 - half, 40 + half], abs=0.25)
        assert row["people"] == 50 and row["seeds"] == "0"


def test_seeds_widen_the_interval_by_the_error_of_their_mean():
    """By hand: means of 50, 52 and 54 have an error of 2 / sqrt(3), and Student's t of two degrees is 4.303; mAP is
    the same for every seed and person, and has no width."""
    row = line(tables.compare(paper.rows(3), [paper.MARKET1501], scores((0, 1, 2)), FACTS), "HCN+re-rank")
    half = 4.3027 * 2 / np.sqrt(3)
    assert row[ENDS].tolist() == pytest.approx([52 - half, 52 + half, 40, 40], abs=1e-3)
    both = scores((0, 1, 2)).assign(people=[people(one, 0.4, 0.2) for one in (0.50, 0.52, 0.54)])
    wider = line(tables.compare(paper.rows(3), [paper.MARKET1501], both, FACTS), "HCN+re-rank")
    one = line(tables.compare(paper.rows(3), [paper.MARKET1501], both[:1], FACTS), "HCN+re-rank")
    width = [row["ours_rank1_high"] - row["ours_rank1_low"] for row in (one, wider)]
    assert 1.02 * width[0] < width[1]


def test_an_interval_of_a_score_ends_at_0_and_100():
    ours = scores(rank1=0.99).assign(people=[people(0.99, 0.01, 0.5)])
    row = line(tables.compare(paper.rows(3), [paper.MARKET1501], ours, FACTS), "HCN+re-rank")
    assert row["ours_rank1_high"] == 100 and row["ours_mAP_low"] == 0
    assert row["ours_rank1_low"] < 99 and row["ours_mAP_high"] > 1


def test_the_interval_is_that_of_the_rows_that_are_kept_by_person(tmp_path):
    """What table3_people.csv holds gives the columns of table3.csv again."""
    ours = scores((0, 1)).assign(people=[people(0.5, 0.4, 0.2), people(0.52, 0.4, 0.1)])
    table = tables.compare(paper.rows(3), [paper.MARKET1501], ours, FACTS)
    kept = pd.read_csv(tables.save(scoring.by_person(ours), tmp_path / "table3_people.csv"))
    again = [intervals.interval(kept[kept["model"] == "hcn"], score) for score in tables.SCORES]
    expected = [end for one in again for end in (one.low, one.high)]
    assert line(table, "HCN+re-rank")[ENDS].tolist() == pytest.approx(expected, abs=1e-3)


def test_rows_without_scores_say_why_and_hold_no_number():
    why = {paper.MARKET1501: "not run: Market-1501 not found (see reid-core data status)"}
    table = tables.compare(paper.rows(3), [paper.MARKET1501], pd.DataFrame(), FACTS, why)
    assert table[["ours_rank1", "ours_mAP", *ENDS, "people"]].isna().all(axis=None)
    assert set(table["status"]) == set(why.values())
    table = tables.compare(paper.rows(3), [paper.MARKET1501], scores(), FACTS)
    assert line(table, "SCSP [3]")["status"] == tables.NOT_YET


def test_every_line_names_its_source():
    table = tables.compare(paper.rows(2), paper.SETS[:2], pd.DataFrame(), FACTS)
    for fact, value in FACTS.items():
        assert (table[fact] == value).all()


def test_literature_rows_are_found_by_method_not_by_metric():
    published = scores(model="literature").assign(method="DNS [20]", metric="own", reranked=False, note="kernel")
    row = line(tables.compare(paper.rows(3), [paper.MARKET1501], published, FACTS), "DNS [20]")
    assert row["ours_rank1"] == 50.0
    assert "kernel" in row["note"]


def test_a_figure_says_who_printed_it():
    table = tables.compare(paper.rows(3), [paper.MARKET1501], pd.DataFrame(), FACTS)
    methods = ("DNS [20]", "DNS on LOMO [20]", "ResNet50+XQDA [13]", "DNS+re-rank [20]")
    said = [line(table, method)["paper_source"] for method in methods]
    assert said == ["paper", "table of [20]", "released results of [13]", ""]
    assert line(table, "DNS on LOMO [20]")["paper_rank1"] == 55.43


def runs(names=paper.SETS, hours=1.0):
    made = [("baseline", name, hours) for name in names] + [("hcn", paper.COMBINED, 1.2)]
    return pd.DataFrame([
        {"model": model, "train_set": name, "seed": 0, "hours": h, "iterations": 10, "seconds_per_iteration": 1.0,
         "form": "pooled", "device": "a device", "run": f"{model}-{name}-seed0"}
        for model, name, h in made
    ])  # fmt: skip


def test_table4_adds_up_and_needs_every_run():
    total = tables.table4(runs(), FACTS).query("train_set == 'total'").set_index("method")
    assert total.loc["Zhong [13]", "ours_hours"] == 3.0
    assert total.loc["Our", "ours_hours"] == 1.2
    assert total.loc["Our", "paper_hours"] == 43
    assert pd.isna(total.loc["HCN, separately", "ours_hours"])
    some = tables.table4(runs(paper.SETS[:2]), FACTS).query("train_set == 'total'").set_index("method")
    assert pd.isna(some.loc["Zhong [13]", "ours_hours"])
    assert some.loc["Zhong [13]", "status"] == tables.NOT_YET


def test_table4_says_where_devices_are_unlike():
    assert not tables.table4(runs(), FACTS)["note"].str.contains("unlike").any()
    mixed = runs().assign(device=lambda t: t["device"].where(t["model"] == "hcn", "another"))
    table = tables.table4(mixed, FACTS)
    assert table["note"].str.contains("on unlike devices (a device, another), whose hours", regex=False).all()


def test_table4_totals_have_a_spread_over_seeds():
    second = runs().assign(seed=1, hours=lambda t: t["hours"] + 0.1)
    table = tables.table4(pd.concat([runs(), second]), FACTS)
    total = table.query("train_set == 'total'").set_index("method")
    assert total.loc["Zhong [13]", "ours_hours"] == pytest.approx(3.15)
    assert total.loc["Zhong [13]", "hours_std"] == pytest.approx(np.std([3.0, 3.3], ddof=1))
    assert total.loc["Our", "hours_std"] == pytest.approx(np.std([1.2, 1.3], ddof=1))


def test_table4_is_projected_for_both_forms():
    speeds = pd.DataFrame({
        "model": ["baseline", "hcn", "hcn"], "form": ["pooled", "pooled", "plain"],
        "seconds_per_iteration": [360.0, 360.0, 540.0], "over_baseline": [1, 1, 1.5], "iterations": 5,
    })  # fmt: skip
    forms = tables.table4_forms(tables.table4(runs(), FACTS), speeds, FACTS).set_index(["method", "form"])
    assert forms.loc[("Zhong [13]", "pooled"), "projected_hours"] == pytest.approx(3.0)  # 30 iterations
    assert forms.loc[("Our", "pooled"), "projected_hours"] == pytest.approx(1.0)
    assert forms.loc[("Our", "plain"), "share_of_baselines"] == pytest.approx(0.5)
    assert pd.isna(forms.loc[("HCN, separately", "plain"), "projected_hours"]), "those runs are not there"


def test_saved_tables_have_a_sidecar_and_read_back(tmp_path):
    table = tables.compare(paper.rows(3), [paper.MARKET1501], scores(), FACTS)
    path = tables.save(table, tmp_path / "table3.csv", seeds=[0], **FACTS)
    assert np.allclose(pd.read_csv(path)["ours_rank1"], table["ours_rank1"].astype(float), equal_nan=True)
    assert json.loads((tmp_path / "table3.json").read_text())["ap"] == "trapezoid"


def test_a_table_of_which_nothing_was_run_is_shown_with_the_reason():
    why = {paper.MARKET1501: "not run: Market-1501 not found (see reid-core data status)"}
    shown = tables.as_printed(tables.compare(paper.rows(3), [paper.MARKET1501], pd.DataFrame(), FACTS, why))
    assert set(shown[("Market-1501", "rank-1", "ours")]) == set(why.values())
    assert set(shown[("Market-1501", "mAP", "difference")]) == {""}


def test_as_printed_shows_each_method_once_with_both_numbers():
    shown = tables.as_printed(tables.compare(paper.rows(3), [paper.MARKET1501], scores(), FACTS))
    cells = shown.loc["HCN+re-rank", "Market-1501"]
    assert cells["rank-1", "paper"] == "84.1" and cells["rank-1", "ours"] == "50.0 (50.0–50.0)"
    assert cells["rank-1", "difference"] == "-34.1"
    assert shown.loc["SCSP [3]", ("Market-1501", "rank-1", "ours")] == tables.NOT_YET


def test_every_row_has_its_three_times_and_a_row_of_the_literature_says_how_faithful_it_is():
    times = {"seconds_features": 2.0, "seconds_train": 60.0, "seconds_match": 0.25}
    ours = scores((0, 1)).assign(**times)
    published = scores(model="literature").assign(**times, method="Gated [21]", faithful="re-created")
    both = pd.concat([ours, published])
    table = tables.compare(paper.rows(3), [paper.MARKET1501], both, FACTS)
    for method in ("HCN+re-rank", "Gated [21]"):
        assert line(table, method)[list(times)].tolist() == list(times.values())
    assert line(table, "Gated [21]")["faithful"] == "re-created" and line(table, "HCN+re-rank")["faithful"] == ""
    shown = tables.as_printed(table)
    assert shown.xs("seconds", axis=1, level=1).loc["HCN+re-rank"].tolist() == ["2.0", "60.0", "0.2"]
    assert shown.loc["Gated [21]", ("literature", "row", "is")] == "re-created"
    assert shown.loc["SCSP [3]", ("Market-1501", "seconds", "train")] == ""


def test_a_missing_set_is_the_reason_before_a_missing_method():
    why = {paper.MARKET1501: "not run: no Market-1501", "SCSP [3]": "not run: not asked for"}
    scored = scores(model="combined")
    assert line(tables.compare(paper.rows(3), [paper.MARKET1501], scored, FACTS, why), "SCSP [3]")["status"] == (
        "not run: no Market-1501"
    )
    del why[paper.MARKET1501]
    assert line(tables.compare(paper.rows(3), [paper.MARKET1501], scored, FACTS, why), "SCSP [3]")["status"] == (
        "not run: not asked for"
    )
