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

from reid_core import features, model, training, weight_files, xqda
from reid_core.datasets import table as image_table
from reid_core.matching import Matching, match
from reid_core.training import run_folder
from reproduction import paper, scoring, sensitivity
from reproduction.experiment import Experiment
from reproduction.sensitivity import variants
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
    return sensitivity.design(kit(root, seeds), RECIPE | (recipe or {}), train_set, **given)


def by_name(study):
    return {one.variant: one for one in study.comparisons}


def test_a_variant_changes_its_setting_and_nothing_else(tmp_path):
    study = planned(tmp_path, variants=[*sensitivity.VARIANTS, {"small": {"height": 64, "mirror": False}}])
    expected = sensitivity.VARIANTS | {"small": {"height": 64, "mirror": False}}
    for one in study.comparisons:
        if one.variant != "batchnorm":
            assert one.default_runs == study.default_runs and len(one.other_runs) == 1
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
    assert len(names) == len(set(names)) == 3 + 8 + 2
    shorter = planned(tmp_path, schedule={"iterations": 3}, variant_seeds=[0, 4])
    assert [run.name for run in shorter.default_runs][0] == "sensitivity/default-cuhk03_labeled-seed0"
    assert {run.recipe.iterations for run in shorter.runs} == {3}
    assert [run.recipe.seed for run in by_name(shorter)["relu"].other_runs] == [0, 4]


def test_from_scratch_frozen_and_live_statistics_both_start_from_another_sets_backbone(tmp_path):
    one = by_name(planned(tmp_path))["batchnorm"]
    (live,), (frozen,) = one.default_runs, one.other_runs
    assert (one.default, one.other) == ("live", "frozen") and "baseline-market1501-seed0" in one.note
    assert live.warm == frozen.warm == tmp_path / "results" / "runs" / "baseline-market1501-seed0"
    assert live.recipe.differences(frozen.recipe.to_dict()) == ["batchnorm: 'frozen' there, 'live' asked for"]
    lender = by_name(planned(tmp_path, train_set=MARKET))["batchnorm"].default_runs[0].warm
    assert lender.name == "baseline-cuhk03_labeled-seed0"


def test_with_pretrained_weights_the_statistics_are_a_variant_like_the_others(tmp_path):
    study = planned(tmp_path, {"weights": "imagenet", "batchnorm": "frozen"})
    one = by_name(study)["batchnorm"]
    assert (one.default, one.other) == ("frozen", "live") and one.default_runs == study.default_runs
    assert one.other_runs[0].warm is None and one.other_runs[0].recipe.weights == "imagenet"


def test_what_is_not_run_says_why(tmp_path):
    study = planned(tmp_path, {"pooling": "maximum"}, variants=["maximum", "conv1", "batchnorm"],
                    not_run={MARKET: "not run: Market-1501 not found"})  # fmt: skip
    reasons = {one.variant: one.not_run for one in study.comparisons}
    assert reasons["maximum"] == "not run: the profile's own recipe is like this"
    assert reasons["relu"] == "not run: not among this profile's sensitivity_variants"
    assert reasons["batchnorm"] == "not run: Market-1501 not found" and reasons["conv1"] == ""
    assert [run.name.split("-")[0] for run in study.runs] == ["hcn"] * 3 + ["sensitivity/conv1"]
    absent = planned(tmp_path, not_run={LABELED: "not run: CUHK03 not found"})
    assert absent.runs == [] and {one.not_run for one in absent.comparisons} == {"not run: CUHK03 not found"}


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
    study = planned(tmp_path, schedule={"iterations": 3}, variant_seeds=[0, 5])
    folders = [(run.folder, run.recipe.to_dict()) for run in study.runs]
    folders += [(kit(tmp_path).run(kind, name, 0).folder, RECIPE | {"seed": 0})
                for kind in ("hcn", "combined") for name in paper.SETS]  # fmt: skip
    for folder, recipe in folders:
        folder.mkdir(parents=True, exist_ok=True)
        record = {"recipe": recipe, "heads": ["r5", "c1", "c2"], "finished": True}
        (folder / "run.json").write_text(json.dumps(record))
        loss = pd.DataFrame({"iteration": range(1, 21), "loss_r5": losses_of(folder)})
        loss.to_csv(folder / "loss.csv", index=False)
        loss[["iteration"]].assign(seconds=1.0).to_csv(folder / "timing.csv", index=False)
    return study


