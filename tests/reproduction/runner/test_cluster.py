"""Steps on a cluster: what each asks for, every training one of its own, and what is refused before jobs go out."""

import functools
import json
import os

import pytest

from reid_core.training import run_folder
from reproduction import bundle, cli, embedded
from reproduction.runner import cluster, further, preflight, profiles, staleness, workflow


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """The plan of a profile spread over a cluster, or over local GPUs."""
    monkeypatch.setattr(cluster.plan, "seconds_of_runs", lambda settings: {"hcn-combined-seed0": 6000.0})

    def make(profile="tiny", executor="slurm", gpus=(), changes=(), each=1):
        places = [f"data_root={tmp_path / 'data'}", f"results_root={tmp_path / 'results'}", *changes]
        settings = profiles.load(profile, places, recipes=False)
        (tmp_path / "results").mkdir(exist_ok=True)
        plan = workflow._plan(staleness.pending(settings), profiles.find(profile), places)
        command = functools.partial(workflow._command, profile=profiles.find(profile), overrides=places)
        where = cluster.Elsewhere(executor, 9, (), gpus, each)
        return {step["name"]: step for step in where.spread(plan, settings, command, tmp_path / "results")}

    return make


def test_every_training_is_a_step_of_its_own_that_its_notebook_waits_for(planned):
    plan = planned(changes=["literature=['Gated [21]']"])
    study = {name for name in plan if name.startswith("train-sensitivity-")}
    assert study == {f"train-sensitivity-{name}-seed0" for name in (
        "default-cuhk03_labeled", "adjacent-cuhk03_labeled", "conv1-cuhk03_labeled", "heads_alone-cuhk03_labeled",
        "baseline_twice-market1501")} | {"train-sensitivity-default-cuhk03_labeled-seed1"}  # fmt: skip
    assert study <= set(plan["10_sensitivity"]["after"])
    assert "train-gated-market1501-seed0" in plan["04_table3_market1501"]["after"]
    assert {"train-gated-cuhk03_labeled-seed0", "train-gated-cuhk03_detected-seed0"} <= set(
        plan["03_table2_cuhk03"]["after"]
    )
    one = plan["train-sensitivity-conv1-cuhk03_labeled-seed0"]
    assert one["after"] == ["01_datasets"]
    assert "reproduction.cli train sensitivity/conv1-cuhk03_labeled-seed0 --profile" in one["command"]
    order = list(plan)
    assert all(order.index(before) < order.index(name) for name, step in plan.items() for before in step["after"])


def test_a_step_asks_for_what_the_plan_knows_and_light_ones_stay_here(planned):
    plan = planned()
    assert plan["02_train-hcn-combined-seed0"]["resources"] == {"mem_mb": 4097, "runtime": 360}
    assert plan["02_train-hcn-combined-seed0"]["threads"] == 4
    assert {name for name, step in plan.items() if step["local"]} == {
        "06_figure3_loss_curves", "07_figure4_ap_and_cmc", "report"}  # fmt: skip
    assert all(("/logs/" in step["command"]) != step["local"] for step in plan.values())
    gpu = planned("gpu")
    without = {name for name, step in gpu.items() if "gpu" not in step["resources"]}
    assert without == {"01_datasets", "06_figure3_loss_curves", "07_figure4_ap_and_cmc", "report"}
    assert gpu["03_table2_cuhk03"]["resources"]["mem_mb"] > 10_000


