import errno
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading

import h5py
import numpy as np
import official_structure
import pytest
from PIL import Image

from reid_core import datasets
from reid_core.datasets import cuhk03, cuhk03_mat
from reid_core.datasets.table import CAMERA, PATH, PERSON, SUBSET, SUBSETS
from reproduction.intake import published


@pytest.fixture
def mat(small_data, tmp_path):
    """A data folder of its own with the small cuhk-03.mat."""
    target = tmp_path / official_structure.CUHK03_MAT
    target.parent.mkdir()
    shutil.copy(small_data / official_structure.CUHK03_MAT, target)
    return target


def load(root, **options):
    return datasets.load("cuhk03", root, progress=False, **options)


def naive_split(person, camera, test_people):
    """The released split written down step by step, on lists."""
    rand = np.random.RandomState(5489).rand

    def permutation(values):
        return [value for _, value in sorted(zip(rand(len(values)), values, strict=True))]

    subset = {index: "train" for index in range(len(person))}
    for candidate in permutation(sorted(set(person))):
        views = [[i for i in range(len(person)) if person[i] == candidate and camera[i] == view] for view in (1, 2)]
        if test_people == 0 or len(views[0]) <= 1 or len(views[1]) <= 1:
            continue
        test_people -= 1
        for view in views:
            shuffled = permutation(view)
            subset |= {index: "gallery" for index in shuffled} | {shuffled[0]: "query"}
    return [subset[index] for index in range(len(person))]


def test_the_split_equals_a_naive_walk():
    rng = np.random.default_rng(0)
    person, camera = np.sort(rng.integers(1, 40, 200)), rng.integers(1, 3, 200)
    assert cuhk03.new_protocol(person, camera, 12).tolist() == naive_split(person.tolist(), camera.tolist(), 12)
    share = round(len(np.unique(person)) * 700 / 1467)
    assert cuhk03.new_protocol(person, camera).tolist() == naive_split(person.tolist(), camera.tolist(), share)


def test_the_split_s_properties():
    rng = np.random.default_rng(1)
    person, camera = rng.integers(1, 60, 500), rng.integers(1, 3, 500)
    subset = cuhk03.new_protocol(person, camera, 20)
    test = np.unique(person[subset == "query"])
    assert len(test) == 20 and (subset == "query").sum() == 40
    assert set(test) == set(person[subset == "gallery"]) and not set(test) & set(person[subset == "train"])


@pytest.mark.parametrize("boxes", cuhk03.BOXES)
def test_the_split_equals_the_official_one_index_for_index(official_arrays, boxes):
    official = np.load(official_arrays / f"cuhk03_np_{boxes}.npz")
    subset = cuhk03.new_protocol(official["person_id"], official["camera_id"])
    for name in SUBSETS:
        assert np.array_equal(np.flatnonzero(subset == name), official[name])
    assert cuhk03.split_digests(subset) == cuhk03.SPLIT_DIGESTS[boxes]


def test_images_are_extracted_with_official_names_and_right_pixels(small_data):
    loaded = load(small_data)
    names = sorted(os.path.basename(path) for path in loaded[PATH])
    expected = official_structure.cuhk03_names(official_structure.SMALL_PAIRS, 0.3, 1)
    assert names == sorted(expected) and "1_001_1_01.png" in names
    pictures = official_structure.pixels(9 + 1)
    first = dict(zip(map(os.path.basename, loaded[PATH]), loaded[PATH], strict=True))
    for number in (0, 7, 40):
        with Image.open(first[expected[number]]) as image:
            assert np.array_equal(np.asarray(image), pictures[number % len(pictures)])


def test_people_are_numbered_pair_after_pair_and_the_camera_is_the_view(small_data):
    loaded = load(small_data, boxes="detected")
    starts = dict(enumerate(np.cumsum([0, *official_structure.SMALL_PAIRS]), 1))
    for path, person, camera in zip(loaded[PATH], loaded[PERSON], loaded[CAMERA], strict=True):
        pair, number, view, _ = (int(part) for part in os.path.basename(path)[:-4].split("_"))
        assert (person, camera) == (starts[pair] + number, view)
    assert loaded[PERSON].nunique() == 25
    assert loaded.loc[loaded[SUBSET] == "query", PERSON].nunique() == 12


