"""The environment of a kernel: nothing of the user's own that could change a number or stop a run."""

import contextlib
import importlib.util
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


@contextlib.contextmanager
def kernel_environment() -> Iterator[None]:
    """This process's environment as a kernel started meanwhile shall have it; afterwards what it was.

    The kernel is this environment's, reads no configuration or start-up file of the home folder, draws into the
    notebook with Matplotlib's own defaults, and shows progress once a minute unless stderr is a terminal. Its threads
    sleep while they wait for each other, unless the user says otherwise: spinning, they take the cores from those they
    wait for."""
    with tempfile.TemporaryDirectory(prefix="reid-core-") as folder:
        own = dict.fromkeys(("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"), folder)
        drawing = Path(importlib.util.find_spec("matplotlib").origin).parent  # found without loading it
        own |= {"JUPYTER_PREFER_ENV_PATH": "1", "MATPLOTLIBRC": str(drawing / "mpl-data" / "matplotlibrc")}
        if not sys.stderr.isatty():
            own |= dict.fromkeys(("TQDM_MININTERVAL", "TQDM_DELAY"), str(progress.EVERY))
        own |= {name: how for name, how in SLEEPING.items() if name not in os.environ}
        before = dict(os.environ)
        for name in DROPPED:
            os.environ.pop(name, None)
        os.environ.update(own)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