def losses_of(folder):
    return np.linspace(4, 1, 20) + zlib.crc32(folder.name.encode()) % 7


@pytest.fixture
def benches(study, tmp_path):
    sets = {name: world(name) for name in paper.SETS}
    return sensitivity.benches(kit(tmp_path), study, sets, MATCHING)


def naive(folder, name, metric, reranked, pairing=5489, output="r5", **changes):
    """Rank-1 and mAP in per cent by the public stages alone."""
    matching = replace(MATCHING, **changes)
    found = extract(None, folder, world(name), name, output)
    rows = found.table[image_table.SUBSET] == image_table.TRAIN
    learned = xqda.XQDA(matching.xqda_solver, random_state=pairing)
    learned.fit(found.values[rows], found.table[image_table.PERSON][rows], found.table[image_table.CAMERA][rows])
    scores = scoring.evaluate(match(found, metric, reranked, matching, learned), matching.ap)
    return np.array([100 * scores["rank1"], 100 * scores["mAP"]])


def check(line, default, other, deviation):
    """Columns of a line from the scores of its runs; `other` may have repetitions, (runs, repetitions, 2)."""
    default, other = np.array(default), np.array(other)
    other = other[:, None] if other.ndim == 2 else other
    each = (other - default[:, None]).reshape(-1, 2)
    for i, score in enumerate(("rank1", "mAP")):
        assert line[f"default_{score}"] == pytest.approx(default[:, i].mean())
        assert line[f"other_{score}"] == pytest.approx(other[..., i].mean())
        assert line[f"{score}_difference"] == pytest.approx(other[..., i].mean() - default[:, i].mean())
        assert line[f"{score}_low"] == pytest.approx(each[:, i].min())
        assert line[f"{score}_high"] == pytest.approx(each[:, i].max())
        spread = deviation[i] * np.sqrt(2 / len(default))
        assert line[f"{score}_spread"] == pytest.approx(spread, nan_ok=True)


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
        default = np.array([naive(folder, name, *way) for folder in folders])
        other = [naive(folder, name, *way, **option.changes) for folder in folders]
        check(line, default, other, default.std(axis=0, ddof=1) if own else [np.nan] * 2)
        assert (line["iterations"], line["seeds"]) == ((3, "0 1 2") if own else (4, "0"))
        if option.field == "ap":
            assert line["rank1_difference"] == 0 and line["mAP_difference"] > 0, "step AP is never the smaller"


def test_the_pairing_of_xqda_is_drawn_again_for_every_run(study, benches):
    lines = sensitivity.matching_lines(benches, [], 3, {})
    assert [line["set"] for line in lines] == list(paper.SETS)
    line = lines[paper.SETS.index(LABELED)]
    folders = [run.folder for run in study.default_runs]
    default = np.array([naive(folder, LABELED, "xqda", True) for folder in folders])
    other = [[naive(folder, LABELED, "xqda", True, pairing=i) for i in range(3)] for folder in folders]
    check(line, default, other, default.std(axis=0, ddof=1))
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
        found = extract(None, folder, world(name), name)
        scores = scoring.evaluate(match(found, "xqda", True, MATCHING, learned), "trapezoid")
        check(line, [naive(folder, name, "xqda", True)], [[100 * scores["rank1"], 100 * scores["mAP"]]], [np.nan] * 2)
        assert line["model"] == "combined" and line["runs"] == "hcn-combined-seed0"


def test_the_other_outputs_as_the_feature(study, benches):
    lines = sensitivity.feature_lines(LABELED, benches, {})
    assert [line["other"] for line in lines] == ["C1", "C1", "C2", "C2", "R5+C1+C2", "R5+C1+C2"]
    folders = [run.folder for run in study.default_runs]
    for line in lines:
        way = line["metric"], line["reranked"]
        default = np.array([naive(folder, LABELED, *way) for folder in folders])
        other = [naive(folder, LABELED, *way, output=line["variant"]) for folder in folders]
        check(line, default, other, default.std(axis=0, ddof=1))


