"""A results folder as the report reads it: of one profile and data source, as its claims.csv says."""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reid_core import files
from reproduction import results_folder, sidecar
from reproduction.runner import profiles

FACTS = ("data_source", "profile", "ap", "seeds")
MIME = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Results(results_folder.Folder):
    """A results folder with a claims.csv; `facts` are those of its claims: data_source, profile, ap, seeds."""

    claims: pd.DataFrame
    facts: dict[str, str]

    embedded = property(lambda self: self.data_source == "embedded")
    shown = property(lambda self: results_folder.shown(self.path.resolve(), sidecar.REPOSITORY),
                     doc="As commands name it: from the repository's root where it lies below that.")  # fmt: skip

    def link(self, path: Path) -> str | None:
        """`path` relative to the page; None when it does not exist."""
        return Path(os.path.relpath(path, self.path)).as_posix() if path.exists() else None

    def table(self, name: str, columns: tuple[str, ...]) -> pd.DataFrame | None:
        """`<name>.csv`, or None when absent. Raises ValueError when it is damaged, a column is missing, or it is of
        another data source or profile."""
        path = self.path / f"{name}.csv"
        if not path.is_file():
            return None
        table = results_folder.read_csv(path, (*columns, "data_source", "profile"))
        for fact in ("data_source", "profile"):
            if others := [value for value in table[fact].unique() if value != self.facts[fact]]:
                raise ValueError(
                    f"{path}: {fact} is {others[0]!r}, but claims.csv beside it says {self.facts[fact]!r}; one report"
                    " never mixes them. Make the folder again: reid-core reproduce --profile NAME."
                )
        return table

    def image(self, stem: str, suffixes: tuple[str, ...]) -> str | None:
        """The first of `<stem><suffix>` that exists, as a data URI."""
        for suffix in suffixes:
            if (path := self.path / f"{stem}{suffix}").is_file():
                coded = base64.b64encode(path.read_bytes()).decode("ascii")
                return f"data:{MIME[suffix]};base64,{coded}"
        return None

    def command(self, name: str) -> str:
        """The command that makes an executed copy again, with what it was given on top of the profile."""
        notebook, _, run = name.partition("-")
        given = (results_folder.training(run) or {}) | self.executed.get(name, {}).get("parameters", {})
        return profiles.command(notebook, self.facts["profile"], given)

    def data(self) -> dict[str, Any] | None:
        """embedded.json of the data root that 01_datasets was given: the renderer's version, seed, sizes, digest."""
        root = self.executed.get("01_datasets", {}).get("parameters", {}).get("data_root")
        record = results_folder.embedded_record(root) if root else None
        return record and record | {"data_root": root}

    def altered(self) -> list[str]:
        """Files of the folder whose bytes are no longer those that their sidecar describes."""
        described = (item for record in self.sidecars.values() for item in record["files"].items())
        there = ((name, digest) for name, digest in described if (self.path / name).is_file())
        return [name for name, digest in there if files.digest(self.path / name) != digest]


def read(folder: Path, facts: Mapping[str, str] | None = None) -> Results:
    """Open a results folder; one without claims.csv has no claims and these `facts`.

    Raises FileNotFoundError without both, ValueError for a claims.csv that is not usable."""
    path = Path(folder) / "claims.csv"
    columns = ("claim", "section", "text", "paper", "ours", "verdict", "threshold", "confound")
    if not path.is_file() and facts:
        return Results(path.parent, facts["data_source"], pd.DataFrame(columns=[*columns, *FACTS]), dict(facts))
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file, and the report begins with its verdicts."
            " Make it first: reid-core reproduce --profile NAME, or reid-core notebook 09_claims --profile NAME."
        )
    claims = results_folder.read_csv(path, (*columns, *FACTS))
    if claims.empty:
        raise ValueError(f"{path}: holds no claim. Make it again: reid-core notebook 09_claims.")
    for fact in FACTS[:3]:
        if claims[fact].nunique() != 1:
            raise ValueError(f"{path}: {fact} has several values, {list(claims[fact].unique())}; never mix them.")
    facts = {fact: str(claims[fact].iloc[0]) for fact in FACTS}
    return Results(path.parent, facts["data_source"], claims, facts)
