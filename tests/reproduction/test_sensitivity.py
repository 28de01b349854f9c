"""10_sensitivity: what is planned and trained, and every column of its lines from first principles."""

import json
import zlib
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
import toy_pictures

from reid_core import evaluation, features, model, xqda
from reid_core.datasets import table as image_table
from reid_core.matching import Matching, match
from reid_core.training import run_folder
from reproduction import intervals, paper, scoring, sensitivity
from reproduction.experiment import Experiment
from reproduction.tables import MEASURED

matplotlib.use("Agg")
LABELED, DETECTED, MARKET = paper.CUHK03_LABELED, paper.CUHK03_DETECTED, paper.MARKET1501
RECIPE = {
    "backbone": "resnet18", "weights": "random", "batchnorm": "live", "dropout": 0.2, "height": 32, "width": 32,
    "batch_size": 4, "iterations": 4, "base_lr": 0.01, "checkpoint_every": 2,
}  # fmt: skip
MATCHING = Matching(k1=6, k2=3)


def kit(root, seeds=(0,)):
    return Experiment("toy", root / "data", root / "results", list(seeds))


def planned(root, recipe=None, train_set=LABELED, seeds=(0,), **changes):
    given = {"default_seeds": [0, 1, 2], "variant_seeds": [0], "schedule": {}}
    given |= {"variants": list(sensitivity.VARIANTS)} | changes
    recipes = dict.fromkeys((*paper.SETS, paper.COMBINED), RECIPE | (recipe or {}))
    return sensitivity.design(kit(root, seeds), recipes, train_set, **given)


def controlled(root, chosen, recipes=None, seeds=(0,), not_run=None, variants=()):
    """A study with controls; `recipes`: changes to the recipe by train set."""
    every = {name: RECIPE | (recipes or {}).get(name, {}) for name in (*paper.SETS, paper.COMBINED)}
    study = replace(planned(root, seeds=seeds, variants=variants, not_run=not_run), recipes=every)
    return sensitivity.with_controls(study, kit(root, seeds), chosen, not_run)


def by_name(study):
    return {one.variant: one for one in study.comparisons}


def test_a_variant_changes_its_setting_and_nothing_else(tmp_path):
    study = planned(tmp_path, variants=[*sensitivity.VARIANTS, {"small": {"height": 64, "mirror": False}}])
    expected = sensitivity.VARIANTS | {"small": {"height": 64, "mirror": False}}
    for one in study.comparisons:
        if one.variant != "batchnorm":
            assert one.default_runs == study.default_runs[:1] and len(one.other_runs) == 1
            there, here = (runs[0].recipe for runs in (one.default_runs, one.other_runs))
            changed = {name for name, value in here.to_dict().items() if there.to_dict()[name] != value}
            assert changed == set(expected[one.variant])
            for name, value in expected[one.variant].items():
                assert here.to_dict()[name] == value
    assert by_name(study)["conv1"].choice == "conv1 as a further level"
    assert (by_name(study)["small"].default, by_name(study)["small"].other) == ("32, yes", "64, no")


def test_the_default_is_the_profiles_own_run_unless_the_study_has_a_schedule_of_its_own(tmp_path):
    names = [run.name for run in planned(tmp_path).runs]
    assert names[:4] == [
        "hcn-cuhk03_labeled-seed0", "hcn-cuhk03_labeled-seed1", "hcn-cuhk03_labeled-seed2",
        "sensitivity/relu-cuhk03_labeled-seed0",
    ]  # fmt: skip
    assert len(names) == len(set(names)) == 3 + 8
    shorter = planned(tmp_path, schedule={"iterations": 3}, variant_seeds=[0, 4])
    assert [run.name for run in shorter.default_runs][0] == "sensitivity/default-cuhk03_labeled-seed0"
    assert {run.recipe.iterations for run in shorter.runs} == {3}
    assert [run.recipe.seed for run in by_name(shorter)["relu"].other_runs] == [0, 4]


def test_from_scratch_there_are_no_statistics_to_freeze(tmp_path):
    one = by_name(planned(tmp_path))["batchnorm"]
    assert one.not_run == "not run: random weights have no statistics to freeze"
    assert (one.default_runs, one.other_runs) == ((), ())
    left_out = by_name(planned(tmp_path, variants=["relu"]))["batchnorm"]
    assert "not among" in left_out.not_run


def test_with_pretrained_weights_the_statistics_are_a_variant_like_the_others(tmp_path):
    study = planned(tmp_path, {"weights": "imagenet", "batchnorm": "frozen"})
    one = by_name(study)["batchnorm"]
    assert (one.default, one.other) == ("frozen", "live") and one.default_runs == study.default_runs[:1]
    assert one.other_runs[0].recipe.weights == "imagenet"


