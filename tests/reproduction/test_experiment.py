"""How sets are read for the notebooks: unreadable images, near-duplicates, people who leak, own data."""

import json
import shlex
import shutil
import warnings

import official_structure
import pandas as pd
import pytest
from PIL import Image

from reid_core.images import decoded
from reid_core.matching import Matching
from reproduction import experiment, paper, scoring
from reproduction.experiment import Experiment
from reproduction.intake import near_duplicates
from reproduction.runner import profiles, staleness

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


def kit(data, results="results", **wishes):
    """An experiment on a data folder."""
    return Experiment("test", data, results, **wishes)


def test_near_duplicates_are_kept_by_default_and_left_out_of_training_on_request(data):
    kept = kit(data).images(paper.MARKET1501)
    without = kit(data, near_duplicates="leave_out")
    rest = without.images(paper.MARKET1501)
    gone = set(kept["image_path"]) - set(rest["image_path"])
    assert gone == {str(data / MARKET / "bounding_box_train" / "0002_c1s1_000001_00.jpg")}
    sets = without.sets()
    assert list(sets) == [paper.MARKET1501, "cuhk01"]
    assert sets["cuhk01"].query("person_id == 3")["image_path"].str[-11:].tolist() == [
        "0003001.png", "0003003.png", "0003004.png"
    ]  # fmt: skip
    assert list(without.sets("cuhk01", paper.CUHK03_LABELED)) == ["cuhk01"], "the set that is not there is left out"
    trained = without.training_table("cuhk01")
    assert len(trained) == 27 and len(kit(data).training_table("cuhk01")) == 28


def test_the_audit_is_made_once(data, monkeypatch):
    sets = kit(data).sets()
    first = experiment.audit(sets)
    assert sorted(first["train_set"]) == ["cuhk01", paper.MARKET1501]
    monkeypatch.setattr(near_duplicates, "find", lambda tables: pytest.fail("looked again"))
    pd.testing.assert_frame_equal(experiment.audit(kit(data).sets()), first, check_index_type=False)


def test_unreadable_images_are_refused_or_dropped_from_every_table(data):
    broken = data / "CUHK01" / "campus" / "0001001.png"
    broken.write_bytes(broken.read_bytes()[:40])
    for read in (Experiment.images, Experiment.training_table):
        with pytest.raises(ValueError, match="1 image cannot be read, the first being .*0001001.png"):
            read(kit(data), "cuhk01")
        with pytest.warns(UserWarning, match="1 image cannot be read.* of 28; left out"):
            assert len(read(kit(data, unreadable="drop"), "cuhk01")) == 27


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"near_duplicates": "leave out"}, "near_duplicates is 'leave out'; it is one of keep, leave_out"),
        ({"unreadable": "skip"}, "unreadable is 'skip'"),
        ({"combined_boxes": "both"}, "combined_boxes is 'both'; it is one of labeled, detected"),
        ({"leaked_people": "keep"}, "leaked_people is 'keep'"),
        ({"seeds": 0}, r"seeds must be a list of different seeds, at least one, not 0. .* -y '{seeds: \[0\]}'"),
        ({"seeds": "01"}, "seeds must be a list of different seeds, at least one, not '01'"),
        ({"seeds": []}, "seeds must be a list of different seeds, at least one"),
        ({"seeds": [0, 0]}, r"seeds must be a list of different seeds, at least one, not \[0, 0\]"),
        ({"seeds": [1.5]}, "seeds: a seed is a whole number from 0"),
        ({"seeds": [True]}, "seeds: a seed is a whole number from 0"),
        ({"own_sets": "shop.csv"}, "own_sets must be a list of different CSV files in data_root, not 'shop.csv'"),
        ({"own_sets": ["a.csv", "a.csv"]}, "own_sets must be a list of different CSV files"),
        ({"training_lists": "a.txt"}, r"training_lists is 'a.txt'; write it as \{set: file.txt\}"),
        ({"training_lists": {"combined": "a.txt"}}, r"'combined' has no list; .* \(combined takes all images\)"),
        ({"training_lists": {"market1501": "a.csv"}}, "the list of market1501 is 'a.csv'; name a .txt file"),
    ],
)
def test_wrong_wishes_are_refused(wishes, message):
    with pytest.raises(ValueError, match=message):
        kit("data", **wishes)


