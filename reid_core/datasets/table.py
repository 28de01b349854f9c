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
    if (repository / "pyproject.toml").is_file():
        return repository / "cache"
    return Path.home() / ".cache" / "reid-core"


def build(dataset: str, subset, person_id, camera_id, image_path) -> pd.DataFrame:
    """An image table from columns of equal length; scalars are repeated.  Not validated."""
    columns = zip(COLUMNS, (dataset, subset, person_id, camera_id, image_path), strict=True)
    return pd.DataFrame(dict(columns), index=range(len(image_path)))


class RowError(ValueError):
    """A table that is refused for one of its rows; `row` is the first such row's position, from 0."""

    def __init__(self, message: str, row: int):
        super().__init__(message)
        self.row = int(row)


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
    gallery, an image listed twice, an image in training and in the test set; a query or a person that the options
    refuse.
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"An image table is a pandas DataFrame, not {type(table).__name__}.")
    if missing := [column for column in COLUMNS if column not in table.columns]:
        has = f"it has {', '.join(map(str, table.columns))}. It needs {', '.join(COLUMNS)}."
        raise ValueError(f"The image table lacks the column(s) {', '.join(missing)}; {has}")
    if table.empty:
        raise ValueError("The image table has no rows.")
    table = table.reset_index(drop=True)
    for column in (PERSON, CAMERA):
        table[column] = _integers(table, column)
    _check_rows(table)
    _check_duplicates(table)
    if people_apart:
        _check_people(table)
    if every_query_matched:
        _check_matches(table)
    return table


def _integers(table: pd.DataFrame, column: str) -> np.ndarray:
    """The column as (n,) int64, every id exactly as it was given."""
    values = table[column]
    try:
        return _whole(values, column)
    except ValueError as error:
        bad = [row for row, value in enumerate(values) if not _is_whole(value)] or [0]
        raise RowError(
            f"{column} must be an integer, but it is {values.tolist()[bad[0]]!r} for {table[PATH].iloc[bad[0]]} "
            f"({_count(len(bad), 'such row')}). Number people and cameras by integers ({error}).",
            bad[0],
        ) from error


def _whole(values, column: str) -> np.ndarray:
    found = ids.column(values, column)
    return found if found.dtype.kind == "i" else np.array([ids.exact(str(text)) for text in found], np.int64)


def _is_whole(value) -> bool:
    try:
        return bool(_whole([value], PERSON).size)
    except ValueError:
        return False


def _check_rows(table: pd.DataFrame) -> None:
    def refuse(bad: pd.Series, message: str) -> None:
        if bad.any():
            first = table[bad].iloc[0]
            shown = {column: first[column] for column in COLUMNS}
            raise RowError(f"{message.format(**shown)} ({_count(bad.sum(), 'such row')}).", first.name)

    unknown = ~table[SUBSET].isin(SUBSETS)
    refuse(unknown, "Subset {subset!r} of {image_path} is unknown; it must be train, query or gallery")
    refuse(table[DATASET].isna() | (table[DATASET] == ""), "The data set of {image_path} has no name")
    texts = table[PATH].map(lambda path: isinstance(path, str))
    refuse(~texts, "image_path must be text, but it is {image_path!r} for person {person_id}")
    absolute = table[PATH].str.startswith(os.sep) if os.sep == "/" else table[PATH].map(os.path.isabs)
    refuse(~absolute, "image_path {image_path!r} is relative; an image table in memory holds absolute paths")
    refuse(table[PERSON] < JUNK, "Person {person_id} of {image_path} is negative; only -1 (junk) may be negative")
    known = (table[CAMERA] != NO_CAMERA).groupby(table[DATASET]).transform("any")
    negative = (table[CAMERA] < 0) & (known | (table[CAMERA] != NO_CAMERA))
    refuse(negative, "Camera {camera_id} of {image_path} is negative; number cameras from 1")
    refuse(
        (table[PERSON] <= DISTRACTOR) & (table[SUBSET] != GALLERY),
        "Person {person_id} of {image_path} is in {subset}: 0 (distractor) and -1 (junk) occur in the gallery only. "
        "Number people from 1",
    )


def _check_duplicates(table: pd.DataFrame) -> None:
    twice = table.duplicated([SUBSET, PATH], keep=False)
    if twice.any():
        first = table[twice].iloc[0]
        raise RowError(
            f"{first[PATH]} is listed more than once in {first[SUBSET]} "
            f"({_count(twice.sum(), 'row')} are duplicates). List each image once.",
            first.name,
        )
    if not table[PATH].is_unique:
        test = table[table[SUBSET] != TRAIN]
        both = test[test[PATH].isin(table.loc[table[SUBSET] == TRAIN, PATH])]
        if len(both):
            first = both.iloc[0]
            raise RowError(
                f"{first[PATH]} is a training image and a query or gallery image as well "
                f"({_count(both[PATH].nunique(), 'such image')}). Keep training and test images apart.",
                first.name,
            )
        both = test[several_people(test, test[PATH])]
        if len(both):
            first, last = (both[both[PATH] == both[PATH].iloc[-1]].iloc[at] for at in (0, -1))
            raise RowError(
                f"{first[PATH]} is person {first[PERSON]} in camera {first[CAMERA]} as {first[SUBSET]} and person "
                f"{last[PERSON]} in camera {last[CAMERA]} as {last[SUBSET]} "
                f"({_count(both[PATH].nunique(), 'such image')}). One picture shows one person in one camera, and as "
                "its own match it would be found first: correct the ids, or list it once.",
                last.name,
            )


