"""The image table: one row an image, the only form in which data moves through the kit.

Columns: `dataset`, `subset` (train, query or gallery), `person_id`, `camera_id` and `image_path` (absolute);
after :func:`reid_core.datasets.combine` also `label`.  Person -1 is junk and person 0 a distractor, as in the
Market-1501 toolchain; both occur in the gallery only.  Camera -1 is not known, in all rows of a data set or in none.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd

from reid_core import ids
from reid_core.ids import CAMERA, DISTRACTOR, JUNK, NO_CAMERA, PERSON

DATASET, SUBSET, PATH, LABEL = "dataset", "subset", "image_path", "label"
COLUMNS = (DATASET, SUBSET, PERSON, CAMERA, PATH)
TRAIN, QUERY, GALLERY = "train", "query", "gallery"
SUBSETS = (TRAIN, QUERY, GALLERY)
SOURCE = "source"  # in a table's attrs: the CSV file of own data that was not given a name
_CACHE_PREFIX = "{cache}"


def cache_root() -> Path:
    """The folder of derived files: $REID_CORE_CACHE, else `cache/` of the repository, else ~/.cache/reid-core."""
    if moved := os.environ.get("REID_CORE_CACHE"):
        return Path(moved).expanduser().absolute()
    repository = Path(__file__).resolve().parents[2]
    is_there = (repository / "pyproject.toml").is_file()
    return repository / "cache" if is_there else Path.home() / ".cache" / "reid-core"


def build(dataset: str, subset, person_id, camera_id, image_path) -> pd.DataFrame:
    """An image table from columns of equal length; scalars are repeated.  Not validated."""
    columns = zip(COLUMNS, (dataset, subset, person_id, camera_id, image_path), strict=True)
    return pd.DataFrame(dict(columns), index=range(len(image_path)))


class RowError(ValueError):
    """A table that is refused for one of its rows; `row` is the first such row's position, from 0."""

    def __init__(self, message: str, row: int):
        super().__init__(message)
        self.row = int(row)


def refuse(table: pd.DataFrame, bad, message: str, one="such row", many: str | None = None, of=None) -> None:
    """Raise RowError where rows are `bad` (n,) bool; the message's fields are the first one's and `{count}`.
    Counted are these rows, or the different values of their columns `of`, as `one` or `many` (None: with an s)."""
    if bad.any():
        row, number = np.argmax(bad), bad.sum() if of is None else len(table[bad].drop_duplicates(of))
        count = f"{number:,} {one if number == 1 else many or one + 's'}"
        raise RowError(message.format_map({**table.iloc[row], "count": count}), row)


