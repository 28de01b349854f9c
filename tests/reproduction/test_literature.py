import inspect
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from scipy.ndimage import gaussian_filter

from reid_core import evaluation
from reproduction import literature as methods
from reproduction import paper
from reproduction import tables as result_tables
from reproduction.literature import METHODS, chosen, why_not

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
    return [table[table["subset"] == s].reset_index(drop=True) for s in ("train", "query", "gallery")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))
    methods._fitted_xqda.cache_clear()
    return tmp_path / "cache"


SMALL = {
    "KISSME on LOMO": {"n_components": 8},
    "SCSP [3]": {"n_components": 10},
    "Gated [21]": {"passes": 6, "width": 8, "learning_rate": 0.003},
}


@pytest.fixture
def weights(tmp_path):
    """A ResNet-18 state dict in torchvision's names, random: enough to test the way, not the ranking."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")


@pytest.mark.parametrize("name", [name for name in METHODS if name != "ImageNet ResNet-50"])
def test_every_method_ranks_its_set_above_chance_and_repeats_itself(name, tables, tmp_path):
    first, second = (
        METHODS[name](
            *tables,
            progress=False,
            seed=1,
            data_root=tmp_path,
            run_dir=tmp_path / folder,
            **SMALL.get(name, {}),
        )
        for folder in "ab"
    )
    assert first.distance.shape == (4, len(tables[2])) and first.distance.dtype == np.float32
    np.testing.assert_array_equal(first.distance, second.distance)
    assert first.note and min(first.seconds_features, first.seconds_train, first.seconds_match) >= 0
    assert first.faithful in result_tables.FAITHFUL and (first.run == "a") == (name == "Gated [21]")
    assert evaluation.evaluate(first.distance, tables[1], tables[2]).mAP > 0.35  # chance: about 0.2


def test_every_row_of_the_literature_has_its_method():
    wanted = {row.method for table in (2, 3) for row in paper.rows(table) if row.model is None}
    assert wanted <= set(METHODS)


def test_imagenet_row_runs_with_local_weights_and_says_what_is_missing(
    tables, weights, tmp_path, monkeypatch
):
    run = METHODS["ImageNet ResNet-50"]
    outcome = run(*tables, progress=False, weights=weights, backbone="resnet18")
    assert outcome.distance.shape == (4, len(tables[2])) and outcome.seconds_train == 0
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert "hub/checkpoints/resnet50" in why_not("ImageNet ResNet-50")
    with pytest.raises(FileNotFoundError, match="nowhere.pth are not there"):
        run(*tables, progress=False, weights=str(tmp_path / "nowhere.pth"))
    with pytest.raises(ValueError, match="no method 'PCB'"):
        why_not("PCB")


def test_all_methods_take_the_same_arguments():
    for function in METHODS.values():
        names = list(inspect.signature(function).parameters)
        assert names[:8] == [
            "train",
            "query",
            "gallery",
            "matching",
            "seed",
            "progress",
            "data_root",
            "run_dir",
        ]


def test_lomo_is_extracted_once_and_again_when_an_image_changes(tables, cache, monkeypatch):
    calls = []
    extract = methods.cached.lomo.extract
    monkeypatch.setattr(methods.cached.lomo, "extract", lambda *a, **k: calls.append(1) or extract(*a, **k))
    METHODS["LOMO"](*tables, progress=False)
    METHODS["DNS [20]"](*tables, progress=False)
    assert len(calls) == 3 and len(list((cache / "lomo").glob("*.npy"))) == 3
    METHODS["LOMO"](*tables, progress=False, retinex=False)
    assert len(calls) == 5
    path = tables[1]["image_path"].iloc[0]
    Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    METHODS["LOMO"](*tables, progress=False)
    assert len(calls) == 6


def test_plain_and_reranked_rows_share_one_xqda(tables):
    METHODS["LOMO+XQDA"](*tables, progress=False)
    plain = METHODS["LOMO+XQDA"](*tables, progress=False)
    again = METHODS["LOMO+XQDA [19]"](*tables, progress=False, matching=SimpleNamespace(k1=6, k2=2))
    assert methods._fitted_xqda.cache_info().misses == 1
    assert plain.seconds_train == again.seconds_train > 0
    assert not np.array_equal(plain.distance, again.distance)


def test_settings_of_the_matching_reach_xqda(tables):
    svd, eigh = (
        METHODS["LOMO+XQDA"](*tables, progress=False, matching=SimpleNamespace(xqda_solver=solver)).distance
        for solver in ("svd", "eigh")
    )
    assert not np.allclose(svd, eigh)


def test_a_profile_chooses_methods_by_name_with_settings():
    assert chosen("LOMO")[0] == "LOMO"
    name, run = chosen({"LOMO+XQDA [19]": {"retinex": False}})
    assert (name, run.keywords) == ("LOMO+XQDA [19]", {"reranked": True, "retinex": False})
    with pytest.raises(ValueError, match=r"no method 'Gated'; did you mean 'Gated \[21\]'"):
        chosen("Gated")
    with pytest.raises(
        ValueError, match=r"Gated \[21\] has no setting 'epochs'; it has passes, learning_rate, width"
    ):
        chosen({"Gated [21]": {"epochs": 3}})
    with pytest.raises(ValueError, match="no method"):
        chosen({"LOMO": {}, "DNS [20]": {}})


def test_the_gated_row_reports_what_its_training_once_took(tables, tmp_path):
    place = {"data_root": tmp_path, "run_dir": tmp_path / "run", "progress": False}
    first, again = (METHODS["Gated [21]"](*tables, **place, **SMALL["Gated [21]"]) for _ in range(2))
    assert again.seconds_train == first.seconds_train > 0 and again.seconds_features > 0
    with pytest.raises(ValueError, match="give run_dir"):
        METHODS["Gated [21]"](*tables)


def test_kept_lomo_features_report_the_seconds_they_once_took(tables):
    first, again = (METHODS["LOMO"](*tables, progress=False) for _ in range(2))
    assert again.seconds_features == first.seconds_features > 0
