"""CUHK01 (Li et al., ACCV 2012): 971 people, two cameras, two images in each; all of it trains (paper, Sec. 4.1)."""

import re
from pathlib import Path

import pandas as pd

from reid_core.datasets import layout
from reid_core.datasets.table import TRAIN, build, validate

NAME = "cuhk01"
TITLE = "CUHK01"

_NAMED = re.compile(r"(\d{4})00([1-4])\.png$", re.IGNORECASE)
_FORM = "PPPPNNN.png (person; 001-002 the first camera, 003-004 the second), e.g. 0001001.png"


def load(root: str | Path) -> pd.DataFrame:
    """The image table of `<root>/CUHK01/campus`, all rows in `train`.

    Raises
    ------
    FileNotFoundError : the folder is missing or empty.
    ValueError : a file name that does not parse.
    """
    folder = Path(root).absolute() / layout.CUHK01_FOLDER
    if not folder.is_dir():
        raise layout.missing(root, TITLE, layout.CUHK01_FOLDER)
    files = layout.image_files(folder, _NAMED, _FORM)
    return validate(
        build(
            NAME,
            TRAIN,
            [int(match[1]) for _, match in files],
            [(int(match[2]) + 1) // 2 for _, match in files],
            [f"{folder}/{name}" for name, _ in files],
        )
    )
