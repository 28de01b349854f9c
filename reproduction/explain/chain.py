"""What stands behind a row of a result: trainings, feature files, seeds, published methods, data, commands."""

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError, safe_open

from reid_core import files
from reproduction import experiment, tables
from reproduction.runner import profiles

JOINED = (
    "set",
    "method",
    "model",
    "metric",
    "reranked",
)  # what a mean over seeds and its parts have in common
OWN = (
    "files",
    "data_source",
    "profile",
    "seeds",
    "ap",
    "runs",
    "notebook",
    "created",
    "commit",
    "device",
    "versions",
)


@dataclass(frozen=True)
class Result:
    """A file that the kit wrote: its path, its sidecar's record and, of a CSV, its rows as text (else None)."""

    path: Path
    record: dict[str, Any]
    table: pd.DataFrame | None

    @property
    def shown(self) -> str:
        """The path as a reader of this folder writes it."""
        return shown(self.path)

    @property
    def unchanged(self) -> bool:
        """Whether the file's bytes are those that its sidecar describes."""
        return files.digest(self.path) == self.record["files"][self.path.name]

    @property
    def results(self) -> Path:
        """The results folder; a figure of people lies in private/<profile>/ beside it."""
        folder = self.path.parent
        return folder.parent.parent / folder.name if folder.parent.name == "private" else folder

    @functools.cached_property
    def notebook(self) -> str | None:
        return (self.record.get("notebook") or {}).get("name")

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """What `reid-core` gave the notebook; empty where it was run otherwise."""
        return (self.record.get("notebook") or {}).get("parameters") or {}

    @property
    def settings(self) -> dict[str, Any]:
        """What the sidecar says beyond the facts that every one has: matching, smoothing and the like."""
        return {key: value for key, value in self.record.items() if key not in OWN}

    @property
    def copy(self) -> tuple[Path, bool | None]:
        """Path of the notebook's executed copy, and whether the file was written during that execution (None: no copy).

        The two differ when the notebook was run again elsewhere, for instance in JupyterLab.
        """
        sources = ("embedded", "official")  # Figure 4 is of neither, its notebook of either
        folders = [experiment.shows_people(self.results, {"data_source": source}) for source in sources]
        paths = [folder / "notebooks" / f"{self.notebook}.ipynb" for folder in folders]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            return paths[0], None
        about = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("papermill", {})
        times = [about.get(key) or "" for key in ("start_time", "end_time")]
        return path, times[0][:19] <= self.record["created"][:19] <= times[1][:19]