def validate(table: pd.DataFrame, *, every_query_matched: bool = False, people_apart: bool = False) -> pd.DataFrame:
    """Check an image table and return its rows in the same order, with int64 ids and a fresh index.

    Parameters
    ----------
    table : DataFrame with the columns of :data:`COLUMNS`; further columns are kept.
    every_query_matched : refuse a query whose person has no gallery image in another camera (it scores zero whatever
        the method). Only looked at where a data set has both queries and a gallery.
    people_apart : refuse a person of a data set who is in training and in query or gallery.

    Raises TypeError for no DataFrame; ValueError for a missing column or an empty table; RowError, a ValueError that
    knows the row, for an id that is no integer, an unknown subset, a relative path, junk or distractors outside the
    gallery, an image listed twice or in training and in the test set; a query or a person that the options refuse.
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"An image table is a pandas DataFrame, not {type(table).__name__}.")
    if missing := [column for column in COLUMNS if column not in table.columns]:
        has = f"it has {', '.join(map(str, table.columns))}. It needs {', '.join(COLUMNS)}."
        raise ValueError(f"The image table lacks the column(s) {', '.join(missing)}; {has}")
    if twice := [column for column in COLUMNS if table.columns.tolist().count(column) > 1]:
        raise ValueError(f"The image table has the column {twice[0]} more than once; leave one of them out.")
    if table.empty:
        raise ValueError("The image table has no rows.")
    table = table.reset_index(drop=True)
    categories = [name for name in (DATASET, SUBSET, PATH) if table[name].dtype == "category"]
    table = table.astype(dict.fromkeys(categories, object))  # they have an order of their own, and labels are sorted
    for column in (PERSON, CAMERA):
        table[column] = integers(table, column)
    _check_rows(table)
    if not table[PATH].is_unique:
        _check_duplicates(table)
    if people_apart:
        people, is_train = pd.MultiIndex.from_frame(table[[DATASET, PERSON]]), table[SUBSET] == TRAIN
        message = "Person {person_id} of {dataset} is in train and, in {image_path}, in {subset} ({count}): a test of"
        message += " who was trained on tells nothing. Leave them out of one, or number different people differently."
        both = people.isin(people[is_train].unique()) & ~is_train
        refuse(table, both, message, "such person", "such people", [DATASET, PERSON])
    if every_query_matched:
        message = "Query {image_path} (person {person_id}, camera {camera_id}) has no gallery image of that person in"
        message += " another camera ({count}), so it could only score zero. Add one, or leave the query out."
        scored = table[DATASET].isin(table.loc[table[SUBSET] == GALLERY, DATASET].unique())
        unmatched = scored & table.index.isin(unmatched_queries(table).index)
        refuse(table, unmatched, message, "such query", "such queries")
    return table


def integers(table: pd.DataFrame, column: str) -> np.ndarray:
    """A column of ids as (n,) int64, every one exactly as it was given; raises RowError."""

    def whole(values) -> np.ndarray:
        found = ids.column(values, column)
        return found if found.dtype.kind == "i" else np.array([ids.exact(str(text)) for text in found], np.int64)

    def is_wrong(value) -> bool:
        try:
            return not whole([value]).size
        except ValueError:
            return True

    try:
        return whole(table[column])
    except ValueError as error:
        wrong = np.array([is_wrong(value) for value in table[column]])
        wrong[0] |= not wrong.any()  # of kinds that do not go together
        told = table.assign(value=table[column].astype(object), error=str(error))
        message = "must be an integer, but it is {value!r} for {image_path} ({count}). Number people and cameras by"
        refuse(told, wrong, f"{column} {message} integers ({{error}}).")


def _check_rows(table: pd.DataFrame) -> None:
    def check(bad: pd.Series, message: str) -> None:
        refuse(table, bad, f"{message} ({{count}}).")

    unknown = ~table[SUBSET].isin(SUBSETS)
    check(unknown, "Subset {subset!r} of {image_path} is unknown; it must be train, query or gallery")
    check(table[DATASET].isna() | (table[DATASET] == ""), "The data set of {image_path} has no name")
    texts = table[PATH].map(lambda path: isinstance(path, str))
    check(~texts, "image_path must be text, but it is {image_path!r} for person {person_id}")
    absolute = table[PATH].str.startswith("/")
    check(~absolute, "image_path {image_path!r} is relative; an image table in memory holds absolute paths")
    check(table[PERSON] < JUNK, "Person {person_id} of {image_path} is negative; only -1 (junk) may be negative")
    known = (table[CAMERA] != NO_CAMERA).groupby(table[DATASET]).transform("any")
    negative = (table[CAMERA] < 0) & (known | (table[CAMERA] != NO_CAMERA))
    check(negative, "Camera {camera_id} of {image_path} is negative; number cameras from 1")
    outside = (table[PERSON] <= DISTRACTOR) & (table[SUBSET] != GALLERY)
    rule = "0 (distractor) and -1 (junk) occur in the gallery only. Number people from 1"
    check(outside, f"Person {{person_id}} of {{image_path}} is in {{subset}}: {rule}")


def _check_duplicates(table: pd.DataFrame) -> None:
    twice, is_train = table.duplicated([SUBSET, PATH], keep=False), table[SUBSET] == TRAIN
    listed = "{image_path} is listed more than once in {subset} ({count} are duplicates). List each image once."
    refuse(table, twice, listed, "row")
    message = "{image_path} is a training image and a query or gallery image as well ({count}). Keep training and test"
    both = ~is_train & table[PATH].isin(table.loc[is_train, PATH])
    refuse(table, both, f"{message} images apart.", "such image", of=PATH)
    both = table[~is_train & several_people(table, table[PATH])]
    first = both.drop_duplicates(PATH).set_index(PATH).astype(object).add_prefix("first_")
    found = "{image_path} is person {first_person_id} in camera {first_camera_id} as {first_subset} and person"
    found += " {person_id} in camera {camera_id} as {subset} ({count}). One picture shows one person in one camera"
    message = f"{found}, and as its own match it would be found first: correct the ids, or list it once."
    again = table.index.isin(both.index[both.duplicated(PATH)])
    refuse(table.join(first, on=PATH), again, message, "such image")


def several_people(table: pd.DataFrame, picture: pd.Series) -> pd.Series:
    """(n,) bool: rows that share their picture with another person's, or with the same person's in another camera.
    `picture`: what tells pictures apart, one value a row; NaN is no picture. Junk counts as nobody."""
    rows = table[table[PERSON] != JUNK]
    camera = rows[CAMERA].where(rows[PERSON] > DISTRACTOR, 0)
    who = pd.Series(pd.factorize(pd.MultiIndex.from_arrays([rows[PERSON], camera]))[0], rows.index)
    return (who.groupby(picture[rows.index]).transform("nunique") > 1).reindex(table.index, fill_value=False)


def unmatched_queries(table: pd.DataFrame) -> pd.DataFrame:
    """The query rows whose person has no gallery image in another camera (not known: in another file) of its set."""
    whose = [DATASET, PERSON]
    view = table[CAMERA].where(table[CAMERA] != NO_CAMERA, table[PATH]) if PATH in table else table[CAMERA]
    views = table[whose].assign(view=view)
    gallery, query = views[table[SUBSET] == GALLERY].drop_duplicates(), views[table[SUBSET] == QUERY]
    pairs = query.reset_index(names="row").merge(gallery, on=whose, suffixes=("", "_gallery"))
    matched = pairs.loc[pairs["view"] != pairs["view_gallery"], "row"]
    return table.loc[query.index[~query.index.isin(matched)]]


def portable_paths(paths: pd.Series, root: str | Path) -> pd.Series:
    """Absolute paths relative to the data root, or to the cache as `{cache}/...`; under neither they stay absolute."""
    text = paths.astype(str)
    for base, prefix in ((os.path.abspath(root), ""), (str(cache_root()), _CACHE_PREFIX + "/")):
        start = base.rstrip("/") + "/"
        text = text.where(~text.str.startswith(start), prefix + text.str.slice(len(start)))
    return text


def absolute_paths(paths: pd.Series, root: str | Path) -> pd.Series:
    """The inverse of :func:`portable_paths` for this data root and this cache."""
    root, paths = os.path.abspath(root), paths.astype(str)
    cached = str(cache_root()) + paths.str.removeprefix(_CACHE_PREFIX)
    return paths.map(lambda path: os.path.join(root, path)).mask(paths.str.startswith(_CACHE_PREFIX), cached)


def digest(table: pd.DataFrame, root: str | Path) -> str:
    """SHA-256 (hex) of the rows in their order, with labels where there are; the same wherever root and cache lie."""
    columns = [column for column in (*COLUMNS, LABEL) if column in table.columns]
    text = table[columns].assign(**{PATH: portable_paths(table[PATH], root)}).to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(os.fsencode(text)).hexdigest()  # a name that is no UTF-8 counts byte by byte
