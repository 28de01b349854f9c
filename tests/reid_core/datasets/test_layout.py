"""Which files of a folder count, and which path was meant."""

import os
import unicodedata

import official_structure
import pytest

from reid_core import datasets
from reid_core.datasets import layout

MARKET = official_structure.MARKET1501
LEFT_BY_SYSTEMS = [
    "Thumbs.db", "Thumbs.db:encryptable", "desktop.ini", "ehthumbs.db", "Picasa.ini", "Icon\r", "ZbThumbnail.info",
    ".DS_Store", "._0002_c1s1_000451_03.jpg", ".nfs00000000035c", ".fuse_hidden0001", ".smbdelete01", ".0002.jpg.Xa3f",
    "~$list.xlsx", ".~lock.list.ods#", "#0002_c1s1_000451_03.jpg#", "0002_c1s1_000451_03.jpg~",
    "~syncthing~0002_c1s1_000451_03.jpg.tmp", "sync.ffs_db", "descript.ion",
    "0002_c1s1_000451_03.jpg:Zone.Identifier", "README.md",
]  # fmt: skip


@pytest.fixture
def query(tmp_path):
    """The query folder of a small Market-1501."""
    official_structure.market1501(tmp_path, official_structure.small_market1501_rows())
    return tmp_path / MARKET / "query"


@pytest.mark.parametrize("name", LEFT_BY_SYSTEMS)
def test_what_systems_leave_is_passed_over(query, name):
    before = datasets.load("market1501", query.parents[1])
    (query / name).write_bytes(b"not an image")
    assert datasets.load("market1501", query.parents[1]).equals(before)


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "$RECYCLE.BIN", ".AppleDouble", "lost+found", "__MACOSX"])
def test_folders_of_systems_are_passed_over(query, name):
    before = datasets.load("market1501", query.parents[1])
    (query / name / "0002_c1s1_000451_03.jpg").mkdir(parents=True)
    assert datasets.load("market1501", query.parents[1]).equals(before)


@pytest.mark.parametrize(
    "name", ["0002_c1s1_000451_03.jpg.crdownload", "0002_c1s1_000451_03", "holiday.bmp", "holiday.TIF", "more.txt"]
)
def test_what_may_be_an_image_or_half_of_one_is_named(query, name):
    (query / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"query/{name} is not named PPPP_cC.*Take what does not belong"):
        datasets.load("market1501", query.parents[1])


def test_a_note_about_an_image_needs_the_image(query):
    image = min(query.glob("*.jpg"))
    (query / f"{image.name}.xmp").write_text("<x/>")
    assert len(datasets.load("market1501", query.parents[1]))
    image.rename(query.parent / "elsewhere.jpg")
    with pytest.raises(ValueError, match=f"{image.name}.xmp is not named"):
        datasets.load("market1501", query.parents[1])


def test_a_folder_among_the_images_is_named(query):
    (query / "query").mkdir()
    with pytest.raises(ValueError, match="query/query is not named .*one folder too deep: move them up"):
        datasets.load("market1501", query.parents[1])


def test_a_set_one_folder_too_deep_is_found_and_nobody_told_to_remove_it(query):
    root = query.parents[1]
    inner = root / MARKET / MARKET
    (root / MARKET).rename(root / "set")
    (root / MARKET).mkdir()
    (root / "set").rename(inner)
    with pytest.raises(FileNotFoundError, match=f"one folder too deep, in {inner}/bounding_box_train: move") as said:
        datasets.load("market1501", root)
    assert "emove" not in str(said.value).replace("move everything", "")


@pytest.mark.parametrize("wanted", ["a/Bild é.PNG", "A/bild é.png", "A/Bild  é.png ", "A\\Bild é.png", "NFD"])
def test_the_path_that_was_meant_is_found(tmp_path, wanted):
    real = tmp_path / "A" / "Bild é.png"
    real.parent.mkdir()
    real.write_bytes(b"")
    if wanted == "NFD":
        wanted = unicodedata.normalize("NFD", "A/Bild é.png")
    absent = f"{tmp_path}/{wanted}"
    assert not os.path.exists(absent)
    assert layout.near(absent) == real and f"{real} is there: write it so." in layout.hint(absent)


def test_other_paths_are_not_taken_for_the_one_meant(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert layout.near(tmp_path / "b.png") is None and layout.hint(tmp_path / "b.png") == ""
    assert layout.hint(tmp_path / "a.png" / "b") == "" and layout.hint(tmp_path / ("x" * 300)) == ""
    assert layout.hint(tmp_path / "a.png") == "", "a path that is there needs no hint"


def test_a_link_that_leads_nowhere_is_called_so(query, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    (root / MARKET).symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=f"{MARKET} is a link to {tmp_path}/gone, which is not there any more"):
        datasets.load("market1501", root)
    (root / "CUHK01").symlink_to(tmp_path / "gone")
    assert layout.dead_link(root / "CUHK01" / "campus", root) == root / "CUHK01"
    assert layout.dead_link(query, tmp_path) is None


def test_a_set_or_data_folder_under_nearly_its_name_is_named(query, tmp_path):
    base = query.parent.rename(tmp_path / MARKET.lower())
    with pytest.raises(FileNotFoundError, match=f"{base} is there: write it so"):
        datasets.load("market1501", tmp_path)
    (tmp_path / "Sets").mkdir()
    with pytest.raises(FileNotFoundError, match=f"does not exist.*{tmp_path}/Sets is there: write it so"):
        datasets.load("market1501", tmp_path / "sets")