def test_a_list_names_the_images_that_the_trainings_of_its_set_learn_from(data):
    whole = kit(data).training_table(paper.MARKET1501)
    names = [path.rsplit("/", 1)[1] for path in whole["image_path"]]
    left_out = whole["person_id"] == whole["person_id"].iloc[-1]
    lines = [f"bounding_box_train/{name} {label}" for name, label in zip(names, whole["label"], strict=True)]
    (data / "list.txt").write_text("\n".join(line for line, gone in zip(lines, left_out, strict=True) if not gone))
    listed = kit(data, training_lists={paper.MARKET1501: "list.txt"})
    found = listed.training_table(paper.MARKET1501)
    assert found["image_path"].tolist() == whole.loc[~left_out, "image_path"].tolist() and left_out.any()
    assert sorted(found["label"].unique()) == list(range(whole["label"].nunique() - 1)), "labels are made anew"
    for name in (paper.MARKET1501, "cuhk01"):
        pd.testing.assert_frame_equal(listed.images(name), kit(data).images(name))
    without = kit(data, training_lists={paper.MARKET1501: "list.txt"}, near_duplicates="leave_out")
    assert len(without.training_table(paper.MARKET1501)) == len(found) - 1, "listed, and a test image: left out"
    digests = {decoded(table, 16, 8, data_root=data).digest for table in (whole, found)}
    assert len(digests) == 2, "run.json's data_digest: another list is another run"
    before = staleness.data_digest(data, data / "results")
    (data / "list.txt").write_text("\n".join(lines))
    assert staleness.data_digest(data, data / "results") != before, "another list is other data"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: [*names, "query/0001_c1s1_000001_00.jpg 3", "x.jpg"],
         r"list.txt names 0001_c1s1_000001_00.jpg, x.jpg: no training images of this set"),
        (lambda names: [*names, f"again/{names[0]} 7"], r"list.txt names 0002_c1s1_000001_00.jpg more than once"),
        (lambda names: ["", " "], "list.txt names no image; it has a line an image: path label"),
        (lambda names: ["\udcff"], "list.txt: not readable as text"),
    ],
)  # fmt: skip
def test_a_list_of_other_images_is_refused_with_their_names(data, change, message):
    names = sorted(path.name for path in (data / MARKET / "bounding_box_train").glob("*.jpg"))
    (data / "list.txt").write_text("\n".join(change(names)), errors="surrogateescape")
    with pytest.raises(ValueError, match=message):
        kit(data, training_lists={paper.MARKET1501: "list.txt"}).training_table(paper.MARKET1501)


def test_a_list_that_is_not_there_is_named(data):
    with pytest.raises(FileNotFoundError, match=r"gone.txt: training_lists names this list, but it is not there"):
        kit(data, training_lists={paper.MARKET1501: "gone.txt"}).training_table(paper.MARKET1501)


def test_people_who_are_tested_in_the_other_form_leave_the_combined_training(tmp_path):
    root = official_structure.small(tmp_path / "data")
    tested = kit(root).images("cuhk03_labeled").query("subset == 'query'")["person_id"].iloc[0]
    names = official_structure.cuhk03_names(official_structure.SMALL_PAIRS, 0, 1)
    pair, person = next((pair, tested - sum(official_structure.SMALL_PAIRS[: pair - 1])) for pair in range(5, 0, -1)
                        if tested > sum(official_structure.SMALL_PAIRS[: pair - 1]))  # fmt: skip
    one_image = [name for name in names if not name.startswith(f"{pair}_{person:03d}_1_") or name.endswith("_01.png")]
    (root / official_structure.CUHK03_MAT).unlink()
    official_structure.cuhk03_mat(
        root / official_structure.CUHK03_MAT, {"labeled": one_image, "detected": names}, test_people=5
    )
    trained = {}
    for wish in ("leave_out", "report"):
        table = kit(root, leaked_people=wish).training_table(paper.COMBINED)
        trained[wish] = set(table.loc[table["dataset"] == "cuhk03", "person_id"])
    assert trained["report"] - trained["leave_out"] == {tested}, "like persons 1202 and 1390 of the official data"
    with pytest.raises(ValueError, match=f"cuhk03 {tested}.*leaked='leave_out'"):
        kit(root, leaked_people="refuse").training_table(paper.COMBINED)


def own_csv(data, name):
    """An own CSV of four people, 1 and 2 for training, 3 and 4 for the test."""
    folder = data / f"images of {name}"
    folder.mkdir(parents=True)
    rows = ["image_path,person_id,camera_id,subset"]
    for number, content in enumerate(official_structure.encoded("png", seed=77, count=8)):
        (folder / f"{number}.png").write_bytes(content)
        subset = "train" if number < 4 else "query" if number % 2 else "gallery"
        rows.append(f"{folder}/{number}.png,{1 + number // 2},{1 + number % 2},{subset}")
    (data / name).parent.mkdir(exist_ok=True)
    (data / name).write_text("\n".join(rows))


