"""The backbone of `weights: embedded`: made by one function, of people whom no set shows, found by size."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

from reid_core import model, training, weight_files
from reid_core.training import run_folder
from reproduction import results_folder
from reproduction.embedded import CUHK01Sizes, CUHK03Sizes, Market1501Sizes, Sizes, pretraining
from reproduction.embedded.cameras import camera
from reproduction.embedded.people import person
from reproduction.embedded.plan import CUHK01, CUHK03, MARKET1501
from reproduction.runner import profiles
from reproduction.sidecar import REPOSITORY

FEW = Sizes(Market1501Sizes(4, 12, 4, 9, 14, 3, 4), CUHK03Sizes((4, 2, 1, 1, 1), 42, 29, 41, 30), CUHK01Sizes(3))
TINY = pretraining.Data((1001,), Sizes.tiny())
QUICK = {"iterations": 3, "batch_size": 8, "lr_warmup": 0}
NETWORK = training.Recipe(backbone="resnet18", height=64, width=32)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_CORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return pretraining.pretrain(tmp_path_factory.mktemp("made") / "made.safetensors", NETWORK, TINY, **QUICK)


def test_the_file_holds_a_backbone_in_half_precision_and_what_it_was_made_of(made):
    with safe_open(made, "pt") as file:
        facts = {key: json.loads(value) for key, value in file.metadata().items()}
        kinds = {str(file.get_tensor(key).dtype) for key in file.keys()}
        names = set(file.keys())
    sizes = Sizes.tiny()
    assert kinds == {"torch.float16", "torch.int64"} and not any(name.startswith("fc.") for name in names)
    market = sizes.market1501.train_people + sizes.market1501.test_people
    everybody = market + sizes.cuhk03.people + sizes.cuhk01.people
    assert facts["people"] == everybody, "a person of both forms of CUHK03 counts once"
    assert facts["seeds"] == [1001] and facts["about"] == "pretrained on rendered people"
    assert facts["strengths"]["colour"] > 0 and facts["recipe"]["iterations"] == 3


def test_a_network_starts_from_it(made):
    network = model.HCN(5, "resnet18")
    before = network.backbone.conv1.weight.clone()
    initial = model.load_backbone(network, str(made))
    assert len(initial.digest) == 64 and not torch.equal(before, network.backbone.conv1.weight)


def test_the_packaged_file_is_whole_and_small_enough():
    path = pretraining.located(NETWORK)
    assert path.parent == pretraining.PACKAGED and path.stat().st_size < 25e6
    model.load_backbone(model.ResNet50Baseline(2, "resnet18"), str(path))
    with safe_open(path, "pt") as file:
        facts = {key: json.loads(value) for key, value in file.metadata().items()}
    assert facts["people"] > 2000 and tuple(facts["seeds"]) == pretraining.SEEDS
    assert facts["renderer_version"] == pretraining.VERSION, "the renderer has changed: make the file again"
    assert facts["sizes"] == pretraining.SIZES.as_dict() and facts["strengths"] == asdict(pretraining.STRENGTHS)


def test_its_people_and_cameras_are_in_no_set():
    seeds = set()
    for path in (REPOSITORY / "profiles").glob("*.yaml"):
        settings = profiles.load(str(path), recipes=False)
        if settings["render_sizes"] != "none":
            seeds.add(settings["render_seed"])
    assert seeds and not seeds & set(pretraining.SEEDS)
    for number in (MARKET1501, CUHK03, CUHK01):
        colours = {seed: [person((seed, number), k, 60).upper.colour for k in range(60)] for seed in (0, 1001, 1008)}
        places = {seed: [camera((seed, number), k).gain for k in range(6)] for seed in (0, 1001, 1008)}
        for drawn in (colours, places):
            own = np.array(drawn[0])
            for seed in (1001, 1008):
                other = np.array(drawn[seed])
                assert not (own[:, None] == other[None]).all(axis=-1).any(), "the same draw under another seed"


def test_embedded_weights_are_the_file_of_the_size(made, monkeypatch, tmp_path):
    monkeypatch.setattr(pretraining, "PACKAGED", tmp_path)
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))
    calls = []

    def pretrain(path, network):
        calls.append((network.backbone, network.height))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.read_bytes())

    monkeypatch.setattr(pretraining, "pretrain", pretrain)
    settings = {"backbone": "resnet18", "height": 96, "width": 48, "weights": "embedded", "batchnorm": "frozen"}
    recipes = [pretraining.recipe(settings) for _ in range(2)]
    assert calls == [("resnet18", 96)], "made once, kept in the cache"
    assert recipes[0] == recipes[1] and recipes[0].weights.endswith("rendered-people-resnet18-96x48.safetensors")
    assert pretraining.recipe(settings | {"weights": "imagenet"}).weights == "imagenet"


@pytest.mark.slow
def test_profile_gpus_backbone_is_made_once_in_the_cache_and_fits_its_network(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path))
    pretrain, few = pretraining.pretrain, pretraining.Data((1001,), FEW)
    monkeypatch.setattr(pretraining, "pretrain", lambda path, network: pretrain(path, network, few, **QUICK))
    settings = profiles.load("gpu")["recipe"] | {"precision": "fp32"}  # bf16 is a GPU's
    recipe = pretraining.recipe(settings)
    assert recipe.weights.endswith("rendered-people-resnet50-128x64.safetensors")
    assert recipe.weights.startswith(str(tmp_path)) and recipe.batchnorm == "frozen"
    monkeypatch.delattr(pretraining, "pretrain")
    assert pretraining.recipe(settings) == recipe, "the file is there: nothing is made again"
    network = recipe.network("hcn", 3)
    before = network.backbone.conv1.weight.clone()
    about = weight_files.load_backbone(network, recipe.weights).about
    assert not torch.equal(before, network.backbone.conv1.weight)
    assert json.loads(about["people"]) == 8 + 9 + 3 and json.loads(about["recipe"])["iterations"] == 3


def test_a_training_tells_where_its_backbone_comes_from_wherever_the_package_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = pretraining.Data((3,), FEW).table(tmp_path / "data")
    settings = {"backbone": "resnet18", "height": 64, "width": 32, "weights": "embedded", "batchnorm": "frozen"}
    recipe = pretraining.recipe(settings | QUICK)
    run = training.train("baseline", images, tmp_path / "run", recipe=recipe, data_root=tmp_path / "data")
    record = run_folder.read(run)
    assert record["recipe"]["weights"] == "reproduction/embedded/rendered-people-resnet18-64x32.safetensors"
    started = results_folder.initial_weights(record)
    assert "; pretrained on rendered people: 3,616 people, render seeds [1001, 1002," in started
    assert started.endswith("3,400 iterations")


def test_profiles_say_embedded_weights_in_words():
    smoke = yaml.safe_load((REPOSITORY / "profiles" / "smoke.yaml").read_text())
    assert smoke["recipe"]["weights"] == pretraining.EMBEDDED and smoke["recipe"]["batchnorm"] == "frozen"
