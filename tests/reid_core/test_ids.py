import numpy as np
import pandas as pd
import pytest
import torch

from reid_core import ids

SAME = [
    np.array([255, 3, 255], "uint8"),
    np.array([255, 3, 255], ">i4"),
    np.array([255, 3, 255], "float16"),
    np.array([[255], [3], [255]]),
    [255, 3, 255],
    [255, 3.0, np.uint8(255)],
    torch.tensor([255, 3, 255]),
    np.ma.array([255, 3, 255]),
    pd.Index([255, 3, 255]),
    pd.Series([255, 3, 255], index=[5, 1, 5], dtype="Int16"),
    pd.Series([255, 3, 255], dtype="Float64"),
    pd.Series([255, 3, 255], dtype="category"),
    pd.Series([255, 3, 255], dtype=object),
    pd.DataFrame({"person_id": [255, 3, 255]}),
]


@pytest.mark.parametrize("values", SAME, ids=lambda values: f"{type(values).__name__}-{getattr(values, 'dtype', '')}")
def test_whatever_holds_numbers_they_are_int64(values):
    found = ids.column(values, "person_id")
    assert found.dtype == np.int64 and found.tolist() == [255, 3, 255]


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, lambda t: pd.Series(t, dtype="category")])
def test_text_stays_text(kind):
    found = ids.column(kind(["b7", "10", "b7"]), "person_id")
    assert found.dtype.kind == "U" and found.tolist() == ["b7", "10", "b7"]


def test_the_ends_of_int64_are_exact_and_the_callers_array_is_left_alone():
    ends = np.array([-(2**63), 2**63 - 1])
    assert ids.column(ends, "person_id").tolist() == ends.tolist() == [ids.exact(str(end)) for end in ends]
    found = ids.column(text := pd.Series(["a", "b"], index=[1, 0]), "person_id")
    found[0] = "c"
    assert text.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    "values, message",
    [
        ([1, None], "person_id is missing in row 1: None"),
        ([1.0, np.nan], "is missing in row 1: nan"),
        (pd.Series([4, None, None], dtype="Int64"), r"is missing in row 1: <NA> \(2 such rows in all\)"),
        (pd.Series(["a", None], dtype="category"), "is missing in row 1"),
        (np.ma.array([1, 2], mask=[1, 0]), "is missing in row 0"),
        (["a", " "], "is blank in row 1: ' '"),
        ([1, 2.5], "is no whole number in row 1: 2.5"),
        ([1.0, np.inf], "is no whole number in row 1: inf"),
        (np.array([1, 2**53], float), "too large to be exact in floating point in row 1"),
        (np.array([2**24], np.float32), "too large to be exact in floating point in row 0"),
        (np.array([1, 2**63], np.uint64), "does not fit into 64 bits in row 1"),
        ([1, 2**70], "does not fit into 64 bits in row 1: 1180591620717411303424"),
        ([1, "1"], "holds mixed-integer values"),
        ([True, False], "holds boolean values"),
        ([b"a"], "holds bytes values"),
        (pd.to_datetime(["2015-09-15"]), "holds datetime64 values"),
        (np.ones((3, 2), int), r"has shape \(3, 2\); one id an image"),
        (np.ones((1, 3), int), r"has shape \(1, 3\)"),
        (pd.DataFrame({"a": [1], "b": [2]}), r"has shape \(1, 2\)"),
        (7, r"has shape \(\)"),
        ("abc", r"has shape \(\)"),
    ],
)
def test_what_is_no_column_of_ids_is_refused_with_its_row(values, message):
    with pytest.raises(ValueError, match=message):
        ids.column(values, "person_id")


@pytest.mark.parametrize(
    "text, number", [("7", 7), (" 0007 ", 7), ("-1", -1), ("-01", -1), ("+3", 3), ("0000", 0), ("7.0", 7), ("7.", 7)]
)
def test_a_cell_is_read_exactly(text, number):
    assert ids.exact(text) == number


@pytest.mark.parametrize(
    "text", ["", " ", "7.5", "7.0e0", "7,0", "9" * 5000, "1e6", "1_000", "0x1f", "٧", "7 8", "nan", "--1", "\u22121"]
)
def test_a_cell_that_is_no_whole_number_is_refused_with_its_text(text):
    with pytest.raises(ValueError, match="is no whole number") as error:
        ids.exact(text)
    assert repr(text) in str(error.value)


def test_a_cell_that_floating_point_may_have_changed_is_refused():
    assert ids.exact(f"{2**53 - 1}.0") == 2**53 - 1 and ids.exact(str(2**53 + 1)) == 2**53 + 1
    with pytest.raises(ValueError, match="'9007199254740992.0' went through floating point"):
        ids.exact("9007199254740992.0")


@pytest.mark.parametrize("text", [str(2**63), str(-(2**63) - 1), "9" * 40])
def test_a_cell_beyond_int64_is_refused_with_its_text(text):
    with pytest.raises(ValueError, match=f"'{text}' does not fit into 64 bits"):
        ids.exact(text)


def test_both_sides_are_of_one_kind():
    found = ids.alike(np.array([7], "uint8"), pd.Series([7, 3], dtype="Int64"), "person_id")
    assert [side.tolist() for side in found] == [[7], [7, 3]]
    assert [side.tolist() for side in ids.alike(["a"], ["bcd", "a"], "camera_id")] == [["a"], ["bcd", "a"]]
    with pytest.raises(ValueError, match="camera_id is text on one side.*'1' in the query but 1 in the gallery"):
        ids.alike(["1"], [1], "camera_id")
    with pytest.raises(ValueError, match="camera_id of the probe view is missing in row 1"):
        ids.alike([1, 2], [1, np.nan], "camera_id", ("gallery view", "probe view"))


@pytest.mark.parametrize("text", ["2.0240115093E+16", "-2e+17", "9007199254740993.0", " 2.02E+16"])
def test_text_that_was_a_long_number_is_refused(text):
    with pytest.raises(ValueError, match=r"person_id went through floating point in row 1: '.*write all its digits"):
        ids.column(["p1", text], "person_id")


@pytest.mark.parametrize("text", ["12e4", "1.5", "2024E", "e+1", "18446744073709551617"])
def test_text_that_lost_nothing_stays(text):
    assert ids.column(["p1", text], "person_id").tolist() == ["p1", text]


def test_blanks_around_text_and_its_unicode_form_do_not_count():
    assert len({*ids.column(["é", "e\u0301", " é", "é\t"], "person_id")}) == 1


def test_a_camera_that_is_not_known_may_be_text():
    assert ids.unknown(ids.column(["-1", "a", "1", "-1 "], "camera_id")).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    "values",
    [torch.ones(2).bfloat16(), torch.ones(2, device="meta"), torch.ones(2).to_sparse(), np.zeros(2, [("a", int)])],
)
def test_what_holds_no_plain_numbers_is_refused_by_name(values):
    with pytest.raises(ValueError, match="person_id (is a tensor that cannot be read|has shape)"):
        ids.column(values, "person_id")
