import os
import shutil
import zipfile

import official_structure
import pytest

from reid_core import datasets
from reproduction.intake import add, archives

MARKET, MAT = official_structure.MARKET1501, official_structure.CUHK03_MAT


def put(path, root, **options):
    return add.add(path, root, progress=False, **{"accept_differences": True, **options})


def zipped(folder, archive, prefix=""):
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, f"{prefix}{path.relative_to(folder)}")
        file.writestr(f"__MACOSX/{prefix}._junk", b"resource fork")
    return archive


def content(root):
    return sorted(path for path in os.listdir(root))


@pytest.fixture
def np_folders(tmp_path):
    """A folder cuhk03-np with both kinds of boxes, outside of any data folder."""
    rows = official_structure.small_market1501_rows()
    two_cameras = {
        subset: [(person, camera) for person, camera in ids if person > 0 and camera < 3]
        for subset, ids in rows.items()
    }
    for boxes in ("labeled", "detected"):
        official_structure.cuhk03_np(tmp_path / "have", boxes, two_cameras)
    return tmp_path / "have" / "cuhk03-np"


def test_folders_are_linked_and_load(small_data, tmp_path):
    have = tmp_path / "have" / "some other name"
    shutil.copytree(small_data / MARKET, have)
    root = tmp_path / "data"
    report = put(have, root)
    assert (root / MARKET).is_symlink() and (root / MARKET).resolve() == have
    assert set(report["set"]) == {"market1501"}
    loaded = datasets.load("market1501", root)
    assert len(loaded) == len(datasets.load("market1501", small_data))
    assert content(root) == [MARKET]


def test_a_whole_data_folder_adds_everything_in_it(small_data, np_folders, tmp_path):
    root = tmp_path / "data"
    put(small_data, root)
    put(np_folders, root)
    assert content(root) == ["CUHK01", MARKET, "cuhk03-np", "cuhk03_release"]
    for name, options in (("market1501", {}), ("cuhk01", {}), ("cuhk03", {"form": "mat", "progress": False})):
        assert len(datasets.load(name, root, **options))
    assert len(datasets.load("cuhk03", root, form="np", boxes="detected"))


def test_copies_do_not_need_the_original(small_data, tmp_path):
    shutil.copytree(small_data / "CUHK01", tmp_path / "have")
    put(tmp_path / "have", tmp_path / "data", copy=True)
    shutil.rmtree(tmp_path / "have")
    assert len(datasets.load("cuhk01", tmp_path / "data")) == 28


@pytest.mark.parametrize("prefix", ["", "Market-1501-v15.09.15/", "deep/er/x/"])
def test_market1501_zip(small_data, tmp_path, prefix):
    archive = zipped(small_data / MARKET, tmp_path / "m.zip", prefix)
    put(archive, tmp_path / "data")
    loaded = datasets.load("market1501", tmp_path / "data")
    assert len(loaded) == len(datasets.load("market1501", small_data))
    assert not list((tmp_path / "data").rglob("Thumbs.db")) and content(tmp_path / "data") == [MARKET]


def test_cuhk01_zip(small_data, tmp_path):
    archive = zipped(small_data / "CUHK01" / "campus", tmp_path / "CUHK01.zip", "campus/")
    put(archive, tmp_path / "data")
    assert len(datasets.load("cuhk01", tmp_path / "data")) == 28


def test_cuhk03_mat_and_release_zip(small_data, tmp_path):
    shutil.copy(small_data / MAT, tmp_path / "CUHK-03 (1).mat")
    put(tmp_path / "CUHK-03 (1).mat", tmp_path / "data")
    archive = zipped((small_data / MAT).parent, tmp_path / "r.zip", "cuhk03_release/")
    put(archive, tmp_path / "other")
    expected = datasets.load("cuhk03", small_data, progress=False)
    for root in ("data", "other"):
        loaded = datasets.load("cuhk03", tmp_path / root, progress=False)
        assert loaded.drop(columns="image_path").equals(expected.drop(columns="image_path"))


def test_np_zip_and_one_kind_of_boxes(np_folders, tmp_path):
    put(zipped(np_folders, tmp_path / "np.zip", "cuhk03-np/"), tmp_path / "data")
    assert content(tmp_path / "data" / "cuhk03-np") == ["detected", "labeled"]
    put(np_folders / "detected", tmp_path / "other")
    assert content(tmp_path / "other" / "cuhk03-np") == ["detected"]
    (np_folders / "detected").rename(np_folders.parent / "mystery")
    with pytest.raises(ValueError, match="mystery has the folders of CUHK03-NP.*name the folder labeled or detected"):
        put(np_folders.parent / "mystery", tmp_path / "third")


def test_extra_distractors(small_data, tmp_path):
    official_structure.market1501(tmp_path / "x", {}, extra=8)
    root = tmp_path / "data"
    put(small_data / MARKET, root)
    put(zipped(tmp_path / "x" / MARKET / "images", tmp_path / "distractors_500k.zip"), root)
    assert content(root) == ["Market-1501-500k", MARKET]
    assert (datasets.load("market1501", root, distractors=True)["person_id"] == 0).sum() == 3 + 8


