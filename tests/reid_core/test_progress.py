import io
import sys
import time

import pytest

from reid_core import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Notebook(io.StringIO):
    """As ipykernel's stream: no terminal, but somebody looks at it."""


Notebook.__module__ = "ipykernel.iostream"


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)


def drawn(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.bar(total=3, desc="Count", unit="number") as bar:
        bar.update()
    return "Count" in stream.getvalue()


def test_bars_are_for_terminals_and_notebooks(monkeypatch):
    assert drawn(monkeypatch, Terminal()) and drawn(monkeypatch, Notebook())
    assert not drawn(monkeypatch, io.StringIO())


def test_a_log_gets_lines_and_one_state_of_progress_lines_a_minute(monkeypatch):
    now, log = [0.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = progress.Log(log)
    for text in ("\r 50%|##  |", "\r100%|####|", "\r         \r", "\rWarning: odd\n", "plain\n", "two\r\nlines\n"):
        shown.write(text)
    assert log.getvalue() == "Warning: odd\nplain\ntwo\nlines\n"
    for now[0], text in (
        (61.0, "\r   \r"),
        (61.0, "\r 10%|#"),
        (120.0, "\r 20%|##"),
        (122.0, "\r 30%|###  \r 40%|####"),
    ):
        shown.write(text)
    assert log.getvalue().endswith("lines\n 10%|#\n 30%|###\n")


def test_a_bar_in_a_log_says_a_line_a_minute(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.1)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    begun = time.monotonic()
    for _ in progress.bar(range(5), desc="Count", unit="number", delay=0):
        time.sleep(0.06)
    most = max(3, (time.monotonic() - begun) / 0.1)  # on a busy machine each step may take so long
    lines = sys.stderr.getvalue().splitlines()
    assert 1 <= len(lines) <= most and all(line.startswith("Count: ") and "/5 [" in line for line in lines)


@pytest.mark.parametrize("value, seen", [("1", False), ("true", False), ("0", True), ("", True)])
def test_tqdms_own_variable_is_honoured(monkeypatch, value, seen):
    monkeypatch.setenv("TQDM_DISABLE", value)
    assert drawn(monkeypatch, Terminal()) == seen


def test_what_is_silenced_is_silent_at_any_depth_and_only_there(monkeypatch):
    with progress.shown(False):
        assert not drawn(monkeypatch, Terminal())
        with progress.shown(True):
            assert not drawn(monkeypatch, Terminal())
        progress.say("not this")
        assert sys.stderr.getvalue() == ""
    assert drawn(monkeypatch, Terminal())
    progress.say("a line")
    assert sys.stderr.getvalue().endswith("a line\n")


def test_an_iterable_comes_through(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(progress.bar([1, 2], desc="Count", unit="number")) == [1, 2]
