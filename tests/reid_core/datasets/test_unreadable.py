import warnings

import official_structure
import pytest

from reid_core import datasets
from reid_core.datasets import unreadable


@pytest.fixture
def data(tmp_path):
    official_structure.market1501(tmp_path, official_structure.small_market1501_rows())
    return tmp_path


def damage(data):
    gallery = sorted((data / "Market-1501-v15.09.15" / "bounding_box_test").glob("0001_c*.jpg"))
    whole = gallery[0].read_bytes()
    gallery[0].write_bytes(whole[: len(whole) // 2])
    gallery[1].write_bytes(b"")
    gallery[2].write_bytes(b"<html>")
    return gallery[:3]


def test_whole_images_pass(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = datasets.load("market1501", data)
        assert datasets.load("market1501", data, unreadable="refuse").equals(plain)
        assert datasets.load("market1501", data, unreadable="drop").equals(plain)


def test_unreadable_images_are_named_counted_and_dropped(data):
    damaged = damage(data)
    table = datasets.load("market1501", data)
    bad = unreadable.find(table)
    assert sorted(bad["image_path"]) == [str(path) for path in damaged]
    reasons = bad.set_index("image_path")["reason"]
    assert "truncated" in reasons[str(damaged[0])].lower()
    assert reasons[str(damaged[1])] == "the file is empty" and reasons[str(damaged[2])] == "not an image"
    with pytest.raises(ValueError, match=f"3 images cannot be read, the first being {damaged[0]} .* of 73.*'drop'"):
        datasets.load("market1501", data, unreadable="refuse")
    with pytest.warns(UserWarning, match="3 images cannot be read.*left out"):
        rest = datasets.load("market1501", data, unreadable="drop")
    assert len(rest) == len(table) - 3 and not set(rest["image_path"]) & {str(path) for path in damaged}


def test_a_query_that_loses_its_match_by_dropping_is_reported(data):
    for image in (data / "Market-1501-v15.09.15" / "bounding_box_test").glob("0001_c[23]*"):
        image.write_bytes(b"")
    with pytest.warns(UserWarning, match="the only match of 1 query is gone"):
        datasets.load("market1501", data, unreadable="drop")


def test_another_wish_is_refused(data):
    with pytest.raises(ValueError, match="unreadable is 'skip'"):
        datasets.load("market1501", data, unreadable="skip")
