"""What stands behind a row of a result: trainings, feature files, seeds, published methods, data, commands."""

import functools
import glob
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError, safe_open

from reid_core import files
from reproduction import experiment, results_folder, tables
from reproduction.results_folder import Folder, shown

OWN = {*results_folder.SIDECAR, *results_folder.FACTS, "seeds", "runs", "notebook", "commit"}


@dataclass(frozen=True)
class Result:
    """A file that the kit wrote: its path, its sidecar's record and, of a CSV, its rows as text (else None)."""

    path: Path
    record: dict[str, Any]
    table: pd.DataFrame | None

    shown = property(lambda self: shown(self.path), doc="The path as a reader of this folder writes it.")
    unchanged = property(lambda self: files.digest(self.path) == self.record["files"][self.path.name],
                         doc="Whether the file's bytes are those that its sidecar describes.")  # fmt: skip

    @functools.cached_property
    def folder(self) -> Folder:
        """The results folder that it belongs to."""
        return Folder.around(self.path, self.record.get("data_source", ""))

    notebook = property(lambda self: (self.record.get("notebook") or {}).get("name"))
    parameters = property(lambda self: (self.record.get("notebook") or {}).get("parameters") or {},
                          doc="What `reid-core` gave the notebook; empty where it was run otherwise.")  # fmt: skip

    settings = property(lambda self: {key: value for key, value in self.record.items() if key not in OWN},
                        doc="What only this sidecar says: matching, smoothing and the like.")  # fmt: skip

    @property
    def of_its_copy(self) -> bool | None:
        """Whether the file was written while the notebook's executed copy was; None where there is no copy.

        The two differ when the notebook was run again elsewhere, for instance in JupyterLab."""
        about = self.folder.executed.get(self.notebook or "")
        if about is None:
            return None
        start, end = (str(about.get(key) or "")[:19] for key in ("start_time", "end_time"))
        return start <= self.record["created"][:19] <= end


def read(path: str | os.PathLike) -> Result:
    """A result file with its sidecar; a path that does not exist from here is looked for from the repository's root.
    Raises FileNotFoundError for no such file (naming those beside it) or a file without a sidecar, ValueError for a
    damaged one."""
    path = Path(path)
    path = path if path.exists() else experiment.resolve(path)
    if not path.is_file():
        there = ", ".join(sorted(file.name for file in path.parent.glob("*.csv")))
        hint = f"There are: {there}" if there else "Results are made by: reid-core reproduce --profile NAME"
        raise FileNotFoundError(f"{path}: there is no such file. {hint}.")
    if path == (sidecar := path.with_suffix(".json")):
        raise ValueError(f"{path} is itself a sidecar; give the table or figure that it describes.")
    if not sidecar.is_file():
        raise FileNotFoundError(f"{path}: there is no {sidecar.name} beside it, so nothing says how it was made.")
    if path.name not in results_folder.read_json(sidecar).get("files", {}):
        raise ValueError(f"{sidecar} does not describe {path.name}.")
    record = results_folder.read_json(sidecar, results_folder.SIDECAR | results_folder.FACTS)
    csv = path.suffix == ".csv"
    return Result(path, record, results_folder.read_csv(path, as_text=True) if csv else None)


def runs(result: Result, row: dict[str, str]) -> list[str]:
    """Names of the runs behind a row, or of all runs behind the file for a row (or figure) that names none."""
    if run := row.get("run"):
        return [run]  # a run on own data may have blanks in its name
    if named := row.get("runs"):
        return named.split()
    if row.get("model") == "literature" or "run" in row:
        return []  # a published method, or a network before training
    train_set, model = row.get("train_set") or row.get("set"), row.get("model") or result.record.get("model")
    if model and train_set and row.get("seed"):
        name = experiment.run_name(model, train_set, int(row["seed"]))
        if (result.folder.path / "runs" / name).is_dir():
            return [name]
    return list(result.record.get("runs", []))


