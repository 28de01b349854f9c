"""Kernels that are copies of a loaded process: what they find, signals, ends, and where nobody serves."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from reproduction.runner import notebooks, warm, workflow
from reproduction.sidecar import REPOSITORY

PROBE = """
import json, os, pathlib, signal, sys, time
loaded, stopped = {"torch", "ipykernel.debugger", "nbformat", "matplotlib.pyplot"} <= set(sys.modules), ""
seen = {"loaded": loaded, "folder": os.getcwd(), "own": os.environ.get("OWN"),
        "blas": os.environ.get("OPENBLAS_NUM_THREADS"), "words": sys.argv[1:],
        "threads": loaded and sys.modules["torch"].get_num_threads(),
        "leads": os.getpgrp() == os.getpid(), "pid": os.getpid()}
pathlib.Path("new").write_text(json.dumps(seen))
os.rename("new", "seen")
try:
    time.sleep(float(sys.argv[1]))
except KeyboardInterrupt:
    pathlib.Path("interrupted").touch()
"""


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


SERVE = """
import sys
from reproduction.runner import warm
warm.serve(OPENBLAS_NUM_THREADS="1")
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a server that is ready, and ends with the process that started it; longer than a socket's address may be."""
    folder = tmp_path_factory.mktemp("served") / ("x" * 120)
    folder.mkdir()
    own = {"cwd": folder, "env": os.environ | {"PYTHONPATH": str(REPOSITORY)}}
    with subprocess.Popen([sys.executable, "-c", SERVE], stdin=subprocess.PIPE, **own) as parent:
        wait_until((folder / warm.NAME).is_socket)
        (server,) = psutil.Process(parent.pid).children()
        yield folder
        parent.stdin.close()
        wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, 5)


@pytest.fixture
def start(folder, tmp_path, monkeypatch):
    (tmp_path / "probe.py").write_text(PROBE)
    monkeypatch.setenv(warm.FOLDER, str(folder))
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)

    def start(*words):
        command = warm.command([sys.executable, "-m", "probe", *words])
        own = os.environ | {"OWN": "mine"}
        process = subprocess.Popen(command, cwd=tmp_path, env=own, start_new_session=True)
        wait_until((tmp_path / "seen").exists)
        return process, json.loads((tmp_path / "seen").read_text())

    return start


@pytest.mark.parametrize("threads", [1, 3])
def test_a_copy_has_the_modules_and_all_that_its_command_was_given(start, tmp_path, monkeypatch, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    process, seen = start("0")
    process.wait(30)
    assert seen.pop("pid") != process.pid
    given = {"loaded": True, "folder": str(tmp_path), "own": "mine", "blas": None, "words": ["0"], "leads": True,
             "threads": threads}  # fmt: skip
    assert seen == given, "the environment is the command's, not the server's"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_command_reaches_the_copy(start, tmp_path, number):
    process, seen = start("60")
    time.sleep(0.2)
    os.killpg(process.pid, number)
    wait_until(lambda: not psutil.pid_exists(seen["pid"]), 5)
    process.wait(5)
    assert (tmp_path / "interrupted").exists() == (number == signal.SIGINT)


def test_a_command_ends_when_its_copy_is_killed(start):
    process, seen = start("60")
    os.kill(seen["pid"], signal.SIGKILL)
    assert process.wait(5) == 0 and not psutil.pid_exists(seen["pid"])


def test_where_nobody_serves_the_command_is_run_itself(start, folder, tmp_path, monkeypatch):
    for served in (None, tmp_path):
        monkeypatch.setenv(warm.FOLDER, str(served)) if served else monkeypatch.delenv(warm.FOLDER)
        assert warm.command(["python", "-m", "x"]) == ["python", "-m", "x"]
    stand_in = [sys.executable, "-I", "-S", warm.__file__, str(tmp_path)]
    command = [*stand_in, sys.executable, "-m", "probe", "0"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    assert not json.loads((tmp_path / "seen").read_text())["loaded"]


def test_a_notebook_runs_in_a_copy_as_in_a_kernel_of_its_own(folder, tmp_path, monkeypatch):
    cells = ["import os, sys\nprint(os.getcwd(), sys.path[0], 'torch' in sys.modules)",
             "print('told', file=sys.stderr)", "import matplotlib.pyplot as plt\nplt.plot([1, 2])",
             "os.environ['MPLBACKEND'], sys.flags.optimize, 'OPENBLAS_NUM_THREADS' in os.environ"]  # fmt: skip
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(metadata=kernel)
    book.cells = [nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]})]
    book.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(book, tmp_path / "book.ipynb")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # as the server has it
    found = []
    for served in (False, True):
        monkeypatch.setenv(warm.FOLDER, str(folder)) if served else None
        notebooks.run(tmp_path / "book.ipynb", tmp_path / "out.ipynb", {"a": 2})
        outputs = [
            output for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells for output in cell.get("outputs", [])
        ]
        found.append([output.get("text") or sorted(output.data) for output in outputs])
        found[-1].append(outputs[-1].data["text/plain"])
        found[-1] += [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert found[1][0] == found[0][0].replace("False", "True")
    assert found[1][1:] == found[0][1:] and ["image/png", "text/plain"] in found[1]


def test_a_notebook_whose_copy_dies_is_an_error(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(warm.FOLDER, str(folder))
    book = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    dies = nbformat.v4.new_code_cell("import os\nos.kill(os.getpid(), 9)")
    book.cells = [nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]}), dies]
    nbformat.write(book, tmp_path / "book.ipynb")
    with pytest.raises(notebooks.NotebookError, match="the kernel died"):
        notebooks.run(tmp_path / "book.ipynb", tmp_path / "out.ipynb", {})


STEP = """
import os, pathlib, time
folder = pathlib.Path(os.environ.get("REID_CORE_KERNELS", "none"))
for _ in range(600 * folder.is_dir()):
    if (folder / "kernels").is_socket():
        break
    time.sleep(0.1)
print("served" if (folder / "kernels").is_socket() else "alone", flush=True)
"""


@pytest.mark.parametrize(("before", "count", "answer"), [("OPENBLAS_NUM_THREADS=1 ", 3, "served"), ("", 3, "alone"),
                                                         ("OPENBLAS_NUM_THREADS=1 ", 2, "alone")])  # fmt: skip
def test_more_than_two_steps_of_small_data_are_copies(tmp_path, monkeypatch, capfd, before, count, answer):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (tmp_path / "step.py").write_text(STEP)
    command = f"{before}'{sys.executable}' '{tmp_path / 'step.py'}'"
    names = ["first", "second", "third"][:count]
    plan = [{"name": name, "why": "new", "after": [], "command": command} for name in names]
    workflow._execute(plan, tmp_path, None)
    assert capfd.readouterr().out.count(answer) == count
