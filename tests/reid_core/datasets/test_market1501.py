import re
import shutil
from collections import Counter

import numpy as np
import official_structure
import pytest

from reid_core import datasets
from reid_core.datasets.table import CAMERA, GALLERY, PATH, PERSON, SUBSET


@pytest.fixture
def data(tmp_path):
    official_structure.market1501(tmp_path, official_structure.small_market1501_rows(), extra=9)
    return tmp_path


def test_rows_junk_and_distractors_are_the_folders(data):
    loaded = datasets.load("market1501", data)
    for subset, expected in official_structure.small_market1501_rows().items():
        part = loaded[loaded[SUBSET] == subset]
        assert Counter(zip(part[PERSON], part[CAMERA], strict=True)) == Counter(expected)
    gallery = loaded[loaded[SUBSET] == GALLERY]
    assert (gallery[PERSON] == -1).sum() == 2 and (gallery[PERSON] == 0).sum() == 3
    first = loaded[PATH].iloc[0]
    assert first.startswith(f"{data}/Market-1501-v15.09.15/bounding_box_train/0002_c1s1_")


def test_extra_distractors_join_the_gallery_only_when_asked(data):
    without, with_extra = (datasets.load("market1501", data), datasets.load("market1501", data, distractors=True))
    added = with_extra.iloc[len(without) :]
    assert len(added) == 9 and set(added[SUBSET]) == {GALLERY} and set(added[PERSON]) == {0}
    assert with_extra.iloc[: len(without)].equals(without)


def test_extra_distractors_may_lie_beside_the_set(data):
    shutil.move(data / "Market-1501-v15.09.15" / "images", data / "Market-1501-500k")
    assert (datasets.load("market1501", data, distractors=True)[PERSON] == 0).sum() == 3 + 9
    shutil.rmtree(data / "Market-1501-500k")
    with pytest.raises(FileNotFoundError, match="500k.*Market-1501-500k"):
        datasets.load("market1501", data, distractors=True)


COPIES = ["0002_c1s1_000451_03 (1).jpg", "0002_c1s1_000451_03 - Copy.jpg", "0002_c1s1_000451_03 copy.jpg"]


@pytest.mark.parametrize("name", ["holiday.jpg", "0002_c1s1_000451_03.jpg.part", "notes.txt", *COPIES])
def test_a_strange_file_is_named(data, name):
    (data / "Market-1501-v15.09.15" / "query" / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"query/{re.escape(name)} is not named PPPP_cC"):
        datasets.load("market1501", data)


def test_a_missing_or_empty_subset_is_named(data):
    folder = data / "Market-1501-v15.09.15" / "bounding_box_test"
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="bounding_box_test is missing"):
        datasets.load("market1501", data)
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="bounding_box_test is empty"):
        datasets.load("market1501", data)


def test_a_missing_or_empty_data_folder_says_what_to_place_where(tmp_path):
    with pytest.raises(FileNotFoundError, match="Market-1501-v15.09.15 is needed, and the data folder .* is empty"):
        datasets.load("market1501", tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist.*reid-core data add.*make reproduce"):
        datasets.load("market1501", tmp_path / "nowhere")


def test_a_query_without_its_gallery_images_is_refused(data):
    for image in (data / "Market-1501-v15.09.15" / "bounding_box_test").glob("0005_c[23]*"):
        image.unlink()
    with pytest.raises(ValueError, match="0005_c1s1.*no gallery image of that person in another camera"):
        datasets.load("market1501", data)


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no data set 'duke'; there are market1501, cuhk03, cuhk01"):
        datasets.load("duke", tmp_path)


def test_the_official_arrays_come_back_at_full_size(full_data, official_arrays):
    loaded = datasets.load("market1501", full_data)
    official = np.load(official_arrays / "market1501.npz")
    assert loaded[SUBSET].value_counts().to_dict() == {"train": 12936, "query": 3368, "gallery": 19732}
    for subset in ("train", "query", "gallery"):
        part = loaded[loaded[SUBSET] == subset]
        expected = zip(official[f"{subset}_person_id"], official[f"{subset}_camera_id"], strict=True)
        assert Counter(zip(part[PERSON], part[CAMERA], strict=True)) == Counter(expected)
    people = loaded.loc[loaded[SUBSET] == GALLERY, PERSON]
    assert ((people > 0).sum(), (people == 0).sum(), (people == -1).sum()) == (13115, 2798, 3819)
