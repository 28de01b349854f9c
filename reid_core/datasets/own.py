"""Own data: a CSV file with the columns image_path, person_id, camera_id and subset."""

import os
from pathlib import Path

import pandas as pd

from reid_core.datasets.table import (
    CAMERA,
    DATASET,
    DISTRACTOR,
    JUNK,
    PATH,
    PERSON,
    SUBSET,
    RowError,
    validate,
)

KIND = "kind"
KINDS = {"person": None, "distractor": DISTRACTOR, "junk": JUNK}
NEEDED = (PATH, PERSON, CAMERA, SUBSET)


def load(path: str | Path, *, dataset: str | None = None) -> pd.DataFrame:
    """The image table of an own data set.

    Parameters
    ----------
    path : CSV with the columns image_path (absolute, or relative to the CSV's folder), person_id, camera_id and
        subset (train, query or gallery); `kind` (person, distractor or junk) may declare what a gallery image shows,
        and must where person_id is 0 (distractor) or -1 (junk). Further columns are ignored.
    dataset : the data set's name; by default the file's name without .csv. The name of an official set counts as that
        set when training people are compared with test people.

    Raises
    ------
    FileNotFoundError : the CSV or one of its images is not there.
    ValueError : a column is missing, a value is wrong (named with its line), or rows that
        :func:`reid_core.datasets.table.validate` refuses, e.g. a query without a match in another camera, or a person
        who is in train and in query or gallery.
    """
    path = Path(path).absolute()
    rows = _read(path)
    rows[PERSON] = _people(rows, path)
    folder = str(path.parent)
    rows[PATH] = [os.path.normpath(os.path.join(folder, image)) for image in rows[PATH]]
    absent = ~rows[PATH].map(os.path.isfile)
    if absent.any():
        raise FileNotFoundError(
            f"{path}, line {_line(absent)}: the image {rows[PATH][absent].iloc[0]} is not there "
            f"({absent.sum():,} of {len(rows):,} images are missing). Paths are relative to the CSV's folder."
        )
    table = rows[list(NEEDED)].assign(**{DATASET: dataset or path.stem})
    try:
        return validate(
            table[[DATASET, SUBSET, PERSON, CAMERA, PATH]], every_query_matched=True, people_apart=True
        )
    except RowError as error:
        raise ValueError(f"{path}, line {rows.index[error.row]}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read(path: Path) -> pd.DataFrame:
    """The rows as text, without blank lines; the index is the line in the file, whose first line is the header."""
    try:
        rows = pd.read_csv(
            path, dtype=str, keep_default_na=False, skipinitialspace=True, skip_blank_lines=False
        )
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is not there; it is to be a CSV file with the columns {', '.join(NEEDED)}."
        ) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}.") from error
    rows.columns = rows.columns.str.strip()
    rows.index = range(2, len(rows) + 2)
    rows = rows[(rows != "").any(axis=1)]
    if missing := [column for column in NEEDED if column not in rows.columns]:
        raise ValueError(
            f"{path} lacks the column(s) {', '.join(missing)}; its first line names {', '.join(rows.columns)}. "
            f"The columns {', '.join(NEEDED)} are needed, separated by commas."
        )
    blank = rows[PATH].str.strip() == ""
    if blank.any():
        raise ValueError(f"{path}, line {_line(blank)}: image_path is blank.")
    return rows


def _people(rows: pd.DataFrame, path: Path) -> pd.Series:
    """person_id with every 0 and -1 declared; a declared row may leave it blank."""
    kind = (
        rows[KIND].str.strip().replace("", "person")
        if KIND in rows.columns
        else pd.Series("person", rows.index)
    )
    unknown = ~kind.isin(KINDS)
    if unknown.any():
        raise ValueError(
            f"{path}, line {_line(unknown)}: kind is {kind[unknown].iloc[0]!r}; "
            f"it is one of {', '.join(KINDS)} or blank."
        )
    people = rows[PERSON].str.strip()
    for declared, number in (("distractor", DISTRACTOR), ("junk", JUNK)):
        is_declared = kind == declared
        same = people == str(number)
        undeclared = same & ~is_declared
        if undeclared.any():
            raise ValueError(
                f"{path}, line {_line(undeclared)}: person_id {number} means {declared} here. Number people from 1, or "
                f"declare the row: {declared} in a column `{KIND}`."
            )
        contradictory = is_declared & ~same & (people != "")
        if contradictory.any():
            raise ValueError(
                f"{path}, line {_line(contradictory)}: the row is declared {declared} but has person_id "
                f"{people[contradictory].iloc[0]!r}; write {number} or leave it blank."
            )
        people = people.mask(is_declared, str(number))
    return people


def _line(bad: pd.Series) -> int:
    """The line of the first bad row."""
    return int(bad.idxmax())
