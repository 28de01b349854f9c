import shutil

import official_structure

from reid_core import datasets
from reproduction.intake import status


def rows(frame):
    return frame.set_index(["set", "form", "subset"])


def test_an_empty_or_absent_folder_lists_what_to_place_where(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        frame = status.status(root)
        assert frame["state"].tolist() == ["missing"] * 5
        text = status.render_text(frame, root)
        assert "Market-1501: place Market-1501-v15.09.15/ with bounding_box_train, query, bounding_box_test in" in text
        assert "cuhk03_release/cuhk-03.mat, or cuhk03-np/detected/" in text and "reid-core data add" in text
    assert not (tmp_path / "nowhere").exists()


def test_small_data_differs_from_the_published_numbers(small_data):
    frame = rows(status.status(small_data, progress=False))
    market = frame.loc[("market1501", "folders", "gallery")]
    assert (market["people"], market["people published"], market["images"]) == (4, 750, 29)
    assert market["state"] == "differs" and market["digest"] != market["digest published"]
    assert frame.loc[("cuhk03_detected", "mat", "query"), "people"] == 12
    text = status.render_text(frame.reset_index(), small_data)
    assert "12,936" in text and "(!)" in text and "official data" in text
    assert "differs from the published set" in text and "obtain that set again, whole" in text


def test_embedded_data_is_found_and_not_compared(small_data, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(small_data, root)
    (root / "embedded.json").write_text("{}")
    frame = status.status(root, progress=False)
    assert set(frame["state"]) == {"found", "missing"}
    text = status.render_text(frame, root)
    assert "embedded data" in text and "(!)" not in text and "not rendered" in text
    assert "differs" not in text


def test_a_broken_set_says_why_and_the_others_are_shown(small_data, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(small_data, root)
    shutil.rmtree(root / "Market-1501-v15.09.15" / "query")
    mat = root / official_structure.CUHK03_MAT
    mat.write_bytes(mat.read_bytes()[:5000])
    frame = status.status(root, progress=False).set_index("set")
    assert frame.loc["market1501", "state"] == "broken" and "query is missing" in frame.loc["market1501", "note"]
    assert frame.loc["cuhk03_labeled", "state"] == "broken" and "truncated" in frame.loc["cuhk03_labeled", "note"]
    assert frame.loc["cuhk01", "state"] == "differs"
    assert "truncated" in status.render_text(frame.reset_index(), root)


def test_both_forms_and_the_extra_distractors_are_shown(small_data, tmp_path):
    shutil.copytree(small_data, tmp_path, dirs_exist_ok=True)
    official_structure.cuhk03_np(tmp_path, "labeled", official_structure.small_market1501_rows())
    official_structure.market1501(tmp_path, official_structure.small_market1501_rows(), extra=4)
    assert status.forms(tmp_path)["cuhk03_labeled"] == ["mat", "np"]
    frame = rows(status.status(tmp_path, progress=False))
    assert ("cuhk03_labeled", "np", "train") in frame.index
    distractors = frame.loc[(status.DISTRACTORS, "folders", "gallery")]
    assert (distractors["images"], distractors["images published"], distractors["state"]) == (4, 500000, "differs")


def test_own_data_is_listed(tmp_path):
    (tmp_path / "a.png").write_bytes(official_structure.encoded("png", count=1)[0])
    (tmp_path / "shop.csv").write_text("image_path,person_id,camera_id,subset\na.png,1,1,train\n")
    (tmp_path / "bad.csv").write_text("x\n1\n")
    frame = status.status(tmp_path).set_index("set")
    assert frame.loc["shop.csv", "state"] == "found" and frame.loc["shop.csv", "images"] == 1
    assert frame.loc["bad.csv", "state"] == "broken"


def test_missing_sets_explain_why_their_rows_are_not_run(small_data, tmp_path):
    assert status.missing(small_data) == {}
    shutil.copytree(small_data / "Market-1501-v15.09.15", tmp_path / "Market-1501-v15.09.15")
    assert status.missing(tmp_path) == {
        "cuhk03_labeled": "not run: CUHK03 not found (see reid-core data status)",
        "cuhk03_detected": "not run: CUHK03 not found (see reid-core data status)",
        "cuhk01": "not run: CUHK01 not found (see reid-core data status)",
    }
    official_structure.cuhk03_np(tmp_path, "labeled", official_structure.small_market1501_rows())
    assert status.missing(tmp_path)["cuhk03_detected"].startswith("not run: CUHK03 detected not found")


def test_nothing_is_written(small_data, own_cache):
    status.status(small_data, progress=False)
    assert [path.name for path in own_cache.iterdir()] == ["digests"]


def test_the_official_structure_is_ok_throughout(full_data):
    frame = status.status(full_data, progress=False)
    present = frame[frame["set"] != status.DISTRACTORS]
    assert set(present["state"]) == {"ok"} and len(present) == 3 + 4 * 3 + 1
    assert (present["digest"] == present["digest published"]).all()
    mat = rows(frame).loc[("cuhk03_labeled", "mat", "train")]
    assert mat["digest"] == "c4e6ab297c1123c0"


def test_one_lost_image_and_one_renamed_person_are_seen(full_data, tmp_path):
    folder = tmp_path / "Market-1501-v15.09.15"
    shutil.copytree(full_data / "Market-1501-v15.09.15" / "query", folder / "query")
    for other in ("bounding_box_train", "bounding_box_test"):
        (folder / other).symlink_to(full_data / "Market-1501-v15.09.15" / other)
    image = min((folder / "query").glob("*.jpg"))
    image.rename(image.with_name(image.name.replace("_c1", "_c2", 1)))
    query = rows(status.status(tmp_path)).loc[("market1501", "folders", "query")]
    assert query["images"] == 3368 and query["state"] == "differs"
    assert datasets.load("market1501", tmp_path)["subset"].eq("query").sum() == 3368


def note(root, name):
    return status.status(root, progress=False).set_index("set").loc[name, "note"]


def test_a_dead_link_is_named_with_what_to_do(tmp_path):
    (tmp_path / "Market-1501-v15.09.15").symlink_to(tmp_path / "gone")
    (tmp_path / "CUHK01").symlink_to(tmp_path / "gone")
    for name, link in (("market1501", "Market-1501-v15.09.15"), ("cuhk01", "CUHK01")):
        assert f"{link} is a link to {tmp_path}/gone, which is not there any more" in note(tmp_path, name)
        assert "remove the link (it is no data)" in note(tmp_path, name)


def test_a_set_that_lies_elsewhere_in_the_data_folder_is_found(small_data, tmp_path):
    (tmp_path / "up").symlink_to(tmp_path)
    shutil.copytree(small_data / "Market-1501-v15.09.15", tmp_path / "sets" / "Market-1501")
    lying = f"{tmp_path}/sets/Market-1501"
    assert f"{lying} looks like it: `reid-core data add {lying} --root {tmp_path}`" in note(tmp_path, "market1501")
    shutil.copytree(small_data / "CUHK01" / "campus", tmp_path / "CUHK01")
    assert f"{tmp_path}/CUHK01 looks like it: move its images into a folder {tmp_path}/CUHK01/campus" in note(
        tmp_path, "cuhk01"
    )
    deep = tmp_path / "Market-1501-v15.09.15" / "Market-1501-v15.09.15"
    shutil.move(lying, deep)
    assert f"one folder too deep, in {deep}/bounding_box_train: move everything in" in note(tmp_path, "market1501")


def test_a_data_folder_that_is_not_there_is_said_so(tmp_path):
    (tmp_path / "Data").mkdir()
    text = status.render_text(status.status(tmp_path / "data"), tmp_path / "data")
    assert f"It is not there. {tmp_path}/Data is there: write it so." in text
    assert "It is not there" not in status.render_text(status.status(tmp_path), tmp_path)


def test_other_images_in_the_set_are_no_distractors(small_data, tmp_path):
    shutil.copytree(small_data / "Market-1501-v15.09.15", tmp_path / "Market-1501-v15.09.15")
    (tmp_path / "Market-1501-v15.09.15" / "images").mkdir()
    (tmp_path / "Market-1501-v15.09.15" / "images" / "logo.png").write_bytes(b"")
    assert status.forms(tmp_path)[status.DISTRACTORS] == []