def test_what_is_not_as_published_is_refused_and_leaves_nothing(small_data, tmp_path):
    root = tmp_path / "data"
    with pytest.raises(ValueError, match="CUHK01 train: 7 people, 28 images.*published 971, 3,884.*--accept-diff"):
        put(small_data / "CUHK01", root, accept_differences=False)
    archive = zipped(small_data / MARKET, tmp_path / "m.zip")
    with pytest.raises(ValueError, match="Market-1501 train: 6 people, 36 images"):
        put(archive, root, accept_differences=False)
    assert content(root) == []


@pytest.mark.slow
def test_the_official_structure_is_accepted_as_it_is(full_data, tmp_path):
    report = put(full_data, tmp_path / "data", accept_differences=False)
    assert set(report["state"]) == {"ok"}
    archive = zipped(full_data / MARKET, tmp_path / "Market-1501-v15.09.15.zip", f"{MARKET}/")
    report = put(archive, tmp_path / "unpacked", accept_differences=False)
    assert report["state"].tolist() == ["ok"] * 3


def test_wrong_archives_and_paths_are_named(tmp_path):
    root = tmp_path / "data"
    with zipfile.ZipFile(tmp_path / "wrong.zip", "w") as file:
        file.writestr("DukeMTMC-reID/holiday/1.jpg", b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 cut")
    for name, message in (
        ("wrong.zip", "wrong.zip holds none of the data sets. Looked for Market-1501.*found DukeMTMC-reID/holiday"),
        ("empty", "holds none of the data sets.*found no files"),
        ("a.rar", "no folder, .mat file or ZIP archive"),
        ("cut.zip", "not a whole ZIP archive"),
    ):
        with pytest.raises(ValueError, match=message):
            put(tmp_path / name, root)
    with pytest.raises(FileNotFoundError, match="nothing is not there"):
        put(tmp_path / "nothing", root)
    assert not root.exists()


def test_a_missing_subset_is_named(small_data, tmp_path):
    shutil.copytree(small_data / MARKET, tmp_path / "have")
    shutil.rmtree(tmp_path / "have" / "query")
    with pytest.raises(ValueError, match="have lacks query .*although it holds bounding_box_test, bounding_box_train"):
        put(tmp_path / "have", tmp_path / "data")


def test_a_set_that_does_not_load_is_refused_and_leaves_nothing(small_data, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(small_data / MARKET, tmp_path / "have")
    (tmp_path / "have" / "query" / "holiday.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="have is not added: .*holiday.jpg is not named"):
        put(tmp_path / "have", root)
    mat = tmp_path / "cuhk-03.mat"
    mat.write_bytes((small_data / MAT).read_bytes()[:9000])
    with pytest.raises(ValueError, match="is not added: .*truncated"):
        put(mat, root)
    assert content(root) == []


def test_what_is_there_already_is_not_replaced(small_data, tmp_path):
    put(small_data / "CUHK01", tmp_path / "data")
    with pytest.raises(FileExistsError, match="CUHK01/campus is there already"):
        put(small_data / "CUHK01", tmp_path / "data")


def test_two_of_one_kind_are_refused(small_data, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(small_data / "CUHK01", tmp_path / "have" / name)
    with pytest.raises(ValueError, match="holds CUHK01/campus more than once"):
        put(tmp_path / "have", tmp_path / "data")


def test_official_data_is_never_added_to_embedded_data(small_data, tmp_path):
    (tmp_path / "embedded.json").write_text("{}")
    with pytest.raises(ValueError, match="holds embedded data, which is never mixed"):
        put(small_data, tmp_path)


def test_an_interrupted_addition_leaves_nothing_and_a_killed_one_is_cleaned_up(small_data, tmp_path, monkeypatch):
    root = tmp_path / "data"
    (root / ".adding-killed" / MARKET).mkdir(parents=True)
    archive = zipped(small_data / MARKET, tmp_path / "m.zip")

    def interrupted(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(archives, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        put(archive, root)
    assert content(root) == []


def test_a_failed_move_is_undone(small_data, tmp_path, monkeypatch):
    replace, calls = os.replace, []

    def failing(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(add.os, "replace", failing)
    with pytest.raises(OSError, match="Input/output error"):
        put(small_data, tmp_path / "data")
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_symlink() or path.is_file()]


def test_a_full_disk_is_reported(small_data, tmp_path, monkeypatch):
    archive = zipped(small_data / MARKET, tmp_path / "m.zip")
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 0}))
    with pytest.raises(OSError, match="data has too little space, and nothing was added: .*m.zip needs"):
        put(archive, tmp_path / "data")
    assert content(tmp_path / "data") == []


def test_a_disk_that_fills_while_copying_is_reported_once(small_data, tmp_path, monkeypatch):
    copyfile, copied = shutil.copyfile, []

    def until_full(source, target):
        if len(copied) == 5:
            raise OSError(28, "No space left on device", str(source))
        copied.append(copyfile(source, target))

    monkeypatch.setattr(add.shutil, "copyfile", until_full)
    with pytest.raises(OSError, match="data has too little space, and nothing was added: No space left on dev"):
        put(small_data / MARKET, tmp_path / "data", copy=True)
    assert len(copied) == 5 and content(tmp_path / "data") == []


def test_a_data_folder_that_cannot_be_made_is_reported(small_data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file/data cannot be written.*--root"):
        put(small_data, tmp_path / "file" / "data")


def test_a_read_only_data_folder_is_reported(small_data, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir(mode=0o500)
    if os.geteuid() == 0:  # root writes everywhere

        def refused(**given):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(add.tempfile, "mkdtemp", refused)
    with pytest.raises(PermissionError, match=r"cannot be written \(Permission denied\).*--root"):
        put(small_data, tmp_path / "data")
    assert content(tmp_path / "data") == []


@pytest.mark.parametrize("given", ["outer", "inner"])
def test_a_set_too_deep_in_its_place_is_to_be_moved_up_not_removed(small_data, tmp_path, given):
    root = tmp_path / "data"
    inner = root / MARKET / MARKET
    shutil.copytree(small_data / MARKET, inner)
    with pytest.raises(FileExistsError, match=f"lies too deep in it, in {inner}: move what") as said:
        put(inner if given == "inner" else inner.parent, root)
    assert "emove" not in str(said.value) and len(list(inner.iterdir())) == 4
    report = put(inner.parent, tmp_path / "other")
    assert set(report["set"]) == {"market1501"}


def test_images_that_lie_above_their_place_are_to_be_moved(small_data, tmp_path):
    shutil.copytree(small_data / "CUHK01" / "campus", tmp_path / "CUHK01")
    with pytest.raises(FileExistsError, match="CUHK01 holds the images themselves: move them into a folder .*campus"):
        put(tmp_path / "CUHK01", tmp_path)
    assert len(list((tmp_path / "CUHK01").iterdir())) == 28


def test_what_is_there_already_is_told_apart_from_what_is_given(small_data, tmp_path):
    put(small_data / "CUHK01", tmp_path / "data")
    with pytest.raises(FileExistsError, match="campus is there already, and is this very data"):
        put(small_data / "CUHK01", tmp_path / "data")
    shutil.copytree(small_data / "CUHK01", tmp_path / "copy")
    with pytest.raises(
        FileExistsError, match="campus is there already.*move .*campus out of the data folder first"
    ) as said:
        put(tmp_path / "copy", tmp_path / "data")
    assert "emove" not in str(said.value)


def test_a_dead_link_is_no_set_that_is_there(small_data, tmp_path):
    shutil.copytree(small_data / MARKET, tmp_path / "disk")
    root = tmp_path / "data"
    put(tmp_path / "disk", root)
    (tmp_path / "disk").rename(tmp_path / "disk2")
    message = f"{MARKET} is a link to {tmp_path}/disk, which is not there any more.*remove the link .it is no data"
    with pytest.raises(FileExistsError, match=message):
        put(tmp_path / "disk2", root)
    (root / MARKET).unlink()
    assert set(put(tmp_path / "disk2", root)["set"]) == {"market1501"}


@pytest.mark.parametrize("copy", [False, True])
def test_clutter_and_loops_in_a_set_do_no_harm(small_data, tmp_path, copy):
    shutil.copytree(small_data / MARKET, tmp_path / "have")
    (tmp_path / "have" / "up").symlink_to(tmp_path / "have")
    (tmp_path / "have" / "query" / "@eaDir").mkdir()
    for name in (".nfs0001", "Picasa.ini", "~$a.docx"):
        (tmp_path / "have" / "query" / name).write_bytes(b"")
    put(tmp_path / "have", tmp_path / "data", copy=copy)
    loaded = datasets.load("market1501", tmp_path / "data")
    assert len(loaded) == len(datasets.load("market1501", small_data))


def test_an_archive_of_windows_is_unpacked(small_data, tmp_path):
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("Müller\\query\\", b"")
        for path in sorted((small_data / MARKET).rglob("*.jpg")):
            name = str(path.relative_to(small_data / MARKET)).replace("/", "\\")
            archive.writestr(f"Müller\\{name}", path.read_bytes())
    put(tmp_path / "w.zip", tmp_path / "data")
    assert len(datasets.load("market1501", tmp_path / "data")) == len(datasets.load("market1501", small_data))


def test_only_what_is_recognised_is_added(small_data, tmp_path):
    shutil.copytree(small_data / MARKET, tmp_path / "have" / "market")
    other = tmp_path / "have" / "DukeMTMC-reID"
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (other / folder).mkdir(parents=True)
        (other / folder / "0001_c2_f0046182.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match="DukeMTMC-reID is passed over"):
        put(tmp_path / "have", tmp_path / "data")
    assert content(tmp_path / "data") == [MARKET]