def test_own_data_is_read_and_trained_on_beside_the_sets_of_the_paper(data):
    own_csv(data, "my_shop.csv")
    sets = kit(data, own_sets=["my_shop.csv"]).sets()
    assert list(sets) == [paper.MARKET1501, "cuhk01", "my_shop.csv"]
    assert kit(data).training_table("my_shop.csv")["label"].tolist() == [0, 0, 1, 1]
    assert set(near_duplicates.counts(sets, experiment.audit(sets))["train_set"]) == set(sets)


def test_a_batch_larger_than_any_set_stops_the_first_training(tmp_path):
    sizes = {"name": ["market1501", "market1501", "cuhk01"], "subset": ["train", "query", "train"]}
    pd.DataFrame(sizes | {"images found": [60, 9, 40]}).to_csv(tmp_path / "table1_subsets.csv")
    recipe = {"batch_size": 60}
    schedules = {"market1501": {}, "combined": {}, "shop.csv": {}}
    profiles.check_trainings(tmp_path, recipe, schedules, "market1501")
    with pytest.raises(ValueError, match="batch_size 61 of market1501 is larger than its 60 .*table1_subsets"):
        profiles.check_trainings(tmp_path, {"batch_size": 61}, schedules, "combined")
    with pytest.raises(ValueError, match="batch_size 70 of combined .* lower it"):
        profiles.check_trainings(tmp_path, recipe, schedules | {"combined": {"batch_size": 70}}, "market1501")


def test_a_training_without_a_schedule_says_which_there_are(tmp_path):
    with pytest.raises(ValueError, match="schedules has no shop.csv, only market1501; add it"):
        profiles.check_trainings(tmp_path, {}, {"market1501": {}}, "shop.csv")


def test_a_folder_without_any_set_says_what_to_place_there(tmp_path):
    for root, state in ((tmp_path, "is empty"), (tmp_path / "gone", "does not exist")):
        with pytest.raises(FileNotFoundError, match=f"no data set found: .*{root} {state}.*data add PATH"):
            kit(root).sets()


def test_own_data_is_not_read_beside_embedded_data(data):
    own_csv(data, "my_shop.csv")
    (data / "embedded.json").write_text("{}")
    with pytest.raises(ValueError, match="my_shop.csv: own data is not mixed with the embedded data of .*data_root"):
        kit(data, own_sets=["my_shop.csv"]).sets()


def test_people_whom_own_data_tests_leave_every_training(data):
    own_csv(data, "shop.csv")
    own_csv(data, "cuhk01.csv")  # by its name further rows of CUHK01: it tests persons 3 and 4, whom CUHK01 trains
    trained = {
        own: set(kit(data, own_sets=own).training_table("cuhk01")["person_id"])
        for own in ((), ("shop.csv",), ("cuhk01.csv",))
    }
    assert trained[()] == trained["shop.csv",] == set(range(1, 8)), "people of different sets are different people"
    assert trained["cuhk01.csv",] == {1, 2, 5, 6, 7}
    with pytest.raises(ValueError, match="2 training people are test people of a set to be scored: cuhk01 3, cuhk01 4"):
        kit(data, leaked_people="refuse", own_sets=["cuhk01.csv"]).training_table("cuhk01")


def test_near_duplicates_of_own_test_images_are_left_out_too(data):
    own_csv(data, "shop.csv")
    campus = data / "CUHK01" / "campus"
    shutil.copy(campus / "0004001.png", data / "images of shop.csv" / "5.png")
    for own, images in (((), 27), (("shop.csv",), 26)):
        without = kit(data, near_duplicates="leave_out", own_sets=own)
        assert len(without.training_table("cuhk01")) == images
        assert len(without.images("cuhk01")) == images


def finished_run(results, model, train_set, source="official"):
    folder = kit(results, results).run(model, train_set, 0).folder
    folder.mkdir(parents=True, exist_ok=True)
    run = {"finished": True, "data_source": source, "recipe": {"iterations": 10}, "seconds": 36, "form": "pooled"}
    (folder / "run.json").write_text(json.dumps(run | {"device": "a device"}))
    return folder


def test_runs_of_embedded_data_are_not_scored_on_other_data_nor_the_other_way_round(data, tmp_path):
    results = tmp_path / "results"
    here = kit(data, results)
    run = finished_run(results, "hcn", paper.MARKET1501, "embedded")
    finished_run(results, "baseline", paper.MARKET1501, "embedded")
    refused = (
        rf"{results}/runs/.*-market1501-seed0 was trained on embedded data, but the data in {data} is official: "
        ".*results_root"
    )
    for ask in (
        lambda: here.run("hcn", paper.MARKET1501, 0).check(),
        here.described,
        lambda: here.runs([paper.MARKET1501]),
        lambda: scoring.extract(here, run, None, paper.MARKET1501),
    ):
        with pytest.raises(ValueError, match=refused):
            ask()
    (data / "embedded.json").write_text("{}")
    assert here.run("hcn", paper.MARKET1501, 0).check().line["hours"] == 0.01
    other = finished_run(results, "baseline", paper.MARKET1501)
    with pytest.raises(ValueError, match=f"{other} was trained on official data, but .* is embedded"):
        here.described()


