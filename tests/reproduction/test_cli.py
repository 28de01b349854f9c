"""The command line: plan, data, errors with exit status 1."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys

import pandas as pd
import pytest
import torch

from reid_core import training
from reproduction import cli
from reproduction.runner import plan, profiles
from reproduction.runner import workflow as reproduce
from reproduction.sidecar import REPOSITORY
from reproduction.words import duration


def test_errors_are_one_line_and_exit_status_1(capsys, tmp_path):
    assert cli.main(["plan", "--profile", "smok"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("reid-core: ") and "smoke" in error and "Traceback" not in error
    assert cli.main(["notebook", "99", "--profile", "tiny"]) == 1
    assert "01_datasets" in capsys.readouterr().err
    assert cli.main(["report", "--profile", "tiny", "-p", f"results_root={tmp_path}"]) == 1
    assert "claims.csv" in capsys.readouterr().err


def test_force_takes_notebooks_by_name_or_number():
    found = reproduce.pending("tiny", (), ["01", "03_table2_cuhk03"])
    asked = [step.notebook for step, why in found.items() if why == "asked for"]
    assert asked == ["01_datasets", "03_table2_cuhk03"]
    with pytest.raises(FileNotFoundError, match="There is no notebook '99'; there are: 01_datasets"):
        reproduce.pending("tiny", force=["99"])


def test_data_status_of_an_empty_folder_says_what_to_place_where(capsys, tmp_path):
    assert cli.main(["data", "status", "--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert str(tmp_path) in said and "cuhk03_release/cuhk-03.mat" in said and "reid-core data add" in said


def test_a_plan_projects_from_a_measurement_or_from_finished_runs(tmp_path, monkeypatch):
    settings = profiles.load("paper", [f"data_root={tmp_path}", f"results_root={tmp_path / 'results'}"])
    folder = tmp_path / "results" / "runs" / "hcn-market1501-seed0"
    folder.mkdir(parents=True)
    run = {"finished": True, "model": "hcn", "seconds": 3600.0, "recipe": {"iterations": 50_000}}
    (folder / "run.json").write_text(json.dumps(run))
    monkeypatch.setattr(plan.speed, "matrix_rate", lambda precision, device: 1e12)
    monkeypatch.setattr(plan, "step_flops", lambda name, recipe: 3e12 if recipe.merge_conv3x3 else 1e12)
    said = plan.describe(settings)
    assert "done in 1 h 0 min" in said and "hcn: as in the finished runs" in said and "others: taking " in said
    assert re.search(r"hcn-combined-seed0 +75000 iterations  about 1 h 30 min", said)
    assert re.search(r"conv1-cuhk03_labeled-seed0 +15000 iterations  about 18 min", said)
    assert re.search(r"conv3x3-cuhk03_labeled-seed0 +15000 iterations  about (53|54) min", said)

    speeds = pd.DataFrame({
        "model": ["baseline", "hcn", "hcn"], "form": ["pooled", "pooled", "plain"],
        "seconds_per_iteration": [0.04, 0.05, 0.0625], "fastest_turn": 0.03, "slowest_turn": 0.07, "precision": "fp32",
    })  # fmt: skip
    monkeypatch.setattr(plan.speed, "measure", lambda recipe, people, seconds: speeds)
    said = plan.describe(settings, measure=60)
    assert re.search(r"baseline-market1501-seed0 +50000 iterations  about 33 min 20 s", said)
    assert re.search(r"hcn-combined-seed0 +75000 iterations  about 1 h 2 min", said)
    assert "hcn, plain form: 0.0625 s an iteration" in said and "projected from 60 s" in said
    settings["recipe"]["heads"] = "plain"
    assert re.search(r"hcn-combined-seed0 .* about 1 h 18 min", plan.describe(settings, measure=60))


@pytest.mark.parametrize(
    ("kind", "precision", "expected"),
    [
        ("cpu", "auto", "taking 35% of this device's 2.00 Tflop/s for a large float32 product; a guess within"),
        ("cuda", "auto", "taking 10% of this device's 9.00 Tflop/s for a large bf16 product; a guess that can"),
        ("cuda", "fp32", "taking 10% of this device's 2.00 Tflop/s for a large tf32 product; a guess that can"),
    ],
)
def test_a_guess_takes_the_rate_of_the_recipes_precision(monkeypatch, kind, precision, expected):
    monkeypatch.setattr(plan.machine, "choose", lambda device: torch.device(kind))
    monkeypatch.setattr(plan.device_fit, "computes_bf16", lambda device: kind == "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(plan.speed, "matrix_rate", lambda precision, device: {"bf16": 9e12}.get(precision, 2e12))
    rate, sentence = plan._guessed_rate(plan.training.Recipe(precision=precision))
    assert sentence.startswith(expected)
    assert rate == pytest.approx({"cpu": 0.35, "cuda": 0.1}[kind] * (9e12 if "bf16" in expected else 2e12))


def test_plan_of_the_paper_lists_runs_time_disk_and_what_is_missing(tmp_path):
    places = [f"data_root={tmp_path}", f"results_root={tmp_path / 'results'}"]
    said = plan.describe(profiles.load("paper", places))
    assert said.count(" 75000 iterations") == 5 + 1 and said.count(" 50000 iterations") == 2
    assert said.count(" 15000 iterations") == 12, "of 10_sensitivity"
    assert "heads_alone-cuhk03_labeled-seed0 " in said and "combined_equal_updates" not in said
    (twice,) = (line for line in said.splitlines() if "baseline_twice-cuhk03_labeled-seed0" in line)
    (once,) = (line for line in said.splitlines() if " baseline-cuhk03_labeled-seed0" in line)
    flops = [float(line.split(", ")[-1].removesuffix(" flop")) for line in (twice, once)]
    assert "150000 iterations" in twice and flops[0] == pytest.approx(2 * flops[1], rel=0.05)
    assert said.count("hcn-cuhk03_labeled-seed0 ") == 1 and "conv3x3-cuhk03_labeled-seed0 " in said
    assert "not run: Market-1501 not found" in said
    assert "GiB free" in said and "about" in said
    assert not (tmp_path / "results").exists(), "a plan starts nothing"


def test_a_control_counts_in_the_plans_time_and_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(plan.speed, "matrix_rate", lambda precision, device: 1e12)
    places = [f"data_root={tmp_path}", f"results_root={tmp_path / 'results'}", "sensitivity_variants=[]"]

    def gib(controls):
        """Weights and features in GiB, of a plan of ResNet-50s."""
        said = plan.describe(profiles.load("paper", [*places, f"sensitivity_controls={controls}"]))
        return [float(x) for x in re.search(r"checkpoints ([\d.]+) GiB, features ([\d.]+) GiB", said).groups()], said

    (weights, vectors), without = gib("{}")
    (more_weights, more_vectors), said = gib("{baseline_twice: [market1501, cuhk03_labeled, cuhk03_detected]}")
    assert more_weights - weights == pytest.approx(3 * 3 * 4 * 37.6e6 / 2**30, abs=0.1), "three of three files"
    assert more_vectors > vectors and said.count("baseline_twice-") == 3 and "baseline_twice" not in without
    flops = {text: sum(float(x) for x in re.findall(r"([\d.e+]+) flop\b", text)) for text in (said, without)}
    assert flops[said] - flops[without] == pytest.approx(2 * (2 * 75_000 + 50_000) * 3.93e11, rel=0.02)


def test_flops_of_a_step_by_hand():
    """A training step of ResNet-50 at 224 px is 3 x 2 x 4.09 G multiply-adds an image, less conv1's input gradient."""
    recipe = training.Recipe(weights="random", batchnorm="live", batch_size=2, iterations=1)
    forward = 2 * 4.09e9
    assert plan.step_flops("baseline", recipe) / 2 == pytest.approx(3 * forward, rel=0.02)
    extra = plan.step_flops("hcn", recipe) / plan.step_flops("baseline", recipe) - 1
    assert 0 < extra < 0.01, "pooled heads cost almost nothing"


