"""Two sets of results, cell by cell: equal, within the intervals, or not.

Two machines with one seed train to numbers that differ by several points, so the measurements of rows that train (those
that name runs) have to lie in each other's intervals alone; all else is equal to the digit. Left out are times, which
measure the machine, and tables without intervals of what was trained.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from reproduction import results_folder
from reproduction.intake import archives

EQUAL, WITHIN, DIFFERS = "equal", "within the intervals", "differs"
TABLES = ("table1", "table1_subsets", "table2", "table3", "figure4", "near_duplicate_counts")
KEYS = (
    "table",
    "set",
    "name",
    "dataset",
    "list",
    "train_set",
    "test_set",
    "subset",
    "method",
    "model",
    "metric",
    "reranked",
)
_MAX_BYTES = 64 * 2**20
_MACHINE = ("seconds", "profile")  # begin columns that no number depends on


class CannotCompare(ValueError):
    """The two have nothing that could be compared."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table in both: `row` is its key in words."""

    table: str
    row: str
    column: str
    first: str
    second: str
    verdict: str

    def __str__(self) -> str:
        return f"{self.table}: {self.row}: {self.column}: {self.first or '-'} | {self.second or '-'}: {self.verdict}"


def compare(first: Path, second: Path) -> list[Cell]:
    """Every cell of the tables that two results folders or bundles both have.

    Raises CannotCompare where no table is in both, one is damaged, or they are of different data; FileNotFoundError
    where there is no such folder or file.
    """
    left, right = _tables(first), _tables(second)
    if not (both := [name for name in left if name in right]):
        raise CannotCompare(f"{first} and {second} have none of {', '.join(TABLES)} in common.")
    return [cell for name in both for cell in _cells(name, left[name], right[name])]


def run(first: str, second: str, everything: bool = False) -> int:
    """Print the comparison; 0 where nothing differs, 1 where something does, 2 where they cannot be compared."""
    try:
        cells = compare(Path(first), Path(second))
    except (ValueError, OSError) as error:
        print(f"reid-core: {error}", file=sys.stderr)
        return 2
    print(describe(cells, everything))
    return int(any(cell.verdict == DIFFERS for cell in cells))


def describe(cells: list[Cell], everything: bool = False) -> str:
    """Counts by table, then the cells that differ, or all."""
    counts = pd.crosstab([cell.table for cell in cells], [cell.verdict for cell in cells], rownames=[""])
    counts = counts.reindex(columns=[EQUAL, WITHIN, DIFFERS], fill_value=0)
    listed = [str(cell) for cell in cells if everything or cell.verdict == DIFFERS]
    return "\n".join([counts.rename_axis(columns="").to_string(), *listed])


def _tables(place: Path) -> dict[str, pd.DataFrame]:
    """The tables of a folder or bundle by stem, as text."""
    if place.is_dir():
        return _read(place)
    if not place.is_file():
        raise FileNotFoundError(f"{place}: no such results folder or bundle.")
    names = {f"{stem}.csv" for stem in TABLES}
    with tempfile.TemporaryDirectory() as folder:
        chosen = {name: info for name, info in archives.members(place).items() if Path(name).name in names}
        if len({Path(name).name for name in chosen}) < len(chosen):
            raise CannotCompare(f"{place} holds a table twice, in different folders.")
        if sum(info.file_size for info in chosen.values()) > _MAX_BYTES:
            raise CannotCompare(f"{place} is refused: its tables declare more than {_MAX_BYTES >> 20} MiB.")
        archives.unpack(place, Path(folder), lambda name: PurePosixPath(Path(name).name) if name in chosen else None)
        return _read(Path(folder))


def _read(folder: Path) -> dict[str, pd.DataFrame]:
    paths = [folder / f"{stem}.csv" for stem in TABLES]
    return {path.stem: results_folder.read_csv(path, as_text=True) for path in paths if path.is_file()}


def _cells(name: str, left: pd.DataFrame, right: pd.DataFrame) -> Iterator[Cell]:
    sources = [set(table.get("data_source", [])) for table in (left, right)]
    if all(sources) and sources[0] != sources[1]:
        raise CannotCompare(f"{name}: one is of {min(sources[0])} data, the other of {min(sources[1])}.")
    rows = [_keyed(table) for table in (left, right)]
    for key in dict.fromkeys((*rows[0], *rows[1])):
        words = ", ".join(filter(None, key[:-1]))
        one, other = (table.get(key) for table in rows)
        if one is None or other is None:
            yield Cell(name, words, "row", "there" if one else "", "there" if other else "", DIFFERS)
            continue
        for column in dict.fromkeys((*one, *other)):
            if not column.startswith(_MACHINE):
                values = one.get(column, ""), other.get(column, "")
                yield Cell(name, words, column, *values, _verdict(column, one, other))


def _keyed(table: pd.DataFrame) -> dict[tuple, dict[str, str]]:
    """Rows by what they are of; equal keys are told apart by their order."""
    keys = [column for column in KEYS if column in table]
    order = table.groupby(keys, sort=False).cumcount()
    return {(*(row[k] for k in keys), n): row for row, n in zip(table.to_dict("records"), order, strict=True)}


def _verdict(column: str, one: dict[str, str], other: dict[str, str]) -> str:
    if one.get(column, "") == other.get(column, ""):
        return EQUAL
    trained = one.get("runs") and other.get("runs")
    measure = next((m for m in ("rank1", "mAP") if m in column), None)
    if not (trained and measure):
        return DIFFERS
    spans = [_span(row, measure) for row in (one, other)]
    overlap = all(spans) and max(low for low, _ in spans) <= min(high for _, high in spans)
    return WITHIN if overlap else DIFFERS


def _span(row: dict[str, str], measure: str) -> tuple[float, float] | None:
    """The interval of a row's measure."""
    ends = [row.get(f"ours_{measure}_{end}") for end in ("low", "high")]
    return (float(ends[0]), float(ends[1])) if all(ends) else None
