"""Initial weights: as torchvision publishes them, as training scripts wrap them, damaged, absent; known by content."""

import argparse
import socket
import urllib.error
from pathlib import Path

import published_weights
import pytest
import torch
from safetensors.torch import save_file

from reid_core import files, model, weight_files


@pytest.fixture(scope="module")
def whole():
    """ResNet-18's weights as published."""
    return published_weights.state("resnet18")


@pytest.fixture
def load(tmp_path):
    """load(object): what `load_backbone` gives of a ResNet-18 filled from a file that holds it, and the network."""

    def run(held, name="w.pth", **options):
        torch.save(held, tmp_path / name, **options)
        network = model.ResNet50Baseline(5, "resnet18")
        return model.load_backbone(network, str(tmp_path / name)), network

    return run


def same(network, state) -> bool:
    own = network.backbone.state_dict()
    return all(torch.equal(own[name], x) for name, x in state.items() if not name.startswith("fc."))


@pytest.mark.parametrize("backbone", published_weights.TENSORS)
def test_files_laid_out_as_torchvisions_are_taken_whole(tmp_path, backbone):
    state = published_weights.state(backbone)
    assert len(state) == published_weights.TENSORS[backbone]
    torch.save(state, tmp_path / "w.pth")
    network = model.HCN(5, backbone)
    assert {name for name, _ in network.backbone.named_parameters()} < set(state)
    initial = model.load_backbone(network, str(tmp_path / "w.pth"))
    assert initial == (files.digest(tmp_path / "w.pth"), "", {}) and same(network, state)
    assert network.backbone.bn1.num_batches_tracked == 0


def test_the_older_form_of_pytorchs_files_is_taken_too(load, whole):
    initial, network = load(whole, _use_new_zipfile_serialization=False)
    assert same(network, whole) and initial.note == ""


def prefixed(prefix, state):
    return {prefix + name: x for name, x in state.items()}


HEAD = {"classifier.weight": torch.zeros(3, 512), "classifier.bias": torch.zeros(3)}


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda s: {"state_dict": s, "epoch": 60}, ["['state_dict']"]),
        (lambda s: {"model": s, "optimizer": {"state": {0: {"m": torch.zeros(2)}}, "param_groups": []}}, ["['model']"]),
        (lambda s: {"rng": torch.zeros(4), "net": {"weights": s}}, ["['net']['weights']"]),
        (lambda s: prefixed("module.", s), ["prefix 'module.'"]),
        (lambda s: prefixed("backbone.", s) | HEAD, ["prefix 'backbone.'", "2 tensors beside", "classifier.bias"]),
        (lambda s: {"state_dict": prefixed("module.base.", s) | {"module.feat.weight": torch.zeros(2)}},
         ["['state_dict']", "prefix 'module.base.'", "1 tensors beside", "module.feat.weight"]),
        (lambda s: {name: x.half() for name, x in s.items()}, []),
    ],
)  # fmt: skip
def test_what_training_scripts_wrap_is_found_and_said(load, whole, wrap, words):
    initial, network = load(wrap(whole))
    expected = {name: x.half().float() for name, x in whole.items()} if not words else whole
    assert same(network, expected)
    assert all(word in initial.note for word in words) and bool(initial.note) == bool(words)


