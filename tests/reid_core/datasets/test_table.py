import os

import numpy as np
import pandas as pd
import pytest

from reid_core import datasets
from reid_core.datasets import table
from reid_core.datasets.table import CAMERA, GALLERY, PATH, PERSON, QUERY, SUBSET, TRAIN


def rows():
    return table.build(
        "market1501",
        [TRAIN, TRAIN, QUERY, GALLERY, GALLERY, GALLERY],
        [2, 3, 1, 1, -1, 0],
        [1, 2, 1, 2, 1, 1],
        [f"/data/Market-1501-v15.09.15/{name}.jpg" for name in "abcdef"],
    )


def test_a_valid_table_keeps_its_rows_and_gets_int64_ids():
    given = rows().astype({PERSON: "float64", CAMERA: "int16"}).iloc[::-1]
    valid = table.validate(given, every_query_matched=True)
    assert valid[PERSON].tolist() == [0, -1, 1, 1, 3, 2]
    assert valid[PERSON].dtype == valid[CAMERA].dtype == np.int64
    assert valid.index.tolist() == list(range(6))
    assert given[PERSON].dtype == np.float64, "the caller's table must stay as it was"


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        (PERSON, 0, 2.5, "person_id must be an integer, but it is 2.5 for .*a.jpg"),
        (PERSON, 0, "anna", "person_id must be an integer, but it is 'anna'"),
        (CAMERA, 1, None, "camera_id must be an integer"),
        (CAMERA, 1, True, "camera_id must be an integer, but it is True"),
        (CAMERA, 1, -2, "Camera -2 of .*b.jpg is negative"),
        (PERSON, 5, -3, "only -1 .junk. may be negative"),
        (PERSON, 0, 0, "0 .distractor. and -1 .junk. occur in the gallery only"),
        (SUBSET, 2, "probe", "Subset 'probe' of .*c.jpg is unknown"),
        (PATH, 2, "c.jpg", "relative"),
        (PATH, 2, 7, "must be text"),
        (PATH, 4, "/data/Market-1501-v15.09.15/d.jpg", "listed more than once in gallery"),
        (PATH, 4, "/data/Market-1501-v15.09.15/a.jpg", "a training image and a query or gallery image"),
        ("dataset", 1, "", "has no name"),
    ],
)
def test_a_bad_value_is_named(column, row, value, message):
    bad = rows().astype({column: object})
    bad.loc[row, column] = value
    with pytest.raises(ValueError, match=message):
        table.validate(bad)


def test_other_malformed_tables_are_refused():
    with pytest.raises(TypeError, match="not dict"):
        table.validate({})
    with pytest.raises(ValueError, match="lacks the column.s. camera_id"):
        table.validate(rows().drop(columns=CAMERA))
    with pytest.raises(ValueError, match="no rows"):
        table.validate(rows().iloc[:0])


def test_a_query_without_a_match_in_another_camera_is_refused_on_request():
    unmatched = rows()
    unmatched.loc[3, CAMERA] = 1
    assert table.unmatched_queries(unmatched)[PATH].tolist() == ["/data/Market-1501-v15.09.15/c.jpg"]
    with pytest.raises(ValueError, match=r"c.jpg \(person 1, camera 1\) has no gallery image .* \(1 such query\)"):
        table.validate(unmatched, every_query_matched=True)
    assert len(table.validate(unmatched)) == 6
    assert len(table.validate(unmatched[unmatched[SUBSET] != GALLERY], every_query_matched=True)) == 3


def test_a_person_in_training_and_in_the_test_set_is_refused_on_request():
    seen = rows()
    seen.loc[1, PERSON] = 1
    with pytest.raises(
        table.RowError, match="Person 1 of market1501 is in train and, in .*c.jpg, in query .1 such person.*Leave"
    ) as refused:
        table.validate(seen, people_apart=True)
    assert refused.value.row == 2
    assert len(table.validate(seen)) == 6
    seen.loc[2:3, "dataset"] = "shop"
    assert len(table.validate(seen, people_apart=True)) == 6, "people of different sets are different people"


def test_paths_move_with_their_data_root_and_cache(monkeypatch):
    monkeypatch.setenv("REID_CORE_CACHE", "/first/cache")
    here = rows()
    here.loc[0, PATH] = "/first/cache/cuhk03/key/labeled/1_001_1_01.png"
    here.loc[1, PATH] = "/elsewhere/own.png"
    saved = table.portable_paths(here[PATH], "/data")
    assert not saved.str.contains("/data|/first").any()
    pd.testing.assert_series_equal(table.absolute_paths(saved, "/data"), here[PATH])
    monkeypatch.setenv("REID_CORE_CACHE", "/second/cache")
    assert table.absolute_paths(saved, "/mnt/sets/").tolist()[:3] == [
        "/second/cache/cuhk03/key/labeled/1_001_1_01.png",
        "/elsewhere/own.png",
        "/mnt/sets/Market-1501-v15.09.15/c.jpg",
    ]