def test_variants_are_held_against_the_mean_and_the_spread_of_the_defaults_seeds(study, benches):
    trained = pd.DataFrame({"run": [run.name for run in study.runs], "failure": ""})
    lines = sensitivity.training_lines(study, benches, trained)
    assert len(lines) == 2 * len(sensitivity.VARIANTS)
    for line in lines:
        one, way = by_name(study)[line["variant"]], (line["metric"], line["reranked"])
        seeds = np.array([naive(run.folder, LABELED, *way) for run in study.default_runs])
        default, other = ([naive(run.folder, LABELED, *way) for run in runs]
                          for runs in (one.default_runs, one.other_runs))  # fmt: skip
        default, other = np.array(default), np.array(other)
        spread = seeds.std(axis=0, ddof=1) * np.sqrt(1 / len(default) + 1 / len(other))
        for i, score in enumerate(("rank1", "mAP")):
            assert line[f"default_{score}"] == pytest.approx(default[:, i].mean())
            assert line[f"other_{score}"] == pytest.approx(other[:, i].mean())
            assert line[f"{score}_low"] == pytest.approx(other[:, i].min() - default[:, i].mean())
            assert line[f"{score}_high"] == pytest.approx(other[:, i].max() - default[:, i].mean())
            assert line[f"{score}_spread"] == pytest.approx(spread[i])
        assert line["other_seeds"] == "0 5" and line["seeds"] == ("0 5" if one.variant == "batchnorm" else "0 1 2")
        assert line["runs"].split() == [run.name for run in (*one.default_runs, *one.other_runs)]
        assert line["iterations"] == 3
        for side, runs in (("default", one.default_runs), ("other", one.other_runs)):
            ends = [losses_of(run.folder)[-2:] for run in runs]
            assert line[f"{side}_loss"] == pytest.approx(np.mean(ends))


def test_a_variant_that_diverged_is_a_line_without_scores(study, benches):
    words = "diverged: the loss is not finite at iteration 2"
    failed = "sensitivity/conv3x3-cuhk03_labeled-seed5"
    trained = pd.DataFrame({"run": [run.name for run in study.runs]})
    trained["failure"] = np.where(trained["run"] == failed, words, "")
    lines = sensitivity.training_lines(study, benches, trained)
    assert {line["variant"] for line in lines if line["status"] == words} == {"conv3x3"}
    table = sensitivity.table(lines, {})
    assert table[table["variant"] == "conv3x3"]["other_mAP"].isna().all()


def test_the_headline_is_the_deviation_of_a_difference_of_two_single_runs(study, benches):
    lines = sensitivity.seed_lines(LABELED, benches, {})
    scores = np.array([naive(run.folder, LABELED, "xqda", True) for run in study.default_runs])
    assert lines[1]["mAP_difference"] == pytest.approx(np.ptp(scores[:, 1]))
    assert (lines[1]["default_rank1"], lines[1]["other_rank1"]) == pytest.approx(
        (scores[:, 0].min(), scores[:, 0].max())
    )
    found = sensitivity.headline(sensitivity.table(lines, {}))
    assert found["mAP"] == pytest.approx(np.sqrt(2) * scores[:, 1].std(ddof=1))
    benches[LABELED].folders = benches[LABELED].folders[:1]
    alone = sensitivity.seed_lines(LABELED, benches, {})
    assert {line["status"] for line in alone} == {"not run: one seed only"}
    assert sensitivity.headline(sensitivity.table(alone, {})) is None


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


def test_the_picture_has_a_mark_a_measured_line_and_a_bar_where_seeds_are_known(study, benches):
    choices = sensitivity.options(MATCHING, {"k1": [4]})
    lines = sensitivity.seed_lines(LABELED, benches, {})
    table = sensitivity.table(lines[1:] + sensitivity.matching_lines(benches, choices, 2, {}), {})
    figure = sensitivity.draw(table)
    measured = table[table["status"] == MEASURED]
    for axis, score in zip(figure.axes, ("rank1", "mAP"), strict=True):
        marks = [line for line in axis.lines if line.get_marker() in {"^", "o", "s", "<", ">"}]
        shown = sorted(float(line.get_xdata()[0]) for line in marks)
        edge = 2.5 * measured[f"{score}_spread"].max()
        assert shown == pytest.approx(sorted(measured[f"{score}_difference"].clip(-edge, edge)))
        bars = sorted(bar.get_width() for bar in axis.patches)
        known = measured[f"{score}_spread"].dropna()
        assert bars == pytest.approx(sorted(2 * known))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert "k1: 6 → 4" in labels and len(labels) == measured[["choice", "other"]].drop_duplicates().shape[0]
    assert "± what seeds alone do" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_mark_far_beyond_the_bars_becomes_an_arrow_with_its_number(study, benches):
    table = sensitivity.table(sensitivity.matching_lines(benches, sensitivity.options(MATCHING, {}), 0, {}), {})
    table = table[table["set"] == LABELED].reset_index(drop=True)
    for column in ("mAP_difference", "mAP_low", "mAP_high"):
        table.loc[0, column] = -60.0
    table["mAP_spread"] = 2.0
    rank1, mean_ap = sensitivity.draw(table).axes
    assert not rank1.texts and [text.get_text() for text in mean_ap.texts] == ["−60.0"]
    arrows = [line for line in mean_ap.lines if line.get_marker() == "<"]
    assert [float(line.get_xdata()[0]) for line in arrows] == [-5.0]
    assert min(line.get_xdata().min() for line in mean_ap.lines[:-1]) >= -5.0


