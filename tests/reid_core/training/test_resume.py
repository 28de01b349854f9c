"""Real processes: killed at random moments, and two of them training one network."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_pictures

from reid_core import model, training

SETTINGS = {
    "backbone": "resnet18",
    "batchnorm": "live",
    "weights": "random",
    "height": 32,
    "width": 32,
    "batch_size": 4,
    "iterations": 600,
    "base_lr": 0.01,
    "lr_schedule": "cosine",
    "crop_padding": 2,
    "erasing": 0.5,
    "checkpoint_every": 20,
}
SCRIPT = textwrap.dedent(
    """
    import sys, torch, toy_pictures
    from pathlib import Path
    import pandas
    from reid_core import training
    torch.set_num_threads(1)
    toy_pictures.make_backbones_thin()
    root, run, settings = Path(sys.argv[1]), sys.argv[2], eval(sys.argv[3])
    table = pandas.read_csv(root / "table.csv")
    recipe = training.Recipe(**settings)
    training.train("hcn", table, run, recipe=recipe, data_root=root, device="cpu", progress=False)
    """
)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """start(run, launcher=[...], **settings): a process that trains HCN on toy pictures in `run`."""
    folder = tmp_path_factory.mktemp("processes")
    table = toy_pictures.write(folder / "data")
    table.to_csv(folder / "data" / "table.csv", index=False)
    (folder / "script.py").write_text(SCRIPT)
    paths = [str(Path(toy_pictures.__file__).parent), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}

    def start(run, launcher=(), **settings):
        arguments = [folder / "script.py", folder / "data", run, repr(SETTINGS | settings)]
        command = [sys.executable, *launcher, *map(str, arguments)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    start.folder = folder
    return start


def finish(process) -> str:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def results(run: Path) -> tuple[bytes, bytes]:
    return (run / "weights.safetensors").read_bytes(), (run / "loss.csv").read_bytes()


@pytest.mark.slow
def test_a_process_killed_at_random_moments_ends_with_the_same_bytes(start):
    whole, broken = start.folder / "whole", start.folder / "broken"
    longer = {"iterations": 2400}  # so that a quick machine is killed often enough, too
    finish(start(whole, **longer))
    kills, moments = 0, random.Random(0)
    while kills < 6:
        process = start(broken, **longer)
        deadline = time.monotonic() + 120
        while not (broken / "run.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        before = len(list((broken / "checkpoints").glob("*.json"))) if kills else 0
        time.sleep(moments.uniform(0.0, 3.0) if before else moments.uniform(1.0, 4.0))
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        process.stderr.close()
        kills += 1
    finish(start(broken, **longer))
    assert kills >= 3
    assert results(broken) == results(whole)
    assert not [path.name for path in broken.iterdir() if path.name.startswith(".") and path.is_dir()]


@pytest.mark.slow
def test_two_processes_train_like_one(start):
    torch.manual_seed(0)
    weights = start.folder / "backbone.pth"
    torch.save(model.ResNet50Baseline(2, "resnet18").backbone.state_dict(), weights)
    settings = {"weights": str(weights), "batchnorm": "frozen", "iterations": 6, "lr_schedule": "step"}
    one, two = start.folder / "one", start.folder / "two"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    first, second = start(one, **settings), start(two, launcher, **settings)
    finish(first), finish(second)
    single, double = training.loss_curve(one), training.loss_curve(two)
    columns = ["loss", "loss_r5", "loss_c1", "loss_c2"]
    np.testing.assert_allclose(double[columns], single[columns], rtol=1e-4)
    assert training.run_folder.read(two)["processes"] == 2
    states = [training.load_network(run)[0].state_dict() for run in (one, two)]
    for name, x in states[0].items():
        torch.testing.assert_close(states[1][name], x, rtol=1e-3, atol=1e-5)


def test_impossible_groups_are_refused(monkeypatch):
    for name in training.loop.distributed.TORCHRUN:
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    recipe = training.Recipe(**SETTINGS)
    with pytest.raises(ValueError, match="batch_size 4 must be a multiple of the 3 processes"):
        with training.loop.distributed.group("cpu", recipe):
            pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match='batchnorm "live" over several CPU processes'):
        with training.loop.distributed.group("cpu", recipe):
            pass


@pytest.mark.parametrize(
    "given",
    [
        {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29577", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "two", "RANK": "-"},
        {"WORLD_SIZE": ""},
        {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"},
    ],
    ids=str,
)
def test_what_others_say_of_a_world_of_processes_is_left_aside_with_a_word(monkeypatch, given):
    for name in (*training.loop.distributed.TORCHRUN, "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.warns(UserWarning, match="WORLD_SIZE=.* not by torchrun.*this process trains alone"):
        with training.loop.distributed.group("cpu", training.Recipe(**SETTINGS)) as group:
            assert (group.rank, group.processes) == (0, 1)


def test_a_group_that_the_caller_has_initialised_is_taken(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    distributed = training.loop.distributed
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 1)
    recipe = training.Recipe(**(SETTINGS | {"weights": "imagenet", "batchnorm": "frozen"}))
    with distributed.group("cpu", recipe) as group:
        assert (group.rank, group.processes) == (1, 2)


@pytest.mark.slow
def test_a_process_whose_interrupt_was_ignored_from_birth_writes_a_checkpoint_all_the_same(start):
    """As one that a script has started with & : it inherits an ignored SIGINT; signals come twice."""
    run, before = start.folder / "ignored", signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = start(run, iterations=100_000, checkpoint_every=100_000)
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 120
    while not (run / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143 and "checkpoint written" in errors
    assert len(list((run / "checkpoints").glob("*.json"))) == 1


def test_live_statistics_are_synchronised_on_gpus_without_losing_a_parameter(monkeypatch):
    """The conversion alone, as SyncBatchNorm runs on GPUs only."""
    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", lambda network, **options: network)
    network = model.HCN(6, "resnet18").train()
    optimizer = training.step.Objective("hcn").optimizer(network, training.Recipe(**SETTINGS))
    wrapped = training.loop.distributed.Group(1, 2).wrap(network)
    kinds = {type(m) for m in wrapped.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)}
    assert kinds == {torch.nn.SyncBatchNorm} and all(m.training for m in wrapped.modules())
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in wrapped.parameters()} and wrapped.dropout.shard == (1, 2)
    frozen = training.loop.distributed.Group(1, 2).wrap(model.HCN(6, "resnet18", batchnorm="frozen"))
    assert not any(isinstance(m, torch.nn.SyncBatchNorm) for m in frozen.modules())
