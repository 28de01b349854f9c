import json

import pytest
import yaml

from reproduction import experiment
from reproduction.runner import plan, profiles
from reproduction.runner import workflow as reproduce
from reproduction.sidecar import REPOSITORY


def changed(tmp_path, **changes):
    settings = yaml.safe_load((profiles.FOLDER / "smoke.yaml").read_text()) | changes
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize("name", profiles.names())
def test_every_profile_of_the_kit_is_valid_and_complete(name):
    settings = profiles.load(name)
    assert settings["profile"] == name
    optional = {"model", "train_set", "seed", "other_recipe"}
    assert set(profiles.all_parameters()) - set(settings) <= optional


@pytest.mark.parametrize("name", profiles.names())
def test_a_profile_says_only_what_differs_from_the_defaults(name):
    said = yaml.safe_load((profiles.FOLDER / f"{name}.yaml").read_text())
    defaults = profiles.all_parameters()
    repeated = {key for key, value in said.items() if defaults[key] == value and key not in profiles.OWN}
    others = [yaml.safe_load((profiles.FOLDER / f"{other}.yaml").read_text()) for other in profiles.names()]
    if name == "smoke":  # whose values are the defaults: what others change
        repeated -= {key for other in others for key in other if other.get("profile") != "smoke"} | {"seeds"}
    assert not repeated
    assert {"profile", "data_root", "results_root", "render_sizes", "recipe", "schedules"} <= set(said)


def test_what_a_profile_does_not_say_is_the_notebooks_default(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("profile: mine\nk1: 25\n")
    settings = profiles.load(path)
    assert (settings["k1"], settings["k2"], settings["seeds"]) == (25, 6, [0, 1, 2])
    assert set(profiles.all_parameters()) - set(settings) == set(profiles.OWN) - {"profile"}


OLD = (
    "render_seed", "combined_boxes", "leaked_people", "unreadable", "near_duplicates", "own_sets", "ap", "k1", "k2",
    "lambda_value", "xqda_solver", "rank_list_set", "sensitivity_set", "sensitivity_seeds", "sensitivity_variant_seeds",
    "sensitivity_schedule", "sensitivity_variants", "sensitivity_matching", "sensitivity_pairings", "seeds",
    "literature", "form_seconds", "smoothing", *profiles.OWN,
)  # fmt: skip


def test_a_profile_that_says_everything_works_as_it_did(tmp_path):
    """Every key that a profile could say when profiles said everything, with values that are not the defaults."""
    assert set(OLD) <= set(profiles.all_parameters())
    changes = {
        "render_seed": 3, "combined_boxes": "detected", "leaked_people": "report", "unreadable": "drop",
        "near_duplicates": "leave_out", "own_sets": ["shop.csv"], "ap": "step", "k1": 25, "k2": 4,
        "lambda_value": 0.2, "xqda_solver": "eigh", "rank_list_set": "market1501", "sensitivity_set": "market1501",
    }  # fmt: skip
    settings = profiles.load(changed(tmp_path, **changes))
    assert {key: settings[key] for key in changes} == changes
    assert profiles.select(settings, "03_table2_cuhk03")["k1"] == 25


def test_parameters_may_be_given_in_the_groups_that_they_become(tmp_path):
    grouped = {"matching": {"k1": 25, "ap": "step"}, "data": {"unreadable": "drop", "own_sets": ["shop.csv"]}}
    settings = profiles.load(changed(tmp_path, **grouped))
    assert (settings["k1"], settings["ap"], settings["k2"]) == (25, "step", 6)
    assert (settings["unreadable"], settings["own_sets"]) == ("drop", ["shop.csv"])
    assert not {"matching", "data"} & set(settings)
    assert profiles.load("smoke", ["matching={k1: 25}"])["k1"] == 25
    mine = changed(tmp_path, **grouped)
    assert profiles.load(mine, ["k1=30"])["k1"] == 30 and profiles.load(mine, ["matching={k1: 30}"])["k1"] == 30
    assert profiles.load(mine, ["matching={k1: 30}", "k1=31"])["k1"] == 31


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matching": {"k1": 25}, "k1": 20}, "k1 is given twice, alone and in matching"),
        ({"matching": {"k_1": 25}}, "matching: 'k_1' is not among its parameters. Did you mean 'k1'"),
        ({"matching": 25}, "matching is 25; write it as {name: value}"),
        ({"data": {"k1": 25}}, "data: 'k1' is not among its parameters"),
        ({"matching": {"k1": 2}}, "k2=6 exceeds k1=2"),
    ],
)
def test_a_wrong_group_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"mine\.yaml: {message}"):
        profiles.load(changed(tmp_path, **changes))


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"mine\.yaml.*'lambda_valu'.*Did you mean 'lambda_value'"):
        profiles.load(changed(tmp_path, lambda_valu=0.3))


