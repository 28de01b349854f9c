"""Where a result came from: commit, versions, device, data, settings, inputs - a JSON sidecar beside each file."""

import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from reid_core import atomic

if TYPE_CHECKING:  # loaded where it is needed: most commands do without
    import torch

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOK = "REID_CORE_NOTEBOOK"  # set for a notebook's kernel by `reproduction.runner.notebooks.run`
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "matplotlib", "papermill", "pillow", "h5py")


@functools.cache
def commit() -> dict | None:
    """The checkout's commit and whether files differ from it: {"id": str, "modified": bool}; None outside git."""
    try:
        run = functools.partial(
            subprocess.run, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
        )
        head = run(["git", "rev-parse", "HEAD"]).stdout.strip()
        changes = run(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return {"id": head, "modified": bool(changes)}


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        found[package] = importlib.metadata.version(package)
    return found


@functools.cache
def device_name(device: "str | torch.device | None" = None) -> str:
    """The GPU's name, or the processor's with its number of usable cores.

    `device`: where the work ran, such as "cpu" or "cuda:1"; None: a GPU where there is one.
    """
    import torch

    if torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")).type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    with_model = Path("/proc/cpuinfo")
    if with_model.exists():
        lines = with_model.read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    return f"{model} ({len(os.sched_getaffinity(0))} cores)"


def notebook() -> dict | None:
    """The notebook at work in this process: {"name": str, "parameters": dict or None}; None outside of notebooks.

    `parameters` are those that `reid-core` gave it. In JupyterLab nothing is given, the cells hold what was used.
    """
    if given := os.environ.get(NOTEBOOK):
        return json.loads(given)
    session = os.environ.get("JPY_SESSION_NAME")  # set by Jupyter's server: the notebook's path
    return {"name": Path(session).stem, "parameters": None} if session else None


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sidecar(result: str | os.PathLike, **facts) -> Path:
    """Write `<stem>.json` beside a result file: `facts`, the file's digest, notebook, commit, versions, device, time.

    `result` is one file (table2.csv) or the stem of several (figure3 for figure3.png and figure3.svg); every
    existing file `<stem>.*` beside it is listed with its digest. Facts hold at least data_source, profile, seeds
    and ap, and the run folders the result was made from.
    """
    result = Path(result)
    sidecar = result.with_suffix(".json")
    files = sorted(path for path in result.parent.glob(f"{result.stem}.*") if path != sidecar)
    if not files:
        raise FileNotFoundError(f"{result}: there is no such result to describe.")
    record = {
        "files": {path.name: digest(path) for path in files},
        **facts,
        "notebook": notebook(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "device": device_name(),
        "versions": versions(),
    }
    return atomic.write_text(sidecar, json.dumps(record, indent=2, default=str) + "\n")
