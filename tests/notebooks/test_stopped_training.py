"""A training in a notebook's kernel, stopped from outside, leaves a checkpoint and goes on from it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from reproduction import sidecar

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("to_the_group", [False, True], ids=["to the runner", "to the group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_also_twice_and_where_interrupts_are_ignored(
    tmp_path, small_data, number, to_the_group
):
    results, log = tmp_path / "results", open(tmp_path / "log", "w")
    schedule = {"market1501": {"iterations": 100_000, "checkpoint_every": 100_000}}
    given = [f"data_root={small_data}", f"results_root={results}", "train_set=market1501", "model=baseline"]
    given += [f"schedules={schedule}", "recipe={backbone: resnet18, weights: random, batchnorm: live, height: 32, "
              "width: 32, batch_size: 2}"]  # fmt: skip
    words = [word for one in given for word in ("-p", one)]
    process = subprocess.Popen(
        [sys.executable, "-m", "reproduction.cli", "notebook", "--profile", "tiny", "02_train", *words],
        cwd=sidecar.REPOSITORY, env=os.environ | {"REID_CORE_CACHE": str(tmp_path / "cache")},
        stdout=log, stderr=log, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a script's & does
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(results.rglob("run.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    for _ in range(2):
        os.killpg(process.pid, number) if to_the_group else process.send_signal(number)
        time.sleep(0.2)
    assert process.wait(timeout=120) != 0
    said = (tmp_path / "log").read_text()
    assert len(list(results.rglob("checkpoints/*.json"))) == 1, said[-2000:]