def test_extraction_happens_once_and_again_when_the_file_changes(mat, own_cache):
    first = load(mat.parents[1])
    kept = first[PATH].iloc[0]
    before = os.stat(kept).st_mtime_ns
    assert load(mat.parents[1]).equals(first) and os.stat(kept).st_mtime_ns == before
    with h5py.File(mat, "r+") as file:
        file["#refs#/labeled0"][...] = 0
    os.utime(mat, ns=(1, 1))
    second = load(mat.parents[1])
    assert set(second[PATH]).isdisjoint(first[PATH])
    assert not [name for name in os.listdir(own_cache / "cuhk03") if name.startswith(".")]


def test_an_interrupted_extraction_leaves_nothing_and_the_next_one_works(mat, own_cache, monkeypatch):
    write, written = cuhk03_mat._write_png, []

    def interrupted(pixels, path):
        if len(written) == 20:
            raise KeyboardInterrupt
        written.append(path)
        write(pixels, path)

    monkeypatch.setattr(cuhk03_mat, "_write_png", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(mat.parents[1])
    folder = next((own_cache / "cuhk03").iterdir())
    assert os.listdir(folder) == ["labeled.lock"]
    (folder / ".labeled.killed").mkdir()
    monkeypatch.setattr(cuhk03_mat, "_write_png", write)
    assert len(load(mat.parents[1])) > 20
    assert sorted(os.listdir(folder)) == ["labeled", "labeled.lock"]


def test_two_at_a_time_extract_once(mat, monkeypatch):
    calls, extract = [], cuhk03_mat._extract
    monkeypatch.setattr(cuhk03_mat, "_extract", lambda *given: (calls.append(given), extract(*given)))
    results = []
    threads = [threading.Thread(target=lambda: results.append(load(mat.parents[1]))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1 and results[0].equals(results[1])


def test_the_index_is_the_extraction_without_the_images(mat, own_cache):
    index = cuhk03_mat.index(mat, "detected")
    assert not (own_cache / "cuhk03").exists()
    release = cuhk03_mat.open_release(mat, "detected")
    assert (index.names, index.people, index.testsets) == (release.names, release.people, release.testsets)
    assert cuhk03_mat.index(mat, "detected").folder == release.folder


def test_a_classic_test_set_is_its_people_in_two_views(small_data):
    loaded = load(small_data, testset=3)
    with h5py.File(small_data / official_structure.CUHK03_MAT) as file:
        chosen = {tuple(row) for row in file[file["testsets"][0, 3]][()].T.astype(int).tolist()}
    test = loaded[loaded[SUBSET] != "train"]
    people = {tuple(int(part) for part in os.path.basename(path).split("_")[:2]) for path in test[PATH]}
    assert people == chosen and len(chosen) == 5
    assert set(loaded.loc[loaded[SUBSET] == "query", CAMERA]) == {1}
    assert set(loaded.loc[loaded[SUBSET] == "gallery", CAMERA]) == {2}
    with pytest.raises(ValueError, match="testset is 20; the file has 0 to 19"):
        load(small_data, testset=20)


def folders_of(loaded):
    return {
        subset: list(zip(part[PERSON].tolist(), part[CAMERA].tolist(), strict=True))
        for subset, part in loaded.groupby(SUBSET)
    }


def test_both_forms_give_the_same_people_cameras_and_counts(small_data, tmp_path):
    for boxes in cuhk03.BOXES:
        from_mat = load(small_data, boxes=boxes)
        official_structure.cuhk03_np(tmp_path, boxes, folders_of(from_mat))
        from_folders = load(tmp_path, boxes=boxes)
        for subset in SUBSETS:
            assert published.found(from_mat[from_mat[SUBSET] == subset]) == published.found(
                from_folders[from_folders[SUBSET] == subset]
            )
    with pytest.raises(ValueError, match="cuhk-03.mat only"):
        load(tmp_path, testset=0)


@pytest.mark.parametrize("boxes", cuhk03.BOXES)
def test_the_full_mat_equals_the_official_arrays_and_the_folders(full_data, official_arrays, boxes):
    index = cuhk03_mat.index(full_data / official_structure.CUHK03_MAT, boxes)
    official = np.load(official_arrays / f"cuhk03_np_{boxes}.npz")
    assert index.names == official["file_name"].tolist()
    from_mat = cuhk03.release_table(index)
    from_folders = load(full_data, boxes=boxes, form="np")
    for subset, expected in published.SETS[f"cuhk03_{boxes}"].items():
        for loaded in (from_mat, from_folders):
            assert published.found(loaded[loaded[SUBSET] == subset]) == expected


@pytest.mark.slow
@pytest.mark.parametrize("boxes", cuhk03.BOXES)
def test_the_full_mat_is_extracted_whole(full_data, boxes):
    loaded = load(full_data, boxes=boxes)
    assert len(loaded) == {"labeled": 14096, "detected": 14097}[boxes]
    assert all(os.path.isfile(path) for path in loaded[PATH])


def test_a_full_size_mat_with_another_split_is_refused(tmp_path):
    names = official_structure.cuhk03_names([843, 440, 77, 58, 49], 1, 0)
    release = cuhk03_mat.Release(tmp_path, names, [843, 440, 77, 58, 49], [])
    with pytest.raises(ValueError, match="published CUHK03-NP split of the labeled images.*not the released one"):
        cuhk03.check_split(release, "labeled", tmp_path)
    (tmp_path / "embedded.json").write_text("{}")
    cuhk03.check_split(release, "labeled", tmp_path)


def test_wrong_options_are_refused(small_data):
    with pytest.raises(ValueError, match="boxes is 'hand'"):
        load(small_data, boxes="hand")
    with pytest.raises(ValueError, match="form is 'zip'"):
        load(small_data, form="zip")


def test_a_missing_set_names_both_forms(tmp_path):
    with pytest.raises(FileNotFoundError, match="cuhk_?03_release/cuhk-03.mat .or cuhk03-np/. is needed"):
        load(tmp_path)
    (tmp_path / "cuhk03-np" / "labeled").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="cuhk03-np/detected is needed"):
        load(tmp_path, boxes="detected")
    with pytest.raises(FileNotFoundError, match="bounding_box_train is missing"):
        load(tmp_path)


def test_a_truncated_mat_is_named(mat):
    with open(mat, "r+b") as file:
        file.truncate(mat.stat().st_size // 2)
    with pytest.raises(ValueError, match="cuhk-03.mat cannot be read as CUHK03: it is truncated"):
        load(mat.parents[1])


def test_a_mat_of_another_kind_is_named(mat):
    with h5py.File(mat, "w") as file:
        file["features"] = np.zeros(3)
    with pytest.raises(ValueError, match="lacks detected, labeled, testsets and holds features"):
        load(mat.parents[1])
    with h5py.File(mat, "w") as file:
        for name in ("labeled", "detected", "testsets"):
            file[name] = np.zeros(3)
    with pytest.raises(ValueError, match="labeled is not a MATLAB cell array"):
        load(mat.parents[1])
    mat.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(4096))
    with pytest.raises(ValueError, match="MATLAB v5 file, as the split files"):
        load(mat.parents[1])
    mat.write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(ValueError, match="not a MATLAB v7.3"):
        load(mat.parents[1])


def test_a_pair_of_another_shape_and_a_cell_that_is_no_image_are_named(mat):
    with h5py.File(mat, "r+") as file:
        pair = file[file["labeled"][0, 0]]
        other = file["#refs#"].create_dataset("text", data=np.zeros((3, 4, 4), np.float32))
        pair[0, 0] = other.ref
    with pytest.raises(ValueError, match="image 1_001_1_01.png of labeled is float32"):
        load(mat.parents[1])
    with h5py.File(mat, "r+") as file:
        wrong = file["#refs#"].create_dataset("wrong", (4, 12), dtype=h5py.ref_dtype)
        file["labeled"][0, 0] = wrong.ref
    with pytest.raises(ValueError, match=r"camera pair 1 of labeled is not a cell of M x 10 images .*\(4, 12\)"):
        load(mat.parents[1])


def test_a_file_damaged_within_is_named(small_data, tmp_path):
    whole = (small_data / official_structure.CUHK03_MAT).read_bytes()
    mat = tmp_path / official_structure.CUHK03_MAT
    mat.parent.mkdir()
    middle = len(whole) // 2
    mat.write_bytes(whole[:middle] + b"\xff" * 4000 + whole[middle + 4000 :])
    with pytest.raises(ValueError, match="cuhk-03.mat cannot be read as CUHK03: it is damaged.*download it again"):
        datasets.load("cuhk03", tmp_path, progress=False)


def test_a_full_disk_is_reported_with_the_remedy(mat, own_cache, monkeypatch):
    def full(pixels, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cuhk03_mat, "_write_png", full)
    with pytest.raises(OSError, match="cannot be extracted to .*No space left on device.*REID_CORE_CACHE"):
        load(mat.parents[1])
    assert not list(own_cache.glob("cuhk03/*/labeled"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_cache_that_cannot_be_written_is_reported(mat, own_cache):
    own_cache.chmod(0o500)
    with pytest.raises(PermissionError, match="REID_CORE_CACHE"):
        load(mat.parents[1])


def test_a_cache_below_a_file_is_reported(mat, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="REID_CORE_CACHE"):
        load(mat.parents[1])


def test_a_read_only_data_folder_is_enough(mat):
    root = mat.parents[1]
    for path in (mat, mat.parent, root):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        before = sorted(str(path) for path in root.rglob("*"))
        assert len(load(root)) > 0
        assert sorted(str(path) for path in root.rglob("*")) == before
    finally:
        for path in (root, mat.parent, mat):
            path.chmod(path.stat().st_mode | 0o200)


def test_the_manifest_holds_no_absolute_path(mat, own_cache):
    load(mat.parents[1])
    manifest = json.loads(next(own_cache.glob("cuhk03/*/labeled/release.json")).read_text())
    assert set(manifest) == {"source", "boxes", "people", "names", "testsets"}
    assert str(mat.parent) not in json.dumps(manifest)


def test_the_fingerprint_is_the_files_sha256(mat):
    assert cuhk03_mat.fingerprint(mat) == hashlib.sha256(mat.read_bytes()).hexdigest()
    assert cuhk03_mat.fingerprint(mat) == hashlib.sha256(mat.read_bytes()).hexdigest()


def test_a_mat_that_another_program_writes_is_locked_and_not_damaged(mat):
    with open(mat, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(
            OSError, match="cuhk-03.mat cannot be opened .*Another program has it open to write"
        ) as said:
            load(mat.parents[1])
    assert "damaged" not in str(said.value) and "extracted" not in str(said.value)
    assert len(load(mat.parents[1]))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_mat_on_a_file_system_without_locks_is_read(mat, monkeypatch, number):
    def without_locks(path, mode, opened=h5py.File, **options):
        if options.get("locking") is not False:
            raise OSError(number, f"Unable to synchronously open file (unable to lock file, errno = {number})")
        return opened(path, mode, **options)

    monkeypatch.setattr(h5py, "File", without_locks)
    assert len(load(mat.parents[1]))


def test_a_mat_that_cannot_be_opened_at_all_says_why(mat, monkeypatch):
    def refused(*given, **options):
        raise OSError(errno.ENOLCK, "unable to lock file")

    monkeypatch.setattr(h5py, "File", refused)
    with pytest.raises(OSError, match=r"cuhk-03.mat cannot be opened \(No locks available\)") as said:
        load(mat.parents[1])
    assert "damaged" not in str(said.value) and "MATLAB" not in str(said.value)


def test_a_mat_that_changes_while_it_is_read_is_not_kept(mat, own_cache, monkeypatch):
    write = cuhk03_mat._write_png

    def meanwhile(pixels, path):
        os.utime(mat, ns=(1, 1))
        write(pixels, path)

    monkeypatch.setattr(cuhk03_mat, "_write_png", meanwhile)
    with pytest.raises(ValueError, match="cuhk-03.mat changed while it was read. Wait until it is copied whole"):
        load(mat.parents[1])
    assert not list(own_cache.rglob("*.png"))


def test_an_empty_mat_is_truncated(mat):
    mat.write_bytes(b"")
    with pytest.raises(ValueError, match="it is truncated .0 bytes are here.; copy or download it again"):
        load(mat.parents[1])


def test_another_content_under_an_old_date_is_another_file(mat):
    first = cuhk03_mat.fingerprint(mat)
    date = mat.stat().st_mtime_ns
    content = bytearray(mat.read_bytes())
    content[-1] ^= 1
    mat.write_bytes(content)
    os.utime(mat, ns=(date, date))
    assert cuhk03_mat.fingerprint(mat) != first


def test_hdf5_is_loaded_where_a_mat_is_opened():
    code = "import sys; from reid_core import datasets, evaluation; sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
