"""Profile tiny on a real Slurm of one node on loopback: a killed job is tried again and continues, tables are equal."""

import contextlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from safetensors.numpy import load_file
from tiny_kit import Kit

from reproduction import sidecar

pytestmark = pytest.mark.slow
DAEMONS, WHERE = ("munged", "slurmctld", "slurmd", "sbatch"), f"/usr/sbin:{os.environ['PATH']}"
LACKING = [name for name in DAEMONS if not shutil.which(name, path=WHERE)]
TIMES = re.compile("seconds|hours|turn|rate|flop|share_of_baselines|images_per|note|text|ours$|detail")
ALONE = ["table4_forms", "convergence_time"]  # nothing but measured times
PATIENCE = 900
LATENCY = ["--latency-wait", "20", "--seconds-between-status-checks", "3"]
PLACE = Path("/etc/slurm/slurm.conf")  # the executor takes Slurm's variables out of a job's environment

CONF = """
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort=16817
SlurmdPort=16818
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Environment in which Slurm's commands speak to a Slurm of this test's own."""
    if LACKING:
        pytest.skip(f"Slurm is not here ({', '.join(LACKING)}): apt-get install slurmctld slurmd slurm-client munge")
    if PLACE.exists():
        pytest.skip(f"{PLACE} is there: this machine belongs to a Slurm already")
    if os.getuid():
        pytest.skip("Slurm's daemons start as root alone")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("snakemake-executor-plugin-slurm is not here: pip install -e '.[cluster]'")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    PLACE.write_text(CONF.format(folder=folder, host=platform.node().partition(".")[0]))
    env = os.environ | {"PATH": WHERE}
    munge = [
        f"--{name}={folder / ('munge.' + end)}"
        for name, end in (
            ("socket", "socket"),
            ("key-file", "key"),
            ("pid-file", "pid"),
            ("log-file", "log"),
            ("seed-file", "seed"),
        )
    ]
    commands = (["munged", "--foreground", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D"])
    started = []
    try:
        for command in commands:
            with open(folder / f"{command[0]}.log", "w") as log:
                started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))
            time.sleep(2)
        deadline = time.monotonic() + 60
        while "idle" not in subprocess.run(["sinfo", "-h", "-o", "%T"], env=env, capture_output=True, text=True).stdout:
            assert time.monotonic() < deadline, [path.read_text()[-1500:] for path in folder.glob("slurm*.log")]
            time.sleep(1)
        yield env
    finally:
        subprocess.run(["scancel", "--user=root"], env=env)
        time.sleep(3)
        PLACE.unlink()
        for process in reversed(started):
            process.terminate()
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)


@pytest.fixture(scope="module")
def ran(slurm, tmp_path_factory):
    """The main job through Slurm; one training's job is killed once it has a checkpoint."""
    kit = Kit(tmp_path_factory.mktemp("cluster"))
    kit.environment |= {
        "PATH": slurm["PATH"],
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    more = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "5", *LATENCY]
    command = [*kit.command("reproduce"), "--executor", "slurm", "--jobs", "4", "--", *more]
    process = subprocess.Popen(command, env=kit.environment, cwd=sidecar.REPOSITORY, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    victim = kit.results / "runs" / "hcn-market1501-seed0"
    kit.killed = None
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and kit.killed is None and time.monotonic() < deadline:
        if there := sorted(victim.glob("checkpoints/*.json")):
            kit.seconds = load_file(there[0].with_suffix(".safetensors"))["seconds"]
            kit.killed = _kill(kit)
        time.sleep(0.05)
    kit.said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, kit.said[-3000:] + "".join(
        f"\n== {path.name}\n{path.read_text()[-600:]}" for path in sorted((kit.results / "logs").glob("*.log"))
    )
    return kit


def _kill(kit):
    """Kill the job of the training, as a node that runs out of memory would; its number, None if it has ended."""
    given = {"notebook", f"results_root={kit.results}", "model=hcn", "train_set=market1501"}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if given <= set(process.cmdline()):
                job = process.environ()["SLURM_JOB_ID"]
                subprocess.run(["scancel", "--signal=KILL", "--full", job], env=kit.environment, check=True)
                return job
    return None


def test_every_step_but_the_light_ones_was_a_job_and_every_training_one_of_its_own(ran):
    logs = {path.stem for path in (ran.results / "logs").glob("*.log")}
    assert {"01_datasets", "03_table2_cuhk03", "09_claims", "10_sensitivity"} <= logs
    assert {"train-sensitivity-conv1-cuhk03_labeled-seed0", "02_train-hcn-combined-seed0"} <= logs
    assert not {"06_figure3_loss_curves", "07_figure4_ap_and_cmc", "report"} & logs
    study = list((ran.results / "runs" / "sensitivity").glob("*/run.json"))
    assert len(study) == len([name for name in logs if name.startswith("train-sensitivity-")])
    made = {path: json.loads(path.read_text())["finished"] for path in study}
    assert all(made.values())


def test_a_killed_job_is_tried_again_and_continues(ran):
    log = (ran.results / "logs" / "02_train-hcn-market1501-seed0.log").read_text()
    assert ran.killed and log.count("02_train (model hcn") >= 3, log  # begun twice, ended once
    timing = pd.read_csv(ran.results / "runs" / "hcn-market1501-seed0" / "timing.csv")["seconds"]
    first = len(ran.seconds)
    assert first == 5 and np.allclose(timing[:first], ran.seconds, atol=1e-6), "its clock goes on from the checkpoint's"


def test_the_tables_are_those_of_one_machine(ran, kit):
    names = {path.name for path in kit.results.glob("*.csv")}
    assert names == {path.name for path in ran.results.glob("*.csv")} and len(names) > 15
    for name in sorted(names - {f"{stem}.csv" for stem in ALONE}):
        here, there = (pd.read_csv(folder / name) for folder in (kit.results, ran.results))
        measured = [column for column in here if not TIMES.search(column)]
        pd.testing.assert_frame_equal(here[measured], there[measured], obj=name)


def test_a_second_run_finds_nothing_to_do(ran):
    plan = ran.run("plan").stdout
    again = ran.run("reproduce")
    assert again.returncode == 0 and "Nothing to do" in again.stdout, plan[-3000:]
