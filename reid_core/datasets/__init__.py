"""Data sets as image tables.

`load` reads one official set (or the embedded data, which has the official layouts), `combine` makes the paper's
combined training set (Sec. 3.3), `summary` is Table 1, `data_source` says whether a data folder is embedded.
"""

from pathlib import Path

import pandas as pd

from reid_core.datasets import cuhk01, cuhk03, market1501
from reid_core.datasets.combined import combine, label_map, leaked_people, leave_out
from reid_core.datasets.layout import data_source
from reid_core.datasets.table import digest, validate
from reid_core.datasets.table1 import subsets, summary

__all__ = [
    "combine",
    "data_source",
    "digest",
    "label_map",
    "leaked_people",
    "leave_out",
    "load",
    "subsets",
    "summary",
    "validate",
]

LOADERS = {module.NAME: module.load for module in (market1501, cuhk03, cuhk01)}


def load(name: str, root: str | Path, **options) -> pd.DataFrame:
    """The image table of a data set below the data folder `root`.

    Parameters
    ----------
    name : "market1501" (option distractors=True), "cuhk03" (boxes="labeled"|"detected", form, testset, progress)
        or "cuhk01".
    root : the folder holding Market-1501-v15.09.15/, cuhk03_release/cuhk-03.mat or cuhk03-np/, CUHK01/campus/.

    Raises
    ------
    FileNotFoundError : the set is not there; the message says what to place where.
    ValueError : an unknown name, or data that the set's loader refuses.
    """
    if name not in LOADERS:
        raise ValueError(f"There is no data set {name!r}; there are {', '.join(LOADERS)}.")
    return LOADERS[name](root, **options)
