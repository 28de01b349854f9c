"""The strict runner: each silence of papermill is an error, and a failed notebook is kept for reading."""

import functools
import io
import os
import re
import shutil
import socket
import time

import nbformat
import pytest
from jupyter_client.channels import AsyncZMQSocketChannel

from reid_core import progress
from reproduction.runner import isolation, notebooks, profiles


def book(path, *sources, parameters="count = 3\nrate = 0.5\nname = 'a'\nflag = True"):
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def outputs(path):
    return [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]


def test_a_good_notebook_runs_with_its_parameters_from_the_root(tmp_path, capfd):
    source = book(
        tmp_path / "good.ipynb",
        "import os, sys\nprint(count * rate, os.path.exists('pyproject.toml'))",
        "from tqdm import tqdm\nfor _ in tqdm(range(3), mininterval=0, leave=False): pass",
    )
    seconds = notebooks.run(source, tmp_path / "out" / "good.ipynb", {"count": 8})
    assert seconds > 0
    texts = [output.text for output in outputs(tmp_path / "out" / "good.ipynb")]
    assert texts == ["4.0 True\n"], "a finished progress bar leaves nothing behind"
    captured = capfd.readouterr()
    assert "4.0 True" in captured.out and "2/3" not in captured.err, "no states of a progress line in a log"
    assert not outputs(source), "the source stays without outputs"


def test_a_kernel_that_is_ready_is_not_listened_to_for_long(tmp_path, monkeypatch):
    """Jupyter's client reads what a kernel says at its start until 0.2 seconds have passed in silence."""
    asked, read = [], AsyncZMQSocketChannel.get_msg

    def noted(self, timeout=None):
        asked.append(timeout)
        return read(self, timeout)

    monkeypatch.setattr(AsyncZMQSocketChannel, "get_msg", noted)
    source = book(tmp_path / "a.ipynb", "print('first')\nimport sys\nprint('last', file=sys.stderr)")
    notebooks.run(source, tmp_path / "out.ipynb", {})
    assert [output.text for output in outputs(tmp_path / "out.ipynb")] == ["first\n", "last\n"]
    assert 0.02 in asked and 0.2 not in asked