def test_a_run_is_read_once_and_a_damaged_one_is_named(data, tmp_path, monkeypatch):
    folder = finished_run(tmp_path, "hcn", paper.MARKET1501)
    run = kit(data, tmp_path).run("hcn", paper.MARKET1501, 0)
    assert run.check().line["iterations"] == 10
    (folder / "run.json").write_text("{half")
    assert run.check().line["iterations"] == 10, "as it was read"
    with pytest.raises(ValueError, match=f"{folder}.*damaged"):
        kit(data, tmp_path).run("hcn", paper.MARKET1501, 0).check()
    assert not kit(data, tmp_path).run("hcn", paper.MARKET1501, 1).finished


@pytest.mark.parametrize("name", ["sub/shop.csv", "my-shop.csv", "my_shop.csv", "mein Laden ä.csv"])
def test_a_run_on_own_data_is_described_by_its_own_name(data, tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"-p model=hcn -p {shlex.quote(f'train_set={name}')} -p seed=0"):
        kit(data, tmp_path).run("hcn", name, 0).check()
    finished_run(tmp_path, "hcn", name)
    run = kit(data, tmp_path).run("hcn", name, 0).check().line
    assert (run["model"], run["train_set"], run["seed"], run["run"]) == ("hcn", name, 0, f"hcn-{name}-seed0")


def test_executed_notebooks_are_private_where_the_data_is_official(data, tmp_path):
    settings = {"data_root": str(tmp_path / "new"), "results_root": str(tmp_path / "smoke"), "render_sizes": "smoke"}
    public, private = tmp_path / "smoke" / "notebooks", tmp_path / "private" / "smoke" / "notebooks"
    assert experiment.executed_notebooks(settings) == public, "the workflow asks before it renders"
    assert experiment.executed_notebooks(settings | {"data_root": str(data)}) == private
    (tmp_path / "new").mkdir()
    assert experiment.executed_notebooks(settings | {"render_sizes": "none"}) == private
    (tmp_path / "new" / "embedded.json").write_text("{}")
    for sizes in ("smoke", "none"):
        assert experiment.executed_notebooks(settings | {"render_sizes": sizes}) == public


def test_own_sets_are_crossed_whatever_their_names(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "extract", lambda *given: None)
    monkeypatch.setattr(scoring, "extract_untrained", lambda *given: None)
    monkeypatch.setattr(scoring, "match", lambda *given: None)
    people = pd.DataFrame({"seed": 0, "person_id": ["a", "b"], "queries": 1, "rank1": [0, 1], "mAP": [0.25, 0.75]})
    scores = {"rank1": 0.5, "mAP": 0.5, "protocol": "market", "people": people}
    monkeypatch.setattr(scoring, "evaluate", lambda *given: scores)
    names, images = (
        ["sub/my_a.csv", "sub/my_b.csv", paper.CUHK03_LABELED, paper.CUHK03_DETECTED],
        pd.DataFrame({"subset": []}),
    )
    for name in names:
        finished_run(tmp_path, "hcn", name)
    cross = scoring.score_across(kit(tmp_path, tmp_path), dict.fromkeys(names, images), Matching())
    pairs = set(zip(cross["train_set"], cross["test_set"], strict=True))
    assert {(a, b) for a in names for b in names} - pairs == {tuple(names[2:]), tuple(names[:1:-1])}
    assert "hcn-sub/my_a.csv-seed0" in set(cross["run"])


def test_scoring_warns_of_people_whom_the_run_has_learnt(data, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring.features, "extract", lambda *given, **settings: None)
    here, run = kit(data, tmp_path), finished_run(tmp_path, "hcn", "cuhk01")
    labels = pd.DataFrame({"label": range(7), "dataset": "cuhk01", "person_id": range(1, 8)})
    labels.to_csv(run / "labels.csv", index=False)
    for name in ("shop.csv", "cuhk01.csv"):
        own_csv(data, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scoring.extract(here, run, here.images("shop.csv"), "shop.csv")
    with pytest.warns(UserWarning, match="hcn-cuhk01-seed0 has learnt from 2 of the people .* cuhk01 3, cuhk01 4"):
        scoring.extract(here, run, here.images("cuhk01.csv"), "cuhk01.csv")
