"""CUHK01 (Li et al., ACCV 2012): 971 people, two cameras, two images in each; all of it trains (paper, Sec. 4.1)."""

import re
from pathlib import Path

import pandas as pd

from reid_core.datasets import layout
from reid_core.datasets.table import TRAIN, validate

NAME, TITLE = "cuhk01", "CUHK01"
_NAMED = re.compile(r"(\d{4})00([1-4])\.png$", re.IGNORECASE)
_FORM = "PPPPNNN.png (person; 001-002 the first camera, 003-004 the second), e.g. 0001001.png"


def load(root: str | Path) -> pd.DataFrame:
    """The image table of `<root>/CUHK01/campus`, all rows in `train`.
    Raises FileNotFoundError for a missing or empty folder, ValueError for a file name that does not parse."""
    folder = layout.existing(root, TITLE, layout.CUHK01_FOLDER)
    how = _NAMED, _FORM, lambda named: (int(named[1]), (int(named[2]) + 1) // 2)
    return validate(layout.rows(NAME, TRAIN, folder, *how))
