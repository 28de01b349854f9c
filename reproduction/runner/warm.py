"""Kernels that begin with PyTorch and the kit loaded: copies of one process, each spared three seconds.

Snakefile has `serve` start that process. A kernel is started as ever, but as this file, which loads nothing of the kit:
it has a copy run its command, passes signals on and ends with that, which ends where it is killed; where no copy is to
be had, it becomes its command. Without GPUs only: a copy could not use one."""

import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

FOLDER, NAME = "REID_CORE_KERNELS", "kernels"  # for steps: where the socket of this name is
DRAWING = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # as kernels have it when they load Matplotlib
LOADED = ("ipykernel.kernelapp", "ipykernel.debugger", "reproduction.scoring", "reproduction.embedded.pretraining",
          "reproduction.runner.profiles", "reproduction.plots")  # fmt: skip


def serve(**environment: str) -> None:
    """Start what is copied: it serves in this folder, for as long as this process is there."""
    from reproduction.runner import isolation

    with isolation.kernel_environment():
        own = {"env": os.environ | environment | DRAWING, "stdin": subprocess.DEVNULL, "start_new_session": True}
        how = "-Xfrozen_modules=off"  # as kernels, without which the debugger says that it may miss breakpoints
        subprocess.Popen([sys.executable, how, "-m", "reproduction.runner.warm"], **own)


def command(words: Sequence[str]) -> list[str]:
    """The command of a kernel, as a copy where a server is ready."""
    folder = os.environ.get(FOLDER)
    ready = folder and Path(folder, NAME).is_socket()
    return [words[0], "-I", "-S", __file__, folder, *words] if ready else [*words]


def _serve() -> None:
    parent = os.getppid()
    for name in LOADED:
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(NAME)
        listening.listen()
        while os.getppid() == parent:
            if select.select([listening], [], [], 0.2)[0]:
                line, _ = listening.accept()
                if not os.fork():
                    listening.close()
                    return _become(line)
                line.close()


def _become(line: socket.socket) -> None:
    os.setsid()
    line.sendall(os.getpid().to_bytes(8))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    said = line.makefile("rb")
    here, environment, words = json.loads(said.readline())
    threading.Thread(target=lambda: said.read(1) or os.killpg(0, signal.SIGKILL), daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    if (asked := environment.get("OMP_NUM_THREADS", "").partition(",")[0]).isdigit():  # read as PyTorch was loaded
        sys.modules["torch"].set_num_threads(max(1, int(asked)))
    os.chdir(here)
    sys.path[0], sys.argv = here, words[words.index("-m") + 1 :]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _stand_in(folder: str, *words: str) -> None:
    here, parent, line = os.getcwd(), os.getppid(), socket.socket(socket.AF_UNIX)
    try:
        os.chdir(folder)  # an address holds a hundred characters
        line.connect(NAME)
        line.sendall(json.dumps([here, dict(os.environ), words]).encode() + b"\n")
        copy = int.from_bytes(line.recv(8))
    except OSError:
        os.chdir(here)
        os.execv(words[0], words)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.killpg(copy, number))
    while os.getppid() == parent and not select.select([line], [], [], 1)[0]:
        pass  # nobody else would use the kernel


if __name__ == "__main__":
    _stand_in(*sys.argv[1:]) if sys.argv[1:] else _serve()
