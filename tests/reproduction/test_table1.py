import pandas as pd
import pytest

from reid_core import datasets
from reproduction import claims
from reproduction import tables as counted


@pytest.fixture
def tables(small_data):
    return {
        "market1501": datasets.load("market1501", small_data),
        "cuhk03": datasets.load("cuhk03", small_data, progress=False),
        "cuhk01": datasets.load("cuhk01", small_data),
    }


def test_table1_shows_published_found_and_difference(tables):
    table1 = counted.table1(tables, datasets.combine(tables)).set_index("dataset")
    assert table1.index.tolist() == ["Market-1501", "CUHK03", "CUHK01", "Combined"]
    assert table1.loc["Combined", "left out"] == 0 and table1["left out"].isna().sum() == 3
    assert table1["identities published"].tolist() == [1501, 1467, 971, 2489]
    assert table1["identities found"].tolist() == [10, 25, 7, 6 + 13 + 7]
    assert table1.loc["CUHK03", "training identities found"] == 13
    assert table1.loc["CUHK03", "testing identities found"] == 12
    assert table1.loc["Market-1501", "identities difference"] == 10 - 1501
    assert pd.isna(table1.loc["CUHK01", "testing identities found"])


def test_the_combined_row_counts_who_trains_and_says_who_is_left_out(tables, tmp_path):
    labeled = tables["cuhk03"]
    person = labeled.loc[labeled["subset"] == "train", "person_id"].iloc[0]
    detected = labeled[labeled["person_id"] == person].assign(subset="query")
    combined = datasets.combine(tables, scored=[*tables.values(), detected], leaked="leave_out")
    table1 = counted.table1(tables, combined)
    row = table1.set_index("dataset").loc["Combined"]
    assert row["identities found"] == row["training identities found"] == 6 + 13 + 7 - 1
    assert row["left out"] == 1 and f"26 without cuhk03 {person}: tested in CUHK03's other form" in row["note"]
    assert table1.set_index("dataset").loc["CUHK03", "training identities found"] == 13
    for left_out, words in ((1, "the numbers add up"), (0, "the numbers do not add up")):
        changed = table1.assign(**{"left out": table1["left out"].where(table1["left out"].isna(), left_out)})
        changed.to_csv(tmp_path / "table1.csv", index=False)
        verdicts = claims.judge(tmp_path, "embedded").set_index("claim")
        assert words in verdicts.loc["table1", "verdict"]
    counted.table1(tables).to_csv(tmp_path / "table1.csv", index=False)
    assert claims.judge(tmp_path, "embedded").set_index("claim").loc["table1", "verdict"] == "not measured"


def test_absent_sets_and_own_sets_have_their_rows(tables):
    own = tables["cuhk01"].assign(dataset="shop")
    table1 = counted.table1({"market1501": tables["market1501"], "shop": own}).set_index("dataset")
    assert table1.index.tolist() == ["Market-1501", "CUHK03", "CUHK01", "Combined", "shop"]
    assert table1["identities found"].isna().tolist() == [False, True, True, True, False]
    with pytest.raises(ValueError, match="two tables of it"):
        counted.table1({"labeled": tables["cuhk03"], "detected": tables["cuhk03"]})


def test_subsets_count_people_images_and_cameras(tables):
    counts = counted.table1_subsets(tables).set_index(["name", "subset"])
    market = counts.loc[("market1501", "gallery")]
    assert (market["identities found"], market["images found"], market["cameras found"]) == (4, 29, 4)
    assert (market["cameras published"], market["cameras difference"]) == (6, -2)
    assert counts.loc[["cuhk03", "cuhk01"], "cameras published"].eq(2).all()
    assert (market["junk"], market["distractors"], market["images published"]) == (2, 3, 19732)
    assert ("cuhk01", "query") not in counts.index


def test_the_official_structure_differs_nowhere_from_the_published_numbers(full_data):
    tables = {
        "market1501": datasets.load("market1501", full_data),
        "cuhk03": datasets.load("cuhk03", full_data, form="np"),
        "cuhk01": datasets.load("cuhk01", full_data),
    }
    table1 = counted.table1(tables, datasets.combine(tables))
    differences = table1.filter(like="difference")
    assert (differences.fillna(0) == 0).all(axis=None)
    assert table1["identities found"].tolist() == [1501, 1467, 971, 2489]
    assert set(table1["note"]) == {""}
    detected = {"cuhk03_detected": datasets.load("cuhk03", full_data, boxes="detected", form="np")}
    for given in (tables, detected):
        assert (counted.table1_subsets(given).filter(like="difference") == 0).all(axis=None)
    scored = [*tables.values(), *detected.values()]
    trained = counted.table1(tables, datasets.combine(tables, scored=scored, leaked="leave_out")).iloc[3]
    assert trained["training identities found"] == 2488 and "2,489 without cuhk03 1202:" in trained["note"]