def test_what_is_not_run_says_why(tmp_path):
    study = planned(tmp_path, {"pooling": "maximum"}, variants=["maximum", "conv1", "batchnorm"],
                    not_run={MARKET: "not run: Market-1501 not found"})  # fmt: skip
    reasons = {one.variant: one.not_run for one in study.comparisons}
    assert reasons["maximum"] == "not run: the profile's own recipe is like this"
    assert reasons["relu"] == "not run: not among this profile's sensitivity_variants"
    assert reasons["batchnorm"].startswith("not run: random weights") and reasons["conv1"] == ""
    assert [run.name.split("-")[0] for run in study.runs] == ["hcn"] * 3 + ["sensitivity/conv1"]
    absent = planned(tmp_path, not_run={LABELED: "not run: CUHK03 not found"})
    assert absent.runs == [] and {one.not_run for one in absent.comparisons} == {"not run: CUHK03 not found"}


EVERY = {name: [LABELED] for name in sensitivity.CONTROLS}


def test_a_control_is_the_profiles_own_run_with_one_thing_changed(tmp_path):
    longer = {paper.COMBINED: {"iterations": 9}, LABELED: {"lr_step": 3}}
    study = controlled(tmp_path, EVERY, longer, seeds=(0, 7))
    thirds = pytest.approx([1 / 3] * 3)
    expected = {
        "heads_alone": ("hcn", LABELED, {"merging": ("skip", "none")}),
        "third_losses": ("hcn", LABELED, {"loss_weights": ([1.0, 1.0, 1.0], thirds)}),
        "baseline_twice": ("baseline", LABELED, {"iterations": (4, 8), "lr_step": (3, 6)}),
        "baseline_rate2": ("baseline", LABELED, {"base_lr": (0.01, 0.02)}),
        "baseline_rate3": ("baseline", LABELED, {"base_lr": (0.01, pytest.approx(0.03))}),
        "combined_equal_updates": ("hcn", paper.COMBINED, {"iterations": (9, 4), "lr_step": (20_000, 3)}),
    }
    found = {one.variant: one for one in study.comparisons if one.kind == "control"}
    assert list(found) == list(expected) == list(sensitivity.CONTROLS)
    for name, (model_name, train_set, changes) in expected.items():
        one = found[name]
        assert (one.set, one.not_run, [run.model for run in one.other_runs]) == (LABELED, "", [model_name] * 2)
        own = [f"{model_name}-{train_set}-seed{seed}" for seed in (0, 7)]
        assert [run.name for run in one.default_runs] == own, "the profile's own, with its own seeds"
        assert [run.name for run in one.other_runs] == [f"sensitivity/{name}-{LABELED}-seed{seed}" for seed in (0, 7)]
        assert {run.train_set for run in (*one.default_runs, *one.other_runs)} == {train_set}
        for there, here in zip(one.default_runs, one.other_runs, strict=True):
            was, becomes = there.recipe.to_dict(), here.recipe.to_dict()
            assert {key: (was[key], becomes[key]) for key in was if was[key] != becomes[key]} == changes
    assert found["baseline_twice"].choice == "Iterations, step (baseline)"
    assert found["third_losses"].other == "0.333, 0.333, 0.333"
    assert found["combined_equal_updates"].model == "combined" and found["baseline_rate2"].model == "baseline"
    trained = [run.name for run in study.runs]
    assert len(trained) == len(set(trained)) == 3 + 12 and not any("baseline-" in name for name in trained)


def test_twice_a_cosine_is_twice_the_iterations_and_the_same_warm_up(tmp_path):
    cosine = {name: {"lr_schedule": "cosine", "lr_warmup": 2} for name in (*paper.SETS, paper.COMBINED)}
    study = controlled(tmp_path, {"baseline_twice": [MARKET, LABELED]}, cosine)
    twice = [one for one in study.comparisons if one.variant == "baseline_twice"]
    assert [one.set for one in twice] == [MARKET, LABELED]
    for one in twice:
        once, longer = one.default_runs[0].recipe, one.other_runs[0].recipe
        assert (one.default, one.other) == ("4", "8") and longer.lr_warmup == once.lr_warmup == 2
        assert longer.learning_rate(7) < once.learning_rate(2), "down to zero at its own end"