def test_a_wrong_type_names_file_key_value_and_remedy(tmp_path):
    with pytest.raises(TypeError, match=r"mine\.yaml: lambda_value is '1e-3' .*write 1\.0e-3"):
        profiles.load(changed(tmp_path, lambda_value="1e-3"))


def test_a_bad_recipe_is_refused_with_the_set_it_belongs_to(tmp_path):
    recipe = profiles.load("smoke")["recipe"]
    with pytest.raises(ValueError, match=r"mine\.yaml: recipe of .*batch_siz"):
        profiles.load(changed(tmp_path, recipe=recipe | {"batch_siz": 3}))
    with pytest.raises(TypeError, match=r"base_lr"):
        profiles.load(changed(tmp_path, recipe=recipe | {"base_lr": "1e-3"}))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("ap", "trapez", "ap is 'trapez'; it is one of trapezoid, step"),
        ("xqda_solver", "qr", "xqda_solver is 'qr'; it is one of svd, eigh"),
        ("k2", 30, "k2=30 exceeds k1=20"),
        ("lambda_value", 1.5, r"lambda_value=1\.5 must lie in \[0, 1\]"),
        ("combined_boxes", "label", "combined_boxes is 'label'; it is one of labeled, detected"),
        ("leaked_people", "leave", "leaked_people is 'leave'; it is one of report, leave_out, refuse"),
        ("unreadable", "skip", "unreadable is 'skip'; it is one of refuse, drop"),
        ("near_duplicates", "drop", "near_duplicates is 'drop'; it is one of keep, leave_out"),
        ("rank_list_set", "cuhk03_labelled", "rank_list_set: 'cuhk03_labelled' .* Did you mean 'cuhk03_labeled'"),
        ("render_sizes", "large", "render_sizes is 'large'; it is tiny, smoke, full or a share"),
        ("smoothing", 0, "smoothing is 0; it is at least 1"),
        ("form_seconds", float("nan"), "form_seconds is nan; it is above 0 and finite"),
        ("form_seconds", float("inf"), "form_seconds is inf; it is above 0 and finite"),
        ("form_seconds", 0.0, r"form_seconds is 0\.0; it is above 0"),
        ("sensitivity_pairings", -1, "sensitivity_pairings is -1; it is at least 0"),
        ("lambda_value", float("nan"), r"lambda_value=nan must lie in"),
        ("seeds", [0, 0], r"seeds must be a list of different seeds, at least one, not \[0, 0\]"),
        ("literature", ["LOMO", "LOMO"], "literature: literature names 'LOMO' twice"),
        ("sensitivity_variants", ["relu", "relu"], "sensitivity_variants names 'relu' twice"),
        ("sensitivity_controls", {"baseline_twize": []}, "sensitivity_controls: .*Did you mean 'baseline_twice'"),
        ("sensitivity_matching", {"k1": [10, 10]}, "sensitivity_matching: k1 names a value twice"),
        ("training_lists", {"market1051": "a.txt"}, "training_lists: 'market1051' has no list; it is one of"),
        ("own_sets", ["a.csv", "a.csv"], "own_sets must be a list of different CSV files"),
        ("schedules", {"market1051": {}}, "schedules: 'market1051' .* Did you mean 'market1501'"),
    ],
)  # fmt: skip
def test_a_value_that_is_none_of_the_known_ones_is_refused_before_anything_runs(tmp_path, key, value, message):
    with pytest.raises(ValueError, match=rf"mine\.yaml: {message}"):
        profiles.load(changed(tmp_path, **{key: value}))


def test_own_data_has_a_schedule_and_rank_lists_of_its_own(tmp_path):
    mine = changed(tmp_path, schedules={"shop.csv": {"iterations": 20}}, rank_list_set="shop.csv")
    assert profiles.load(mine)["rank_list_set"] == "shop.csv"


def test_the_main_job_and_its_plan_need_the_schedule_of_every_set(tmp_path):
    mine = changed(tmp_path, schedules={"market1501": {"iterations": 20}}, results_root=str(tmp_path / "r"))
    for needs_all in (reproduce.run, lambda path: plan.describe(profiles.load(path))):
        with pytest.raises(ValueError, match="smoke: schedules has no cuhk03_detected; .*iterations: 50000"):
            needs_all(mine)
    assert not (tmp_path / "r").exists()


def test_an_unknown_method_of_the_literature_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"mine\.yaml: literature: .*'DNS \[20\]'"):
        profiles.load(changed(tmp_path, literature=["DNS [2]"]))