def without(name):
    return lambda s: {key: x for key, x in s.items() if key != name}


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (lambda s: [1, 2], "holds a list, not weights: a state dict is needed"),
        (lambda s: torch.zeros(3), r"holds one tensor of shape \(3,\), not weights"),
        (lambda s: {0: torch.zeros(1)}, "holds a dict with keys such as 0, not weights"),
        (lambda s: {}, "holds a dict, not weights"),
        (lambda s: {"epoch": 3}, "holds a dict with keys such as 'epoch', not weights"),
        (without("layer1.0.conv1.weight"), r"1 tensors missing, such as layer1\.0\.conv1\.weight"),
        (lambda s: s | HEAD, r"2 tensors too many, such as classifier\.bias"),
        (lambda s: s | {"epoch": 3}, "1 tensors too many, such as epoch"),
        (lambda s: s | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, r"conv1\.weight is \(64, 3, 3, 3\) instead of"),
        (lambda s: s | {"conv1.weight": torch.ones(64, 3, 7, 7).to(torch.int8)}, "of torch.int8 instead of"),
        (lambda s: s | {"bn1.bias": [0.0] * 64}, r"bn1\.bias is a list instead of \(64,\)"),
        (lambda s: s | {"bn1.bias": torch.full((64,), float("nan"))}, r"bn1\.bias holds values that are not finite"),
        (lambda s: {"student": s, "teacher": s}, r"networks that fit \(\['student'\] \* and \['teacher'\] \*\)"),
        (lambda s: prefixed("a.", s) | prefixed("b.", s), r"several networks that fit \(names a\.\* and names b\.\*"),
        (lambda s: prefixed("module.", published_weights.state("resnet34")), "not the weights of a resnet18.*too many"),
        (lambda s: {"model": s, "args": argparse.Namespace(lr=1)}, "cannot be read as weights .*argparse.Namespace"),
    ],
)  # fmt: skip
def test_anything_else_gets_a_sentence_that_names_the_file(load, whole, held, message):
    with pytest.raises(ValueError, match=r"w\.pth.*" + message):
        load(held(whole))


class Code:
    """What a pickle may do when it is read."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_code_in_a_file_is_never_run(load, whole, tmp_path):
    with pytest.raises(ValueError, match="nothing but tensors"):
        load({"state_dict": whole, "hook": Code(tmp_path / "ran")})
    assert not (tmp_path / "ran").exists()


def damage(content: bytes) -> dict[str, bytes]:
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    return {
        "cut": content[: len(content) // 2],
        "cut early": content[:5000],
        "empty": b"",
        "a web page": b"<html>Sign in</html>",
        "flipped": bytes(flipped),
    }


@pytest.mark.parametrize("kind", damage(b"0" * 10000))
def test_a_damaged_download_is_named_with_its_remedy(whole, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = weight_files.located("imagenet", "resnet18")
    assert path == tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir()
    torch.save(whole, path)
    path.write_bytes(damage(path.read_bytes())[kind])
    with pytest.raises(ValueError, match=r"resnet18-f37072fd\.pth cannot be read.*move .* aside.*downloaded again"):
        model.load_backbone(model.HCN(5, "resnet18"), "imagenet")


@pytest.mark.parametrize("content", [b"", b"12345678{}", b"\x08\0\0\0\0\0\0\0{'a': 1}"])
def test_a_damaged_safetensors_file_is_named(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.safetensors cannot be read as weights"):
        model.load_backbone(model.HCN(5, "resnet18"), str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution")),
        urllib.error.HTTPError("https://x", 403, "Forbidden", None, None),
        TimeoutError("timed out"),
    ],
    ids=str,
)
def test_without_a_network_file_address_and_remedy_are_named(tmp_path, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    expected = r"ImageNet weights .*resnet18-f37072fd\.pth are not there and cannot be downloaded .*TORCH_HOME"
    with pytest.raises(FileNotFoundError, match=expected):
        model.load_backbone(model.HCN(5, "resnet18"), "imagenet")


def test_another_file_in_the_place_of_torchvisions_is_said(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = weight_files.located("imagenet", "resnet18")
    network = model.HCN(5, "resnet18")
    assert weight_files.digest("imagenet", network) is None
    path.parent.mkdir()
    torch.save(whole, path)
    initial = model.load_backbone(network, "imagenet")
    assert same(network, whole) and initial.digest == weight_files.digest("imagenet", network)
    assert f"its SHA-256 begins {initial.digest[:8]}, not f37072fd" in initial.note


def test_a_safetensors_file_and_a_home_folder_are_taken(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_file(dict(whole), tmp_path / "w.safetensors")
    network = model.HCN(5, "resnet18")
    model.load_backbone(network, "~/w.safetensors")
    assert same(network, whole)
