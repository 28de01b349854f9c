"""`make gpu-check` without a GPU: what it makes of logs, failures, signals and lack of time."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from unittest import mock

import pandas as pd
import psutil
import pytest

from reproduction import embedded, experiment
from reproduction.embedded import pretraining
from reproduction.runner import notebooks, profiles, stopping, workflow
from reproduction.sidecar import REPOSITORY


@pytest.fixture(scope="module")
def module(script):
    before = list(sys.path)
    yield script("benchmarks/gpu/check.py")
    sys.path[:] = before
    for name in ("compare", "flops"):
        sys.modules.pop(name, None)


@pytest.fixture
def check(module, monkeypatch, tmp_path):
    """The script in a folder of its own, with two stages that measure at once."""
    monkeypatch.setattr(module, "REPOSITORY", tmp_path)
    monkeypatch.setattr(module, "STAGES", dict(module.STAGES))
    for name in ("card", "tests"):
        monkeypatch.setitem(module.STAGES, name, lambda args: iter([{"measured": 1}]))
    return module


def run(check, *stages, minutes="25"):
    return check.main(["--device", "cpu", "--minutes", minutes, "--stages", *stages])


def table(tmp_path, stage):
    return pd.read_csv(tmp_path / "results" / "check-cpu" / f"check-{stage}.csv").astype(object).fillna("")


@pytest.fixture
def log(tmp_path, monkeypatch):
    """log(title, seconds or error): the lines that the runner writes of a step; without either, of one at work."""
    path = tmp_path / "workflow.log"

    def write(title, outcome=None):
        clock = iter([0.0, outcome])
        monkeypatch.setattr(workflow, "time", mock.Mock(monotonic=lambda: next(clock), strftime=time.strftime))
        if outcome is None:
            workflow._note(path, f"{title} ...")
        elif isinstance(outcome, float):
            with workflow._announced(title, path):
                pass
        else:
            with pytest.raises(type(outcome)), workflow._announced(title, path):
                raise outcome
        return path

    return write


def test_every_step_of_all_runs_in_a_log_is_there_with_what_it_last_took(check, log, tmp_path):
    workflow._note(tmp_path / "workflow.log", 'commit {"id": "x: 5.0 s"}')
    log("[1/4] 01_datasets", 3725.0)
    log("[2/4] 02_train (model hcn, train_set combined, seed 0)", 80.0)
    log("[3/4] 04_table3_market1501", AssertionError())
    log("[4/4] 03_table2_cuhk03", 9.4)
    log("[1/3] 03_table2_cuhk03", 12.0)
    log("[2/3] 05_table4_training_time", ValueError("after 02: 5.0 s\n[9/9] none: 1.0 s"))
    log("[3/3] 06_figure3_loss_curves", stopping.Stopped(signal.SIGTERM))
    path = log("[4/4] 07_figure4_ap_and_cmc")
    found = {row.pop("step"): row for row in check.steps(path)}
    assert {step: row["seconds"] for step, row in found.items()} == {
        "01_datasets": 3720, "02_train (model hcn, train_set combined, seed 0)": 80, "04_table3_market1501": None,
        "03_table2_cuhk03": 12, "05_table4_training_time": None, "06_figure3_loss_curves": None,
        "07_figure4_ap_and_cmc": None}  # fmt: skip
    assert [row["state"] for row in found.values()] == [
        "ended", "ended", "not ended: AssertionError: ", "ended", "not ended: ValueError: after 02: 5.0 s",
        "not ended: Stopped: SIGTERM", "not ended"]  # fmt: skip
    log("[1/1] 01_datasets")
    again = check.steps(path)[0]
    assert (again["step"], again["seconds"], again["state"]) == ("01_datasets", 3720, "not ended")
    assert check.steps(tmp_path / "none.log") == []


def test_a_stage_that_fails_keeps_its_rows_and_the_next_goes_on(check, tmp_path, monkeypatch, capfd):
    def failing(args):
        yield {"measured": 2}
        raise KeyError("unforeseen")

    monkeypatch.setitem(check.STAGES, "retrieval", failing)
    assert run(check, "retrieval", "card") == 1
    assert list(table(tmp_path, "retrieval")["note"]) == ["", "KeyError: 'unforeseen'"]
    assert list(table(tmp_path, "card")["measured"]) == [1] and "note" not in table(tmp_path, "card")
    said = "".join(capfd.readouterr())
    assert "Traceback" in said and "NOT DONE: KeyError" in said and "Not all was done: retrieval." in said
    assert run(check, "card", "tests") == 0


def test_a_trial_on_a_cpu_writes_nothing_among_the_results_of_gpus(check, tmp_path):
    assert run(check, "card") == 0
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["check-cpu"]
    line = table(tmp_path, "card").iloc[0]
    assert line["device"] and line["torch"] and {"commit", "modified"} <= set(line.index)
    if shutil.which("git") and (REPOSITORY / ".git").exists():
        ignored = ["git", "check-ignore", "-q", "results/check-cpu/check-card.csv"]
        assert subprocess.run(ignored, cwd=REPOSITORY).returncode == 0


def test_without_time_no_stage_begins_and_an_earlier_table_stays(check, tmp_path, capsys):
    assert run(check, "card") == 0
    before = table(tmp_path, "card")
    for minutes in ("0", "-3", "0.2"):
        assert run(check, "card", "profile", minutes=minutes) == 1
        assert "s are left, 30 are needed" in capsys.readouterr().out
    pd.testing.assert_frame_equal(table(tmp_path, "card"), before)


def test_one_task_that_fails_or_is_too_slow_costs_its_own_rows(check, tmp_path, monkeypatch):
    def measure(task, *shape, device, timeout):
        assert 0 < timeout <= 25 * 60
        return {"note": "out of memory"} if task == "product" else {"seconds": 2.0, "peak_gib": 1.0}

    monkeypatch.setattr(check.compare, "measure", measure)
    assert run(check, "retrieval") == 1
    found = table(tmp_path, "retrieval").set_index("task")
    assert list(found["note"]) == ["RuntimeError: out of memory", "", ""] and set(found["images"]) == {360}
    assert list(found["seconds"]) == ["", 2.0, 2.0]
    assert found["h100_float32_seconds"]["rerank_ours"] == pytest.approx(2 * 360**2 * 2048 / 67e12)


def test_a_task_of_the_retrieval_benchmark_ends_with_its_time(check):
    report = check.compare.measure("product", 60, 300, device="cpu", timeout=0.05)
    assert report == {"note": "not done in 0 s"}


def test_one_recipe_that_fails_costs_its_own_rows(check, tmp_path, monkeypatch):
    def measure(recipe, people, seconds, device):
        if recipe.precision == "bf16" and seconds < 8:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")
        forms = [("baseline", "pooled"), ("hcn", "pooled"), ("hcn", "plain")]
        return pd.DataFrame([{"model": model, "form": form, "seconds_per_iteration": 0.01, "over_baseline": 1.0}
                             for model, form in forms])  # fmt: skip

    monkeypatch.setattr(check.speed, "measure", measure)
    monkeypatch.setattr(check.speed, "matrix_rate", lambda *_: 1e12)
    assert check.main(["--device", "cpu", "--stages", "training", "--seconds", "8"]) == 1
    found = table(tmp_path, "training")
    assert list(dict.fromkeys(found["recipe"])) == ["bf16, CUDA graph", "bf16", "fp32", *check.PUBLIC]
    counts = found.groupby("recipe", sort=False).size()
    assert list(counts) == [5, 1, 5, 1, 1]
    assert found["note"][found["recipe"] == "bf16"].item().startswith("RuntimeError: CUDA error")
    projected = found[(found["recipe"] == "fp32") & (found["form"] == "plain")].iloc[-1]
    assert projected["minutes"] == pytest.approx(475_000 * 0.01 / 60)


def cli(monkeypatch, check, tmp_path, code):
    """What the stages start in place of `reid-core`."""
    (tmp_path / "cli.py").write_text(f"import sys, time\n{code}")
    monkeypatch.setattr(check, "COMMAND", (sys.executable, "cli.py"))


def leave_log(tmp_path, *lines):
    path = tmp_path / "results" / "tiny" / "workflow.log"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"2026-01-01 10:00:00 {line}\n" for line in lines))


def test_where_a_step_fails_the_table_is_made_of_the_log(check, tmp_path, monkeypatch):
    cli(monkeypatch, check, tmp_path, "sys.exit(3)")
    leave_log(tmp_path, "[1/2] 01_datasets: 3.0 s", "[2/2] 02_train ...")
    assert run(check, "profile", "card") == 1
    found = table(tmp_path, "profile")
    assert list(found["step"]) == ["01_datasets", "02_train", "this run of profile tiny", ""]
    assert list(found["state"]) == ["ended", "not ended", "", ""]
    assert "ended with status 3" in found["note"].iloc[-1]
    assert len(table(tmp_path, "card")) == 1


def test_profile_waits_for_the_pictures_that_are_rendered_beside_the_others(check, tmp_path, monkeypatch):
    monkeypatch.setattr(check.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(check.machine, "device_name", lambda device: "a card")
    monkeypatch.setattr(check, "RENDERING", "import pathlib, time\ntime.sleep(0.5)\npathlib.Path('rendered').touch()")
    cli(monkeypatch, check, tmp_path, "sys.exit(not __import__('os').path.exists('rendered'))")
    for cores, status in ((7, 1), (8, 0)):
        monkeypatch.setattr(check.machine, "cores", lambda cores=cores: cores)
        assert check.main(["--stages", "card", "profile"]) == status
    assert pd.read_csv(tmp_path / "results" / "gpu" / "check-profile.csv")["device"].item() == "a card"
    begin, beside = check.started, []
    monkeypatch.setattr(check, "started", lambda *words, **more: beside.append(begin(*words, **more)) or beside[-1])
    monkeypatch.setattr(check, "RENDERING", "import time\ntime.sleep(60)")
    assert check.main(["--stages", "card", "profile", "--minutes", "0"]) == 1
    assert [process.returncode for process in beside] == [-signal.SIGTERM], "what is rendered ends with the script"


def test_profile_is_stopped_in_time_for_its_table(check, tmp_path, monkeypatch):
    cli(monkeypatch, check, tmp_path, "time.sleep(60)")
    monkeypatch.setattr(check, "RESERVE", 9)
    monkeypatch.setattr(check, "LEAST", 0.2)
    leave_log(tmp_path, "[1/2] 01_datasets: 3.0 s")
    begun = time.monotonic()
    assert run(check, "profile", minutes="0.25") == 1
    assert time.monotonic() - begun < 12  # of 15
    assert "as the time was up" in table(tmp_path, "profile")["note"].iloc[-1]


CHILD = """
import os, pathlib, subprocess, sys, time
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path("other").write_text(str(other.pid))
os.kill(os.getppid(), int(sys.argv[1]))
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_the_table_and_no_process(check, tmp_path, monkeypatch, number):
    """Nor what the child began, which ends without it; and no further stage begins."""

    def measuring(args):
        yield {"measured": 2}
        started.append(check.started(sys.executable, "-c", CHILD, str(int(number))))
        check.ended(started[0], 60)

    started = []
    monkeypatch.setitem(check.STAGES, "retrieval", measuring)
    assert run(check, "retrieval", "card") == 128 + number
    assert list(table(tmp_path, "retrieval")["note"]) == ["", "stopped"]
    assert not (tmp_path / "results" / "check-cpu" / "check-card.csv").exists()
    assert started[0].returncode == -signal.SIGTERM
    until = time.monotonic() + 20
    with contextlib.suppress(psutil.NoSuchProcess):  # where nobody waits for it, it is a zombie
        while psutil.Process(int((tmp_path / "other").read_text())).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until, "it was not killed"
            time.sleep(0.02)


