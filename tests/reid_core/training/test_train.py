"""Training: what a run folder holds, interruptions, and refusals."""

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from reid_core import files, images, model, training
from reid_core.datasets import table as image_table
from reid_core.training import checkpoint, device_fit, loop, run_folder
from reid_core.training.batches import Batches
from reid_core.training.device_fit import captures, unfit
from reid_core.training.step import BufferedStep, Objective, Step


@pytest.fixture
def train(toy_table, toy_root, quick, tmp_path):
    """train(...) on the toy pictures: `train(model_name, folder, table=..., other_recipe=..., **settings)`."""

    def run(model_name="hcn", folder="run", *, table=toy_table, other_recipe="refuse", **settings):
        return training.train(
            model_name,
            table,
            tmp_path / folder,
            recipe=replace(quick, **settings),
            data_root=toy_root,
            device="cpu",
            progress=False,
            other_recipe=other_recipe,
        )

    return run


def results(run: Path) -> tuple[bytes, bytes]:
    return (run / "weights.safetensors").read_bytes(), (run / "loss.csv").read_bytes()


class Killed(BaseException):
    """Stands for kill -9: nothing in the kit catches it."""


@pytest.fixture
def kill_at(monkeypatch):
    """kill_at(i) ends the process, as it were, when iteration i (0, 1, ...) begins."""

    def arrange(iteration):
        original = Step.set_learning_rate

        def set_learning_rate(self, i):
            if i == iteration:
                raise Killed
            original(self, i)

        context = pytest.MonkeyPatch.context()
        patch = context.__enter__()
        patch.setattr(Step, "set_learning_rate", set_learning_rate)
        return lambda: context.__exit__(None, None, None)

    return arrange


@pytest.fixture
def signal_at(monkeypatch):
    """`with signal_at(i, number)`: this process receives the signal when iteration i (0, 1, ...) begins."""
    original = Step.__call__

    @contextlib.contextmanager
    def arrange(iteration, number):
        def call(self, draw, i):
            if i == iteration:
                os.kill(os.getpid(), number)
            return original(self, draw, i)

        with monkeypatch.context() as patch:
            patch.setattr(Step, "__call__", call)
            yield

    return arrange


def test_a_run_folder_explains_itself(train, toy_table, quick):
    run = train("hcn")
    facts = json.loads((run / "run.json").read_text())
    assert facts["model"] == "hcn" and facts["finished"] and facts["seed"] == 0
    assert (facts["num_classes"], facts["images"], facts["data_source"]) == (6, 24, "official")
    assert facts["recipe"] == quick.to_dict() and facts["form"] == "pooled" and facts["seconds"] > 0
    assert facts["device"] and facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"commit", "data_digest", "weights_digest", "threads"} <= facts.keys()
    loss = pd.read_csv(run / "loss.csv")
    assert list(loss) == ["iteration", "loss", "loss_r5", "loss_c1", "loss_c2"]
    assert loss["iteration"].tolist() == list(range(1, 9))
    np.testing.assert_allclose(loss["loss"], loss[["loss_r5", "loss_c1", "loss_c2"]].sum(axis=1), rtol=1e-6)
    labels = pd.read_csv(run / "labels.csv")
    assert labels.to_dict("list") == {
        "label": list(range(6)),
        "dataset": ["market1501"] * 6,
        "person_id": list(range(1, 7)),
    }
    assert not (run / "checkpoints").exists()


def test_the_loss_curve_joins_losses_and_time(train):
    curve = training.loss_curve(train("baseline"))
    assert list(curve) == ["iteration", "loss", "loss_r5", "loss_c1", "loss_c2", "seconds"]
    assert curve["loss_c1"].isna().all() and (curve["loss"] == curve["loss_r5"]).all()
    assert curve["seconds"].is_monotonic_increasing and curve["seconds"].iloc[0] > 0


def test_the_loss_starts_at_the_logarithm_of_the_classes_and_falls(train):
    loss = training.loss_curve(train("hcn", iterations=80, batch_size=24, base_lr=0.05, dropout=0.0))["loss_r5"]
    assert loss.iloc[0] == pytest.approx(np.log(6), abs=0.05)
    assert loss.tail(10).mean() < 0.5 * loss.iloc[0]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(train):
    first, again, other = train(folder="a"), train(folder="b"), train(folder="c", seed=1)
    assert results(first) == results(again)
    assert results(first)[0] != results(other)[0] and results(first)[1] != results(other)[1]


