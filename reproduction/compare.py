"""Two sets of results, cell by cell: equal, within the intervals, or not.

Two machines with one seed train to numbers that differ by several points, so the measurements of rows that train (those
that name runs) have to lie in each other's intervals alone; all else is equal to the digit. Left out are times, which
measure the machine, tables without intervals of what was trained, and columns that one side alone has, which are named.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from reproduction import results_folder
from reproduction.intake import archives
from reproduction.sidecar import REPOSITORY

EQUAL, WITHIN, DIFFERS, NOT_COMPARED = "equal", "within the intervals", "differs", "not compared"
TABLES = ("table1", "table1_subsets", "table2", "table3", "figure4", "near_duplicate_counts")
KEYS = "table set name dataset list train_set test_set subset method model metric reranked".split()
_ORIGIN = ("data_source", "profile")
_MAX_BYTES = 64 * 2**20


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


def compare(first: Path, second: Path, across: bool = False) -> list[Cell]:
    """Every cell of the tables that two results folders or bundles both have.
    Raises ValueError where no table is in both, one is damaged, or they are of different data or profiles and not to
    be compared `across` these; FileNotFoundError where there is no such folder or file."""
    left, right = _tables(first), _tables(second)
    if not (both := [name for name in left if name in right]):
        raise ValueError(f"{first} and {second} have none of {', '.join(TABLES)} in common.")
    for name in () if across else both:
        for column in _ORIGIN:
            one, other = (", ".join(sorted(set(table.get(column, ())))) for table in (left[name], right[name]))
            if one != other and one and other:
                raise ValueError(f"{name}: {column} is {one} in {first}, {other} in {second} (or give --across).")
    return [cell for name in both for cell in _cells(name, left[name], right[name])]


def run(first: str, second: str, everything: bool = False, across: bool = False) -> int:
    """Print the comparison; 0 where nothing differs, 1 where something does, 2 where they cannot be compared."""
    try:
        cells = compare(Path(first), Path(second), across)
    except (ValueError, OSError) as error:
        print(f"reid-core: {error}", file=sys.stderr)
        return 2
    print(describe(cells, everything))
    return int(any(cell.verdict == DIFFERS for cell in cells))


def beside_reference(results: Path, profile: str) -> Iterator[str]:
    """A line on results beside the repository's own of the same profile; none where it ships none."""
    if (reference := REPOSITORY / "results" / "reference" / profile).is_dir():
        try:
            n = Counter(cell.verdict for cell in compare(results, reference))
            said = f"{n[EQUAL]} cells equal, {n[WITHIN]} within the intervals, {n[DIFFERS]} differ"
        except (ValueError, OSError) as error:
            said = f"not compared: {error}"
        yield f"Beside {reference}: {said} (reid-core compare says which)."


def describe(cells: list[Cell], everything: bool = False) -> str:
    """Counts by table, then all cells, or those that differ or are not compared."""
    counts = pd.crosstab([cell.table for cell in cells], [cell.verdict for cell in cells], rownames=[""])
    counts = counts.reindex(columns=[EQUAL, WITHIN, DIFFERS, NOT_COMPARED], fill_value=0).rename_axis(columns="")
    listed = (str(cell) for cell in cells if everything or cell.verdict in (DIFFERS, NOT_COMPARED))
    return "\n".join([counts.to_string(), *listed])


def _tables(place: Path) -> dict[str, pd.DataFrame]:
    if place.is_dir():
        return _read(place)
    if not place.is_file():
        raise FileNotFoundError(f"{place}: no such results folder or bundle.")
    names = {f"{stem}.csv" for stem in TABLES}
    with tempfile.TemporaryDirectory() as folder:
        chosen = {name: info for name, info in archives.members(place).items() if Path(name).name in names}
        if len({Path(name).name for name in chosen}) < len(chosen):
            raise ValueError(f"{place} holds a table twice, in different folders.")
        if sum(info.file_size for info in chosen.values()) > _MAX_BYTES:
            raise ValueError(f"{place} is refused: its tables declare more than {_MAX_BYTES >> 20} MiB.")
        archives.unpack(place, Path(folder), lambda name: PurePosixPath(Path(name).name) if name in chosen else None)
        return _read(Path(folder))


def _read(folder: Path) -> dict[str, pd.DataFrame]:
    paths = [folder / f"{stem}.csv" for stem in TABLES]
    return {path.stem: results_folder.read_csv(path, as_text=True) for path in paths if path.is_file()}


def _cells(name: str, left: pd.DataFrame, right: pd.DataFrame) -> Iterator[Cell]:
    for column in left.columns.symmetric_difference(right.columns, sort=False):
        there = ("there" if column in table else "" for table in (left, right))
        yield Cell(name, "every row", column, *there, NOT_COMPARED)
    columns = [c for c in left.columns if c in right.columns and not c.startswith(("seconds", *_ORIGIN))]
    keys, rows = [key for key in KEYS if key in columns], []
    for table in (left, right):  # by what a row is of; equal ones are told apart by their order
        each = zip(table.to_dict("records"), table.groupby(keys, sort=False).cumcount(), strict=True)
        rows.append({(*(row[key] for key in keys), number): row for row, number in each})
    for key in dict.fromkeys((*rows[0], *rows[1])):
        words = ", ".join(filter(None, key[:-1]))
        one, other = (table.get(key) for table in rows)
        if one is None or other is None:
            yield Cell(name, words, "row", "there" if one else "", "there" if other else "", DIFFERS)
            continue
        for column in columns:
            yield Cell(name, words, column, one[column], other[column], _verdict(column, one, other))


def _verdict(column: str, one: dict[str, str], other: dict[str, str]) -> str:
    if one[column] == other[column]:
        return EQUAL
    measure = next((m for m in ("rank1", "mAP") if m in column), None)
    if not (one.get("runs") and other.get("runs") and measure):
        return DIFFERS
    spans = [[row.get(f"ours_{measure}_{end}") for end in ("low", "high")] for row in (one, other)]
    if not all(end for span in spans for end in span):
        return DIFFERS
    return WITHIN if max(float(low) for low, _ in spans) <= min(float(high) for _, high in spans) else DIFFERS