def test_overrides_are_yaml_and_checked():
    assert profiles.load("smoke", ["k1=25"])["k1"] == 25
    assert profiles.load("smoke", ["seeds=[0, 1]"])["seeds"] == [0, 1]
    with pytest.raises(TypeError, match="k1"):
        profiles.load("smoke", ["k1=many"])
    with pytest.raises(ValueError, match="name=value"):
        profiles.load("smoke", ["k1"])


def test_a_missing_profile_lists_the_others():
    with pytest.raises(FileNotFoundError, match="smoke"):
        profiles.load("smok")


def test_broken_yaml_names_the_file(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("a: [1")
    with pytest.raises(ValueError, match=r"broken\.yaml: not readable as YAML"):
        profiles.load(path)


def test_a_notebook_gets_only_what_it_declares():
    settings = profiles.load("smoke")
    assert "recipe" in profiles.select(settings, "02_train")
    assert "recipe" not in profiles.select(settings, "03_table2_cuhk03")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("k1: 20\nk2: 6\nk1: 30\n", "'k1' stands twice, the second time in line 3"),
        ("recipe: {height: 64, height: 32}\n", "'height' stands twice"),
        ("k1:\t20\nrecipe:\n\theight: 64\n", "not readable as YAML"),
        ("k1: 20: 30\n", "not readable as YAML"),
        ("", "must map parameter names"),
        ("- k1\n", "must map parameter names"),
        ("1: 2\n", "'1' is not a parameter"),
        ("yes: 2\n", "'True' is not a parameter"),
        ("k1: !!python/object/apply:os.getcwd []\n", "not readable as YAML"),
    ],
)
def test_a_file_that_is_no_plain_mapping_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        profiles.load(path, recipes=False)
    assert "mine.yaml" in str(raised.value)
    path.write_bytes(b"k1: \xff\xfe\n")
    with pytest.raises(ValueError, match=r"mine\.yaml: not readable as YAML"):
        profiles.load(path, recipes=False)


def test_an_override_that_is_no_yaml_is_one_sentence():
    with pytest.raises(ValueError, match=r"-p seeds=\[0: '\[0' is not readable as YAML"):
        profiles.load("tiny", ["seeds=[0"], recipes=False)
    with pytest.raises(ValueError, match="'height' stands twice"):
        profiles.load("tiny", ["recipe={height: 1, height: 2}"], recipes=False)


def test_a_negative_seed_of_the_renderer_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"mine\.yaml: render_seed is -1; it is at least 0"):
        profiles.load(changed(tmp_path, render_seed=-1), recipes=False)


@pytest.mark.parametrize("place", [
    ".", "", "  ", "..", "/", "results", "results/", "notebooks", "notebooks/mine", "reid_core", "profiles/x", "data",
    "data/embedded/tiny/results", "./results/../notebooks", str(REPOSITORY), "link", "~/kit", "~/kit/notebooks",
])  # fmt: skip
def test_results_among_the_sources_are_refused(tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "kit").symlink_to(REPOSITORY)
    (tmp_path / "link").symlink_to(REPOSITORY / "notebooks")
    place = str(tmp_path / "link") if place == "link" else place
    with pytest.raises(ValueError, match="results_root"):
        profiles.load("tiny", [f"results_root={json.dumps(place)}"], recipes=False)


def test_results_in_a_file_or_behind_a_dead_link_are_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dead").symlink_to(tmp_path / "gone")
    for name in ("file", "dead"):
        with pytest.raises(ValueError, match=f"results_root .*/{name} is a file, or a link to no folder"):
            profiles.load("tiny", [f"results_root={tmp_path / name}"], recipes=False)


def test_the_main_job_and_its_plan_need_two_folders_for_data_and_results(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for results in ("data", "link"):
        places = [f"data_root={tmp_path / 'data'}", f"results_root={tmp_path / results}"]
        for start in (reproduce.run, lambda *given: plan.describe(profiles.load(*given))):
            with pytest.raises(ValueError, match="/data is data_root and results_root"):
                start("tiny", places)


@pytest.mark.parametrize("place", ["results/my run", "~/Ergebnisse größer", "results/tiny/single/a", "out"])
def test_results_elsewhere_are_taken(tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = profiles.load("tiny", [f"results_root={place}"], recipes=False)
    results = experiment.resolve(settings["results_root"])
    assert results == (tmp_path / place[2:] if place[0] == "~" else REPOSITORY / place)


def test_a_profile_by_a_relative_path_is_the_one_in_the_working_folder(tmp_path, monkeypatch):
    changed(tmp_path, k1=25)
    monkeypatch.chdir(tmp_path)
    assert profiles.find("mine.yaml") == tmp_path / "mine.yaml"
    assert profiles.load("mine.yaml", recipes=False)["k1"] == 25