def test_training_leaves_the_global_generators_and_settings_alone(train):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train("baseline", deterministic=True)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_baseline_and_hcn_see_the_same_batches(train, monkeypatch):
    seen = {}
    original = Step.__call__
    for name in ("baseline", "hcn"):
        rows = seen[name] = []

        def call(self, draw, i, rows=rows):
            rows.append((draw.rows.tolist(), draw.mirror.tolist()))
            return original(self, draw, i)

        monkeypatch.setattr(Step, "__call__", call)
        train(name, name)
    assert seen["baseline"] == seen["hcn"] and len(seen["hcn"]) == 8


def test_a_finished_run_returns_at_once(train, monkeypatch):
    run = train()
    before = results(run), (run / "run.json").stat().st_mtime_ns
    monkeypatch.setattr(Step, "__call__", lambda *_: pytest.fail("trained again"))
    assert train() == run
    assert (results(run), (run / "run.json").stat().st_mtime_ns) == before


def test_classifier_biases_take_twice_the_rate_and_no_decay(quick):
    network = model.HCN(6, "resnet18")
    optimizer = Objective("hcn").optimizer(network, quick)
    others, biases = optimizer.param_groups
    assert biases["weight_decay"] == 0 and biases["multiplier"] == 2 and len(biases["params"]) == 3
    assert others["weight_decay"] == 5e-4 and others["multiplier"] == 1
    assert len(others["params"]) + 3 == len(list(network.parameters()))


def test_loss_weights_scale_the_gradients_of_their_heads(train):
    without = load_file(train(folder="a", loss_weights=[1.0, 0.0], weight_decay=0.0) / "weights.safetensors")
    baseline = load_file(train("baseline", folder="b", dropout=0.0, weight_decay=0.0) / "weights.safetensors")
    assert without["classifiers.c1.bias"].abs().max() == 0
    assert without["classifiers.r5.bias"].abs().max() > 0
    hcn = load_file(train(folder="c", loss_weights=[1.0, 0.0], weight_decay=0.0, dropout=0.0) / "weights.safetensors")
    for name, x in baseline.items():
        torch.testing.assert_close(hcn[name], x)  # with weights (1, 0, 0) HCN is the baseline


@pytest.fixture
def right_bf16(monkeypatch):
    """A processor whose convolutions in bf16 are as they should be, as it were."""
    monkeypatch.setattr(device_fit, "convolves_in_bf16", lambda device: True)


@pytest.mark.usefixtures("right_bf16")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_trains_too_and_resumes(train, kill_at, precision):
    whole = train(folder="whole", precision=precision)
    undo = kill_at(5)
    with pytest.raises(Killed):
        train(precision=precision)
    undo()
    assert results(train(precision=precision)) == results(whole)


def test_iterations_from_fixed_buffers_are_the_same(train, kill_at, monkeypatch):
    """All of a CUDA graph's iteration but its capture, on the CPU; the rates are such that float32 holds them."""
    settings = {"base_lr": 2**-7, "lr_gamma": 0.5, "crop_padding": 2, "erasing": 0.5}
    whole = train(folder="whole", **settings)
    monkeypatch.setattr(loop, "Step", BufferedStep)
    undo = kill_at(5)
    with pytest.raises(Killed):
        train(**settings)
    undo()
    assert results(train(**settings)) == results(whole)


