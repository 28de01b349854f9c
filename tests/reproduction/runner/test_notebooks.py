"""The strict runner: each silence of papermill is an error, and a failed notebook is kept for reading."""

import io
import re

import nbformat
import pytest

from reproduction.runner import notebooks


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
    assert "4.0 True" in captured.out and "2/3" in captured.err
    assert not outputs(source), "the source stays without outputs"


class Watching(io.StringIO):
    """A terminal that notes what is written to it and makes a file once a progress line with time left has come."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

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


def test_controls_leave_their_text_in_an_executed_copy(tmp_path):
    cell = (
        "import ipywidgets\nfrom IPython.display import display\n"
        "bundle = ipywidgets.IntText()._repr_mimebundle_() | {'text/plain': 'needs a kernel'}\n"
        "display(bundle, raw=True)"
    )
    notebooks.run(book(tmp_path / "a.ipynb", cell), tmp_path / "out.ipynb", {})
    assert [output["data"] for output in outputs(tmp_path / "out.ipynb")] == [
        {"text/plain": "needs a kernel"}
    ]
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
    "text for a truth value, as a command line gives false": (
        {"flag": "false"},
        TypeError,
        "must be of type bool",
    ),
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
