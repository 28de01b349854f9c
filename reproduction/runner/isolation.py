"""The environment of a kernel: nothing of the user's own that could change a number or stop a run."""

import contextlib
import importlib.util
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reid_core import progress

# Jupyter's and IPython's own folders, start-up files, another drawing library, processes of a torchrun that is over.
DROPPED = (
    "JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "PYTHONSTARTUP", "PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONWARNINGS",
    "MPLBACKEND", "WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
SLEEPING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}


def open_streams() -> None:
    """Give this process and what it starts the standard streams that it was started without: the next file that is
    opened, a lock or a table, would get their numbers. And say in codes what stdout has no letters for."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            os.set_inheritable(handle := os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(handle, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):  # not so in a notebook
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def kernel_environment() -> Iterator[None]:
    """This process's environment as a kernel started meanwhile shall have it; afterwards what it was.

    The kernel is this environment's, reads nothing of the home folder, draws into the notebook with Matplotlib's own
    defaults, and shows progress once a minute unless stderr is a terminal. Its threads sleep while they wait, unless
    the user says otherwise: spinning, they take the cores from those they wait for."""
    from unittest import mock  # slow to load

    with tempfile.TemporaryDirectory(prefix="reid-core-") as folder:
        own = dict.fromkeys(("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"), folder)
        drawing = Path(importlib.util.find_spec("matplotlib").origin).parent  # found without loading it
        own |= {"JUPYTER_PREFER_ENV_PATH": "1", "MATPLOTLIBRC": str(drawing / "mpl-data" / "matplotlibrc")}
        if not sys.stderr.isatty():
            own |= dict.fromkeys(("TQDM_MININTERVAL", "TQDM_DELAY"), str(progress.EVERY))
        own |= {name: how for name, how in SLEEPING.items() if name not in os.environ}
        with mock.patch.dict(os.environ, own):
            for name in DROPPED:
                os.environ.pop(name, None)
            yield