class Watching(io.StringIO):
    """A terminal that notes what is written to it and makes a file once a progress line with time left has come."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def isatty(self):
        return True

    def write(self, text):
        if re.search(r"1/2 \[\d\d:\d\d<\d\d:\d\d", text):
            self.seen.touch()
        return super().write(text)


def test_a_progress_line_with_time_left_is_seen_while_its_cell_runs(tmp_path, monkeypatch):
    seen = tmp_path / "seen"
    source = book(
        tmp_path / "long.ipynb",
        "import pathlib, time\nfrom tqdm import tqdm\n"
        "for part in tqdm(range(2), mininterval=0, leave=False):\n"
        f"    deadline = time.monotonic() + 60 * part\n"
        f"    while part and not pathlib.Path({str(seen)!r}).exists():\n"
        "        assert time.monotonic() < deadline, 'nobody saw the line'\n"
        "        time.sleep(0.05)",
    )
    monkeypatch.setattr("sys.stderr", Watching(seen))
    notebooks.run(source, tmp_path / "out.ipynb", {})
    assert seen.exists() and not outputs(tmp_path / "out.ipynb")


def test_a_log_gets_a_line_a_minute_of_a_cell_that_takes_longer(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(progress, "EVERY", 0.5)
    source = book(
        tmp_path / "long.ipynb",
        "import time\nfrom tqdm import tqdm\nfor _ in tqdm(range(9), desc='Train', leave=False): time.sleep(0.2)",
    )
    notebooks.run(source, tmp_path / "out.ipynb", {})
    lines = [line for line in capfd.readouterr().err.splitlines() if line]
    assert 1 <= len(lines) <= 4 and all(re.match(r"Train: +\d+%\|.*\| \d/9 \[00:0\d<", line) for line in lines)
    assert not outputs(tmp_path / "out.ipynb"), "the executed copy shows what a reader would have seen at the end"


def test_messages_are_joined_in_linear_time_and_in_their_order():
    stream = functools.partial(nbformat.v4.new_output, "stream")
    figure = nbformat.v4.new_output("display_data", {"image/png": ""})
    many = [stream(name="stdout", text="x" * 100)] * 80_000
    started = time.perf_counter()
    joined = notebooks._joined([*many, figure, stream(name="stdout", text="a"), stream(name="stderr", text="b")])
    assert time.perf_counter() - started < 10
    assert [output.get("text", "")[:2] for output in joined] == ["xx", "", "a", "b"]
    assert len(joined[0].text) == 8_000_000


def test_the_users_own_notebooks_beside_the_kits_harm_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    shutil.copytree(notebooks.FOLDER, folder)
    monkeypatch.setattr(notebooks, "FOLDER", folder)
    names = notebooks.names()
    shutil.copy(folder / "03_table2_cuhk03.ipynb", folder / "03_table2_cuhk03-Copy1.ipynb")
    for name, text in {
        "12_empty": "",
        "13_foreign": '{"a": 1}',
        "14_list": "[]",
        "15_no_cells": '{"cells": []}',
    }.items():
        (folder / f"{name}.ipynb").write_text(text)
    assert notebooks.names() == names and notebooks.find("03").name == "03_table2_cuhk03.ipynb"
    assert profiles.load("tiny", recipes=False)["profile"] == "tiny"
    assert notebooks.find("03_table2_cuhk03-Copy1") == folder / "03_table2_cuhk03-Copy1.ipynb"
    for name in ("12_empty", "13_foreign", "14_list", "15_no_cells"):
        with pytest.raises(notebooks.NotebookError, match=rf"{name}\.ipynb: "):
            notebooks.declared(notebooks.find(name))


HOSTILE = {
    "startup": "import builtins\nbuiltins.leaked = 'IPython start-up'",
    "python": "import builtins\nbuiltins.leaked = 'PYTHONSTARTUP'",
    "kernel": '{"argv": ["/bin/false"], "display_name": "mine", "language": "python"}',
    "matplotlib": "figure.dpi: 7",
}


def test_the_users_own_settings_do_not_reach_a_kernel(tmp_path, monkeypatch):
    ipython, jupyter, settings = (tmp_path / "ipython", tmp_path / "jupyter", tmp_path / "config" / "matplotlib")
    hostile = {
        ipython / "profile_default" / "startup" / "00.py": HOSTILE["startup"],
        jupyter / "kernels" / "python3" / "kernel.json": HOSTILE["kernel"],
        settings / "matplotlibrc": HOSTILE["matplotlib"],
        tmp_path / "python.py": HOSTILE["python"],
    }
    for path, text in hostile.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    given = {
        "IPYTHONDIR": ipython, "JUPYTER_PATH": jupyter, "JUPYTER_DATA_DIR": jupyter, "PYTHONOPTIMIZE": "1",
        "PYTHONSTARTUP": tmp_path / "python.py", "MPLBACKEND": "TkAgg", "MPLCONFIGDIR": settings, "WORLD_SIZE": "4",
        "RANK": "1", "JUPYTER_PREFER_ENV_PATH": "0", "HOME": "/proc/none",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    cell = (
        "import os, builtins, matplotlib\n"
        "print(getattr(builtins, 'leaked', None), __debug__, 'WORLD_SIZE' in os.environ,\n"
        "      matplotlib.rcParamsDefault['figure.dpi'], matplotlib.get_backend())"
    )
    notebooks.run(book(tmp_path / "a.ipynb", cell), tmp_path / "out.ipynb", {})
    (text,) = [output.text for output in outputs(tmp_path / "out.ipynb") if output.get("name") == "stdout"]
    assert text.split() == ["None", "True", "False", "100.0", "module://matplotlib_inline.backend_inline"]
    assert {name: os.environ[name] for name in given} == {name: str(value) for name, value in given.items()}


def test_the_threads_of_a_kernel_sleep_while_they_wait_unless_the_user_says_otherwise(monkeypatch):
    """Two threads that spin take each other's cores: an iteration alone 1.2 times as long, beside others thrice."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    with isolation.kernel_environment():
        assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("passive", "7")
    assert "OMP_WAIT_POLICY" not in os.environ
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    with isolation.kernel_environment():
        assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("active", "0")