@pytest.mark.usefixtures("right_bf16")
def test_what_the_device_cannot_do_is_said_and_recorded(train, monkeypatch, capfd):
    monkeypatch.setattr("reid_core.training.device_fit.computes_bf16", lambda device: False)
    run = train(cuda_graph=True, precision="bf16", iterations=1)
    said = capfd.readouterr().err
    assert "cuda_graph has no effect on the CPU" in said and 'emulates precision "bf16"' in said
    assert run_folder.read(run)["cuda_graph"] is False and run_folder.read(run)["precision"] == "bf16"
    train(folder="plain", iterations=1)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile on a CPU needs a C++ compiler"
)
def test_a_compiled_network_trains_alike_and_resumes(train, kill_at, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    settings = {"dropout": 0.0, "base_lr": 1e-3}
    eager, whole = train(folder="eager", **settings), train(folder="whole", **settings, compile=True)
    losses = [training.loss_curve(run)["loss"] for run in (eager, whole)]
    np.testing.assert_allclose(*losses, rtol=0.01)
    undo = kill_at(5)
    with pytest.raises(Killed):
        train(**settings, compile=True)
    undo()
    torch.compiler.reset()  # as in a new process
    assert results(train(**settings, compile=True)) == results(whole)


@pytest.mark.parametrize(
    ("free", "processes", "sentence"),
    [(10_000, 1, None), (10_000, 2, "on 2 processes"), (1_000, 1, "fill more than half of the free GPU memory")],
)
def test_an_iteration_is_captured_where_the_images_fit_in_memory(quick, monkeypatch, free, processes, sentence):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**6))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: self)
    monkeypatch.setattr("reid_core.training.device_fit.computes_bf16", lambda device: True)
    batches = Batches(np.zeros((2, 16, 16, 3), np.uint8), torch.device("cuda"))
    recipe = replace(quick, cuda_graph=True)
    assert captures(recipe, batches, processes) == (sentence is None)
    assert [sentence in said for said in unfit(recipe, batches, processes)] == [True] * (sentence is not None)