def test_a_control_that_is_not_run_says_why(tmp_path):
    absent = {LABELED: "not run: CUHK03 not found", paper.COMBINED: "not run: CUHK01 not found"}
    chosen = {"heads_alone": [LABELED, MARKET], "combined_equal_updates": [MARKET]}
    study = controlled(tmp_path, chosen, not_run=absent)
    reasons = {(one.variant, one.set): one.not_run for one in study.comparisons if one.kind == "control"}
    assert reasons["heads_alone", LABELED] == "not run: CUHK03 not found" and reasons["heads_alone", MARKET] == ""
    assert reasons["combined_equal_updates", MARKET] == "not run: CUHK01 not found"
    assert reasons["baseline_twice", LABELED] == "not run: not among this profile's sensitivity_controls"
    assert [run.name for run in study.runs] == ["sensitivity/heads_alone-market1501-seed0"]
    equal = controlled(tmp_path, EVERY).comparisons[-1]
    assert equal.variant == "combined_equal_updates" and equal.default_runs == ()
    assert equal.not_run == "not run: the profile's own recipe is like this"


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"head_alone": [LABELED]}, "sensitivity_controls: 'head_alone' is not .* Did you mean 'heads_alone'"),
        ({"heads_alone": ["cuhk03"]}, r"heads_alone is \['cuhk03'\]; it is a list of different sets of cuhk03_d"),
        ({"heads_alone": [LABELED, LABELED]}, "it is a list of different sets"),
        ({"heads_alone": LABELED}, "heads_alone is 'cuhk03_labeled'; it is a list"),
        (["heads_alone"], r"sensitivity_controls is \['heads_alone'\]; write it as {heads_alone: \[cuhk03_labeled\]}"),
    ],
)  # fmt: skip
def test_bad_controls_are_named_before_anything_is_trained(tmp_path, chosen, message):
    with pytest.raises(ValueError, match=message):
        controlled(tmp_path, chosen)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_set": "cuhk03"}, "sensitivity_set is 'cuhk03'; it is one of cuhk03_detected"),
        ({"default_seeds": []}, "sensitivity_seeds must be a list of different seeds"),
        ({"seeds": ["0"]}, "seeds: a seed is a whole number from 0"),
        ({"variant_seeds": [1, 1]}, "sensitivity_variant_seeds must be"),
        ({"variants": ["conv_1"]}, "'conv_1' is not a variant of .* Did you mean 'conv1'"),
        ({"variants": [{"mine": {"drop_out": 0}}]}, "mine: Unknown setting 'drop_out'; did you mean 'dropout'"),
        ({"variants": [{"mine": {"dropout": 1.5}}]}, "mine: dropout must be"),
        ({"variants": [{"conv1": {"dropout": 0.1}}]}, "'conv1' cannot name a variant of your own"),
        ({"variants": [{"../up": {"dropout": 0.1}}]}, "'../up' cannot name"),
        ({"variants": [{"mine": {"seed": 3}}]}, "mine must map settings of the recipe, but not seed"),
        ({"variants": [3]}, "3 is neither a name nor"),
        ({"variants": "relu"}, r"sensitivity_variants 'relu'; write them as .* \[relu, conv1\]"),
        ({"variants": ["relu", "conv1", "relu"]}, "sensitivity_variants names 'relu' twice"),
        ({"schedule": "iterations"}, "sensitivity_schedule is 'iterations'"),
        ({"default_seeds": 0}, r"sensitivity_seeds must be a list of different seeds, at least one, not 0"),
        ({"schedule": {"iterations": 0}}, "default: iterations must be at least 1"),
    ],
)
def test_bad_settings_of_the_trainings_are_named_before_any(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        planned(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"lambda": [1]}, "'lambda' is not a number of re-ranking. Did you mean 'lambda_value'"),
        ({"k1": 10}, "k1 must be a list"),
        ({"k1": [8, 9, 8]}, r"k1 names a value twice: \[8, 9, 8\]"),
        ("k1", "sensitivity_matching is 'k1'; write it as"),
        ({"k1": [2]}, "sensitivity_matching: k2=3 exceeds k1=2"),
        ({"lambda_value": [1.2]}, "lambda_value=1.2 must lie in"),
    ],
)
def test_bad_numbers_of_matching_are_named(numbers, message):
    with pytest.raises(ValueError, match=message):
        sensitivity.options(MATCHING, numbers)


def test_fewer_than_no_pairings_are_refused(benches):
    with pytest.raises(ValueError, match="sensitivity_pairings is -1; it is a number of seeds"):
        sensitivity.matching_lines(benches, [], -1, {})


def test_the_options_are_the_other_values_and_never_the_default():
    found = sensitivity.options(MATCHING, {"k1": [6, 9], "lambda_value": [0.0]})
    changes = [option.changes for option in found]
    assert changes == [
        {"ap": "step"}, {"junk_in_pool": False}, {"jaccard": "set"}, {"xqda_solver": "eigh"}, {"k1": 9},
        {"lambda_value": 0.0},
    ]  # fmt: skip
    turned = sensitivity.options(replace(MATCHING, ap="step", jaccard="set", xqda_solver="eigh"), {})
    assert [option.other for option in turned] == ["trapezoid", "no", "weighted", "svd"]


