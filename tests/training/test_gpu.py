"""What only a GPU can show: a CUDA graph trains like single launches, and resumes to the same bits."""

import os
import signal
from dataclasses import replace

import pytest
import torch

from reid_core import training
from reid_core.training.batches import Sampler

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def train(toy_table, toy_root, quick, tmp_path):
    def run(folder, **settings):
        recipe = replace(quick, **({"crop_padding": 2, "erasing": 0.5, "deterministic": True} | settings))
        return training.train(
            "hcn",
            toy_table,
            tmp_path / folder,
            recipe=recipe,
            data_root=toy_root,
            device="cuda",
            progress=False,
        )

    return run


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_captured_iteration_trains_like_single_launches(train, precision):
    launched, captured = (train(f"{graph}", cuda_graph=graph, precision=precision) for graph in (False, True))
    assert training.run_folder.read(captured)["cuda_graph"]
    losses = [training.loss_curve(run)["loss"] for run in (launched, captured)]
    torch.testing.assert_close(*(torch.tensor(x.to_numpy()) for x in losses), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_an_interrupted_run_continues_to_the_same_bits(train, monkeypatch, cuda_graph):
    settings = {"cuda_graph": cuda_graph, "iterations": 16, "checkpoint_every": 5}
    whole = train("whole", **settings)
    original = Sampler.draw

    def draw(self, iteration):
        if iteration == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "draw", draw)
        with pytest.raises(KeyboardInterrupt):
            train("broken", **settings)
    broken = train("broken", **settings)
    for name in ("weights.safetensors", "loss.csv"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
