"""What a folder holds, whatever it is called, whatever lies beside it, and wherever its links lead."""

import os
import shutil
import warnings

import official_structure
import pytest

from reproduction.intake import archives
from reproduction.intake.recognise import recognise, recognise_path, walk

MARKET = official_structure.MARKET1501
FORMS = {
    "market1501": "{person:04d}_c{camera}s1_{number:06d}_00.jpg",
    "cuhk03": "{person:04d}_c{camera}_{number}.png",
    "dukemtmc": "{person:04d}_c{camera}_f00{number:05d}.jpg",
    "msmt17": "{person:04d}_c{camera:02d}_{number:04d}.jpg",
    "msmt17 in Market's form": "{person:04d}_c1{camera}s1_{number:06d}_00.jpg",
}


def subsets(base, form):
    """The three folders with a few files named in a form; the names alone are looked at."""
    rows = {"bounding_box_train": [(1, 1), (2, 2)], "query": [(3, 1)], "bounding_box_test": [(3, 2), (0, 1)]}
    for folder, ids in rows.items():
        (base / folder).mkdir(parents=True)
        for number, (person, camera) in enumerate(ids):
            (base / folder / FORMS[form].format(person=person, camera=camera, number=number)).write_bytes(b"")
    return base


def found(path):
    return {piece.source: piece.target for piece in recognise_path(path)}


@pytest.mark.parametrize("name", ["Market-1501", "market1501", "Market-1501-v15.09.15", "reid/market", "x"])
def test_market1501_goes_by_its_files(tmp_path, name):
    subsets(tmp_path / "sets" / name, "market1501")
    assert found(tmp_path / "sets") == {name: MARKET} and found(tmp_path / "sets" / name) == {"": MARKET}


@pytest.mark.parametrize(
    "labeled, detected",
    [
        ("cuhk03_np_labeled", "cuhk03_np_detected"),
        ("cuhk03-np/labeled", "cuhk03-np/detected"),
        ("CUHK03-NP/Labelled", "CUHK03-NP/Detected"),
        ("cuhk-label", "cuhk-detect"),
        ("labeled/cuhk03", "detected/cuhk03"),
        ("cuhk03 labeled and detected/labeled", "cuhk03 labeled and detected/detected"),
    ],
)
def test_cuhk03_np_goes_by_its_files_and_the_nearest_word_for_the_boxes(tmp_path, labeled, detected):
    for name in (labeled, detected):
        subsets(tmp_path / "sets" / name, "cuhk03")
    expected = {labeled: "cuhk03-np/labeled", detected: "cuhk03-np/detected"}
    assert found(tmp_path / "sets") == expected


@pytest.mark.parametrize("name", ["cuhk-03.mat", "CUHK03.mat", "cuhk_03.MAT"])
def test_the_mat_goes_by_its_usual_names(tmp_path, name):
    for other in ("cuhk03_new_protocol_config_labeled.mat", "cuhk-03.mat.part"):
        (tmp_path / other).write_bytes(b"")
    with pytest.raises(ValueError, match="holds none of the data sets"):
        found(tmp_path)
    (tmp_path / name).write_bytes(b"")
    assert found(tmp_path) == {name: "cuhk03_release/cuhk-03.mat"}


@pytest.mark.parametrize("form", ["dukemtmc", "msmt17", "msmt17 in Market's form"])
@pytest.mark.parametrize("name", ["other", "other_labeled", "market1501"])
def test_another_set_is_none_of_ours_under_any_name(tmp_path, form, name):
    subsets(tmp_path / name, form)
    with pytest.raises(ValueError, match=f"{name} has the folders of CUHK03-NP, but.*own data"):
        found(tmp_path)
    subsets(tmp_path / "ours", "market1501")
    with pytest.warns(UserWarning, match=f"{name} is passed over"):
        assert found(tmp_path) == {"ours": MARKET}


def test_a_half_set_of_others_does_not_stand_in_the_way(tmp_path):
    subsets(tmp_path / "ours", "market1501")
    (tmp_path / "viper" / "query").mkdir(parents=True)
    (tmp_path / "viper" / "query" / "p1.png").write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found(tmp_path) == {"ours": MARKET}


