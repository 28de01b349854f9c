"""`reid-core export`: the file says how to use it, and onnxruntime gives with it what PyTorch gives."""

import importlib.util
import json
import tomllib

import numpy as np
import pytest
import torch
from toy_training import one_thread, thin_backbones, toy_root, toy_table, training_cache  # noqa: F401

from reid_core import features, files, images, training
from reproduction import cli, export
from reproduction.sidecar import REPOSITORY


@pytest.fixture(scope="module", params=[("hcn", "average"), ("baseline", "maximum")], ids=" ".join)
def run(request, toy_root, toy_table, thin_backbones, tmp_path_factory):
    """A finished run of images of 64x32 pixels."""
    name, pooling = request.param
    how = {"height": 64, "width": 32, "batch_size": 8, "iterations": 3, "pooling": pooling, "base_lr": 0.01}
    recipe = training.Recipe(backbone="resnet18", weights="random", batchnorm="live", **how)
    folder = tmp_path_factory.mktemp("runs") / name
    return training.train(name, toy_table, folder, recipe=recipe, data_root=toy_root, device="cpu", progress=False)


def say(capsys, *arguments):
    status = cli.main(["export", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_onnxruntime_gives_pytorch_s_features_for_any_number_of_images(run, toy_root, toy_table, tmp_path, capsys):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra onnx)")
    import onnx
    import onnxruntime

    file = tmp_path / "folder" / "model.onnx"
    status, out, err = say(capsys, run, "-o", file)
    assert status == 0 and str(file) in out and "size: [64, 32]" in out, err
    assert [path.name for path in file.parent.iterdir()] == ["model.onnx"]  # the weights are in it
    model = onnx.load(file)
    onnx.checker.check_model(model)
    facts = {one.key: json.loads(one.value) for one in model.metadata_props if one.key in ("size", "mean", "std", "d",
             "layer", "model", "weights_sha256", "normalisation", "output", "data_source")}  # fmt: skip
    assert facts["size"] == [64, 32] and facts["d"] == 64 and facts["layer"] == "r5" and facts["model"] == run.name
    assert facts["weights_sha256"] == files.digest(run / "weights.safetensors")
    assert facts["data_source"] == "official" and len(facts) == 10

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    expected = features.extract(run, toy_table, data_root=toy_root, device="cpu", progress=False).values
    pixels = np.stack([images.decode(path, *facts["size"]) for path in toy_table["image_path"]])
    inputs = ((pixels / 255 - facts["mean"]) / facts["std"]).transpose(0, 3, 1, 2).astype(np.float32)
    for n in (1, 2, 5, 24):  # by what the file says alone
        (found,) = session.run(["features"], {"images": inputs[:n]})
        assert found.shape == (n, facts["d"])
        np.testing.assert_allclose(found, expected[:n], atol=1e-4)
    again = features.extract(  # and as a network of one's own
        lambda x: session.run(None, {"images": x.numpy()})[0], toy_table, data_root=toy_root, size=facts["size"],
        mean=facts["mean"], std=facts["std"], progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(again.values, expected, atol=1e-4)


@pytest.fixture
def extra(monkeypatch):
    """The extra as if it were installed: what is refused is refused before it is used."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


def test_what_cannot_be_exported_is_named(run, extra, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: pytest.fail("too late"))
    status, _, error = say(capsys, tmp_path, "-o", tmp_path / "model.onnx")
    assert status == 1 and f"{tmp_path} is no run folder" in error
    there = tmp_path / "there.onnx"
    there.write_bytes(b"somebody's")
    status, _, error = say(capsys, run, "-o", there)
    assert status == 1 and "there.onnx is there already and stays as it is" in error
    assert there.read_bytes() == b"somebody's"
    status, _, error = say(capsys, run, "-o", tmp_path / "model.pt")
    assert status == 1 and "model.pt must end with .onnx" in error


def test_a_missing_extra_is_named_with_the_command_that_brings_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ValueError, match=r"^onnxscript not installed; .* pip install -e '\.\[onnx\]'"):
        export.export(run, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_the_extra_brings_what_is_asked_for():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [name.partition(">")[0] for name in extras["onnx"]] == ["onnx", "onnxscript", "onnxruntime"]
