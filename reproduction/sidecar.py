"""Where a result came from: commit, versions, device, data, settings, inputs - a JSON sidecar beside each file."""

import contextlib
import datetime
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reid_core.files import digest, write_text
from reid_core.machine import PACKAGES, commit, device_name, versions

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOK = "REID_CORE_NOTEBOOK"  # set for a notebook's kernel


@contextlib.contextmanager
def made_from(origin: Mapping[str, Any]) -> Iterator[None]:
    """Have the sidecars that are written meanwhile, by this process or one that it starts, tell of an origin.

    `origin` is what `reproduction.runner.staleness` compares; the digest of its code stands for that of each source."""
    os.environ[NOTEBOOK] = json.dumps({key: value for key, value in origin.items() if key != "sources"})
    try:
        yield
    finally:
        os.environ.pop(NOTEBOOK, None)


def notebook() -> dict | None:
    """The notebook at work in this process: {"name", "parameters", "code", "inputs"}; None outside of notebooks.

    `parameters` are those that `reid-core` gave it, `code` and `inputs` digests of what it was made from. In JupyterLab
    nothing is given, the cells hold what was used: {"name": str, "parameters": None}."""
    if given := os.environ.get(NOTEBOOK):
        return json.loads(given)
    session = os.environ.get("JPY_SESSION_NAME")  # set by Jupyter's server: the notebook's path
    return {"name": Path(session).stem, "parameters": None} if session else None


def write_sidecar(result: str | os.PathLike, **facts) -> Path:
    """Write `<stem>.json` beside a result file: `facts`, the file's digest, notebook, commit, versions, device, time.

    `result` is one file (table2.csv) or the stem of several (figure3 for figure3.png and figure3.svg); every
    existing file `<stem>.*` beside it is listed with its digest. Facts hold at least data_source, profile, seeds
    and ap, and the run folders the result was made from."""
    sidecar = Path(result).with_suffix(".json")
    if not (made := sorted(path for path in sidecar.parent.glob(f"{sidecar.stem}.*") if path != sidecar)):
        raise FileNotFoundError(f"{result}: there is no such result to describe.")
    record = {
        "files": {path.name: digest(path) for path in made}, **facts, "notebook": notebook(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "commit": commit(),
        "device": device_name(), "versions": versions((*PACKAGES, "matplotlib", "papermill")),
    }  # fmt: skip
    return write_text(sidecar, json.dumps(record, indent=2, default=str) + "\n")