def test_what_does_not_heed_is_killed_after_a_while(check, monkeypatch, tmp_path):
    monkeypatch.setattr(check, "GRACE", 0.2)
    deaf = "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    process = check.started(sys.executable, "-c", f"{deaf}pathlib.Path('deaf').touch(); time.sleep(60)")
    while not (tmp_path / "deaf").exists():
        time.sleep(0.02)
    with pytest.raises(TimeoutError):
        check.ended(process, 0.1)
    assert process.returncode == -signal.SIGKILL


def test_an_old_report_of_tests_is_never_read_and_only_failed_tests_may_fail(check, tmp_path, monkeypatch):
    args = types.SimpleNamespace(runs=tmp_path / "check", until=time.monotonic() + 60)
    args.runs.mkdir()
    report = '<testsuites><testsuite tests="{}" failures="{}" errors="0" skipped="0" time="1"/></testsuites>'
    (args.runs / "tests.xml").write_text(report.format(56, 0))

    def pytest_that(status, text=""):
        def ended(process, timeout):
            path = args.runs / "tests.xml"
            assert process[-1] == f"--junitxml={path}" and not path.exists()
            if text:
                path.write_text(text)
            return status

        monkeypatch.setattr(check, "started", lambda *words: words)
        monkeypatch.setattr(check, "ended", ended)
        found.append([])
        for row in check.tests(args):
            found[-1].append(row)

    found = []
    with pytest.raises(FileNotFoundError):
        pytest_that(0)
    with pytest.raises(RuntimeError, match="status 4"):
        pytest_that(4, report.format(3, 0))
    with pytest.raises(RuntimeError, match="'failures': 1"):
        pytest_that(1, report.format(3, 1))
    pytest_that(0, report.format(3, 0))
    assert [rows and rows[0]["tests"] for rows in found] == [[], [], 3, 3]


def test_the_pictures_rendered_beside_are_those_that_the_steps_look_for(check, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "nice", asked.append)
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: asked.append(cores), raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(embedded, "render", lambda root, sizes, seed=0, **more: asked.append((root, sizes, seed, more)))
    monkeypatch.setattr(pretraining.Data, "table", lambda self, root: asked.append((self, root)))
    monkeypatch.setattr(pretraining.training, "train", lambda *_, **__: pytest.fail("enough"))
    monkeypatch.setattr(check.machine, "cores", lambda: 12)  # by a quota
    exec(check.RENDERING, {})
    settings, declared = profiles.load("gpu"), notebooks.declared(notebooks.find("01_datasets"))
    given = declared | settings
    place = experiment.resolve(given["data_root"]), embedded.Sizes.named(given["render_sizes"]), given["render_seed"]
    assert asked[:3] == [19, [*range(4, 12)], (*place, {"replace": True})]
    monkeypatch.setattr(pretraining.training, "train", lambda name, images, run, **more: sys.exit(0))
    with pytest.raises(SystemExit):
        pretraining.pretrain(pretraining.located(pretraining.training.Recipe()), pretraining.training.Recipe())
    assert asked[3] == asked[4]
