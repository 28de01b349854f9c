"""Being stopped: SIGINT, SIGTERM and SIGHUP end everything that was started, in good order, then this process."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil

PLAN = "REID_CORE_PLAN"  # for steps: the file of their plan
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME = 2.0  # seconds in which further signals count as the first: a terminal and the main process both send one
_first: list[float] = []  # when the first signal came


class Stopped(KeyboardInterrupt):
    """A signal asked for the end; `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Raise :class:`Stopped` at the first signal that comes meanwhile; a later one kills all that was started, too.
    Also where SIGINT is ignored by inheritance, as in what a script starts with `&`; SIGHUP stays ignored (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if not _first:
            _first.append(time.monotonic())
            raise Stopped(number)
        if time.monotonic() - _first[0] > SAME:
            for process in _family():
                process.kill()
            os._exit(128 + number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if number != signal.SIGHUP or handler != signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    except RuntimeError as error:  # which Python makes of what comes while a class is made, as by an import
        if isinstance(error.__cause__, Stopped):
            raise error.__cause__ from None
        raise
    finally:
        _first.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def asked() -> bool:
    """Whether a signal has come."""
    return bool(_first)


def waited(process: subprocess.Popen, plan: Path | None = None) -> int:
    """The exit status of a process. Where this one is stopped meanwhile, or that one is killed, what they started for
    a `plan` is stopped, and only then this ends."""
    code = None
    try:
        code = process.wait()
        return code
    finally:
        if code is None or code < 0:
            _stop_workflow(plan)


def _stop_workflow(plan: Path | None) -> None:
    """Ask the workflow to start nothing more and its steps to stop in good order; return when all have ended."""
    seen: set[psutil.Process] = set()
    while True:
        new = {*_family(), *at_work(plan)} - seen
        for process in new:  # Snakemake or a step; a kernel is asked by its step, a shell ends with it
            with contextlib.suppress(psutil.Error):
                if {"snakemake", "reproduction.cli"} & set(process.cmdline()):
                    waits = "--executor" in process.cmdline()  # for jobs on a cluster; an interrupt cancels them
                    process.send_signal(signal.SIGINT if waits else signal.SIGTERM)
        seen |= new
        _, alive = psutil.wait_procs(list(seen), timeout=0.5)
        if not alive and not _family():
            return


def at_work(plan: Path | None) -> list[psutil.Process]:
    """The steps of a plan and what they started, on this machine, also where the workflow that did so was killed."""
    found = []
    for process in psutil.process_iter() if plan and plan.is_file() else ():
        with contextlib.suppress(psutil.Error):  # ended by now, or another user's
            found += [process] if process.environ().get(PLAN) == str(plan) else []
    return found


def _family() -> list[psutil.Process]:
    """All processes that this one started, and theirs."""
    return psutil.Process().children(recursive=True)
