"""A results folder: which notebook leaves which files in it, where the report shows each, and how all of it is read.

A new result is one entry of results_folder.yaml and the cell of its notebook that saves it. The workflow, the report,
`explain`, the claims and the pages for readers follow from that: its files, its sidecar, the notebook and the command
that makes it. What is damaged raises a ValueError that names the file.
"""

import csv
import functools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from reproduction import experiment

REPORT, EXPLORER = "report.html", "explorer.html"
TABLE = (".csv",)
RUN_FILES = ("run.json", "weights.safetensors", "loss.csv", "timing.csv", "labels.csv")  # of a finished training


@dataclass(frozen=True)
class Made:
    """A result of a notebook, as results_folder.yaml has it: the files `<stem><suffix>`, and their sidecar."""

    notebook: str
    stem: str
    section: str
    suffixes: tuple[str, ...] = TABLE
    people: bool = False
    always: bool = True

    def files(self, results: Path, private: Path) -> list[Path]:
        """Every file of it, the sidecar last; `private` is the folder for what shows people."""
        folder = private if self.people else results
        return [folder / f"{self.stem}{suffix}" for suffix in (*self.suffixes, ".json")]


_LISTED = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
MADE = tuple(Made(notebook, **one | {"suffixes": tuple(one.get("suffixes", TABLE))})
             for notebook, made in _LISTED["made"].items() for one in made)  # fmt: skip
NEEDED = {notebook: tuple(stems) for notebook, stems in _LISTED["needed"].items()}  # tables that are read


def of(stem: str) -> Made:
    """The result of that stem; of a table and pictures of people with one stem, the table."""
    return next(one for one in MADE if one.stem == stem)


def section(name: str) -> tuple[Made, ...]:
    """The results that one part of the report shows or links to."""
    return tuple(one for one in MADE if one.section == name)


def made(notebook: str | None = None) -> tuple[Made, ...]:
    """The results of one notebook, or of all."""
    return tuple(one for one in MADE if notebook in (None, one.notebook))


def files(notebook: str, results: Path, private: Path) -> list[Path]:
    """Every file that a notebook leaves in a results folder whenever it runs, sidecars too, each once.

    `private` is where figures of people go: `results` itself for embedded data. The folders of runs and features, and
    the executed copy, are not among them.

    >>> [path.name for path in files("08_figure5_rank_lists", Path("r"), Path("r"))]
    ['figure5.csv', 'figure5.json', 'figure5.png', 'figure5.svg']
    """
    found = (path for one in made(notebook) if one.always for path in one.files(results, private))
    return list(dict.fromkeys(found))


# What every sidecar holds, what those of tables and figures hold besides, and the run.json of a finished training.
SIDECAR = {"files": dict, "created": str, "device": str, "versions": dict}
FACTS = {"data_source": str, "profile": str, "ap": str}
RUN = {"model": str, "recipe": dict, "seed": int, "seconds": (int, float), "device": str, "images": int,
       "num_classes": int, "data_digest": str, "weights_digest": str}  # fmt: skip


