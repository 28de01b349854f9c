"""Where a result came from: commit, versions, device, data, settings, inputs - a JSON sidecar beside each file."""

import datetime
import json
import os
from pathlib import Path

from reid_core import files, machine

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOK = "REID_CORE_NOTEBOOK"  # set for a notebook's kernel by `reproduction.runner.notebooks.run`


def notebook() -> dict | None:
    """The notebook at work in this process: {"name": str, "parameters": dict or None}; None outside of notebooks.

    `parameters` are those that `reid-core` gave it. In JupyterLab nothing is given, the cells hold what was used.
    """
    if given := os.environ.get(NOTEBOOK):
        return json.loads(given)
    session = os.environ.get("JPY_SESSION_NAME")  # set by Jupyter's server: the notebook's path
    return {"name": Path(session).stem, "parameters": None} if session else None


def write_sidecar(result: str | os.PathLike, **facts) -> Path:
    """Write `<stem>.json` beside a result file: `facts`, the file's digest, notebook, commit, versions, device, time.

    `result` is one file (table2.csv) or the stem of several (figure3 for figure3.png and figure3.svg); every
    existing file `<stem>.*` beside it is listed with its digest. Facts hold at least data_source, profile, seeds
    and ap, and the run folders the result was made from.
    """
    result = Path(result)
    sidecar = result.with_suffix(".json")
    made = sorted(path for path in result.parent.glob(f"{result.stem}.*") if path != sidecar)
    if not made:
        raise FileNotFoundError(f"{result}: there is no such result to describe.")
    record = {
        "files": {path.name: files.digest(path) for path in made},
        **facts,
        "notebook": notebook(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "device": machine.device_name(),
        "versions": machine.versions((*machine.PACKAGES, "matplotlib", "papermill")),
    }
    return files.write_text(sidecar, json.dumps(record, indent=2, default=str) + "\n")
