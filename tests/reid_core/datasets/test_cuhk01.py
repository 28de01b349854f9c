import official_structure
import pytest

from reid_core import datasets
from reid_core.datasets.table import CAMERA, PERSON, SUBSET


def test_everybody_trains_and_two_images_make_a_camera(tmp_path):
    official_structure.cuhk01(tmp_path, 3)
    loaded = datasets.load("cuhk01", tmp_path)
    assert set(loaded[SUBSET]) == {"train"}
    assert loaded[PERSON].tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert loaded[CAMERA].tolist() == [1, 1, 2, 2] * 3


@pytest.mark.parametrize("name", ["0001005.png", "00010001.png", "0001001.jpg"])
def test_a_strange_file_is_named(tmp_path, name):
    (official_structure.cuhk01(tmp_path, 1) / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"campus/{name} is not named PPPPNNN.png"):
        datasets.load("cuhk01", tmp_path)


def test_a_missing_folder_says_what_to_place_where(tmp_path):
    with pytest.raises(FileNotFoundError, match="CUHK01 not found: .*CUHK01/campus is needed"):
        datasets.load("cuhk01", tmp_path)
