"""The rendered folder: layouts, counts, determinism, and refusals that leave everything as it was."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import tqdm
from PIL import Image

from reid_core import files
from reproduction.embedded import CUHK01Sizes, CUHK03Sizes, Market1501Sizes, Sizes, rendering
from reproduction.embedded.rendering import render

SMALL = Sizes(Market1501Sizes(4, 12, 4, 9, 14, 3, 4), CUHK03Sizes((4, 2, 1, 1, 1), 42, 29, 41, 30), CUHK01Sizes(3))
MARKET_NAME = re.compile(r"(-1|\d{4})_c([1-6])s([1-6])_(\d{6})_(\d{2})\.jpg")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return render(tmp_path_factory.mktemp("embedded") / "data", SMALL, seed=3, workers=1, progress=False)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def market_names(root: Path, folder: str) -> list[re.Match]:
    files = sorted(path.name for path in (root / "Market-1501-v15.09.15" / folder).iterdir())
    matches = [MARKET_NAME.fullmatch(name) for name in files]
    assert all(matches), files
    return matches


def test_market1501_has_official_names_and_counts(root):
    train, query, test = (market_names(root, f) for f in ("bounding_box_train", "query", "bounding_box_test"))
    sizes = SMALL.market1501
    assert len(train) == sizes.train_images and len(query) == sizes.query_images
    gallery = [match[1] for match in test]
    assert gallery.count("-1") == sizes.junk_images and gallery.count("0000") == sizes.distractor_images
    assert len(gallery) == sizes.good_images + sizes.junk_images + sizes.distractor_images
    train_people, test_people = {m[1] for m in train}, {m[1] for m in query}
    assert len(train_people) == 4 and len(test_people) == 4 and not train_people & test_people
    assert set(gallery) - {"-1", "0000"} == test_people
    assert len({(m[1], m[2]) for m in query}) == len(query), "at most one query a person and camera"
    assert {m[5] for m in query} == {"00"}


def test_every_market1501_query_has_a_match_in_another_camera(root):
    gallery = {(m[1], m[2]) for m in market_names(root, "bounding_box_test")}
    for match in market_names(root, "query"):
        assert any(person == match[1] and camera != match[2] for person, camera in gallery)


def test_market1501_images_are_jpegs_of_64_by_128(root):
    for path in (root / "Market-1501-v15.09.15").rglob("*.jpg"):
        with Image.open(path) as image:
            assert image.format == "JPEG" and image.size == (64, 128) and image.mode == "RGB"


def test_cuhk01_has_official_names(root):
    files = sorted(path.name for path in (root / "CUHK01/campus").iterdir())
    assert files == [f"{person:04d}{image:03d}.png" for person in (1, 2, 3) for image in (1, 2, 3, 4)]
    with Image.open(root / "CUHK01/campus" / files[0]) as image:
        assert image.format == "PNG" and image.size == (60, 160)


def test_cuhk03_is_a_matlab_73_file(root):
    path = root / "cuhk03_release/cuhk-03.mat"
    header = path.read_bytes()[:512]
    assert header.startswith(b"MATLAB 7.3 MAT-file") and header[116:128] == bytes(8) + b"\x00\x02IM"
    with h5py.File(path) as file:
        assert file.userblock_size == 512
        assert set(file) == {"#refs#", "detected", "labeled", "testsets"}
        for name in ("detected", "labeled", "testsets"):
            assert file[name].attrs["MATLAB_class"] == b"cell"
            assert h5py.check_ref_dtype(file[name].dtype) is h5py.Reference


def test_cuhk03_cells_hold_column_major_images(root):
    with h5py.File(root / "cuhk03_release/cuhk-03.mat") as file:
        for form, total in (("labeled", 71 - 29 + 29 + 8), ("detected", 71 + 8)):
            assert file[form].shape == (1, 5)
            images = 0
            for pair, reference in enumerate(file[form][0]):
                cell = file[reference]
                assert cell.shape == (10, SMALL.cuhk03.pair_people[pair])
                assert cell.attrs["MATLAB_class"] == b"cell"
                for image in (file[ref] for ref in cell[:].ravel()):
                    if "MATLAB_empty" in image.attrs:
                        assert image.attrs["MATLAB_empty"] == 1 and image[:].tolist() == [0, 0]
                        continue
                    images += 1
                    assert image.attrs["MATLAB_class"] == b"uint8" and image.dtype == np.uint8
                    channels, width, height = image.shape
                    assert channels == 3 and height > 1.3 * width
            assert images == SMALL.cuhk03.images(form) == total


def test_cuhk03_test_sets_name_pairs_and_people(root):
    with h5py.File(root / "cuhk03_release/cuhk-03.mat") as file:
        assert file["testsets"].shape == (1, 20)
        for reference in file["testsets"][0]:
            table = file[reference][:].T
            assert table.shape == (4, 2) and file[reference].dtype == np.float64
            assert len({tuple(row) for row in table}) == 4
            for pair, person in table.astype(int):
                assert 1 <= person <= SMALL.cuhk03.pair_people[pair - 1]


def test_detected_boxes_differ_from_labeled_ones_of_the_same_frame(root):
    with h5py.File(root / "cuhk03_release/cuhk-03.mat") as file:
        labeled, detected = (file[file[file[form][0, 0]][0, 0]] for form in ("labeled", "detected"))
        assert labeled.shape != detected.shape or (labeled[:] != detected[:]).any()


def test_the_record_names_version_seed_sizes_and_counts(root):
    record = json.loads((root / "embedded.json").read_text())
    assert record["renderer_version"] == rendering.VERSION and record["seed"] == 3
    assert record["sizes"] == SMALL.as_dict()
    assert record["counts"]["market1501"] == {"train": 12, "query": 9, "good": 14, "distractor": 3, "junk": 4}
    assert record["counts"]["cuhk03"] == {"labeled": 79, "detected": 79}
    assert record["counts"]["cuhk01"] == {"campus": 12} and len(record["digest"]) == 64


def test_any_number_of_workers_gives_the_same_bytes(root, tmp_path):
    other = render(tmp_path / "data", SMALL, seed=3, workers=3, progress=False)
    assert contents(other) == contents(root)


def test_another_seed_gives_other_pictures(root, tmp_path):
    other = render(tmp_path / "data", SMALL, seed=4, workers=1, progress=False)
    digests = [json.loads((r / "embedded.json").read_text())["digest"] for r in (root, other)]
    assert digests[0] != digests[1]


def test_a_finished_rendering_is_left_alone(root, monkeypatch):
    monkeypatch.setattr(rendering, "render_into", lambda *a: pytest.fail("rendered again"))
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert render(root, SMALL, seed=3, progress=False) == root
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_another_rendering_is_replaced_only_on_demand(root, tmp_path):
    data = Path(shutil.copytree(root, tmp_path / "data"))
    with pytest.raises(FileExistsError, match="another rendering.*seed 3 instead of 5.*replace=True"):
        render(data, SMALL, seed=5, progress=False)
    assert contents(data) == contents(root)
    render(data, SMALL, seed=5, workers=1, progress=False, replace=True)
    assert json.loads((data / "embedded.json").read_text())["seed"] == 5
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_foreign_folder_is_never_touched(tmp_path, replace):
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="not embedded data"):
        render(tmp_path, SMALL, progress=False, replace=replace)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_too_little_space_is_found_before_drawing(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=rf"{tmp_path} has 1 MiB free and needs .* MiB for rendering.*smaller sizes"):
        render(tmp_path / "data", SMALL, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interruption_leaves_nothing(tmp_path, monkeypatch, workers):
    def interrupted(self, n=1):
        raise KeyboardInterrupt

    monkeypatch.setattr(tqdm.tqdm, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        render(tmp_path / "data", SMALL, workers=workers, progress=False)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_rendering_left_is_removed(tmp_path):
    killed = f"{files._HOST}.{files._BOOT}.999999999-abcd_123"
    dead, other = tmp_path / f".data.{killed}", tmp_path / f".mine.{killed}"
    for folder in (dead, dead.with_name(f"{dead.name}-old"), other):
        folder.mkdir()
    render(tmp_path / "data", SMALL, workers=1, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == [other.name, "data"]


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="seed .* is -1"):
        render(tmp_path / "a", SMALL, seed=-1)
    with pytest.raises(ValueError, match="workers is 0"):
        render(tmp_path / "a", SMALL, workers=0)
