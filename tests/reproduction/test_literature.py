import inspect
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from scipy.ndimage import gaussian_filter

from reid_core import evaluation
from reid_core.matching import Matching, Split
from reproduction import literature as methods
from reproduction import paper
from reproduction import tables as result_tables
from reproduction.experiment import Experiment
from reproduction.literature import METHODS, Task, chosen, entries, not_run, why_not

torch.set_num_threads(1)  # the same bits twice need the same split of sums


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Twelve people in two cameras, three images in each: a smooth colour field a person, moved, tinted and noisy."""
    random = np.random.RandomState(0)
    folder = tmp_path_factory.mktemp("people")
    rows = []
    for person in range(1, 13):
        field = gaussian_filter(random.rand(64, 32, 3), (5, 5, 0))
        field = (field - field.min()) / np.ptp(field) * 200
        for camera in (1, 2):
            for number in range(3):
                image = np.roll(field, random.randint(-2, 3), axis=1) * (1 if camera == 1 else 0.8)
                image = np.clip(image + random.randn(*image.shape) * 6, 0, 255).astype(np.uint8)
                path = folder / f"{person:04d}_c{camera}_{number}.png"
                Image.fromarray(image).save(path)
                subset = "train" if person <= 8 else "query" if camera == 1 and number == 0 else "gallery"
                rows.append(("market1501", subset, person, camera, str(path)))
    table = pd.DataFrame(rows, columns=["dataset", "subset", "person_id", "camera_id", "image_path"])
    return Split(*(table[table["subset"] == s].reset_index(drop=True) for s in ("train", "query", "gallery")))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


SMALL = {
    "KISSME on LOMO": {"n_components": 8},
    "SCSP [3]": {"n_components": 10},
    "SCSP+re-rank [3]": {"n_components": 10},
    "Gated [21]": {"passes": 6, "width": 8, "learning_rate": 0.003},
}


def task(tables, results, **given):
    """The toy set as a task, with a results folder of its own."""
    root = os.path.commonpath(list(tables.query["image_path"]))
    return Task(Experiment("test", root, results), "toy", tables, **given)


def run(name, task, **settings):
    return chosen({name: settings}).run(task)


@pytest.fixture
def weights(tmp_path):
    """A ResNet-18 state dict in torchvision's names, random: enough to test the way, not the ranking."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", [name for name in METHODS if name != "ImageNet ResNet-50"])
def test_every_method_ranks_its_set_above_chance_and_repeats_itself(name, tables, tmp_path):
    first, second = (run(name, task(tables, tmp_path / folder, seed=1), **SMALL.get(name, {})) for folder in "ab")
    assert first.distance.shape == (4, len(tables[2])) and first.distance.dtype == np.float32
    np.testing.assert_array_equal(first.distance, second.distance)
    assert first.note and min(first.seconds_features, first.seconds_train, first.seconds_match) >= 0
    assert first.faithful in result_tables.FAITHFUL
    assert first.run == ("gated-toy-seed1" if name == "Gated [21]" else None)
    assert evaluation.evaluate(first.distance, tables[1], tables[2]).mAP > 0.35  # chance: about 0.2


def test_every_row_of_the_literature_has_its_method():
    wanted = {row.method for table in (2, 3) for row in paper.rows(table) if row.model is None}
    assert wanted == set(METHODS)