@pytest.mark.parametrize("home", [None, "/proc/none"])
def test_a_kernel_needs_no_home_and_is_not_spoken_to_through_a_proxy(tmp_path, monkeypatch, home):
    monkeypatch.setenv("HOME", home) if home else monkeypatch.delenv("HOME", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        source = book(tmp_path / "a.ipynb", "print('done')")
        notebooks.run(source, tmp_path / "out.ipynb", {})
        assert "done" in str(outputs(tmp_path / "out.ipynb"))
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_controls_leave_their_text_in_an_executed_copy(tmp_path):
    cell = (
        "import ipywidgets\nfrom IPython.display import display\n"
        "bundle = ipywidgets.IntText()._repr_mimebundle_() | {'text/plain': 'needs a kernel'}\n"
        "display(bundle, raw=True)"
    )
    notebooks.run(book(tmp_path / "a.ipynb", cell), tmp_path / "out.ipynb", {})
    assert [output["data"] for output in outputs(tmp_path / "out.ipynb")] == [{"text/plain": "needs a kernel"}]
    assert "widgets" not in nbformat.read(tmp_path / "out.ipynb", 4).metadata


FAILURES = {
    "an error": ("1 / 0", "ZeroDivisionError"),
    "sys.exit(0)": ("import sys\nsys.exit(0)", "SystemExit"),
    "a killed kernel": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "kernel"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_raise_and_keep_the_executed_copy(tmp_path, failure):
    cell, message = FAILURES[failure]
    source = book(tmp_path / "bad.ipynb", "print('before')", cell, "print('after')")
    with pytest.raises(notebooks.NotebookError, match=message) as raised:
        notebooks.run(source, tmp_path / "out" / "bad.ipynb", {})
    assert "bad.ipynb" in str(raised.value)
    assert not (tmp_path / "out" / "bad.ipynb").exists()
    kept = tmp_path / "out" / "failed" / "bad.ipynb"
    assert str(kept) in str(raised.value)
    texts = [output.get("text", "") for output in outputs(kept)]
    assert "before\n" in texts and "after\n" not in texts


def test_a_later_success_removes_the_failed_copy(tmp_path):
    failed = tmp_path / "out" / "failed" / "a.ipynb"
    with pytest.raises(notebooks.NotebookError):
        notebooks.run(book(tmp_path / "a.ipynb", "1 / 0"), tmp_path / "out" / "a.ipynb", {})
    assert failed.exists()
    notebooks.run(book(tmp_path / "a.ipynb", "1 / 1"), tmp_path / "out" / "a.ipynb", {})
    assert not failed.exists()


BAD_PARAMETERS = {
    "unknown, with the nearest name": ({"cuont": 1}, ValueError, "Did you mean 'count'"),
    "text for a number, as YAML reads 1e-3": ({"rate": "1e-3"}, TypeError, r"write 1\.0e-3"),
    "text for a truth value, as a command line gives false": ({"flag": "false"}, TypeError, "must be of type bool"),
    "a truth value for a number": ({"count": True}, TypeError, "must be of type int"),
    "a float for an integer": ({"count": 2.5}, TypeError, "must be of type int"),
}


@pytest.mark.parametrize("case", BAD_PARAMETERS)
def test_bad_parameters_are_refused_before_anything_runs(tmp_path, case):
    parameters, kind, message = BAD_PARAMETERS[case]
    source = book(tmp_path / "a.ipynb", "open('ran', 'w')")
    with pytest.raises(kind, match=message):
        notebooks.run(source, tmp_path / "out.ipynb", parameters)
    assert not (tmp_path / "out.ipynb").exists()


def test_an_integer_passes_for_a_float(tmp_path):
    notebooks.check_parameters(book(tmp_path / "a.ipynb"), {"rate": 1})


def test_parameters_must_be_tagged_once_and_literal(tmp_path):
    path = book(tmp_path / "a.ipynb", parameters="count = len('abc')")
    with pytest.raises(notebooks.NotebookError, match="'count' is not a literal"):
        notebooks.declared(path)
    nbformat.write(nbformat.v4.new_notebook(), path)
    with pytest.raises(notebooks.NotebookError, match="0 cells are tagged"):
        notebooks.declared(path)


def test_names_are_found_by_number_and_unknown_ones_listed():
    assert notebooks.find("02").name == "02_train.ipynb"
    assert notebooks.find("02_train").name == "02_train.ipynb"
    with pytest.raises(FileNotFoundError, match="03_table2_cuhk03"):
        notebooks.find("99_nothing")