def test_local_gpus_are_shared_out_one_a_step(planned, tmp_path, monkeypatch):
    plan = planned(executor=None, gpus=["0", "1"])
    assert plan["02_train-hcn-combined-seed0"]["resources"] == {"gpu": 1} and not plan["report"]["resources"]
    assert cluster.Elsewhere(None, 9, (), ["0", "1"]).options()[-2:] == ["--resources", "gpu=2"]
    monkeypatch.setenv(workflow.GPUS, "4,7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    step, seen = plan["02_train-hcn-combined-seed0"], []
    with workflow._own_gpus(step, tmp_path):
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        with workflow._own_gpus(step, tmp_path):
            seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    with workflow._own_gpus(step, tmp_path):
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["4", "7", "4"]


def test_one_training_takes_several_gpus_where_it_is_told_to(planned, tmp_path, monkeypatch, capsys):
    gated = ["literature=['Gated [21]']"]
    for executor, gpus in (("slurm", ()), (None, "0123")):
        plan = planned(executor=executor, gpus=gpus, changes=gated, each=2)
        for name in ("02_train-hcn-combined-seed0", "train-sensitivity-conv1-cuhk03_labeled-seed0"):
            assert plan[name]["processes"] == plan[name]["resources"]["gpu"] == 2
        command = plan["02_train-hcn-combined-seed0"]["command"]
        assert command.index("cli train hcn-combined-seed0") < command.index(" && ") < command.index("cli notebook")
        alone = [step for name, step in plan.items() if "gated" in name or name[:2] in ("03", "10")]
        assert len(alone) == 5 and all("processes" not in step for step in alone)
    monkeypatch.setenv(workflow.GPUS, "4,5,7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with workflow._own_gpus({"resources": {"gpu": 1}}, tmp_path):
        with workflow._own_gpus(plan["02_train-hcn-combined-seed0"], tmp_path):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,7"
    monkeypatch.setattr(cluster, "local_gpus", lambda: ["0", "1", "2"])
    said = refused(capsys, tmp_path, "--profile", "tiny", "--gpus-per-training", "4")
    assert "--gpus-per-training 4: this machine has 3 for PyTorch" in said
    said = refused(capsys, tmp_path, "--profile", "tiny", "--gpus-per-training", "3")
    assert "--gpus-per-training 3: batch_size 16 of baseline-cuhk03_detected-seed0 (baseline) is no multiple" in said


def test_two_processes_make_a_training_that_its_notebook_finds(tmp_path, own_cache, monkeypatch):
    """On two processes of the CPU, as on two GPUs: the step starts torchrun, whose processes train one run."""
    schedules = f"schedules={json.dumps({name: {'iterations': 2} for name in profiles.TRAIN_SETS})}"
    places = [f"data_root={tmp_path / 'data'}", f"results_root={tmp_path / 'results'}", schedules]
    embedded.render(tmp_path / "data", embedded.Sizes.named("tiny"), 0)
    run = "hcn-market1501-seed0"
    (tmp_path / "plan.json").write_text(json.dumps([{"name": f"02_train-{run}", "why": "", "processes": 2}]))
    (tmp_path / "results").mkdir()
    monkeypatch.setenv(workflow.PLAN, str(tmp_path / "plan.json"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    further.train(run, "tiny", places)
    folder = tmp_path / "results" / "runs" / run
    record = json.loads((folder / "run.json").read_text())
    assert record["finished"] and record["processes"] == 2
    known = further.Trainings(profiles.load("tiny", places))
    assert run_folder.differences(folder, *bundle._asked(run, known)) == []
    (tmp_path / "plan.json").write_text(json.dumps([{"name": f"02_train-{run}", "why": "", "processes": 3}]))
    with pytest.raises(workflow.WorkflowError, match=f"{run}: torchrun ended with 1"):
        further.train(run, "tiny", places)  # a batch of 16 has no three shares


def refused(capsys, tmp_path, *words):
    assert cli.main(["reproduce", *words, "-p", f"results_root={tmp_path / 'results'}"]) == 1
    assert not (tmp_path / "results" / ".steps").exists()
    return capsys.readouterr().err


def program(folder, name, script):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A pretended Slurm: its sinfo knows partitions cpu and gpu, its srun does what it is told here."""
    monkeypatch.setattr(cluster, "_installed", lambda executor: True)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    program(tmp_path / "bin", "sbatch", "exit 1")
    program(
        tmp_path / "bin", "sinfo", 'case "$*" in *"n cpu"*) echo "(null)";; *"n none"*) ;; *) echo gpu:a100:4;; esac'
    )
    program(tmp_path / "bin", "srun", 'while [ "$1" != touch ]; do shift; done; "$@"')
    return tmp_path / "bin"


def test_an_executor_that_is_not_installed_is_named_with_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_installed", lambda executor: False)
    assert "[cluster]'" in refused(capsys, tmp_path, "--profile", "tiny", "--executor", "slurm")
    said = refused(capsys, tmp_path, "--profile", "tiny", "--executor", "googlebatch")
    assert "snakemake-executor-plugin-googlebatch is not installed: pip install snakemake-exec" in said


def test_a_partition_without_gpu_is_refused_for_a_profile_that_is_for_one(slurm, tmp_path):
    settings = {"render_sizes": "full"}
    cluster._check_slurm(settings, ["--default-resources", "slurm_partition=gpu"])
    cluster._check_slurm({"render_sizes": "tiny"}, ["--default-resources", "slurm_partition=cpu"])
    with pytest.raises(ValueError, match="partition cpu has no GPU"):
        cluster._check_slurm(settings, ["--default-resources", "slurm_partition=cpu"])
    with pytest.raises(ValueError, match="knows no nodes of partition none"):
        cluster._check_slurm(settings, ["--default-resources", "slurm_partition=none"])


def test_results_that_the_nodes_do_not_see_are_refused(slurm, capsys, tmp_path):
    (tmp_path / "results").mkdir()
    cluster._check_shared(tmp_path / "results")
    assert not list((tmp_path / "results").iterdir())
    program(slurm, "srun", "echo 'touch: No such file or directory' >&2; exit 1")
    said = refused(capsys, tmp_path, "--profile", "tiny", "--executor", "slurm")
    assert "is not shared with the nodes of the cluster (touch: No such file" in said and "REID_CORE_CACHE" in said


def test_snakemakes_options_without_an_executor_are_refused(capsys, tmp_path):
    assert "are for an executor" in refused(capsys, tmp_path, "--profile", "tiny", "--", "--retries", "3")


def test_an_executor_has_its_own_profile_or_none():
    slurm, other = (cluster.Elsewhere(name, 5, ["--retries", "3"]).options() for name in ("slurm", "kubernetes"))
    assert str(profiles.FOLDER / "slurm") in slurm and "none" in other
    assert slurm[-2:] == ["--retries", "3"] and slurm[:4] == ["--executor", "slurm", "--jobs", "5"]


def test_one_gpu_or_none_needs_no_sharing(monkeypatch):
    monkeypatch.setattr(preflight, "cards", lambda: [("one", "580", (9, 0))])
    assert workflow._elsewhere(None, 1, ()) is None
    monkeypatch.setattr(preflight, "cards", lambda: [("one", "580", (9, 0))] * 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert workflow._elsewhere(None, 1, ()).gpus == ["1", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert workflow._elsewhere(None, 1, ()) is None


def test_an_unknown_further_training_lists_those_there_are(tmp_path):
    places = [f"data_root={tmp_path}", f"results_root={tmp_path / 'results'}"]
    with pytest.raises(ValueError, match="there are: sensitivity/default-cuhk03_labeled-seed0"):
        further.train("sensitivity/relu-x-seed0", "tiny", places)


def test_a_run_that_another_job_is_at_does_not_make_a_notebook_stale(tmp_path):
    """Jobs run side by side: what a notebook finds half-made is another's."""
    places = [f"data_root={tmp_path / 'data'}", f"results_root={tmp_path / 'results'}"]
    now = staleness.Now(profiles.load("tiny", places, recipes=False))
    for name, finished in (("whole", True), ("half", False)):
        (tmp_path / "results" / "runs" / name).mkdir(parents=True)
        (tmp_path / "results" / "runs" / name / "run.json").write_text(json.dumps({"finished": finished}))
    checkpoint = tmp_path / "results" / "runs" / "half" / "checkpoints" / "00000010.json"
    checkpoint.parent.mkdir()
    checkpoint.write_text("{}")
    left = now.left(None, 0.0)["left"]
    assert left["runs/whole/run.json"] and left["runs/half/run.json"] is None
    assert set(left) == {"runs/whole/run.json", "runs/half/run.json"}, "a checkpoint goes as the training goes on"