def test_imagenet_row_runs_with_local_weights_and_says_what_is_missing(tables, weights, tmp_path, monkeypatch):
    name, toy = "ImageNet ResNet-50", task(tables, tmp_path)
    outcome = run(name, toy, weights=weights, backbone="resnet18")
    assert outcome.distance.shape == (4, len(tables[2])) and outcome.seconds_train == 0
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert "hub/checkpoints/resnet50" in why_not("ImageNet ResNet-50")
    with pytest.raises(FileNotFoundError, match="nowhere.pth are not there"):
        run(name, toy, weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(ValueError, match="no method 'PCB'"):
        why_not("PCB")


def test_a_methods_settings_are_those_of_its_function():
    for method in METHODS.values():
        _, *own = inspect.signature(method.function).parameters.values()
        assert [p.name for p in own if p.default is p.empty] == list(method.settings), method.name
        assert all(p.kind is p.KEYWORD_ONLY for p in own)


def test_lomo_is_extracted_once_and_again_when_an_image_changes(tables, cache, tmp_path, monkeypatch):
    calls, toy = [], task(tables, tmp_path)
    extract = methods.cached.lomo.extract
    monkeypatch.setattr(methods.cached.lomo, "extract", lambda *a, **k: calls.append(1) or extract(*a, **k))
    run("LOMO", toy)
    run("DNS [20]", toy)
    assert len(calls) == 3 and len(list((cache / "lomo").glob("*.npy"))) == 3
    run("LOMO", toy, retinex=False)
    assert len(calls) == 5
    path = tables[1]["image_path"].iloc[0]
    Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    run("LOMO", toy)
    assert len(calls) == 6


def test_plain_and_reranked_rows_share_one_xqda(tables, tmp_path, monkeypatch):
    fits = []
    fit = methods.xqda.XQDA.fit
    monkeypatch.setattr(methods.xqda.XQDA, "fit", lambda *given: fits.append(1) or fit(*given))
    toy = task(tables, tmp_path, how=Matching(k1=6, k2=2))
    plain, again = run("LOMO+XQDA", toy), run("LOMO+XQDA [19]", toy)
    assert len(fits) == 1 and plain.seconds_train == again.seconds_train > 0
    assert not np.array_equal(plain.distance, again.distance)
    run("LOMO+XQDA", toy, retinex=False)
    run("LOMO+XQDA", replace(toy, seed=1, _learnt={}))
    assert len(fits) == 3


def test_lomo_has_length_1_in_the_rows_of_13_and_that_of_its_release_in_rows_of_its_own(tables, tmp_path, monkeypatch):
    learnt, fit = [], methods.xqda.XQDA.fit
    monkeypatch.setattr(methods.xqda.XQDA, "fit", lambda self, X, *ids: learnt.append(X) or fit(self, X, *ids))
    toy = task(tables, tmp_path, how=Matching(k1=6, k2=2))
    rows = ("LOMO+XQDA", "LOMO+XQDA [19]", "LOMO as released+XQDA", "LOMO as released+XQDA+re-rank")
    unit, unit_again, released, released_again = (run(name, toy) for name in rows)
    for length, X in zip((1, 3**0.5), learnt, strict=True):
        np.testing.assert_allclose(np.linalg.norm(X, axis=1), length, rtol=1e-5)
    by_hand = fit(methods.xqda.XQDA(), learnt[0], *methods.people(tables.train))
    sides = [part.values / np.linalg.norm(part.values, axis=1, keepdims=True)
             for part in map(methods.cached.lomo_features, tables[1:])]  # fmt: skip
    np.testing.assert_array_equal(unit.distance, by_hand.distance(*sides))
    np.testing.assert_array_equal(unit_again.distance, toy.how.reranked(*sides, by_hand))
    assert not np.allclose(unit.distance, released.distance)
    assert not np.allclose(unit_again.distance, released_again.distance)
    assert "Divided by its length" in unit.note and "Of length sqrt(3)" in released_again.note


def test_the_null_space_is_learnt_once_and_reranked_as_euclidean(tables, tmp_path, monkeypatch):
    fits, fit = [], methods.NullSpace.fit
    monkeypatch.setattr(methods.NullSpace, "fit", lambda *given: fits.append(1) or fit(*given))
    toy = task(tables, tmp_path, how=Matching(k1=6, k2=2))
    plain, alone, again = (run(name, toy) for name in ("DNS [20]", "DNS on LOMO [20]", "DNS+re-rank [20]"))
    assert len(fits) == 1 and plain.seconds_train == again.seconds_train > 0
    np.testing.assert_array_equal(plain.distance, alone.distance)
    train, *sides = (methods.cached.lomo_features(table).values for table in tables)
    by_hand = fit(methods.NullSpace(), train, *methods.people(tables.train))
    np.testing.assert_allclose(plain.distance, by_hand.distance(*sides), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(again.distance, toy.how.reranked(*map(by_hand.transform, sides)))


def test_scsp_is_learnt_once_and_reranked_with_the_settings_of_the_matching(tables, tmp_path, monkeypatch):
    fits, fit = [], methods.SCSP.fit
    monkeypatch.setattr(methods.SCSP, "fit", lambda *given: fits.append(1) or fit(*given))
    toy = task(tables, tmp_path, how=Matching(k1=6, k2=2))
    plain, again = (run(name, toy, n_components=10) for name in ("SCSP [3]", "SCSP+re-rank [3]"))
    other = run("SCSP+re-rank [3]", replace(toy, how=Matching(k1=5, k2=2)), n_components=10)
    assert len(fits) == 1 and plain.seconds_train == again.seconds_train > 0
    assert plain.seconds_features == again.seconds_features > 0
    assert not np.array_equal(again.distance, other.distance) and not np.allclose(again.distance, plain.distance)


def test_notes_count_what_a_row_learns_from(tables, tmp_path):
    toy = task(tables, tmp_path)
    first, second = methods.xqda.official_pairs(*methods.people(tables.train))
    assert 0 < len(first) < 24
    notes = {
        "LOMO+XQDA": f"Learns from {2 * len(first)} of 48 training images, 8 people.",
        "DNS [20]": "Learns from 48 of 48 training images, 8 people.",
        "KISSME on LOMO": "Learns from 48 of 48 training images, 8 people.",
        "Gated [21]": "Learns from 48 of 48 training images, 8 people.",
    }
    for name, words in notes.items():
        assert run(name, toy, **SMALL.get(name, {})).note.endswith(words), name
    of_scsp = run("SCSP [3]", toy, n_components=10, n_queries=20, n_images=30).note
    assert "Learns from 20 of 48 training images as queries" in of_scsp and "30 teach the whitening" in of_scsp
    assert "30 teach" not in run("SCSP [3]", toy, n_components=10).note and "48 teach" in run("SCSP [3]", toy).note


def test_settings_of_the_matching_reach_xqda_and_reranking(tables, tmp_path):
    svd, eigh = (task(tables, tmp_path, how=Matching(xqda_solver=solver)) for solver in ("svd", "eigh"))
    assert not np.allclose(*(run("LOMO+XQDA", one).distance for one in (svd, eigh)))
    default = Matching(k1=7, k2=3)
    plain = run("LOMO+XQDA [19]", replace(svd, how=default)).distance
    for change in ({"k1": 6}, {"k2": 2}, {"lambda_value": 0.1}, {"half": "ports"}, {"jaccard": "set"}):
        other = run("LOMO+XQDA [19]", replace(svd, how=replace(default, **change))).distance
        assert not np.array_equal(other, plain), change


def test_a_profile_chooses_methods_by_name_with_settings():
    assert chosen("LOMO").name == "LOMO"
    method = chosen({"LOMO+XQDA [19]": {"retinex": False}})
    assert (method.name, method.settings) == ("LOMO+XQDA [19]", {"retinex": False, "unit_length": True})
    assert METHODS["LOMO+XQDA [19]"].settings == {"retinex": True, "unit_length": True}
    with pytest.raises(ValueError, match=r"no method 'Gated'; did you mean 'Gated \[21\]'"):
        chosen("Gated")
    with pytest.raises(ValueError, match=r"Gated \[21\] has no setting 'epochs'; it has passes, learning_rate, width"):
        chosen({"Gated [21]": {"epochs": 3}})
    with pytest.raises(ValueError, match="no method"):
        chosen({"LOMO": {}, "DNS [20]": {}})
    with pytest.raises(ValueError, match="LOMO has the settings 3; write them as {name: value}"):
        chosen({"LOMO": 3})


@pytest.mark.parametrize("given", ["LOMO", {"LOMO": {}}])
def test_one_name_is_not_a_list_of_methods(given):
    for read in (entries, not_run):
        with pytest.raises(ValueError, match=r"literature is .*LOMO.*; it is a list of methods, such as \[LOMO\]"):
            read(given)


def test_a_method_is_measured_once():
    with pytest.raises(ValueError, match="literature names 'LOMO' twice"):
        entries(["LOMO", "DNS [20]", {"LOMO": {"retinex": False}}])


def test_rows_that_are_not_run_say_why(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    missing = not_run(["LOMO", {"SCSP [3]": {"n_components": 9}}, "ImageNet ResNet-50"])
    assert missing.pop("ImageNet ResNet-50") == "not run: its pretrained weights are not here"
    assert set(missing) == set(METHODS) - {"LOMO", "SCSP [3]", "ImageNet ResNet-50"}
    assert set(missing.values()) == {"not run: not in this profile's literature"}
    own = {"ImageNet ResNet-50": {"weights": weights, "backbone": "resnet18"}}
    assert "ImageNet ResNet-50" not in not_run([own]), "own weights are looked at, not torch's cache"
    own["ImageNet ResNet-50"]["weights"] = str(tmp_path / "gone.pth")
    assert "ImageNet ResNet-50" in not_run([own])


def test_the_gated_row_reports_what_its_training_once_took(tables, tmp_path):
    first, again = (run("Gated [21]", task(tables, tmp_path), **SMALL["Gated [21]"]) for _ in range(2))
    assert again.seconds_train == first.seconds_train > 0 and again.seconds_features > 0
    assert (tmp_path / "runs" / first.run / "run.json").is_file()


def test_kept_lomo_features_report_the_seconds_they_once_took(tables, tmp_path):
    first, again = (run("LOMO", task(tables, tmp_path)) for _ in range(2))
    assert again.seconds_features == first.seconds_features > 0
