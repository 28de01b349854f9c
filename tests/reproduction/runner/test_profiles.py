import pytest
import yaml

from reproduction.runner import plan, profiles
from reproduction.runner import workflow as reproduce


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
        ("schedules", {"market1051": {}}, "schedules: 'market1051' .* Did you mean 'market1501'"),
    ],
)  # fmt: skip
def test_a_value_that_is_none_of_the_known_ones_is_refused_before_anything_runs(
    tmp_path, key, value, message
):
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
