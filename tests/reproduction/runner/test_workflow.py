"""The workflow with steps of a few lines: order, log, lock, signals to the main process alone, closed pipes."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from reproduction.runner import execution, profiles, staleness, stopping, workflow
from reproduction.runner import steps as all_steps
from reproduction.sidecar import REPOSITORY

MAIN = """
import json, pathlib, sys
from reproduction.runner import stopping, workflow
folder, plan = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
try:
    with stopping.heeded(), workflow.only_one(folder) as lock:
        workflow._execute(plan, folder, lock)
except stopping.Stopped as stopped:
    print("stopped by", stopped, flush=True)
    sys.exit(128 + stopped.number)
except workflow.WorkflowError as error:
    sys.exit(f"{error}")
"""
STEP = """
import pathlib, signal, sys, time
from reproduction.runner import stopping
folder, name, seconds = pathlib.Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
with stopping.heeded():
    try:
        (folder / f"{name}.started").touch()
        time.sleep(seconds)
        (folder / f"{name}.ended").touch()
    except stopping.Stopped:
        time.sleep(1.5)
        (folder / f"{name}.in_good_order").touch()
        sys.exit(143)
"""


def planned(folder, *names, seconds=0.0):
    """A plan of steps one after the other, as the workflow reads it; each is taken for one of the kit's."""
    (folder / "step.py").write_text(STEP)
    plan = []
    for number, name in enumerate(names):
        words = [sys.executable, str(folder / "step.py"), "reproduction.cli", str(folder), name, str(seconds)]
        command = " ".join(f"'{word}'" for word in words)
        plan.append({"name": name, "why": "new", "after": list(names[:number]), "command": command})
    return plan


def start(folder, plan, **more):
    (folder / "main.py").write_text(MAIN)
    command = [sys.executable, str(folder / "main.py"), str(folder), json.dumps(plan)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | more.pop("env", {})
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            start_new_session=True, **more)  # fmt: skip