def features(result: Result, row: dict[str, str], run: str) -> list[Path]:
    """Feature files of a run that a row was scored from; none for a result without retrieval (ap: none), nor for a
    published method, which keeps none.

    The set is the row's, else the one that the notebook was given; a row of neither takes all of the run's files."""
    if result.record.get("ap") == "none" or row.get("model") == "literature":
        return []
    given = (result.record.get("set"), result.parameters.get("rank_list_set"))
    name = next(filter(None, (row.get("set"), row.get("test_set"), *given)), None)
    folder = result.folder.path / "features" / run
    if not name:
        return sorted(folder.glob("*.safetensors"))
    return sorted({folder / f"{name}.safetensors", *folder.glob(f"{glob.escape(name)}[-.]*.safetensors")})


def weights_agree(result: Result, run: str, record: dict[str, Any]) -> bool | None:
    """Whether the weights file is the one that run.json describes; None where it is gone."""
    path = result.folder.path / "runs" / run / "weights.safetensors"
    return files.digest(path) == record["weights_digest"] if path.is_file() else None


def feature_meta(path: Path) -> dict[str, Any] | None:
    """What a feature file says made it, and its number of rows; None for no such file or a damaged one."""
    try:
        with safe_open(path, "numpy") as file:
            rows, _ = file.get_slice("values").get_shape()
            return json.loads(file.metadata()["meta"]) | {"rows": rows}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def seeds_behind(result: Result, row: dict[str, str]) -> tuple[Path, pd.DataFrame] | None:
    """The per-seed rows that a row is the mean of, from <stem>_seeds.csv; None where there is no such file."""
    path = result.path.with_name(f"{result.path.stem}_seeds.csv")
    there = path.is_file()
    return (path, results_folder.seeds_behind(row, results_folder.read_csv(path, as_text=True))) if there else None


def mean_agrees(row: dict[str, str], seeds: pd.DataFrame) -> dict[str, tuple[float, bool]]:
    """{score: (mean over seeds in per cent, whether the row's figure is that)} for the scores that the row has."""
    means = {score: 100 * seeds[score].astype(float).mean() for score in tables.SCORES
             if row.get(f"ours_{score}") and score in seeds}  # fmt: skip
    return {score: (mean, abs(mean - float(row[f"ours_{score}"])) < 0.006) for score, mean in means.items()}


def literature(result: Result, row: dict[str, str]) -> dict[str, Any] | None:
    """The function of a published method, the settings it was given, its cache; None for any other row."""
    if row.get("model") != "literature" or not row.get("method"):
        return None
    from reproduction import literature

    if (known := literature.METHODS.get(row["method"])) is None:
        return None
    given = result.parameters.get("literature", [])
    entry = next((one for one in given if known.name in ((one,) if isinstance(one, str) else one)), known.name)
    used = literature.chosen(entry).settings
    settings = {name: value for name, value in used.items() if value != known.settings[name]}
    function = f"{known.function.__module__}.{known.function.__name__}"
    return {"function": function, "settings": settings, "lomo": "retinex" in known.settings}


def lomo_files(result: Result, row: dict[str, str], retinex: bool) -> list[tuple[str, Path, bool]]:
    """(subset, cache file, whether it is there) of a set's LOMO features; empty where the data is gone."""
    from reid_core.matching import split
    from reproduction import cached

    if "data_root" not in result.parameters:
        return []
    kit = experiment.Experiment.of(result.parameters)
    if row["set"] in kit.not_run:
        return []
    parts = split(kit.images(row["set"]))._asdict().items()
    paths = ((subset, cached.lomo_path(part, retinex=retinex)) for subset, part in parts)
    return [(subset, path, path.is_file()) for subset, path in paths]


def commands(result: Result, run_names: list[str]) -> list[tuple[str, str]]:
    """(command, what it makes) for the file, for all that depends on it, and for each training."""
    if result.notebook is None:
        return []
    from reproduction.runner import profiles

    profile, given = result.record["profile"], result.parameters
    whole = profiles.arguments(profile, given, run=False)
    made = [
        (profiles.command(result.notebook, profile, given), "this file, from the trainings that are there"),
        (f"reid-core reproduce {whole} --force {result.notebook}", "the same, what it needs, and what depends on it"),
    ]  # fmt: skip
    places = {key: value for key, value in given.items() if key in ("data_root", "results_root")}
    for run in run_names:
        if trained := results_folder.training(run):  # else by 10_sensitivity or the notebook of its table
            made.append((profiles.command("02_train", profile, places | trained), f"the training {run}"))
    return made