def world(name):
    """Rows of a small set: 6 people for training, 6 to be found, a distractor, and junk on Market-1501."""
    rows = [(image_table.TRAIN, person, 1 + i % 2) for person in range(1, 7) for i in range(4)]
    rows += [(image_table.QUERY, person, 1) for person in range(11, 17)]
    rows += [(image_table.GALLERY, person, 2) for person in range(11, 17) for _ in range(2)] + [
        (image_table.GALLERY, 0, 2)
    ]
    rows += [(image_table.GALLERY, -1, 2)] * 3 if name == MARKET else []
    images = pd.DataFrame(rows, columns=[image_table.SUBSET, image_table.PERSON, image_table.CAMERA])
    images[image_table.DATASET] = name.partition("_")[0]
    images[image_table.PATH] = [f"/{name}/{i}.png" for i in range(len(images))]
    return images[list(image_table.COLUMNS)]


def invented(run_dir, images, name):
    """Features of R5 (6), C1 (4) and C2 (2) that differ between runs and tell people apart only partly."""
    draw = np.random.default_rng(zlib.crc32(f"{run_dir.name} {name}".encode()))
    person = images[image_table.PERSON].to_numpy()
    centres = {one: draw.normal(size=12) for one in np.unique(person)}
    values = np.array([centres[one] for one in person]) + draw.normal(scale=1.3, size=(len(images), 12))
    return values.astype(np.float32)


def extract(kit, run_dir, images, name, output="r5"):
    values = torch.from_numpy(invented(run_dir, images, name))
    parts = dict(zip(("r5", "c1", "c2"), values.split([6, 4, 2], dim=1), strict=True))
    chosen = [torch.nn.functional.normalize(parts[part]) for part in output.split("+")]
    meta = {"output": output, "widths": [part.shape[1] for part in chosen]}
    return features.Features((torch.cat(chosen, 1) / len(chosen) ** 0.5).numpy(), images, meta)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A finished study on CUHK03 labeled whose runs have invented features."""
    monkeypatch.setattr(scoring, "extract", extract)
    start = {"weights": "imagenet"}  # which have statistics to freeze
    study = planned(tmp_path, start, schedule={"iterations": 3}, variant_seeds=[0, 5])
    folders = [(run.folder, run.recipe.to_dict()) for run in study.runs]
    folders += [(kit(tmp_path).run(kind, name, 0).folder, RECIPE | {"seed": 0})
                for kind in ("hcn", "combined") for name in paper.SETS]  # fmt: skip
    for folder, recipe in folders:
        folder_of(folder, recipe)
    return study


def folder_of(folder, recipe):
    """A finished run's record and losses."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"recipe": recipe, "heads": ["r5", "c1", "c2"], "finished": True}
    (folder / "run.json").write_text(json.dumps(record))
    loss = pd.DataFrame({"iteration": range(1, 21), "loss_r5": losses_of(folder)})
    loss.to_csv(folder / "loss.csv", index=False)
    loss[["iteration"]].assign(seconds=1.0).to_csv(folder / "timing.csv", index=False)


def losses_of(folder):
    return np.linspace(4, 1, 20) + zlib.crc32(folder.name.encode()) % 7


@pytest.fixture
def benches(study, tmp_path):
    sets = {name: world(name) for name in paper.SETS}
    return sensitivity.benches(kit(tmp_path), study, sets, MATCHING)


def naive(folder, name, metric, reranked, pairing=5489, output="r5", learned=None, **changes):
    """Hits at rank 1 and average precision of every query, (Q, 2) in per cent, by the public stages alone."""
    matching = replace(MATCHING, **changes)
    found = extract(None, folder, world(name), name, output)
    rows = found.table[image_table.SUBSET] == image_table.TRAIN
    learned = learned or xqda.XQDA(matching.xqda_solver, random_state=pairing).fit(
        found.values[rows], found.table[image_table.PERSON][rows], found.table[image_table.CAMERA][rows]
    )
    matched = match(found, metric, reranked, matching, learned)
    each = evaluation.evaluate(matched.distance, matched.query, matched.gallery, ap=matching.ap).per_query
    return 100 * np.stack([each["first_hit"] == 1, each["ap"]], axis=1).astype(float)


def check(line, default, other, paired=True):
    """Columns of a line from the queries of its runs, (runs, Q, 2); `other` may have repetitions: (runs, r, Q, 2).

    A test person of `world` has one query, so the people's sums are the queries' values.
    """
    default, other = np.array(default), np.array(other)
    other = other.mean(axis=1) if other.ndim == 4 else other
    people = np.ones(default.shape[1])
    for i, score in enumerate(("rank1", "mAP")):
        one, two = default[..., i], other[..., i]
        assert line[f"default_{score}"] == pytest.approx(one.mean())
        assert line[f"other_{score}"] == pytest.approx(two.mean())
        assert line[f"{score}_difference"] == pytest.approx(two.mean() - one.mean())
        sides = [(two - one) / 100] if paired else [two / 100, one / 100]
        found = intervals.estimate(*sides, queries=people)
        assert (line[f"{score}_low"], line[f"{score}_high"]) == pytest.approx((found.low, found.high))
        assert np.isnan(line[f"{score}_spread"])