def read_csv(path: Path, columns: Iterable[str] = (), *, as_text: bool = False) -> pd.DataFrame:
    """A table of the kit; `as_text`: every cell as it stands in the file, an empty one "".
    Raises FileNotFoundError, or ValueError for what is no whole table or lacks one of `columns`."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            widths = {len(row) for row in csv.reader(file, strict=True) if row}
        table = pd.read_csv(path, dtype=str, keep_default_na=False) if as_text else pd.read_csv(path)
    except (ValueError, csv.Error) as error:  # not UTF-8, empty, or a quotation that does not end
        raise ValueError(f"{path}: not readable as CSV ({error}). Make it again.") from None
    if len(widths) > 1:  # which pandas would fill up in silence
        raise ValueError(f"{path}: not readable as CSV (a row is cut short or too long). Make it again.")
    if missing := [column for column in columns if column not in table]:
        why = f"has no column {', '.join(missing)}; it is of another version of the kit"
        raise ValueError(f"{path}: {why}. Make it again.")
    return table


def read_json(path: Path, holds: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A JSON object; `holds` are keys that it must have and the types of their values.
    Raises FileNotFoundError, or ValueError for what is no such object or is half-written."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not readable as JSON ({error}). Make it again.") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path}: holds no JSON object. Make it again.")
    if lacking := [key for key, kind in (holds or {}).items() if not isinstance(record.get(key), kind)]:
        why = f"says nothing usable under {', '.join(lacking)}; it is half-written or of another version of the kit"
        raise ValueError(f"{path}: {why}. Make it again.")
    return record


@dataclass(frozen=True)
class Folder:
    """A profile's results folder: sidecars, runs, executed notebooks, and the commands that make them again."""

    path: Path
    data_source: str

    @classmethod
    def around(cls, result: Path, data_source: str) -> "Folder":
        """The folder that a result belongs to; a figure of people lies in private/<profile>/ beside it.

        Figure 4 is of no data; its notebook's executed copy tells on which side the folder's others are."""
        inside = result.parent.parent.name == "private"
        folder = result.parent.parent.parent / result.parent.name if inside else result.parent
        sides = [cls(folder, source) for source in ("embedded", "official")]
        known = [side for side in sides if side.data_source == data_source]
        return next((side for side in known or sides if known or side.executed), sides[0])

    private = property(lambda self: experiment.shows_people(self.path, {"data_source": self.data_source}),
                       doc="Where figures of people and executed notebooks lie: official data's apart.")  # fmt: skip

    @functools.cached_property
    def sidecars(self) -> dict[str, dict[str, Any]]:
        """{stem: record} of every sidecar of provenance in the folder."""
        found = {path.stem: read_json(path) for path in sorted(self.path.glob("*.json"))}
        return {stem: read_json(self.path / f"{stem}.json", SIDECAR) for stem in found if "files" in found[stem]}

    @functools.cached_property
    def runs(self) -> dict[str, dict[str, Any]]:
        """{name: run.json} of every training of the paper, finished or not; those set aside are left out."""
        names = (path.parent.name for path in sorted(self.path.glob("runs/*/run.json")))
        return {name: self.run(name) for name in names if ".aside-" not in name}

    def run(self, name: str) -> dict[str, Any] | None:
        """run.json of one training; None where the folder or the file is gone."""
        path = self.path / "runs" / name / "run.json"
        return read_json(path, RUN if read_json(path).get("finished") else None) if path.is_file() else None

    def copy(self, name: str) -> Path:
        """Path of a notebook's executed copy, e.g. 03_table2_cuhk03 or 02_train-hcn-market1501-seed0."""
        return self.private / "notebooks" / f"{name}.ipynb"

    @functools.cached_property
    def executed(self) -> dict[str, dict[str, Any]]:
        """{name of an executed copy: papermill's record of it}."""
        copies = sorted(self.copy("x").parent.glob("[0-9][0-9]_*.ipynb"))
        records = {path.stem: read_json(path, {"metadata": dict})["metadata"] for path in copies}
        return {name: record.get("papermill") or {} for name, record in records.items()}


def seeds_behind(row: Mapping[str, str], seeds: pd.DataFrame) -> pd.DataFrame:
    """The lines of <stem>_seeds.csv that a row of <stem>.csv is the mean of; both read as text."""
    for column in ("set", "method", "model", "metric", "reranked"):
        if column in row and column in seeds:
            seeds = seeds[seeds[column].isin((row[column], ""))]
    return seeds


def training(run: str) -> dict[str, Any] | None:
    """What notebook 02 is given for a run of this name; None for one that another notebook trains.

    >>> training("hcn-my-shop.csv-seed2"), training("gated-market1501-seed0")
    ({'model': 'hcn', 'train_set': 'my-shop.csv', 'seed': 2}, None)
    """
    model, _, rest = run.partition("-")
    train_set, _, seed = rest.rpartition("-seed")
    return {"model": model, "train_set": train_set, "seed": int(seed)} if model in experiment.MODELS and seed else None


def embedded_record(data_root: str | os.PathLike) -> dict[str, Any] | None:
    """embedded.json of a data folder: the renderer's version, seed, sizes, digest; None where it is not there."""
    path = experiment.resolve(data_root) / "embedded.json"
    return read_json(path, {"digest": str}) if path.is_file() else None


_ABOUT = ("about", "people", "seeds", "recipe")  # what a backbone of `weights: embedded` says of itself


def initial_weights(run: Mapping[str, Any]) -> str:
    """What the weights of a training were at its start, known by their digest and not by where they lay."""
    name, digest = run["recipe"].get("weights", "random"), run.get("initial_weights_digest")
    known = {key: json.loads(value) for key, value in (run.get("initial_weights_about") or {}).items() if key in _ABOUT}
    about = "; {about}: {people:,} people, render seeds {seeds}, {recipe[iterations]:,} iterations"
    said = about.format(**known) if len(known) == len(_ABOUT) else ""  # a file of somebody else's says other things
    return str(name) if name == "random" else f"{name}, digest {digest[:12] if digest else 'not recorded'}{said}"


def shown(path: Path, start: Path | None = None) -> str:
    """A path relative to `start`, the repository or else the working folder, where it lies below that."""
    path, start = path.absolute(), start or Path.cwd()
    return (path.relative_to(start) if path.is_relative_to(start) else path).as_posix()