def test_digest_depends_on_rows_and_not_on_places(monkeypatch):
    here = rows()
    there = here.assign(**{PATH: here[PATH].str.replace("/data", "/mnt/sets")})
    assert datasets.digest(here, "/data") == datasets.digest(there, "/mnt/sets")
    assert len(datasets.digest(here, "/data")) == 64
    changed = here.copy()
    changed.loc[0, PERSON] = 5
    others = {datasets.digest(other, "/data") for other in (changed, here.iloc[::-1], here.assign(label=0))}
    assert datasets.digest(here, "/data") not in others and len(others) == 3


def test_the_cache_is_the_repositorys_unless_moved(monkeypatch):
    monkeypatch.delenv("REID_CORE_CACHE")
    assert (table.cache_root().parent / "pyproject.toml").is_file()
    monkeypatch.setenv("REID_CORE_CACHE", "~/derived")
    assert table.cache_root().is_absolute() and table.cache_root().name == "derived"


@pytest.mark.parametrize(
    "values, message",
    [
        (np.array([2**64 - 1] * 6, "uint64"), "it is 18446744073709551615 for .*a.jpg"),
        (np.array([2.0**53, 3, 1, 1, -1, 0]), "it is 9007199254740992.0 for .*a.jpg .1 such row"),
        (pd.Series([2**53 + 1, 2.0**53, 1, 1, -1, 0], dtype=object), "it is 9007199254740992.0 for .*b.jpg"),
        (["2", "3e2", "1", "1", "-1", "0"], "it is '3e2' for .*b.jpg"),
        (["2", "3", "1", "1", "-1", ""], "it is '' for .*f.jpg"),
        ([2, "3", 1, 1, -1, 0], "person_id holds mixed-integer values"),
    ],
)
def test_ids_that_may_not_be_exact_are_refused_with_their_text(values, message):
    with pytest.raises(table.RowError, match=f"person_id must be an integer, but .*{message}"):
        table.validate(rows().assign(person_id=values))


@pytest.mark.parametrize(
    "values",
    [
        ["2", "0003", "1", " 1", "-1", "0000"],
        pd.Categorical([2, 3, 1, 1, -1, 0]),
        pd.array([2, 3, 1, 1, -1, 0], "Int16"),
    ],
)
def test_ids_are_whole_numbers_whatever_holds_them(values):
    valid = table.validate(rows().assign(person_id=values))
    assert valid[PERSON].dtype == np.int64 and valid[PERSON].tolist() == [2, 3, 1, 1, -1, 0]
    big = table.validate(rows().assign(person_id=pd.Series([2**53 + 1, 2**53, 1, 1, -1, 0], dtype=object)))
    assert big[PERSON].tolist()[:2] == [2**53 + 1, 2**53]


@pytest.mark.parametrize("changed", [{PERSON: 7}, {CAMERA: 2}])
def test_one_picture_is_one_person_in_one_camera(changed):
    same = rows()
    same.loc[3, PATH] = same.loc[2, PATH]
    same.loc[3, [PERSON, CAMERA]] = [1, 1]
    assert len(table.validate(same)) == 6, "passed over by the evaluation"
    for column, value in changed.items():
        same.loc[3, column] = value
    with pytest.raises(
        table.RowError, match="c.jpg is person 1 in camera 1 as query and person . in camera . as gallery"
    ) as said:
        table.validate(same)
    assert said.value.row == 3
    same.loc[3, PERSON] = -1
    assert len(table.validate(same)) == 6, "junk is passed over, too"


def test_the_digest_takes_any_file_name():
    named = rows()
    named.loc[0, PATH] = os.fsdecode(b"/data/M\xfcller.jpg")
    assert len(datasets.digest(named, "/data")) == 64 and datasets.digest(named, "/data") != datasets.digest(
        rows(), "/data"
    )


def test_categories_are_the_text_that_they_stand_for():
    text = pd.concat([rows().assign(dataset=name) for name in ("b", "a")], ignore_index=True)
    text[PATH] = text[PATH] + text["dataset"]
    given = text.assign(
        dataset=pd.Categorical(text["dataset"], ["z", "b", "a"]), **{SUBSET: text[SUBSET].astype("category")}
    )
    expected = datasets.combine({"both": text})
    assert datasets.combine({"both": given})["label"].tolist() == expected["label"].tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize("column", [PERSON, PATH])
def test_a_column_that_is_there_twice_is_named(column):
    with pytest.raises(ValueError, match=f"has the column {column} more than once; leave one of them out"):
        table.validate(pd.concat([rows(), rows()[[column]]], axis=1))