def read(path: str | os.PathLike) -> Result:
    """A result file with its sidecar; a path that does not exist from here is looked for from the repository's root.

    Raises FileNotFoundError for no such file (naming those beside it) or a file without a sidecar, ValueError for a
    broken one.
    """
    path = Path(path)
    path = path if path.exists() else experiment.resolve(path)
    if not path.is_file():
        there = sorted(file.name for file in path.parent.glob("*.csv"))
        raise FileNotFoundError(
            f"{path}: there is no such file." + (f" There are: {', '.join(there)}." if there else
            " Results are made by: reid-core reproduce --profile NAME.")
        )  # fmt: skip
    sidecar = path.with_suffix(".json")
    if path == sidecar:
        raise ValueError(f"{path} is itself a sidecar; give the table or figure that it describes.")
    if not sidecar.is_file():
        raise FileNotFoundError(
            f"{path}: there is no {sidecar.name} beside it, so nothing says how it was made."
        )
    try:
        record = json.loads(sidecar.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{sidecar}: not readable as JSON ({error}).") from None
    if path.name not in record.get("files", {}):
        raise ValueError(f"{sidecar} does not describe {path.name}.")
    csv = path.suffix == ".csv"
    return Result(path, record, pd.read_csv(path, dtype=str, keep_default_na=False) if csv else None)


def shown(path: Path) -> str:
    """A path relative to the working folder where it lies below it."""
    path, here = path.absolute(), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def runs(result: Result, row: dict[str, str]) -> list[str]:
    """Names of the runs behind a row, or of all runs behind the file for a row (or figure) that names none."""
    if named := row.get("runs") or row.get("run"):
        return named.split()
    if row.get("model") == "literature" or "run" in row:
        return []  # a published method, or a network before training
    train_set = row.get("train_set") or row.get("set")
    if row.get("model") and train_set and row.get("seed"):
        name = experiment.run_name(row["model"], train_set, int(row["seed"]))
        if (result.results / "runs" / name).is_dir():
            return [name]
    return list(result.record.get("runs", []))


def features(result: Result, row: dict[str, str], run: str) -> list[Path]:
    """Feature files of a run that a row was scored from; none for a result without retrieval (ap: none), nor for a
    published method, which keeps none.

    The set is the row's, else the one that the notebook was given; a row of neither takes all of the run's files.
    """
    if result.record.get("ap") == "none" or row.get("model") == "literature":
        return []
    name = (
        row.get("set")
        or row.get("test_set")
        or result.record.get("set")
        or result.parameters.get("rank_list_set")
    )
    folder = result.results / "features" / run
    if not name:
        return sorted(folder.glob("*.safetensors"))
    return sorted({folder / f"{name}.safetensors", *folder.glob(f"{name}[-.]*.safetensors")})


def run_record(result: Result, run: str) -> dict[str, Any] | None:
    """run.json of a run of the results folder; None where the folder or the file is gone."""
    path = result.results / "runs" / run / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def weights_agree(result: Result, run: str, record: dict[str, Any]) -> bool | None:
    """Whether the weights file is the one that run.json describes; None where it is gone."""
    path = result.results / "runs" / run / "weights.safetensors"
    return files.digest(path) == record.get("weights_digest") if path.is_file() else None


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
    if not path.is_file():
        return None
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column in JOINED:
        if column in row and column in table:
            table = table[(table[column] == row[column]) | (table[column] == "")]
    return path, table


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

    entries = result.parameters.get("literature", [])
    entry = next((e for e in entries if e == row["method"] or row["method"] in (e if isinstance(e, dict) else ())),
                 row["method"])  # fmt: skip
    if row["method"] not in literature.METHODS:
        return None
    method = literature.chosen(entry)
    default = literature.METHODS[method.name].settings
    settings = {name: value for name, value in method.settings.items() if value != default[name]}
    function = f"{method.function.__module__}.{method.function.__name__}"
    return {"function": function, "settings": settings, "lomo": "retinex" in default}


def lomo_files(result: Result, row: dict[str, str], retinex: bool) -> list[tuple[str, Path, bool]]:
    """(subset, cache file, whether it is there) of a set's LOMO features; empty where the data is gone."""
    from reid_core.matching import split
    from reproduction import cached

    if "data_root" not in result.parameters:
        return []
    kit = experiment.Experiment.of(result.parameters)
    if row["set"] in kit.not_run:
        return []
    parts = split(kit.images(row["set"]))._asdict()
    paths = {subset: cached.lomo_path(part, retinex=retinex) for subset, part in parts.items()}
    return [(subset, path, path.is_file()) for subset, path in paths.items()]


def data(result: Result) -> dict[str, Any] | None:
    """The data folder that the notebook was given and, of embedded data, what its embedded.json says."""
    if not (root := result.parameters.get("data_root")):
        return None
    path = experiment.resolve(root) / "embedded.json"
    about = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {"root": root} | about


def commands(result: Result, run_names: list[str]) -> list[tuple[str, str]]:
    """(command, what it makes) for the file, for all that depends on it, and for each training."""
    if result.notebook is None:
        return []
    profile = result.record["profile"]
    one = profiles.arguments(profile, result.parameters)
    whole = profiles.arguments(profile, result.parameters, run=False)
    made = [
        (f"reid-core notebook {result.notebook} {one}", "this file, from the trainings that are there"),
        (
            f"reid-core reproduce {whole} --force {result.notebook}",
            "the same, what it needs, and what depends on it",
        ),
    ]
    places = {key: value for key, value in result.parameters.items() if key in ("data_root", "results_root")}
    for run in run_names:
        model, _, rest = run.partition("-")
        train_set, _, seed = rest.rpartition("-")
        if model not in experiment.MODELS:
            continue  # trained by 10_sensitivity or the notebook of its table
        given = places | {"model": model, "train_set": train_set, "seed": int(seed.removeprefix("seed"))}
        made.append(
            (f"reid-core notebook 02_train {profiles.arguments(profile, given)}", f"the training {run}")
        )
    return made
