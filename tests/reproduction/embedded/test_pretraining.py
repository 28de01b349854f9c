"""The backbone of `weights: embedded`: made by one function, of people whom no set shows, found by size."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

from reid_core import model, training
from reproduction.embedded import Sizes, pretraining
from reproduction.embedded.cameras import camera
from reproduction.embedded.people import person
from reproduction.embedded.plan import CUHK01, CUHK03, MARKET1501
from reproduction.runner import profiles
from reproduction.sidecar import REPOSITORY

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


def test_profiles_say_embedded_weights_in_words():
    smoke = yaml.safe_load((REPOSITORY / "profiles" / "smoke.yaml").read_text())
    assert smoke["recipe"]["weights"] == pretraining.EMBEDDED and smoke["recipe"]["batchnorm"] == "frozen"
