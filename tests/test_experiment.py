"""How sets are read for the notebooks: unreadable images, near-duplicates, people who leak, own data."""

import shutil

import official_structure
import pandas as pd
import pytest
from PIL import Image

from reid_core import experiment, paper
from reid_core.datasets import duplicates

MARKET = official_structure.MARKET1501


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def data(tmp_path):
    """Market-1501 and CUHK01; one training image of each is a query image of Market-1501."""
    root = tmp_path / "data"
    official_structure.market1501(root, official_structure.small_market1501_rows())
    campus = official_structure.cuhk01(root, 7)
    query, other = sorted((root / MARKET / "query").glob("*.jpg"))[:2]
    shutil.copy(query, root / MARKET / "bounding_box_train" / "0002_c1s1_000001_00.jpg")
    Image.open(other).save(campus / "0003002.png")
    return root


def test_near_duplicates_are_kept_by_default_and_left_out_of_training_on_request(data):
    kept = experiment.load_set(data, paper.MARKET1501)
    rest = experiment.load_set(data, paper.MARKET1501, near_duplicates="leave_out")
    gone = set(kept["image_path"]) - set(rest["image_path"])
    assert gone == {str(data / MARKET / "bounding_box_train" / "0002_c1s1_000001_00.jpg")}
    sets = experiment.load_sets(data, near_duplicates="leave_out")
    assert list(sets) == [paper.MARKET1501, "cuhk01"]
    assert sets["cuhk01"].query("person_id == 3")["image_path"].str[-11:].tolist() == [
        "0003001.png", "0003003.png", "0003004.png"
    ]  # fmt: skip
    trained = experiment.training_table(data, "cuhk01", near_duplicates="leave_out")
    assert len(trained) == 27 and len(experiment.training_table(data, "cuhk01")) == 28


def test_the_audit_is_made_once(data, monkeypatch):
    sets = experiment.load_sets(data)
    first = experiment.audit(sets)
    assert sorted(first["train_set"]) == ["cuhk01", paper.MARKET1501]
    monkeypatch.setattr(duplicates, "find", lambda tables: pytest.fail("looked again"))
    pd.testing.assert_frame_equal(experiment.audit(experiment.load_sets(data)), first, check_index_type=False)


def test_unreadable_images_are_refused_or_dropped_from_every_table(data):
    broken = data / "CUHK01" / "campus" / "0001001.png"
    broken.write_bytes(broken.read_bytes()[:40])
    for read in (experiment.load_set, experiment.training_table):
        with pytest.raises(ValueError, match="1 image cannot be read, the first being .*0001001.png"):
            read(data, "cuhk01")
        with pytest.warns(UserWarning, match="1 image cannot be read.* of 28; left out"):
            assert len(read(data, "cuhk01", unreadable="drop")) == 27


def test_wrong_wishes_are_refused(data):
    with pytest.raises(ValueError, match="near_duplicates is 'leave out'; it is one of keep, leave_out"):
        experiment.load_set(data, "cuhk01", near_duplicates="leave out")
    with pytest.raises(ValueError, match="unreadable is 'skip'"):
        experiment.load_set(data, "cuhk01", unreadable="skip")


def test_people_who_are_tested_in_the_other_form_leave_the_combined_training(tmp_path):
    root = official_structure.small(tmp_path / "data")
    tested = experiment.load_set(root, "cuhk03_labeled").query("subset == 'query'")["person_id"].iloc[0]
    names = official_structure.cuhk03_names(official_structure.SMALL_PAIRS, 0, 1)
    pair, person = next((pair, tested - sum(official_structure.SMALL_PAIRS[: pair - 1])) for pair in range(5, 0, -1)
                        if tested > sum(official_structure.SMALL_PAIRS[: pair - 1]))  # fmt: skip
    one_image = [
        name for name in names if not name.startswith(f"{pair}_{person:03d}_1_") or name.endswith("_01.png")
    ]
    (root / official_structure.CUHK03_MAT).unlink()
    official_structure.cuhk03_mat(
        root / official_structure.CUHK03_MAT, {"labeled": one_image, "detected": names}, test_people=5
    )
    trained = {}
    for wish in ("leave_out", "report"):
        table = experiment.training_table(root, paper.COMBINED, leaked_people=wish)
        trained[wish] = set(table.loc[table["dataset"] == "cuhk03", "person_id"])
    assert trained["report"] - trained["leave_out"] == {tested}, (
        "like persons 1202 and 1390 of the official data"
    )
    with pytest.raises(ValueError, match=f"cuhk03 {tested}.*leaked='leave_out'"):
        experiment.training_table(root, paper.COMBINED, leaked_people="refuse")


def test_own_data_is_read_and_trained_on_beside_the_sets_of_the_paper(data):
    folder = data / "shop_2"
    folder.mkdir()
    rows = ["image_path,person_id,camera_id,subset"]
    for number, content in enumerate(official_structure.encoded("png", seed=77, count=8)):
        (folder / f"{number}.png").write_bytes(content)
        subset = "train" if number < 4 else "query" if number % 2 else "gallery"
        rows.append(f"shop_2/{number}.png,{1 + number // 2},{1 + number % 2},{subset}")
    (data / "my_shop.csv").write_text("\n".join(rows))
    sets = experiment.load_sets(data, ["my_shop.csv"])
    assert list(sets) == [paper.MARKET1501, "cuhk01", "my_shop.csv"]
    assert experiment.training_table(data, "my_shop.csv")["label"].tolist() == [0, 0, 1, 1]
    assert set(duplicates.counts(sets, experiment.audit(sets))["train_set"]) == set(sets)


def test_a_batch_larger_than_any_set_stops_the_first_training(tmp_path):
    sizes = {"name": ["market1501", "market1501", "cuhk01"], "subset": ["train", "query", "train"]}
    pd.DataFrame(sizes | {"images found": [60, 9, 40]}).to_csv(tmp_path / "table1_subsets.csv")
    recipe = {"batch_size": 60}
    schedules = {"market1501": {}, "combined": {}, "shop.csv": {}}
    experiment.check_trainings(tmp_path, recipe, schedules, "market1501")
    with pytest.raises(
        ValueError, match="batch_size 61 of market1501 is larger than its 60 .*table1_subsets"
    ):
        experiment.check_trainings(tmp_path, {"batch_size": 61}, schedules, "combined")
    with pytest.raises(ValueError, match="batch_size 70 of combined .* lower it"):
        experiment.check_trainings(
            tmp_path, recipe, schedules | {"combined": {"batch_size": 70}}, "market1501"
        )


def test_a_training_without_a_schedule_says_which_there_are(tmp_path):
    with pytest.raises(ValueError, match="schedules has no shop.csv, only market1501; add it"):
        experiment.check_trainings(tmp_path, {}, {"market1501": {}}, "shop.csv")


def test_a_folder_without_any_set_says_what_to_place_there(tmp_path):
    for root, state in ((tmp_path, "is empty"), (tmp_path / "gone", "does not exist")):
        with pytest.raises(FileNotFoundError, match=f"no data set found: .*{root} {state}.*data add PATH"):
            experiment.load_sets(root)