def several_people(table: pd.DataFrame, picture: pd.Series) -> pd.Series:
    """(n,) bool: rows that share their picture with another person's, or with the same person's in another camera.

    `picture`: what tells pictures apart, one value a row; NaN is no picture. Junk counts as nobody.
    """
    rows = table[table[PERSON] != JUNK]
    camera = rows[CAMERA].where(rows[PERSON] > DISTRACTOR, 0)
    who = pd.Series(pd.factorize(pd.MultiIndex.from_arrays([rows[PERSON], camera]))[0], rows.index)
    return (who.groupby(picture[rows.index]).transform("nunique") > 1).reindex(table.index, fill_value=False)


def _check_people(table: pd.DataFrame) -> None:
    people = pd.MultiIndex.from_frame(table[[DATASET, PERSON]])
    is_train = (table[SUBSET] == TRAIN).to_numpy()
    both = people.isin(people[is_train].unique()) & ~is_train
    if both.any():
        first = table[both].iloc[0]
        raise RowError(
            f"Person {first[PERSON]} of {first[DATASET]} is in train and, in {first[PATH]}, in {first[SUBSET]} "
            f"({_count(people[both].nunique(), 'such person', 'such people')}): a test of who was trained "
            "on tells nothing. Leave the person out of one of the two, or number different people differently.",
            first.name,
        )


def unmatched_queries(table: pd.DataFrame) -> pd.DataFrame:
    """The query rows whose person has no gallery image in another camera (not known: in another file) of its set."""
    whose = [DATASET, PERSON]
    view = table[CAMERA].where(table[CAMERA] != NO_CAMERA, table[PATH]) if PATH in table else table[CAMERA]
    views = table[whose].assign(view=view)
    gallery, query = views[table[SUBSET] == GALLERY].drop_duplicates(), views[table[SUBSET] == QUERY]
    pairs = query.reset_index(names="row").merge(gallery, on=whose, suffixes=("", "_gallery"))
    matched = pairs.loc[pairs["view"] != pairs["view_gallery"], "row"]
    return table.loc[query.index[~query.index.isin(matched)]]


def _check_matches(table: pd.DataFrame) -> None:
    scored = set(table.loc[table[SUBSET] == GALLERY, DATASET])
    unmatched = unmatched_queries(table[table[DATASET].isin(scored)])
    if len(unmatched):
        first = unmatched.iloc[0]
        raise RowError(
            f"Query {first[PATH]} (person {first[PERSON]}, camera {first[CAMERA]}) has no gallery image of that "
            f"person in another camera ({_count(len(unmatched), 'such query', 'such queries')}), so it could only "
            "score zero. Add such a gallery image, or leave the query out.",
            first.name,
        )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def portable_paths(paths: pd.Series, root: str | Path) -> pd.Series:
    """Absolute paths made portable: relative to the data root, or to the cache as `{cache}/...`.

    A path under neither (own data kept elsewhere) stays absolute.
    """
    text = paths.astype(str)
    for base, prefix in ((os.path.abspath(root), ""), (str(cache_root()), _CACHE_PREFIX + "/")):
        start = base.rstrip("/") + "/"
        text = text.where(~text.str.startswith(start), prefix + text.str.slice(len(start)))
    return text


def absolute_paths(paths: pd.Series, root: str | Path) -> pd.Series:
    """The inverse of :func:`portable_paths` for this data root and this cache."""
    root, cache = os.path.abspath(root), str(cache_root())

    def absolute(path: str) -> str:
        if path.startswith(_CACHE_PREFIX):
            return cache + path.removeprefix(_CACHE_PREFIX)
        return os.path.join(root, path)

    return paths.astype(str).map(absolute)


def digest(table: pd.DataFrame, root: str | Path) -> str:
    """SHA-256 (hex) of the rows: data set, subset, ids, label where there is one, portable path.

    It depends on the rows and their order, not on where the data root or the cache lies.
    """
    columns = [column for column in (*COLUMNS, LABEL) if column in table.columns]
    rows = table[columns].assign(**{PATH: portable_paths(table[PATH], root)})
    text = rows.to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(os.fsencode(text)).hexdigest()  # a name that is no UTF-8 counts byte by byte