@pytest.mark.parametrize("command", ["data status", "plan --profile tiny", "reproduce", "explain x.csv", "report"])
def test_without_a_clone_or_its_packages_one_sentence_says_what_is_needed(command, capsys, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "papermill" else find(name))
    assert cli.main(command.split()) == 1
    said = capsys.readouterr().err
    assert said.startswith("reid-core: papermill: not installed in ") and "[reproduction]" in said
    monkeypatch.setattr(cli, "REPOSITORY", tmp_path)
    assert cli.main(command.split()) == 1
    said = capsys.readouterr().err
    assert "needs a clone of the repository" in said and "pip install -e '.[reproduction]'" in said


def test_a_reader_who_has_seen_enough_ends_a_command_quietly(tmp_path):
    code = "import sys; from reproduction import cli; sys.exit(cli.main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, "data", "status", "--root", str(tmp_path)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 128 + signal.SIGPIPE


def command(*words, shell, **environment):
    """`reid-core` as a shell starts it: "$@" in `shell` is the command."""
    told = [sys.executable, "-m", "reproduction.cli", *words]
    known = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}
    known |= {"PYTHONPATH": str(REPOSITORY)} | environment
    return subprocess.run(["bash", "-c", shell, "bash", *told], capture_output=True, text=True, env=known)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_without_a_standard_stream_no_file_is_taken_for_it(closed, tmp_path):
    places = [f"data_root={tmp_path / 'data'}", f"results_root={tmp_path}"]
    (tmp_path / ".steps").mkdir()
    given = [word for place in places for word in ("-p", place)]
    done = command("report", "--profile", "tiny", *given, shell=f'"$@" {closed}; echo status $? > "{tmp_path}/status"')
    assert (tmp_path / "status").read_text() == "status 1\n", "an error that was explained"
    assert "Traceback" not in done.stderr and ("claims.csv" in done.stderr) == ("2>" not in closed)
    (lock,) = (path for path in tmp_path.iterdir() if path.name == ".lock")
    assert "\n" not in lock.read_text(), "and what was printed"


