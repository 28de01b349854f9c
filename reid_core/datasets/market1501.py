"""Market-1501 (Zheng et al., ICCV 2015): 1,501 people, 6 cameras, images cut by a pedestrian detector."""

import os
import re
from pathlib import Path

import pandas as pd

from reid_core.datasets import layout
from reid_core.datasets.table import DISTRACTOR, GALLERY, validate

NAME, TITLE = "market1501", "Market-1501"
_NAMED = re.compile(r"(-?\d+)_c(\d+)\S*\.(?:jpg|jpeg|png)$", re.IGNORECASE)  # not "... (1).jpg", a copy
_FORM = "PPPP_cC...jpg (person, camera), e.g. 0002_c1s1_000451_03.jpg"
OFFICIAL_NAME = re.compile(r"(-1|[01]?\d{3}|0)_c[1-6]s\d_\d+_\d+\.(?:jpg|jpeg|png)$", re.IGNORECASE)
DISTRACTORS = (re.compile(r"(?:.*?_c(\d+))?.*\.(?:jpg|jpeg|png)$", re.IGNORECASE), "*.jpg (the 500k distractors)")


def load(root: str | Path, *, distractors: bool = False) -> pd.DataFrame:
    """The image table of `<root>/Market-1501-v15.09.15`; junk (person -1) and distractors (0) are gallery rows.

    Parameters
    ----------
    root : the data folder.
    distractors : add the 500,000 further images of Market-1501+500k to the gallery, all as distractors.

    Raises FileNotFoundError for a set or folder that is missing or empty; ValueError for a file name that does not
    parse, or rows that :func:`reid_core.datasets.table.validate` refuses.
    """
    table = three_folders(NAME, layout.existing(root, TITLE, layout.MARKET1501_FOLDER))
    if distractors:
        how = *DISTRACTORS, lambda named: (DISTRACTOR, int(named[1] or 0))
        table = pd.concat([table, layout.rows(NAME, GALLERY, distractor_folder(root), *how)])
    return validate(table, every_query_matched=True)


def distractor_folder(root: str | Path) -> Path:
    """The 500k further images: `images/` of the set, or `Market-1501-500k/` beside it, or FileNotFoundError."""
    inside = Path(root).absolute() / layout.MARKET1501_FOLDER / "images"  # may hold anything
    if inside.is_dir() and any(map(_NAMED.match, os.listdir(inside))):
        return inside
    return layout.existing(root, f"{TITLE}+500k (the extra distractors)", layout.DISTRACTORS_FOLDER)


def three_folders(dataset: str, base: Path) -> pd.DataFrame:
    """Rows of train, query and gallery folders of files named `PPPP_cC...`, as Market-1501 and CUHK03-NP have them."""
    how = _NAMED, _FORM, lambda named: (int(named[1]), int(named[2]))
    return pd.concat([layout.rows(dataset, part, base / at, *how) for part, at in layout.SUBSET_FOLDERS.items()])