def test_the_package_asks_cublas_for_reproducible_products_before_pytorch_is_there():
    script = "import os, sys, reid_core; print(os.environ['CUBLAS_WORKSPACE_CONFIG'], 'torch' in sys.modules)"
    for given, expected in ({}, ":4096:8 False"), ({"CUBLAS_WORKSPACE_CONFIG": ":16:8"}, ":16:8 False"):
        environment = {name: x for name, x in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"} | given
        run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert run.stdout.strip() == expected


@pytest.mark.usefixtures("right_bf16")
@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_automatic_precision_is_bf16_where_the_processor_has_it(train, monkeypatch, native, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    run, same = train(precision="auto"), train(folder="same", precision=expected)
    assert run_folder.read(run)["precision"] == expected
    assert results(run) == results(same)


def test_a_processor_that_convolves_wrongly_in_bf16_trains_in_fp32_and_says_how_to_mend_it(train, monkeypatch, capfd):
    monkeypatch.setattr(device_fit, "computes_bf16", lambda device: True)
    monkeypatch.setattr(device_fit, "convolves_in_bf16", lambda device: False)
    run, same = train(precision="auto"), train(folder="same")
    assert run_folder.read(run)["precision"] == "fp32" and results(run) == results(same)
    assert capfd.readouterr().err.count("ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16") == 1
    with pytest.raises(ValueError, match='precision "bf16": .*wrong.*ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16.*"fp32"'):
        train(folder="other", precision="bf16")


def test_bits_that_no_gpu_repeats_are_refused_before_the_first_iteration(quick):
    recipe = replace(quick, deterministic=True, upsample="bicubic", heads="plain")
    with pytest.raises(
        ValueError, match='No GPU repeats upsample "bicubic" to the bit: take "bilinear", or deterministic: false'
    ):
        device_fit.generators(recipe, torch.device("cuda")).__enter__()
    with device_fit.generators(recipe, torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("wrong", [None, "NaN", "by half", "the gradient", "the third call"])
def test_bf16_is_tried_forward_and_backward_several_times(monkeypatch, wrong):
    cpu, exact, calls = torch.device("cpu"), device_fit._convolution, []

    def convolution(images, kernels, stride, dtype):
        outputs, *gradients = exact(images, kernels, stride, torch.float32)
        calls.append(dtype)
        if dtype == torch.bfloat16 and stride == 2 and images.shape[2:] == (7, 7):
            factor = {"NaN": float("nan"), "by half": 1.5, "the third call": 1.5 if len(calls) % 5 == 4 else 1.0}
            outputs = outputs * factor.get(wrong, 1.0)
            gradients[1] = gradients[1] * (2.0 if wrong == "the gradient" else 1.0)
        return outputs * 1.004, *gradients

    monkeypatch.setattr(device_fit, "_convolution", convolution)
    device_fit.convolves_in_bf16.cache_clear()
    assert device_fit.convolves_in_bf16(cpu) == (wrong is None)
    device_fit.convolves_in_bf16.cache_clear()
    assert device_fit.convolves_in_bf16(torch.device("cuda"))


@pytest.mark.parametrize("model_name", ["baseline", "hcn"])
@pytest.mark.parametrize("moment", [0, 2, 3, 7])
def test_a_killed_run_continues_to_the_same_bytes(train, kill_at, model_name, moment, tmp_path):
    whole = train(model_name, "whole", crop_padding=2, erasing=0.5)
    undo = kill_at(moment)
    with pytest.raises(Killed):
        train(model_name, crop_padding=2, erasing=0.5)
    undo()
    assert not json.loads((tmp_path / "run" / "run.json").read_text())["finished"]
    assert results(train(model_name, crop_padding=2, erasing=0.5)) == results(whole)


def test_the_last_two_checkpoints_are_kept_and_a_damaged_newest_one_is_passed_over(train, kill_at, tmp_path, capfd):
    whole = train(folder="whole", iterations=14)
    undo = kill_at(13)
    with pytest.raises(Killed):
        train(iterations=14)
    undo()
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == [
        "00000009.json",
        "00000009.safetensors",
        "00000012.json",
        "00000012.safetensors",
    ]
    newest = folder / "00000012.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    capfd.readouterr()
    assert results(train(iterations=14)) == results(whole)
    said = capfd.readouterr().err
    assert "00000012.safetensors is damaged" in said and "from iteration 9 of 14" in said


def test_a_damaged_checkpoint_that_was_passed_over_takes_no_whole_ones_place(train, kill_at, signal_at, tmp_path):
    whole = train(folder="whole", iterations=14)
    undo = kill_at(13)
    with pytest.raises(Killed):
        train(iterations=14)
    undo()
    folder = tmp_path / "run" / "checkpoints"
    (folder / "00000012.safetensors").write_bytes(b"")
    with signal_at(9, signal.SIGINT), pytest.raises(KeyboardInterrupt):
        train(iterations=14)
    assert sorted(p.name for p in folder.glob("*.json")) == ["00000009.json", "00000010.json"]
    (folder / "00000010.safetensors").write_bytes(b"")
    assert results(train(iterations=14)) == results(whole)


def test_without_any_whole_checkpoint_a_run_starts_again_and_says_so(train, kill_at, tmp_path, capfd):
    whole = train(folder="whole")
    undo = kill_at(7)
    with pytest.raises(Killed):
        train()
    undo()
    folder = tmp_path / "run" / "checkpoints"
    (folder / "00000006.json").write_text('{"iteration": 6')
    (folder / "00000003.safetensors").write_bytes(b"")
    assert results(train()) == results(whole)
    said = capfd.readouterr().err
    assert said.count("is damaged") == 2 and "starting from the beginning" in said


def test_a_checkpoint_holds_the_whole_state(train, kill_at, tmp_path):
    undo = kill_at(7)
    with pytest.raises(Killed):
        train()
    undo()
    tensors, facts = checkpoint.latest(tmp_path / "run" / "checkpoints", print)
    names = {name.split(".")[0] for name in tensors}
    assert names == {"network", "momentum", "generator", "losses", "seconds"}
    assert facts["iteration"] == 6 and facts["sampler"] == {"seed": 0, "epoch": 1, "position": 0}
    assert facts["learning_rate"] == pytest.approx(0.001) and facts["recipe"]["base_lr"] == 0.01


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_signals_write_a_checkpoint_and_say_so(train, signal_at, tmp_path, capfd, number, error):
    whole = train(folder="whole")
    with signal_at(4, number), pytest.raises(error):
        train()
    assert f"Stopped by {number.name} after iteration 5 of 8; checkpoint written" in capfd.readouterr().err
    assert (tmp_path / "run" / "checkpoints" / "00000005.json").exists()
    assert results(train()) == results(whole)


@pytest.mark.parametrize(
    ("numbers", "error"),
    [
        ([signal.SIGTERM] * 4, SystemExit),
        ([signal.SIGINT, signal.SIGTERM], SystemExit),
        ([signal.SIGINT] * 3, KeyboardInterrupt),
        ([signal.SIGHUP], SystemExit),
    ],
)
@pytest.mark.usefixtures("hangup_ends")
def test_signals_that_come_several_times_do_not_lose_the_checkpoint(train, monkeypatch, tmp_path, numbers, error):
    """As a group's, passed on by every parent, and with a kernel that is asked first and then told to end."""
    whole, save = train(folder="whole"), checkpoint.save
    call = Step.__call__

    def signalled(step, draw, i):
        if i == 4:
            os.kill(os.getpid(), numbers[0])
        return call(step, draw, i)

    def interrupted(*arguments):
        for number in numbers[1:]:
            os.kill(os.getpid(), number)
        save(*arguments)

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(Step, "__call__", signalled)
        patch.setattr(checkpoint, "save", interrupted)
        train(checkpoint_every=100)
    assert (tmp_path / "run" / "checkpoints" / "00000005.json").exists()
    assert results(train(checkpoint_every=100))[1] == results(whole)[1]


def test_a_signal_that_comes_much_later_than_the_first_stops_at_once(monkeypatch):
    monkeypatch.setattr(loop, "_REPEATED", -1.0)
    with pytest.raises(KeyboardInterrupt):
        with loop.received_signals() as received:
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("went on")
    assert received == [signal.SIGINT]


def test_a_signal_while_the_last_files_are_written_lets_them_be_written(train, monkeypatch, tmp_path, capfd):
    original = run_folder.write_labels

    def write_labels(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        original(*arguments)

    monkeypatch.setattr(run_folder, "write_labels", write_labels)
    with pytest.raises(SystemExit):
        train()
    assert run_folder.finished(tmp_path / "run")
    assert "Stopped by SIGTERM after iteration 8 of 8; the run is finished." in capfd.readouterr().err


def test_signals_are_handled_as_before_afterwards(train):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    train()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_without_file_locks_it_trains_after_a_word(train, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="has no locks"):
        run = train()
    assert run_folder.finished(run)


def test_a_folder_of_another_run_is_refused_with_the_differences_or_set_aside(train, tmp_path, capfd):
    run = train()
    before = results(run)
    with pytest.raises(ValueError, match=r"another run: iterations: 8 there, 9 asked for\. .*set_aside"):
        train(iterations=9)
    with pytest.raises(ValueError, match="model: 'hcn' there, 'baseline' asked for"):
        train("baseline")
    train(iterations=9, other_recipe="set_aside")
    (aside,) = tmp_path.glob("run.aside-*")
    said = capfd.readouterr().err
    assert f"{run} held another run (iterations: 8 there, 9 asked for); it is now {aside}." in said
    assert results(aside) == before and len(pd.read_csv(run / "loss.csv")) == 9
    with pytest.raises(ValueError, match="other_recipe must be"):
        train(other_recipe="overwrite")


def test_another_recipe_is_refused_for_an_unfinished_run_too(train, kill_at):
    undo = kill_at(7)
    with pytest.raises(Killed):
        train()
    undo()
    with pytest.raises(ValueError, match="base_lr: 0.01 there, 0.02 asked for"):
        train(base_lr=0.02)


@pytest.fixture
def stopped(train, kill_at, tmp_path):
    """stopped(folder, ...) trains until iteration 8 begins; the folder of its checkpoints, of iterations 3 and 6."""

    def run(model_name="hcn", folder="run", **settings):
        undo = kill_at(7)
        with pytest.raises(Killed):
            train(model_name, folder, **settings)
        undo()
        return tmp_path / folder / "checkpoints"

    return run


@pytest.mark.parametrize(
    ("settings", "rows", "difference"),
    [
        ({"model_name": "baseline"}, slice(24), "model: 'baseline' there, 'hcn' asked for"),
        ({}, slice(20), "num_classes: 5 there, 6 asked for"),
        ({}, slice(None, None, -1), "data_digest: '[0-9a-f]{64}' there, '[0-9a-f]{64}' asked for"),
        ({"base_lr": 0.02}, slice(24), "base_lr: 0.02 there, 0.01 asked for"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_path_difference_and_remedy(
    stopped, train, toy_table, settings, rows, difference
):
    table = toy_table.iloc[rows].reset_index(drop=True)
    own, foreign = stopped(), stopped(folder="other", table=table, **settings)
    shutil.rmtree(own)
    shutil.copytree(foreign, own)
    path = re.escape(str(own / "00000006.safetensors"))
    with pytest.raises(ValueError, match=f"{path} belongs to another run: .*{difference}.*Move {own} aside to"):
        train()
    shutil.rmtree(own)
    train()


def test_a_checkpoint_with_other_tensors_than_its_record_says_is_refused(stopped, train):
    own, foreign = stopped(), stopped("baseline", "other")
    facts = json.loads((own / "00000006.json").read_text())
    (own / "00000006.safetensors").write_bytes((foreign / "00000006.safetensors").read_bytes())
    facts["sha256"] = files.digest(own / "00000006.safetensors")
    (own / "00000006.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=f"not the weights of the hcn of 6 classes: .*missing.*Move {own} aside"):
        train()


def test_other_data_are_another_run(train, toy_table):
    train()
    fewer = toy_table[toy_table[image_table.LABEL] < 5]
    with pytest.raises(ValueError, match="num_classes: 6 there, 5 asked for"):
        train(table=fewer)
    swapped = toy_table.iloc[::-1].reset_index(drop=True)
    with pytest.raises(ValueError, match="data_digest"):
        train(table=swapped)


def test_a_folder_of_something_else_is_refused(train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("dear")
    with pytest.raises(ValueError, match=r"it holds thesis\.tex and no run\.json"):
        train()


def test_two_processes_cannot_train_in_one_folder(train, tmp_path):
    with run_folder.locked(tmp_path / "run"):
        with pytest.raises(RuntimeError, match="Another process is training in"):
            train()


def test_a_loss_that_is_not_finite_stops_with_iteration_files_and_checkpoint(train, tmp_path, monkeypatch):
    original = Step.update

    def update(self, images, labels):
        return original(self, images * (float("nan") if len(calls) == 5 else 1), labels)

    calls = []
    monkeypatch.setattr(Step, "update", lambda self, x, y: (update(self, x, y), calls.append(1))[0])
    with pytest.raises(FloatingPointError) as caught:
        train()
    message = str(caught.value)
    assert "not finite at iteration 6" in message and "Lower base_lr" in message
    assert f"checkpoint: {tmp_path / 'run' / 'checkpoints' / '00000003.safetensors'}" in message
    assert message.count(".jpg") == 4


def test_weights_that_are_not_finite_are_never_saved(train, tmp_path):
    with pytest.raises(FloatingPointError, match=r"Last good checkpoint: none yet"):
        train("baseline", base_lr=1e30, iterations=8, checkpoint_every=1)
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


def test_weights_that_end_up_infinite_are_no_finished_run(train, monkeypatch, tmp_path):
    original = Step.__call__

    def call(self, draw, i):
        found = original(self, draw, i)
        if i == 7:
            with torch.no_grad():
                self.network.backbone.bn1.weight.fill_(float("inf"))
        return found

    monkeypatch.setattr(Step, "__call__", call)
    with pytest.raises(FloatingPointError, match="not finite at iteration 8"):
        train()
    assert not run_folder.finished(tmp_path / "run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named(toy_table, toy_root, quick, tmp_path):
    with pytest.raises(ValueError, match="Device cuda was asked for, but PyTorch finds no GPU"):
        training.train("hcn", toy_table, tmp_path, recipe=quick, data_root=toy_root, device="cuda")


def test_bad_tables_and_names_are_refused(train, toy_table):
    with pytest.raises(ValueError, match="Unknown model 'resnet'; there are baseline, hcn"):
        train("resnet")
    with pytest.raises(ValueError, match="batch_size 25 is larger than the set of 24 images"):
        train(batch_size=25)
    with pytest.raises(ValueError, match="no labels; make it with datasets.combine"):
        train(table=toy_table.drop(columns=image_table.LABEL))
    gap = toy_table.assign(label=toy_table[image_table.LABEL].replace(5, 9))
    with pytest.raises(ValueError, match="Labels must run from 0"):
        train(table=gap)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        train(weights="nowhere.pth")


def test_no_space_for_checkpoints_is_found_before_training(train, monkeypatch, toy_table, toy_root):
    images.decoded(toy_table, 32, 32, data_root=toy_root)
    full = os.statvfs_result((4096, 4096, 1000, 1, 10, 1, 1, 1, 0, 255))
    monkeypatch.setattr(images.os, "statvfs", lambda _: full)
    monkeypatch.setattr(Step, "__call__", lambda *_: pytest.fail("trained"))
    with pytest.raises(OSError, match="MiB free and needs .* two checkpoints and the weights"):
        train()


def test_a_disk_that_fills_up_while_writing_leaves_the_checkpoints_before(train, monkeypatch, tmp_path):
    whole = train(folder="whole")
    original = safetensors.torch.save_file

    def save_file(tensors, path, metadata):
        if "00000006" in path.name:
            path.write_bytes(b"half")
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        original(tensors, path, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", save_file)
        with pytest.raises(OSError, match=r"00000006\.safetensors cannot be written: .*No space.*Make room"):
            train()
    names = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["00000003.json", "00000003.safetensors"]
    assert results(train()) == results(whole)


def test_a_local_weights_file_starts_a_run_with_frozen_statistics(train, tmp_path):
    torch.manual_seed(0)
    backbone = model.ResNet50Baseline(2, "resnet18").backbone
    torch.save(backbone.state_dict(), tmp_path / "backbone.pth")
    run = train("baseline", weights=str(tmp_path / "backbone.pth"), batchnorm="frozen", iterations=2)
    state = load_file(run / "weights.safetensors")
    assert torch.equal(state["backbone.bn1.running_mean"], backbone.bn1.running_mean)
    change = state["backbone.conv1.weight"] - backbone.conv1.weight
    assert 0 < change.abs().max() < 0.1


@pytest.fixture
def backbone(tmp_path):
    """backbone(seed, name): the path of a file of a backbone's weights."""

    def write(seed, name="backbone.pth"):
        torch.manual_seed(seed)
        torch.save(model.ResNet50Baseline(2, "resnet18").backbone.state_dict(), tmp_path / name)
        return tmp_path / name

    return write


def test_a_finished_run_is_known_by_the_content_of_its_initial_weights(train, backbone, tmp_path):
    path = backbone(0)
    settings = {"weights": str(path), "batchnorm": "frozen", "iterations": 2}
    run = train(**settings)
    before, record = results(run), run_folder.read(run)
    assert record["initial_weights_digest"] == files.digest(path) and record["initial_weights_note"] == ""
    moved = path.rename(tmp_path / "moved.pth")
    assert train(**(settings | {"weights": str(moved)})) == run and results(run) == before
    assert train(**settings) == run, "the name it had, with no file there to compare"
    backbone(1)
    with pytest.raises(ValueError, match=r"another run: initial weights: SHA-256 \w{16}\.\.\. there, \w{16}"):
        train(**settings)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match=r"backbone\.pth cannot be read as weights"):
        train(**settings, other_recipe="set_aside")
    assert results(run) == before, "a damaged file moves nothing aside"
    torch.save(model.ResNet50Baseline(2, "resnet18").backbone.state_dict() | {"bn1.bias": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"backbone\.pth: .* not the weights of a resnet18.*bn1\.bias is \(3,\)"):
        train(**settings, other_recipe="set_aside")
    assert results(run) == before, "nor does one that does not fit"
    path.write_bytes(whole)
    train(**settings, other_recipe="set_aside")
    assert results(run)[0] != before[0] and len(list(tmp_path.glob("run.aside-*"))) == 1


@pytest.mark.parametrize("name", ["weights.safetensors", "loss.csv", "timing.csv", "labels.csv"])
def test_a_finished_run_that_lost_a_file_is_trained_again_beside_what_is_left(train, tmp_path, name):
    run = train()
    before, kept = results(run), (run / "run.json").read_bytes()
    (run / name).unlink()
    with pytest.raises(ValueError, match=f"another run: {name} is not there"):
        train()
    assert (run / "run.json").read_bytes() == kept
    train(other_recipe="set_aside")
    assert results(run) == before and (next(tmp_path.glob("run.aside-*")) / "run.json").read_bytes() == kept


def test_weights_that_a_run_did_not_write_are_known_by_their_content(train, tmp_path):
    run, other = train(), train(folder="other", seed=1)
    before, foreign = results(run), (other / "weights.safetensors").read_bytes()
    training.load_network(run)
    (run / "weights.safetensors").write_bytes(foreign)
    with pytest.raises(ValueError, match=r"weights\.safetensors is not the file that the run wrote.*Put back"):
        training.load_network(run)
    with pytest.raises(ValueError, match=r"another run: weights\.safetensors is not what the run wrote"):
        train()
    train(other_recipe="set_aside")
    assert results(run) == before
    assert (next(tmp_path.glob("run.aside-*")) / "weights.safetensors").read_bytes() == foreign


def test_a_stopped_run_continues_from_the_same_weights_elsewhere_and_from_no_others(train, stopped, backbone, tmp_path):
    path = backbone(0)
    settings = {"batchnorm": "frozen"}
    whole = train(folder="whole", weights=str(path), **settings)
    stopped(weights=str(path), **settings)
    moved = Path(shutil.copy(path, tmp_path / "moved.pth"))
    backbone(1)
    with pytest.raises(ValueError, match="another run: initial weights: SHA-256"):
        train(weights=str(path), **settings)
    assert results(train(weights=str(moved), **settings)) == results(whole)
    assert run_folder.read(tmp_path / "run")["initial_weights_digest"] == files.digest(moved)


def test_a_checkpoint_from_other_initial_weights_is_refused(train, stopped, backbone):
    own = stopped(weights=str(backbone(0)), batchnorm="frozen")
    foreign = stopped(folder="other", weights=str(backbone(1)), batchnorm="frozen")
    shutil.rmtree(own)
    shutil.copytree(foreign, own)
    with pytest.raises(ValueError, match="00000006.safetensors belongs to another run: initial weights: SHA-256"):
        train(weights=str(backbone(0)), batchnorm="frozen")


def test_a_run_of_an_older_kit_is_known_by_the_name_of_its_weights(train, backbone):
    settings = {"weights": str(backbone(0)), "batchnorm": "frozen", "iterations": 2}
    run = train(**settings)
    record = run_folder.read(run)
    del record["initial_weights_digest"]
    run_folder.write_run(run, record)
    assert train(**settings) == run
    with pytest.raises(ValueError, match="weights: '.*backbone.pth' there, '.*other.pth' asked for"):
        train(**(settings | {"weights": str(backbone(0, "other.pth"))}))


def test_what_was_taken_off_the_initial_weights_is_said_and_recorded(train, tmp_path, capfd):
    torch.manual_seed(0)
    state = model.ResNet50Baseline(2, "resnet18").backbone.state_dict()
    torch.save({"state_dict": {f"module.{n}": x for n, x in state.items()}}, tmp_path / "w.pth")
    run = train(weights=str(tmp_path / "w.pth"), batchnorm="frozen", iterations=1)
    note = run_folder.read(run)["initial_weights_note"]
    assert note == "w.pth: taken from its ['state_dict']; prefix 'module.' taken off all names"
    assert f"Initial weights {note}." in capfd.readouterr().err


def test_a_network_loads_from_its_run_and_other_weights_are_refused(train):
    run, other = train("hcn"), train("baseline", "other")
    network, facts = training.load_network(run)
    assert isinstance(network, model.HCN) and not network.training and facts["finished"]
    (run / "weights.safetensors").write_bytes((other / "weights.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"not the weights of the hcn of 6 classes.*missing"):
        training.load_network(run)
    facts["num_classes"] = 7
    (other / "run.json").write_text(json.dumps(facts | {"model": "baseline"}))
    with pytest.raises(ValueError, match=r"classifiers\.r5\.\w+ is .* instead of"):
        training.load_network(other)
    for damaged in ("{", "[]", "null"):
        (run / "run.json").write_text(damaged)
        with pytest.raises(ValueError, match="run.json is damaged"):
            training.load_network(run)
    with pytest.raises(FileNotFoundError, match="no run folder.*Train first"):
        training.load_network(run / "nowhere")


def test_an_unfinished_run_is_not_loaded(train, kill_at, tmp_path):
    undo = kill_at(1)
    with pytest.raises(Killed):
        train()
    undo()
    with pytest.raises(ValueError, match="not finished; start it again"):
        training.load_network(tmp_path / "run")


def test_messages_go_to_the_first_process_alone():
    assert loop.distributed.Group(0, 2).first and not loop.distributed.Group(1, 2).first


def test_the_update_is_torchs_own_to_the_bit_and_copies_no_gradient_of_a_channels_last_kernel(quick):
    """torch's fused update on the CPU copies each of them to another layout, and then reads the original."""
    networks, copies = [], []
    for optimizer in (Objective("hcn").optimizer, lambda network, r: torch.optim.SGD(network.parameters(), lr=r.base_lr,
                      momentum=r.momentum, weight_decay=r.weight_decay, fused=True)):  # fmt: skip
        torch.manual_seed(0)
        network = quick.network("hcn", 3).to(memory_format=torch.channels_last)
        update = optimizer(network, quick)
        for group in update.param_groups[1:]:  # the classifiers' biases
            group["weight_decay"] = quick.weight_decay
        for _ in range(3):
            for parameter in network.parameters():
                parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape))
            with torch.profiler.profile() as profile:
                update.step()
        networks.append(network)
        copies.append("aten::contiguous" in {event.key for event in profile.key_averages()})
    assert not copies[0]
    for ours, theirs in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)