def wait_for(path, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline and process.poll() is None, process.communicate(timeout=9)
        time.sleep(0.05)


def is_locked(folder):
    with open(folder / ".lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_steps_run_in_their_order_and_the_log_says_what_ran_and_why(tmp_path):
    folder = tmp_path / "a folder with $HOME, {braces} and ü"
    folder.mkdir()
    process = start(folder, planned(folder, "first", "second", "third"))
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    ended = [(folder / f"{name}.ended").stat().st_mtime_ns for name in ("first", "second", "third")]
    assert ended == sorted(ended)
    log = (folder / "workflow.log").read_text()
    assert "to run: second, since new" in log and "Done in " in log and "commit " in log
    assert f"3 steps; log: {folder / 'workflow.log'}" in said
    assert not (folder / ".steps").exists()


def test_a_failing_step_stops_the_workflow(tmp_path):
    plan = planned(tmp_path, "first", "second")
    plan[0]["command"] = "echo a reason >&2; false"
    process = start(tmp_path, plan)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "a reason" in said
    assert "The same command continues from there" in " ".join(said.split())
    assert "A step failed" in (tmp_path / "workflow.log").read_text()
    assert not (tmp_path / "second.started").exists()


def test_where_nobody_reads_any_more_a_failure_is_no_failed_step(tmp_path, monkeypatch):
    read, write = os.pipe()
    monkeypatch.setattr(workflow, "_snakemake", lambda *_: os.close(read) or 1)
    monkeypatch.setattr(sys, "stdout", os.fdopen(os.dup(write), "w"))
    os.close(write)
    with pytest.raises(BrokenPipeError):
        workflow._execute(planned(tmp_path, "first"), tmp_path, None)
    with pytest.raises(BrokenPipeError):
        sys.stdout.close()
    assert "A step failed" not in (tmp_path / "workflow.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.usefixtures("hangup_ends")
def test_a_signal_to_the_main_process_alone_stops_all_in_good_order_under_the_lock(tmp_path, number):
    ignored = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}  # as a script's & leaves it
    process = start(tmp_path, planned(tmp_path, "first", "second", seconds=60), **ignored)
    wait_for(tmp_path / "first.started", process)
    assert is_locked(tmp_path)
    process.send_signal(number)
    time.sleep(0.7)
    assert process.poll() is None and is_locked(tmp_path), "the step needs 1.5 s to end"
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number and f"stopped by {number.name}" in said
    assert (tmp_path / "first.in_good_order").exists() and not (tmp_path / "second.started").exists()
    assert not is_locked(tmp_path)


def test_the_terminals_signal_to_all_counts_once(tmp_path):
    process = start(tmp_path, planned(tmp_path, "first", "second", seconds=60))
    wait_for(tmp_path / "first.started", process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130 and (tmp_path / "first.in_good_order").exists()


def test_a_killed_main_process_leaves_the_lock_with_what_goes_on(tmp_path):
    process = start(tmp_path, planned(tmp_path, "first", seconds=60))
    wait_for(tmp_path / "first.started", process)
    process.kill()
    process.wait()
    assert is_locked(tmp_path)
    os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while is_locked(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_locked(tmp_path)


def snakemake_of(process):
    return next(each for each in psutil.Process(process.pid).children() if "snakemake" in each.cmdline())


def test_where_snakemake_is_killed_its_step_stops_in_good_order_and_then_the_main_process(tmp_path):
    process = start(tmp_path, planned(tmp_path, "first", "second", seconds=60))
    wait_for(tmp_path / "first.started", process)
    snakemake_of(process).kill()
    time.sleep(0.7)
    assert process.poll() is None and is_locked(tmp_path), "the step needs 1.5 s to end"
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1 and "Signal 9 ended Snakemake" in said and "same command continues" in said
    assert (tmp_path / "first.in_good_order").exists() and not (tmp_path / "second.started").exists()


def test_a_step_that_outlives_a_killed_main_process_and_snakemake_is_waited_for(tmp_path):
    process = start(tmp_path, planned(tmp_path, "first", seconds=60))
    wait_for(tmp_path / "first.started", process)
    snakemake = snakemake_of(process)
    process.kill()
    process.wait()
    snakemake.kill()
    snakemake.wait()
    assert not is_locked(tmp_path)
    with pytest.raises(workflow.WorkflowError, match=r"still at work: process \[\d+") as refused:
        with workflow.only_one(tmp_path):
            pass
    for number in re.findall(r"\d+", str(refused.value).rpartition("process")[2]):
        os.kill(int(number), signal.SIGTERM)
    deadline = time.monotonic() + 30
    while not (tmp_path / "first.in_good_order").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    with workflow.only_one(tmp_path) as lock:
        assert lock


def test_snakemakes_settings_of_the_user_are_not_heeded(tmp_path):
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text("dry-run: true\ncores: 1\n")
    env = {"SNAKEMAKE_PROFILE": str(profile), "XDG_CONFIG_HOME": str(tmp_path), "HOME": "/proc/none"}
    process = start(tmp_path, planned(tmp_path, "first"), env=env)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and (tmp_path / "first.ended").exists(), said


def test_a_notebook_and_a_report_heed_the_lock(tmp_path, monkeypatch):
    places = [f"data_root={tmp_path / 'data'}", f"results_root={tmp_path}"]
    monkeypatch.setattr(execution.notebooks, "run", lambda *_: pytest.fail("ran beside another"))
    with workflow.only_one(tmp_path):
        for work in (
            lambda: execution.notebook("07", "tiny", places),
            lambda: execution.write_page("report", "tiny", places),
            lambda: workflow.run("tiny", places),
        ):
            with pytest.raises(workflow.WorkflowError, match="another `make reproduce` is at work here"):
                work()


def test_a_plan_gives_each_step_its_command(tmp_path):
    places = [f"data_root={tmp_path / 'data'}", f"results_root={tmp_path / 'it is, $HOME {x}'}"]
    settings = profiles.load("tiny", places, recipes=False)
    plan = workflow._plan(staleness.pending(settings), profiles.find("tiny"), places)
    by_name = {step["name"]: step for step in plan}
    train = by_name["02_train-hcn-combined-seed0"]
    assert train["after"] == ["01_datasets"] and "'results_root=" in train["command"]
    assert train["command"].endswith("-p model=hcn -p train_set=combined -p seed=0")
    assert by_name["report"]["command"].startswith("python -m reproduction.cli report --profile ")
    assert " reproduction.cli explorer --profile " in by_name["explorer"]["command"]
    assert set(by_name["09_claims"]["after"]) >= {"10_sensitivity", "03_table2_cuhk03", "07_figure4_ap_and_cmc"}
    assert [step["name"] for step in plan] == [step.name for step in all_steps.of(settings)]


def test_table_2_comes_as_soon_as_what_it_reads_is_trained(tmp_path):
    """So that somebody who watches has a table to look at early; all that it shows is in it."""
    settings = profiles.load("smoke", [f"data_root={tmp_path}", f"results_root={tmp_path}"], recipes=False)
    found = {step.name: step for step in all_steps.of(settings)}
    order = list(found)
    table2, table3 = (found[name] for name in ("03_table2_cuhk03", "04_table3_market1501"))
    assert sorted(order[: order.index(table2.name)]) == sorted({*table2.after, "01_datasets"})
    assert {f"02_train-hcn-{name}-seed2" for name in ("cuhk03_detected", "combined")} < {*table2.after}
    assert len(table2.after) == 15 + 1 and not any("market1501" in name for name in table2.after)
    assert len(table3.after) == 9 + 1 and not any("cuhk03" in name for name in table3.after)
    assert len(found["10_sensitivity"].after) == 21 + 1


@pytest.mark.parametrize(("profile", "cards", "cores"), [("smoke", [], 2), ("smoke", [], 1), ("smoke", [("GPU",)], 2),
                                                         ("full", [], 2)])  # fmt: skip
def test_only_what_is_not_timed_and_small_leaves_cores_to_another_step(tmp_path, monkeypatch, profile, cards, cores):
    monkeypatch.setattr(workflow.preflight, "cards", lambda: cards)
    monkeypatch.setattr(workflow.machine, "cores", lambda: cores)
    places = [f"data_root={tmp_path}", f"results_root={tmp_path}", f"render_sizes={profile}"]
    settings = profiles.load("smoke", places, recipes=False)
    plan = workflow._plan(staleness.pending(settings), profiles.find("smoke"), places)
    shared = {step["name"][:2]: step["threads"] for step in plan if "threads" in step}
    assert shared == (
        dict.fromkeys(("04", "06", "07", "08", "11", "ex"), 1) if profile == "smoke" and not cards else {}
    )
    one_thread = {step["name"][:2] for step in plan if step["command"].startswith("OPENBLAS_NUM_THREADS=1 python ")}
    assert one_thread == ({"ex", *(f"{number:02}" for number in range(3, 12))} if profile == "smoke" else set())
    for step in (step for step in plan if step["name"][:2] in ("11", "ex")):
        assert "03_table2_cuhk03" in step["after"], "which extracts the features"
        assert ("04_table3_market1501" in step["after"]) == (profile == "full"), "of small data beside it"
    order = [step["name"][:2] for step in plan if step["name"][:2] not in ("01", "02")]
    assert order == ["03", "05", "04", "06", "07", "08", "11", "ex", "10", "09", "re"]
    waits = {step["name"][:2] for step in plan if "05_table4_training_time" in step["after"]} - {"09", "re"}
    assert waits == (set(shared) or {"06"}), "what takes every core would wait for what shares them and came before it"


def test_a_signal_while_a_class_is_made_is_no_error():
    class Noticed:
        def __set_name__(self, owner, name):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(stopping.Stopped, match="SIGTERM"), stopping.heeded():
        type("Made", (), {"part": Noticed()})
    with pytest.raises(RuntimeError, match="another"), stopping.heeded():
        raise RuntimeError("another")


def test_signals_are_as_before_afterwards():
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    with pytest.raises(stopping.Stopped, match="SIGTERM"), stopping.heeded():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert {number: signal.getsignal(number) for number in stopping.SIGNALS} == before and not stopping.asked()