def test_a_command_that_loads_pytorch_ends_without_a_word_on_what_is_left_in_memory(tmp_path):
    done = command("plan", "--profile", "tiny", "-p", f"results_root={tmp_path}", shell='"$@"')
    assert done.returncode == 0 and "Steps that `reid-core reproduce` would run now" in done.stdout
    assert not done.stderr


def test_what_a_terminal_has_no_letters_for_is_shown_in_codes(tmp_path):
    odd = tmp_path / os.fsdecode(b"\xff\xe4 \xe8\xa1\x8c")
    odd.mkdir()
    for coding in ("ascii", "utf-8"):
        done = command("data", "status", "--root", str(odd), shell='"$@"', PYTHONIOENCODING=coding)
        assert done.returncode == 0 and r"\udcff" in done.stdout and not done.stderr, done.stderr


def test_a_working_folder_that_is_gone_is_named(tmp_path):
    done = command("data", "status", shell=f'mkdir "{tmp_path}/a"; cd "{tmp_path}/a"; rmdir "{tmp_path}/a"; "$@"')
    assert done.returncode == 1 and "reid-core: the working folder was deleted" in done.stderr, done.stderr


def test_too_little_memory_is_one_sentence(monkeypatch, capsys):
    def called(chosen):
        raise MemoryError

    monkeypatch.setattr(cli, "_called", called)
    monkeypatch.setattr(cli, "OWN", {})
    assert cli.main(["report"]) == 1
    assert capsys.readouterr().err == "reid-core: MemoryError\n"


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5"])
def test_a_count_is_a_whole_number_from_1(given, capsys):
    with pytest.raises(SystemExit):
        cli.main(["reproduce", "--gpus-per-training", given])
    said = capsys.readouterr().err
    assert f"--gpus-per-training: '{given}' is no whole number from 1" in said or "expected one argument" in said


def test_a_start_says_how_long_it_takes_here(tmp_path, monkeypatch):
    settings = profiles.load("smoke", [f"data_root={tmp_path}", f"results_root={tmp_path / 'results'}"])
    measured = []

    def measure(recipe, people, *, seconds, turns):
        measured.append((seconds, turns))
        return pd.DataFrame({
            "model": ["baseline", "hcn"], "form": "pooled", "seconds_per_iteration": 0.5, "fastest_turn": 0.4,
            "slowest_turn": 0.6, "precision": "fp32",
        })  # fmt: skip

    monkeypatch.setattr(plan.speed, "measure", measure)
    monkeypatch.setattr(plan, "step_flops", lambda name, recipe: 1e12)
    monkeypatch.setattr(plan.machine, "choose", lambda device: torch.device("cpu"))
    said = plan.expected(settings)
    trainings = 0.5 * sum(recipe.iterations for _, recipe, _ in plan.jobs(settings))
    assert 2.0 < plan.REST < 4.0, "a smoke run spends a third to a half of its time in training"
    assert said == f"Expected here: about {duration(trainings * plan.REST)} (from a second of training of each model)."
    assert measured == [(1.0, 2)]
    monkeypatch.setattr(plan.speed, "matrix_rate", lambda precision, device: 1e12)
    assert "for the trainings alone (a guess" in plan.expected(profiles.load("gpu", [f"results_root={tmp_path}"]))
    for _, recipe, folder in plan.jobs(settings):
        folder.mkdir(parents=True)
        run = {"finished": True, "model": "hcn", "seconds": 1.0, "recipe": {"iterations": recipe.iterations}}
        (folder / "run.json").write_text(json.dumps(run))
    assert plan.expected(settings) is None


def test_a_container_with_few_cores_of_many_starts_as_many_threads(monkeypatch, capsys):
    monkeypatch.setattr(cli.machine, "cores", lambda: 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert cli.main(["plan", "--profile", "smok"]) == 1 and os.environ["OMP_NUM_THREADS"] == "5", "the user's own"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cli.main(["plan", "--profile", "smok"]) == 1 and os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.setattr(cli.machine, "cores", lambda: 64)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cli.main(["plan", "--profile", "smok"]) == 1 and "OMP_NUM_THREADS" not in os.environ


def test_a_full_disk_is_named_with_the_remedy(tmp_path):
    done = command("data", "status", "--root", str(tmp_path), shell='"$@" > /dev/full')
    assert done.returncode == 1 and "No space left on device. Make room" in done.stderr, done.stderr


def test_threads_sleep_while_they_wait_in_every_verb(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert cli.main(["plan", "--profile", "smok"]) == 1
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("passive", "7")