def test_every_choice_of_matching_equals_two_evaluations(study, benches):
    choices = sensitivity.options(MATCHING, {"k1": [4], "k2": [1], "lambda_value": [0.0]})
    lines = sensitivity.matching_lines(benches, choices, 0, {})
    assert len(lines) == 3 * len(choices)
    for line, option in zip(lines, choices * 3, strict=True):
        name = line["set"]
        way = ("xqda", True) if option.field == "xqda_solver" else sensitivity.REPORTED[name]
        assert (line["metric"], line["reranked"]) == way
        if option.field == "junk_in_pool" and name != MARKET:
            assert line["status"] == "not run: the set has no junk images"
            continue
        own = name == LABELED
        folders = [run.folder for run in study.default_runs] if own else benches[name].folders
        default = [naive(folder, name, *way) for folder in folders]
        check(line, default, [naive(folder, name, *way, **option.changes) for folder in folders])
        assert (line["iterations"], line["seeds"]) == ((3, "0 1 2") if own else (4, "0"))
        if option.field == "ap":
            assert line["rank1_difference"] == 0 and line["mAP_difference"] > 0, "step AP is never the smaller"


def test_the_pairing_of_xqda_is_drawn_again_for_every_run(study, benches):
    lines = sensitivity.matching_lines(benches, [], 3, {})
    assert [line["set"] for line in lines] == list(paper.SETS)
    line = lines[paper.SETS.index(LABELED)]
    folders = [run.folder for run in study.default_runs]
    default = [naive(folder, LABELED, "xqda", True) for folder in folders]
    check(line, default, [[naive(folder, LABELED, "xqda", True, pairing=i) for i in range(3)] for folder in folders])
    assert line["mAP_low"] < line["mAP_high"]


def test_the_metric_of_the_combined_model_fitted_on_all_sets(study, tmp_path):
    sets = {name: world(name) for name in paper.SETS}
    rows = pd.concat([world(MARKET), world(LABELED)])
    everything = rows[rows[image_table.SUBSET] == image_table.TRAIN].reset_index(drop=True)
    everything[image_table.LABEL] = everything.groupby([image_table.DATASET, image_table.PERSON]).ngroup()
    combined = sensitivity.benches(kit(tmp_path), study, sets, MATCHING, "combined")
    lines = sensitivity.fit_lines(combined, everything, {})
    folder = kit(tmp_path).run("combined", LABELED, 0).folder
    together = extract(None, folder, everything, paper.COMBINED)
    label, camera = (everything[column].to_numpy() for column in (image_table.LABEL, image_table.CAMERA))
    assert label.max() == 11, "people of two sets with one number are two"
    learned = xqda.XQDA().fit(together.values, label, camera)
    for line in lines:
        name = line["set"]
        check(line, [naive(folder, name, "xqda", True)], [naive(folder, name, "xqda", True, learned=learned)])
        assert line["model"] == "combined" and line["runs"] == "hcn-combined-seed0"


def test_the_other_outputs_as_the_feature(study, benches):
    lines = sensitivity.feature_lines(LABELED, benches, {})
    assert [line["other"] for line in lines] == ["C1", "C1", "C2", "C2", "R5+C1+C2", "R5+C1+C2"]
    folders = [run.folder for run in study.default_runs]
    for line in lines:
        way = line["metric"], line["reranked"]
        default = [naive(folder, LABELED, *way) for folder in folders]
        check(line, default, [naive(folder, LABELED, *way, output=line["variant"]) for folder in folders])


def test_variants_are_held_against_equally_many_seeds_over_people_and_seeds(study, benches):
    trained = pd.DataFrame({"run": [run.name for run in study.runs], "failure": ""})
    lines = sensitivity.training_lines(study, benches, trained)
    assert len(lines) == 2 * len(sensitivity.VARIANTS)
    for line in lines:
        one, way = by_name(study)[line["variant"]], (line["metric"], line["reranked"])
        default, other = ([naive(run.folder, LABELED, *way) for run in runs]
                          for runs in (one.default_runs, one.other_runs))  # fmt: skip
        check(line, default, other, paired=False)
        assert (line["seeds"], line["other_seeds"]) == ("0 1", "0 5")
        assert line["runs"].split() == [run.name for run in (*one.default_runs, *one.other_runs)]
        assert (line["kind"], line["set"], line["model"], line["iterations"]) == ("training", LABELED, "hcn", 3)
        for side, runs in (("default", one.default_runs), ("other", one.other_runs)):
            ends = [losses_of(run.folder)[-2:] for run in runs]
            assert line[f"{side}_loss"] == pytest.approx(np.mean(ends))


