"""Data sets as image tables: `load` reads one, `combine` makes the paper's combined training set (Sec. 3.3)."""

from pathlib import Path

import pandas as pd

from reid_core.datasets import cuhk01, cuhk03, market1501, own
from reid_core.datasets.combined import combine, leaked_people, leave_out
from reid_core.datasets.layout import data_source
from reid_core.datasets.table import digest, validate
from reid_core.datasets.unreadable import without
from reid_core.progress import shown

__all__ = ["combine", "data_source", "digest", "leaked_people", "leave_out", "load", "validate"]

LOADERS = {module.NAME: module.load for module in (market1501, cuhk03, cuhk01)}


def load(name: str, root: str | Path, *, unreadable: str | None = None, progress=True, **options) -> pd.DataFrame:
    """The image table of a data set below the data folder `root`.

    Parameters
    ----------
    name : "market1501", "cuhk03", "cuhk01", or an own CSV file (a path ending in .csv, relative to `root`).
    root : the folder holding Market-1501-v15.09.15/, cuhk03_release/cuhk-03.mat or cuhk03-np/, CUHK01/campus/.
    unreadable : None does not look (fast); "refuse" decodes every image and raises if one cannot be read; "drop"
        leaves such images out and warns with their number.
    progress : show bars where something takes long (all images of a set read, a .mat extracted).
    options : market1501: distractors=True; cuhk03: boxes="labeled"|"detected", form, testset; own data: dataset.

    Raises FileNotFoundError, saying what to place where, for an absent set; ValueError for an unknown name, data that
    the set's loader refuses, or an unreadable image with "refuse".
    """
    if unreadable not in (None, "refuse", "drop"):
        raise ValueError(f"unreadable is {unreadable!r}; it is None, 'refuse' or 'drop'.")
    is_own = str(name).endswith(".csv")
    if not is_own and name not in LOADERS:
        there = f"{', '.join(LOADERS)} and own data, a path to a .csv"
        raise ValueError(f"There is no data set {name!r}; there are {there}.")
    with shown(progress):
        table = own.load(Path(root) / name, root=root, **options) if is_own else LOADERS[name](root, **options)
        return table if unreadable is None else without(table, unreadable)