@pytest.mark.parametrize(
    "folder, name",
    [
        ("images", "anna_{}.jpg"),
        ("distractors", "anna_{}.jpg"),
        ("my-500k", "{}.jpg"),
        ("mask_train_v2/0000", "0000_00{}_01_0303morning_0008_0.jpg"),
        ("images", "0000_c2_f004618{}.jpg"),
    ],
)
def test_no_other_images_are_taken_for_the_distractors(tmp_path, folder, name):
    (tmp_path / folder).mkdir(parents=True)
    for number in range(3):
        (tmp_path / folder / name.format(number)).write_bytes(b"")
    with pytest.raises(ValueError, match="holds none of the data sets.*own data"):
        found(tmp_path)


def test_the_distractors_go_by_their_names(tmp_path):
    for number in range(3):
        (tmp_path / f"0000_c{number + 1}s0_00000{number}_00.jpg").write_bytes(b"")
    assert found(tmp_path) == {"": "Market-1501-500k"}


def test_a_folder_with_links_back_to_itself_comes_to_an_end(tmp_path):
    subsets(tmp_path / "sets" / "m", "market1501")
    for name in ("a", "b", "m/up", "m/query/up"):
        (tmp_path / "sets" / name).symlink_to(tmp_path / "sets")
    (tmp_path / "sets" / "self").symlink_to(tmp_path / "sets" / "self")
    assert len(list(walk(tmp_path / "sets"))) == 5 + 1, "five images, and the link that leads nowhere"
    assert found(tmp_path / "sets") == {"m": MARKET}


def test_an_alias_is_no_second_set_and_a_copy_is(tmp_path):
    base = subsets(tmp_path / "zz", "market1501")
    (tmp_path / "alias").symlink_to(base)
    (base / "zz").symlink_to(base)
    (tmp_path / "cuhk-03.mat").write_bytes(b"")
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "cuhk-03.mat").symlink_to(tmp_path / "cuhk-03.mat")
    os.link(tmp_path / "cuhk-03.mat", tmp_path / "cuhk03.mat")
    assert found(tmp_path)["zz"] == MARKET and len(found(tmp_path)) == 2
    shutil.copytree(base / "query", tmp_path / "copy" / "query")
    for folder in ("bounding_box_train", "bounding_box_test"):
        shutil.copytree(base / folder, tmp_path / "copy" / folder)
    with pytest.raises(ValueError, match=f"holds {MARKET} more than once .copy and zz."):
        found(tmp_path)


def test_a_set_behind_a_link_is_found(tmp_path):
    base = subsets(tmp_path / "elsewhere", "market1501")
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "m").symlink_to(base)
    (base / "query").rename(tmp_path / "q")
    (base / "query").symlink_to(tmp_path / "q")
    assert found(tmp_path / "sets") == {"m": MARKET}
    (tmp_path / "q").rename(tmp_path / "q2")
    with pytest.raises(ValueError, match=f"lacks query.*query is a link to {tmp_path}/q, which is not there any more"):
        found(tmp_path / "sets")


def test_a_subset_under_nearly_its_name_is_named(tmp_path):
    (subsets(tmp_path, "market1501") / "query").rename(tmp_path / "Query")
    with pytest.raises(ValueError, match="lacks query .*Query is there: write it so"):
        found(tmp_path)


def test_the_path_that_was_meant_is_named(tmp_path):
    subsets(tmp_path / "Market 1501", "market1501")
    (tmp_path / "old").symlink_to(tmp_path / "gone")
    for given in ("market 1501", "Market1501", "Market 1501 "):
        with pytest.raises(FileNotFoundError, match=f"is not there.*{tmp_path}/Market 1501 is there: write it so"):
            found(tmp_path / given)
    with pytest.raises(FileNotFoundError, match=f"old is a link to {tmp_path}/gone, which is not there any more"):
        found(tmp_path / "old")


def test_what_systems_leave_is_no_set(tmp_path):
    for folder in ("@eaDir", ".Trashes", "$RECYCLE.BIN", "__MACOSX", "#recycle"):
        subsets(tmp_path / folder / "m", "market1501")
    with pytest.raises(ValueError, match="found no files"):
        found(tmp_path)
    assert len(recognise([f"m/{name}" for name in walk(tmp_path / "@eaDir" / "m")], tmp_path)) == 1


def test_an_unknown_method_of_packing_is_no_damage(tmp_path):
    import struct
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", b"1")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 10, 9)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="packs 'a.jpg' by a method.*Deflate64.*Unpack it with the program"):
        archives.members(tmp_path / "a.zip")