def test_neither_side_has_more_seeds_than_the_other(tmp_path):
    """Against the mean of three, a single run would look worse or better by its seed alone."""
    for default, variant, sides in (([0, 1, 2], [4], ([0], [4])), ([3], [0, 1], ([3], [0])), ([2, 1], [1, 0], None)):
        study = planned(tmp_path, default_seeds=default, variant_seeds=variant, variants=["relu"])
        one = by_name(study)["relu"]
        seeds = tuple([run.recipe.seed for run in runs] for runs in (one.default_runs, one.other_runs))
        assert seeds == (sides or (default, variant))
        assert [run.recipe.seed for run in study.default_runs] == default, "whose spread the seed line shows"


def test_the_people_behind_both_sides_give_every_number_again(study, benches):
    trained = pd.DataFrame({"run": [run.name for run in study.runs], "failure": ""})
    lines = sensitivity.training_lines(study, benches, trained)
    lines[0]["status"], _ = "diverged: at once", lines[0].pop("people")
    table, people = sensitivity.table(lines, {}), sensitivity.people(lines)
    names = ["kind", "variant", "side", "set", "model", "metric", "reranked"]
    assert list(people) == [*names, *intervals.COLUMNS, "run"]
    by_line = ["variant", "set", "model", "metric", "reranked"]
    groups = dict(list(people.groupby(by_line)))
    assert len(groups) == len(table) - 1
    for line in table[table["status"] == MEASURED].to_dict("records"):
        rows = groups[tuple(line[name] for name in by_line)]
        sides = dict(list(rows.groupby("side")))
        assert line["runs"].split() == list(dict.fromkeys(rows["run"]))
        assert all(run.endswith(f"seed{seed}") for run, seed in zip(rows["run"], rows["seed"], strict=True))
        for score in ("rank1", "mAP"):
            found = intervals.interval(sides["other"], score, sides["default"])
            assert line[f"{score}_difference"] == pytest.approx(found.value)
            assert (line[f"{score}_low"], line[f"{score}_high"]) == pytest.approx((found.low, found.high))
    assert sensitivity.people([]).empty and list(sensitivity.people([])) == list(people)


def test_controls_are_scored_beside_the_runs_of_their_own_model(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "extract", extract)
    study = controlled(tmp_path, EVERY, {paper.COMBINED: {"iterations": 9}}, seeds=(0, 1), variants=())
    for one in study.comparisons:
        for run in (*study.default_runs, *one.default_runs, *one.other_runs):
            folder_of(run.folder, run.recipe.to_dict())
    benches = sensitivity.benches(kit(tmp_path, (0, 1)), study, {LABELED: world(LABELED)}, MATCHING)
    lines = sensitivity.training_lines(study, benches, pd.DataFrame({"run": [], "failure": []}))
    measured = [line for line in lines if line["kind"] == "control"]
    assert len(measured) == 2 * len(sensitivity.CONTROLS)
    for line in measured:
        one = next(one for one in study.comparisons if one.variant == line["variant"])
        default, other = ([naive(run.folder, LABELED, line["metric"], line["reranked"]) for run in runs]
                          for runs in (one.default_runs, one.other_runs))  # fmt: skip
        check(line, default, other, paired=False)
        assert line["model"] == one.model and line["seeds"] == line["other_seeds"] == "0 1"
        assert line["runs"].split()[0].startswith({"combined": "hcn-combined"}.get(one.model, f"{one.model}-{LABELED}"))
    people = sensitivity.people(lines)
    assert set(people["kind"]) == {"control"} and set(people["model"]) == {"hcn", "baseline", "combined"}
    sensitivity.draw(sensitivity.table(lines, {}))


def test_a_variant_that_diverged_is_a_line_without_scores(study, benches):
    words = "diverged: the loss is not finite at iteration 2"
    failed = "sensitivity/conv3x3-cuhk03_labeled-seed5"
    trained = pd.DataFrame({"run": [run.name for run in study.runs]})
    trained["failure"] = np.where(trained["run"] == failed, words, "")
    lines = sensitivity.training_lines(study, benches, trained)
    assert {line["variant"] for line in lines if line["status"] == words} == {"conv3x3"}
    table = sensitivity.table(lines, {})
    assert table[table["variant"] == "conv3x3"]["other_mAP"].isna().all()