def test_the_table_as_it_is_read(study, benches):
    line = sensitivity.matching_lines(benches, sensitivity.options(MATCHING, {})[:2], 0, {})[2:4]
    shown = sensitivity.as_printed(sensitivity.table(line, {}))
    assert list(shown["matching"]) == ["XQDA, re-ranked"] * 2
    first = line[0]
    assert shown["mAP"][0] == f"{first['default_mAP']:.1f} → {first['other_mAP']:.1f}"
    assert shown["mAP difference"][0] == f"{first['mAP_difference']:+.1f}"
    assert shown["rank-1"][1] == "not run: the set has no junk images" and shown["mAP difference"][1] == ""


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
    trained = sensitivity.train(kit(root), study, table)
    assert list(trained["run"]) == [run.name for run in study.runs] and (trained["failure"] == "").all()
    assert list(trained["iterations"]) == [2, 2]
    default, conv1 = (run_folder.read(run.folder) for run in study.runs)
    assert default["heads"] == ["r5", "c1", "c2"] and conv1["heads"] == ["r5", "c1", "c2", "c3"]
    written = [(run.folder / "run.json").stat().st_mtime_ns for run in study.runs]
    sensitivity.train(kit(root), study, table)
    assert [(run.folder / "run.json").stat().st_mtime_ns for run in study.runs] == written
    more = planned(root, default_seeds=[0, 1], variants=["conv1"], schedule={"iterations": 2})
    sensitivity.train(kit(root), more, table)
    assert [(run.folder / "run.json").stat().st_mtime_ns for run in study.runs] == written
    assert run_folder.finished(more.default_runs[1].folder)


def test_frozen_statistics_are_those_of_the_lending_run(toy):
    root, table = toy
    study = planned(root, default_seeds=[0], variants=["batchnorm"], schedule={"iterations": 2})
    lender = by_name(study)["batchnorm"].other_runs[0].warm
    with pytest.raises(FileNotFoundError, match=r"baseline-market1501-seed0.*02_train"):
        sensitivity.train(kit(root), study, table)
    recipe = training.Recipe.from_dict(RECIPE | {"iterations": 3})
    training.train("baseline", table, lender, recipe=recipe, data_root=root / "data")
    sensitivity.train(kit(root), study, table)
    lent = weight_files.read(lender / run_folder.WEIGHTS)
    assert {f"backbone.{name}" for name in weight_files.read(variants.backbone_file(lender))} < set(lent)
    one = by_name(study)["batchnorm"]
    for runs, same in ((one.other_runs, True), (one.default_runs, False)):
        state = weight_files.read(runs[0].folder / run_folder.WEIGHTS)
        statistics = [name for name in state if "running_" in name]
        assert len(statistics) > 4
        assert all(torch.equal(state[name], lent[name]) == same for name in statistics)
        assert not torch.equal(state["backbone.conv1.weight"], lent["backbone.conv1.weight"])


def test_a_variant_that_diverges_does_not_stop_the_others_but_the_default_must_train(toy):
    root, table = toy
    hot = {"base_lr": 1e30}
    study = planned(root, default_seeds=[0], variants=[{"hot": hot}, {"wide": {"width": 48}}])
    trained = sensitivity.train(kit(root), study, table).set_index("run")
    assert "not finite at iteration" in trained.loc["sensitivity/hot-cuhk03_labeled-seed0", "failure"]
    assert trained.loc["sensitivity/wide-cuhk03_labeled-seed0", "failure"] == ""
    with pytest.raises(FloatingPointError, match="not finite"):
        sensitivity.train(kit(root), planned(root, hot, default_seeds=[0], variants=[]), table)
