"""What only a GPU can show: captured and compiled iterations train like others, and resume to the same bits."""

import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from reid_core import training
from reid_core.training.batches import Batches, Sampler
from reproduction import speed

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
compiles = pytest.mark.skipif(
    shutil.which(os.environ.get("CC", "gcc")) is None, reason="torch.compile on a GPU needs a C compiler"
)


@pytest.fixture
def train(toy_table, toy_root, quick, tmp_path):
    def run(folder, **settings):
        recipe = replace(quick, **({"crop_padding": 2, "erasing": 0.5, "deterministic": True} | settings))
        return training.train(
            "hcn", toy_table, tmp_path / folder, recipe=recipe, data_root=toy_root, device="cuda", progress=False
        )

    return run


@pytest.fixture
def interrupted(train, monkeypatch):
    """interrupted(folder, ...): the run folder of a training stopped by SIGINT in iteration 9 and continued."""
    original = Sampler.draw

    def draw(self, iteration):
        if iteration == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, iteration)

    def run(folder, **settings):
        with monkeypatch.context() as patch:
            patch.setattr(Sampler, "draw", draw)
            with pytest.raises(KeyboardInterrupt):
                train(folder, **settings)
        return train(folder, **settings)

    return run


@pytest.fixture
def small_memory(monkeypatch):
    """GPU memory that, as it were, does not hold the decoded images."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1, 1))


def alike(runs, rtol=1e-3, atol=1e-4):
    losses = [torch.tensor(training.loss_curve(run)["loss"].to_numpy()) for run in runs]
    torch.testing.assert_close(*losses, rtol=rtol, atol=atol)


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_captured_iteration_trains_like_single_launches(train, precision, momentum):
    settings = {"precision": precision, "momentum": momentum}
    launched, captured = (train(f"{graph}", cuda_graph=graph, **settings) for graph in (False, True))
    assert training.run_folder.read(captured)["cuda_graph"]
    alike([launched, captured])


def test_loss_scaling_starts_from_float32s_losses(train):
    """Only the first ones can be compared: scaling leaves out the first updates, until the gradients are finite."""
    runs = [train(precision, precision=precision, dropout=0.0) for precision in ("fp32", "fp16")]
    assert training.run_folder.read(runs[1])["precision"] == "fp16"
    first, other = (training.loss_curve(run)["loss"] for run in runs)
    assert other[0] == pytest.approx(first[0], rel=0.01) and np.isfinite(other).all()


@compiles
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_a_compiled_network_trains_like_an_eager_one(train, cuda_graph):
    # Compiled, dropout draws other numbers.
    settings = {"dropout": 0.0, "base_lr": 1e-3, "cuda_graph": cuda_graph}
    alike([train(f"{compiled}", compile=compiled, **settings) for compiled in (False, True)], rtol=0.02)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cuda_graph": True},
        {"cuda_graph": True, "momentum": 0.0},
        {"precision": "bf16", "cuda_graph": True},
        {"precision": "fp16"},
        {"upsample": "bilinear", "heads": "plain"},
        {"pooling": "maximum"},
        pytest.param({"compile": True}, marks=compiles),
    ],
    ids=str,
)
def test_an_interrupted_run_continues_to_the_same_bits(train, interrupted, settings):
    settings = settings | {"iterations": 16, "checkpoint_every": 5}
    whole, broken = train("whole", **settings), interrupted("broken", **settings)
    for name in ("weights.safetensors", "loss.csv"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()


def test_bicubic_upsampling_trains_where_no_bits_need_repeat(train):
    run = train("run", upsample="bicubic", deterministic=False)
    assert np.isfinite(training.loss_curve(run)["loss"]).all()


def test_images_that_do_not_fit_in_memory_train_to_the_same_bits(train, request):
    resident = train("resident")
    request.getfixturevalue("small_memory")
    apart = train("apart")
    for name in ("weights.safetensors", "loss.csv"):
        assert (apart / name).read_bytes() == (resident / name).read_bytes()


def test_without_room_for_the_images_nothing_is_captured_and_that_is_said(train, small_memory, capfd):
    run = train("run", cuda_graph=True, iterations=2)
    assert training.run_folder.read(run)["cuda_graph"] is False
    assert "more than half of the free GPU memory" in capfd.readouterr().err


def test_batches_from_outside_the_memory_equal_those_from_inside(quick, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    inside = Batches(pixels, torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1, 1))
    outside = Batches(pixels, torch.device("cuda"))
    assert inside.resident and not outside.resident and outside.images.device.type == "cpu"
    draw = Sampler(24, replace(quick, crop_padding=2, erasing=0.5)).draw(0)
    assert torch.equal(inside(draw), outside(draw))


def test_a_matrix_product_before_a_deterministic_training_is_no_obstacle(train):
    a = torch.randn(64, 64, device="cuda")
    assert (a @ a).isfinite().all()
    train("after", iterations=2)


def test_the_peak_of_float32_is_no_less_than_that_of_plain_float32():
    device = torch.device("cuda")
    peak = speed.matrix_rate("fp32", device)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "arithmetic", lambda precision, device: "float32")
        assert 0 < speed.matrix_rate("fp32", device) < 1.2 * peak