def test_the_spread_of_seeds_is_the_deviation_of_a_difference_of_two_single_runs(study, benches):
    lines = sensitivity.seed_lines(LABELED, benches, {})
    scores = np.array([naive(run.folder, LABELED, "xqda", True).mean(axis=0) for run in study.default_runs])
    assert np.isnan(lines[1]["mAP_low"]) and np.isnan(lines[1]["rank1_high"]), "a range has no interval"
    assert lines[1]["mAP_difference"] == pytest.approx(np.ptp(scores[:, 1]))
    assert (lines[1]["default_rank1"], lines[1]["other_rank1"]) == pytest.approx(
        (scores[:, 0].min(), scores[:, 0].max())
    )
    found = sensitivity.table(lines, {})
    assert found["reranked"].tolist() == [False, True]
    assert found["mAP_spread"].iloc[1] == pytest.approx(np.sqrt(2) * scores[:, 1].std(ddof=1))
    benches[LABELED].folders = benches[LABELED].folders[:1]
    alone = sensitivity.seed_lines(LABELED, benches, {})
    assert {line["status"] for line in alone} == {"not run: one seed only"}
    assert sensitivity.table(alone, {})["mAP_spread"].isna().all()


def test_sets_that_are_absent_have_lines_that_say_so(study, benches):
    absent = {LABELED: "not run: CUHK03 not found", DETECTED: "not run: CUHK03 not found",
              paper.COMBINED: "not run: CUHK03 not found"}  # fmt: skip
    choices = sensitivity.options(MATCHING, {})
    lines = sensitivity.seed_lines(LABELED, {}, absent)
    lines += sensitivity.matching_lines({MARKET: benches[MARKET]}, choices, 1, absent)
    lines += sensitivity.fit_lines({}, None, absent) + sensitivity.feature_lines(LABELED, {}, absent)
    table = sensitivity.table(lines, {"data_source": "official"})
    assert (table["status"] == MEASURED).eq((table["set"] == MARKET) & (table["variant"] != "xqda_fit")).all()
    assert set(table.loc[table["status"] != MEASURED, "status"]) == {"not run: CUHK03 not found"}
    assert (table["data_source"] == "official").all()


def test_the_picture_has_a_mark_and_whiskers_a_measured_line_full_where_zero_is_outside(study, benches):
    choices = sensitivity.options(MATCHING, {"k1": [4]})
    lines = sensitivity.seed_lines(LABELED, benches, {})
    table = sensitivity.table(lines[1:] + sensitivity.matching_lines(benches, choices, 2, {}), {})
    table.loc[1, ["mAP_low", "mAP_difference", "mAP_high"]] = [0.5, 1.0, 1.5]
    figure = sensitivity.draw(table)
    measured = table[table["status"] == MEASURED]
    for axis, score in zip(figure.axes, ("rank1", "mAP"), strict=True):
        marks = [line for line in axis.lines if line.get_marker() in {"^", "o", "s", "<", ">"}]
        shown = sorted(float(line.get_xdata()[0]) for line in marks)
        edge = (measured[f"{score}_high"] - measured[f"{score}_low"]).max()
        assert shown == pytest.approx(sorted(measured[f"{score}_difference"].clip(-edge, edge)))
        drawn = [
            line.get_xdata() for line in axis.lines if line.get_marker() == "None" and line.get_color() != "#444444"
        ]
        ends = measured[[f"{score}_low", f"{score}_high"]].clip(-edge, edge).to_numpy()
        assert np.array(drawn) == pytest.approx(ends, nan_ok=True), "whiskers, in the table's order"
        decided = (measured[f"{score}_low"] > 0) | (measured[f"{score}_high"] < 0)
        full = [line for line in marks if line.get_markerfacecolor() != "white" and line.get_marker() not in "<>"]
        assert len(full) == (decided & (measured[f"{score}_difference"].abs() <= edge)).sum()
    assert decided.any() and not decided.all()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "k1: 6 → 4" in labels and len(labels) == measured[["choice", "other"]].drop_duplicates().shape[0]
    assert {"95% interval, 0 outside", "0 inside"} <= {text.get_text() for text in figure.legends[0].get_texts()}


def test_a_mark_far_beyond_the_others_intervals_becomes_an_arrow_with_its_number(study, benches):
    table = sensitivity.table(sensitivity.matching_lines(benches, sensitivity.options(MATCHING, {}), 0, {}), {})
    table = table[table["set"] == LABELED].reset_index(drop=True)
    table["mAP_difference"], table["mAP_low"], table["mAP_high"] = 0.1, -1.0, 2.0
    for column in ("mAP_difference", "mAP_low", "mAP_high"):
        table.loc[0, column] = -60.0
    rank1, mean_ap = sensitivity.draw(table).axes
    assert not rank1.texts and [text.get_text() for text in mean_ap.texts] == ["−60.0"]
    arrows = [line for line in mean_ap.lines if line.get_marker() == "<"]
    assert [float(line.get_xdata()[0]) for line in arrows] == [-3.0]
    assert min(line.get_xdata().min() for line in mean_ap.lines[:-1]) >= -3.0
    (number,) = mean_ap.texts
    assert number.get_ha() == "right" and number.xy[0] == -3.0 and mean_ap.get_xlim()[0] < -4, "outside all whiskers"


