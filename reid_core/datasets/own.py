"""Own data: a CSV file with the columns image_path, person_id, camera_id and subset."""

import csv
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from reid_core.datasets import cache, layout
from reid_core.datasets.table import COLUMNS, DATASET, PATH, SOURCE, SUBSET, integers, refuse, several_people, validate
from reid_core.ids import CAMERA, DISTRACTOR, JUNK, NO_CAMERA, PERSON

KIND = "kind"
DECLARED = {"distractor": DISTRACTOR, "junk": JUNK}
KINDS = ("person", *DECLARED)
NEEDED = (PATH, PERSON, CAMERA, SUBSET)
OFFICIAL = ("market1501", "cuhk03", "cuhk01")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def load(path: str | Path, *, dataset: str | None = None, root: str | Path | None = None) -> pd.DataFrame:
    """The image table of an own data set.

    Parameters
    ----------
    path : CSV with the columns image_path (absolute, or relative to the CSV's folder), person_id, camera_id and
        subset (train, query or gallery); `kind` (person, distractor or junk) may declare what a gallery image shows,
        and must where person_id is 0 (distractor) or -1 (junk). Where cameras are not known camera_id is empty in every
        row, and -1 in the table: scores are by the protocol no_cameras. Further columns are ignored.
    dataset : the data set's name. Two tables of one name given here are taken for one set, with the same people.
    root : the data folder. Without `dataset` the set's name is the CSV's path below it without .csv (the file's name
        alone where it lies elsewhere), so that two files of one name in two folders are two sets. A file that is
        called as an official set holds people of that set, wherever it lies.

    Raises FileNotFoundError for a CSV or image that is not there; ValueError for a missing column and, naming the line,
    for a wrong value, rows that `table.validate` refuses with both its options, or a copy of a picture, byte by byte,
    that is listed as another person. Warns where a copy is listed in another camera.
    """
    path = Path(path).absolute()
    rows = _read(path)
    rows[CAMERA] = _cameras(rows, path)
    try:
        refuse(rows, rows[PATH].str.strip() == "", "image_path is blank.")
        rows[PATH] = [os.path.normpath(os.path.join(path.parent, image)) for image in rows[PATH]]
        rows[PERSON], rows[CAMERA] = _people(rows), integers(rows, CAMERA)
        sizes = rows[PATH].map(lambda image: os.path.getsize(image) if os.path.isfile(image) else -1)
        if (absent := sizes < 0).any():
            first = rows[PATH][absent].iloc[0]
            missing = f"{first} is not there ({absent.sum():,} of {len(rows):,} images are missing)"
            remedy = f"Paths are relative to the CSV's folder.{layout.hint(first)}"
            raise FileNotFoundError(f"{path}, line {absent.idxmax()}: the image {missing}. {remedy}")
        below = os.path.relpath(path.with_suffix(""), root or path.parent)
        elsewhere = below.startswith(os.pardir) or path.stem in OFFICIAL
        name = dataset or (path.stem if elsewhere else Path(below).as_posix())
        table = validate(rows.assign(**{DATASET: name})[[*COLUMNS]], every_query_matched=True, people_apart=True)
    except ValueError as error:
        line = f", line {rows.index[error.row]}" if hasattr(error, "row") else ""
        raise ValueError(f"{path}{line}: {error}") from error
    _check_copies(table, sizes.to_numpy(), rows.index, path)
    if dataset is None and path.stem not in OFFICIAL:
        table.attrs[SOURCE] = os.path.realpath(path)
    return table


