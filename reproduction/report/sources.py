"""What a results folder holds, read once for the report: tables, sidecars, figures, runs, executed notebooks."""

import base64
import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reid_core import files
from reproduction import experiment, sidecar
from reproduction.runner import notebooks, profiles

FACTS = ("data_source", "profile", "ap", "seeds")
MIME = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Results:
    """A results folder with a claims.csv; `facts` are those of its claims: data_source, profile, ap, seeds."""

    folder: Path
    claims: pd.DataFrame
    facts: dict[str, str]

    @property
    def embedded(self) -> bool:
        return self.facts["data_source"] == "embedded"

    @property
    def people_folder(self) -> Path:
        """Where figures of people and executed notebooks lie: apart from the results on official data."""
        return experiment.shows_people(self.folder, self.facts)

    @property
    def shown(self) -> str:
        """The folder as commands name it: from the repository's root where it lies below that."""
        folder = self.folder.resolve()
        inside = folder.is_relative_to(sidecar.REPOSITORY)
        return (folder.relative_to(sidecar.REPOSITORY) if inside else folder).as_posix()

    def link(self, path: Path) -> str | None:
        """`path` relative to the page; None when it does not exist."""
        return Path(os.path.relpath(path, self.folder)).as_posix() if path.exists() else None

    def table(self, name: str, columns: tuple[str, ...]) -> pd.DataFrame | None:
        """`<name>.csv`, or None when absent.

        Raises ValueError when a column is missing, or when the table is of another data source or profile.
        """
        path = self.folder / f"{name}.csv"
        if not path.is_file():
            return None
        table = _read_csv(path, (*columns, "data_source", "profile"))
        for fact in ("data_source", "profile"):
            for value in table[fact].unique():
                if value != self.facts[fact]:
                    raise ValueError(
                        f"{path}: {fact} is {value!r}, but claims.csv beside it says {self.facts[fact]!r}; one report"
                        " never mixes them. Make the folder again: reid-core reproduce --profile NAME."
                    )
        return table

    def image(self, stem: str, suffixes: tuple[str, ...]) -> tuple[Path, str] | None:
        """The first of `<stem><suffix>` that exists and it as a data URI."""
        for suffix in suffixes:
            path = self.folder / f"{stem}{suffix}"
            if path.is_file():
                coded = base64.b64encode(path.read_bytes()).decode("ascii")
                return path, f"data:{MIME[suffix]};base64,{coded}"
        return None

    @functools.cached_property
    def sidecars(self) -> dict[str, dict]:
        """{stem: record} of every JSON of provenance in the folder."""
        found = {path.stem: _read_json(path) for path in sorted(self.folder.glob("*.json"))}
        return {stem: record for stem, record in found.items() if "files" in record}

    @functools.cached_property
    def runs(self) -> dict[str, dict]:
        """{name: run.json} of every run folder, finished or not; those set aside are left out."""
        folders = sorted(self.folder.glob("runs/*/run.json"))
        return {path.parent.name: _read_json(path) for path in folders if ".aside-" not in path.parent.name}

    @functools.cached_property
    def executed(self) -> dict[str, dict]:
        """{name of the executed copy: papermill's record}, e.g. 03_table2_cuhk03 or 02_train-hcn-market1501-seed0."""
        copies = sorted((self.people_folder / "notebooks").glob("[0-9][0-9]_*.ipynb"))
        return {path.stem: _read_json(path).get("metadata", {}).get("papermill", {}) for path in copies}

    def executed_link(self, name: str) -> str | None:
        return self.link(self.people_folder / "notebooks" / f"{name}.ipynb")

    def command(self, name: str) -> str:
        """The command that makes an executed notebook again, with what it was given on top of the profile."""
        name, _, run = name.partition("-")
        given = (
            dict(zip(("model", "train_set", "seed"), run.replace("-seed", "-").split("-"), strict=True))
            if run
            else {}
        )
        given |= self.executed.get(f"{name}-{run}" if run else name, {}).get("parameters", {})
        return f"reid-core notebook {name} {profiles.arguments(self.facts['profile'], given)}"

    @functools.cached_property
    def embedded_record(self) -> dict | None:
        """embedded.json of the data root that 01_datasets was given: the renderer's version, seed, sizes, digest."""
        root = self.executed.get("01_datasets", {}).get("parameters", {}).get("data_root")
        path = experiment.resolve(root) / "embedded.json" if root else None
        return _read_json(path) | {"data_root": root} if path and path.is_file() else None

    def altered(self) -> list[str]:
        """Files of the folder whose bytes are no longer those that their sidecar describes."""
        return [
            name
            for record in self.sidecars.values()
            for name, digest in record["files"].items()
            if (self.folder / name).is_file() and files.digest(self.folder / name) != digest
        ]


def read(folder: Path) -> Results:
    """Open a results folder. Raises FileNotFoundError without claims.csv, ValueError when that is not usable."""
    folder = Path(folder)
    path = folder / "claims.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file, and the report begins with its verdicts."
            " Make it first: reid-core reproduce --profile NAME, or reid-core notebook 09_claims --profile NAME."
        )
    columns = ("claim", "section", "text", "paper", "ours", "verdict", "threshold", "confound")
    claims = _read_csv(path, (*columns, *FACTS))
    if claims.empty:
        raise ValueError(f"{path}: holds no claim. Make it again: reid-core notebook 09_claims.")
    for fact in FACTS[:3]:
        if claims[fact].nunique() != 1:
            raise ValueError(
                f"{path}: {fact} has several values, {list(claims[fact].unique())}; never mix them."
            )
    return Results(folder, claims, {fact: str(claims[fact].iloc[0]) for fact in FACTS})


def notebook_names() -> list[str]:
    """The kit's numbered notebooks."""
    return notebooks.names()


def _read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as CSV ({error}). Make it again.") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(
            f"{path}: has no column {', '.join(missing)}; it is of another version of the kit. Make it again."
        )
    return table


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error}). Make it again.") from None