def test_the_table_as_it_is_read(study, benches):
    line = sensitivity.matching_lines(benches, sensitivity.options(MATCHING, {})[:2], 0, {})[2:4]
    shown = sensitivity.as_printed(sensitivity.table(line, {}))
    assert list(shown["matching"]) == ["XQDA, re-ranked"] * 2
    first = line[0]
    assert shown["mAP"][0] == f"{first['default_mAP']:.1f} → {first['other_mAP']:.1f}"
    assert shown["mAP difference"][0] == f"{first['mAP_difference']:+.1f}"
    assert shown["mAP interval"][0] == f"{first['mAP_low']:+.1f} to {first['mAP_high']:+.1f}"
    assert shown["rank-1"][1] == "not run: the set has no junk images" and shown["mAP difference"][1] == ""
    assert shown["mAP interval"][1] == ""
    seeds = sensitivity.seed_lines(LABELED, benches, {})
    shown = sensitivity.as_printed(sensitivity.table(seeds, {}))
    assert shown["rank-1 interval"][1] == f"±{seeds[1]['rank1_spread']:.1f}"


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Trainings of seconds on toy pictures: thin networks, one thread, a cache of their own."""
    monkeypatch.setattr(model, "_backbone", model._backbone)
    toy_pictures.make_backbones_thin()
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))
    table = toy_pictures.write(tmp_path / "data")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path, table
    torch.set_num_threads(threads)


def test_trainings_are_done_once_and_only_what_changed_is_done_again(toy):
    root, table = toy
    study = planned(root, default_seeds=[0], variants=["conv1"], schedule={"iterations": 2})
    trained = sensitivity.train(kit(root), study, {LABELED: table})
    assert list(trained["run"]) == [run.name for run in study.runs] and (trained["failure"] == "").all()
    assert list(trained["iterations"]) == [2, 2]
    default, conv1 = (run_folder.read(run.folder) for run in study.runs)
    assert default["heads"] == ["r5", "c1", "c2"] and conv1["heads"] == ["r5", "c1", "c2", "c3"]
    written = [(run.folder / "run.json").stat().st_mtime_ns for run in study.runs]
    sensitivity.train(kit(root), study, {LABELED: table})
    assert [(run.folder / "run.json").stat().st_mtime_ns for run in study.runs] == written
    more = planned(root, default_seeds=[0, 1], variants=["conv1"], schedule={"iterations": 2})
    sensitivity.train(kit(root), more, {LABELED: table})
    assert [(run.folder / "run.json").stat().st_mtime_ns for run in study.runs] == written
    assert run_folder.finished(more.default_runs[1].folder)


def test_controls_train_their_own_model_on_their_own_set_and_leave_the_profiles_runs_alone(toy):
    root, table = toy
    chosen = {"heads_alone": [LABELED], "baseline_twice": [LABELED], "combined_equal_updates": [MARKET]}
    study = controlled(root, chosen, {paper.COMBINED: {"iterations": 9}, LABELED: {"iterations": 2}})
    study = replace(study, default_runs=())
    (fewer := table.copy())[image_table.PATH] = table[image_table.PATH].iloc[::-1].to_numpy()
    trained = sensitivity.train(kit(root), study, {LABELED: table, paper.COMBINED: fewer})
    assert list(trained["iterations"]) == [2, 4, 4] and (trained["failure"] == "").all()
    records = {run.name.split("/")[1].split("-")[0]: run_folder.read(run.folder) for run in study.runs}
    assert [records[name]["model"] for name in chosen] == ["hcn", "baseline", "hcn"]
    assert records["heads_alone"]["recipe"]["merging"] == "none" and records["heads_alone"]["form"] == "pooled"
    assert records["heads_alone"]["heads"] == ["r5", "c1", "c2"]
    digests = [records[name]["data_digest"] for name in chosen]
    assert digests[0] == digests[1] != digests[2], "the combined set's images"
    assert [path.name for path in (root / "results" / "runs").iterdir()] == ["sensitivity"]


def test_a_variant_that_diverges_does_not_stop_the_others_but_the_default_must_train(toy):
    root, table = toy
    hot = {"base_lr": 1e30}
    study = planned(root, default_seeds=[0], variants=[{"hot": hot}, {"wide": {"width": 48}}])
    trained = sensitivity.train(kit(root), study, {LABELED: table}).set_index("run")
    assert "not finite at iteration" in trained.loc["sensitivity/hot-cuhk03_labeled-seed0", "failure"]
    assert trained.loc["sensitivity/wide-cuhk03_labeled-seed0", "failure"] == ""
    with pytest.raises(FloatingPointError, match="not finite"):
        sensitivity.train(kit(root), planned(root, hot, default_seeds=[0], variants=[]), {LABELED: table})