def _read(path: Path) -> pd.DataFrame:
    """The rows as text, without blank lines; the index is the line in the file, whose first line is the header."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True, strict=True)
            if not (lines := [(reader.line_num, cells) for cells in reader]):
                raise ValueError("it is empty")
    except FileNotFoundError as error:
        wanted = f"it is to be a CSV file with the columns {', '.join(NEEDED)}"
        raise FileNotFoundError(f"{path} is not there; {wanted}.{layout.hint(path)}") from error
    except (csv.Error, ValueError) as error:  # no text in UTF-8, quotes that do not end
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}.") from error
    names = [name.strip() for name in lines[0][1]]
    _check_header(path, names)
    lines = [(line, cells) for line, cells in lines[1:] if any(map(str.strip, cells))]
    for line, cells in lines:
        if len(cells) > len(names):
            found = f"{path}, line {line} has {len(cells)} cells, but the first line names {len(names)} columns"
            raise ValueError(f"{found}. Is a comma too many there? Text with a comma in it stands in double quotes.")
    cells = [cells + [""] * (len(names) - len(cells)) for _, cells in lines]
    return pd.DataFrame(cells, [line for line, _ in lines], names, dtype=str)


def _check_header(path: Path, names: list[str]) -> None:
    used = [name for name in names if name in (*NEEDED, KIND)]
    if twice := {name for name in used if used.count(name) > 1}:
        raise ValueError(f"{path}: its first line names {min(twice)} more than once; which one counts?")
    if missing := [column for column in NEEDED if column not in names]:
        near = [name for name in names if any(layout.alike(name, column) for column in missing)]
        found = [word for mark, word in _SEPARATORS.items() if len(names) == 1 and mark in names[0]]
        wanted = f"The columns {', '.join(NEEDED)} are needed, separated by commas."
        wanted += f" It is separated by {found[0]}: save it with commas." if found else ""
        wanted += f" Write {', '.join(near)} in small letters." if near else ""
        there = f"its first line names {', '.join(names)}"
        raise ValueError(f"{path} lacks the column(s) {', '.join(missing)}; {there}. {wanted}")


def _cameras(rows: pd.DataFrame, path: Path) -> pd.Series:
    """camera_id as text, "-1" where the whole column is blank."""
    text = rows[CAMERA].str.strip()
    blank = text == ""
    if blank.any() and not blank.all():
        lines = ", ".join(map(str, rows.index[blank][:5])) + (", ..." if blank.sum() > 5 else "")
        remedy = "Give every image its camera or none: with an empty column, only a query's own image is passed over"
        found = f"camera_id is blank in {blank.sum():,} of {len(rows):,} rows"
        raise ValueError(f"{path}, line {lines}: {found}. {remedy} (no_cameras).")
    return text.mask(blank, str(NO_CAMERA))


def _people(rows: pd.DataFrame) -> np.ndarray:
    """person_id (int64) with every 0 and -1 declared; a declared row may leave it blank."""
    kind = rows[KIND].str.strip().replace("", "person") if KIND in rows else pd.Series("person", rows.index)
    rows = rows.assign(**{KIND: kind, PERSON: rows[PERSON].str.strip()})
    refuse(rows, ~kind.isin(KINDS), f"kind is {{kind!r}}; it is one of {', '.join(KINDS)} or blank.")
    numbers = kind.map({declared: str(number) for declared, number in DECLARED.items()}).fillna("")
    people = integers(rows.assign(**{PERSON: rows[PERSON].mask(rows[PERSON] == "", numbers)}), PERSON)
    for declared, number in DECLARED.items():
        means = f"means {declared} here. Number people from 1, or declare the row: {declared} in a column `{KIND}`."
        refuse(rows, (people == number) & (kind != declared), f"person_id {{person_id}} {means}")
        told = f"the row is declared {declared} but has person_id {{person_id!r}}; write {number} or leave it blank."
        refuse(rows, (kind == declared) & (people != number), told)
    return people


def _check_copies(table: pd.DataFrame, sizes, lines: pd.Index, path: Path) -> None:
    """Refuse files of equal bytes that are listed as several people; warn of those of one person in several cameras."""
    alike = table[several_people(table, pd.Series(sizes).where(lambda size: size > 0))]
    if alike.empty:
        return
    content = pd.Series(cache.contents(alike[PATH]), alike.index).where(lambda digest: digest != "")
    copies = alike[several_people(alike, content)]
    strangers = copies[copies[PERSON].groupby(content[copies.index]).transform("nunique") > 1]
    if len(shown := strangers if len(strangers) else copies):
        first = shown.iloc[0]
        group = shown[content[shown.index] == content[first.name]]
        second = group[(group[PERSON] != first[PERSON]) | (strangers.empty & (group[CAMERA] != first[CAMERA]))].iloc[0]
        who = " and ".join(f"person {row[PERSON]} in camera {row[CAMERA]}" for row in (first, second))
        told = f"{path}, lines {lines[first.name]} and {lines[second.name]}: {first[PATH]} and {second[PATH]} are one"
        told += f" picture (byte by byte), but are {who} ({len(shown):,} such rows)."
        if len(strangers):
            raise ValueError(f"{told} One picture shows one person: correct the ids, or list it once.")
        remedy = "A copy of a query is found first whatever the method; leave one out, or correct the ids."
        warnings.warn(f"{told} {remedy}", stacklevel=4)  # the caller of datasets.load
