"""Market-1501 (Zheng et al., ICCV 2015): 1,501 people, 6 cameras, images cut by a pedestrian detector."""

import os
import re
from pathlib import Path

import pandas as pd

from reid_core.datasets import layout
from reid_core.datasets.table import DISTRACTOR, GALLERY, build, validate

NAME = "market1501"
TITLE = "Market-1501"

_NAMED = re.compile(r"(-?\d+)_c(\d+).*\.(?:jpg|jpeg|png)$", re.IGNORECASE)
_FORM = "PPPP_cC...jpg (person, camera), e.g. 0002_c1s1_000451_03.jpg"
OFFICIAL_NAME = re.compile(r"(-1|[01]?\d{3}|0)_c[1-6]s\d_\d+_\d+\.(?:jpg|jpeg|png)$", re.IGNORECASE)
_EXTRA = re.compile(r"(?:.*?_c(\d+))?.*\.(?:jpg|jpeg|png)$", re.IGNORECASE)


def load(root: str | Path, *, distractors: bool = False) -> pd.DataFrame:
    """The image table of `<root>/Market-1501-v15.09.15`.

    Junk (person -1) and distractors (person 0) are gallery rows, as in the official evaluation.

    Parameters
    ----------
    root : the data folder.
    distractors : bool
        Add the 500,000 further images of Market-1501+500k to the gallery, all as distractors.

    Raises
    ------
    FileNotFoundError : the data set or one of its folders is missing or empty.
    ValueError : a file name that does not parse, or rows that :func:`reid_core.datasets.table.validate` refuses.
    """
    base = Path(root).absolute() / layout.MARKET1501_FOLDER
    if not base.is_dir():
        raise layout.missing(root, TITLE, layout.MARKET1501_FOLDER)
    parts = [folder_table(NAME, subset, base / folder) for subset, folder in layout.SUBSET_FOLDERS.items()]
    if distractors:
        folder, extra = distractor_folder(root), distractor_files(root)
        parts.append(
            build(
                NAME,
                GALLERY,
                DISTRACTOR,
                [int(match[1] or 0) for _, match in extra],
                [f"{folder}/{name}" for name, _ in extra],
            )
        )
    return validate(pd.concat(parts), every_query_matched=True)


def distractor_folder(root: str | Path) -> Path:
    """Where the 500k further images are: `images/` of the set, or `Market-1501-500k/` beside it.

    Raises FileNotFoundError where neither is there.
    """
    root = Path(root).absolute()
    inside, beside = root / layout.MARKET1501_FOLDER / "images", root / layout.DISTRACTORS_FOLDER
    if inside.is_dir() and any(
        map(_NAMED.match, os.listdir(inside))
    ):  # a folder of this name may hold anything
        return inside
    if beside.is_dir():
        return beside
    raise layout.missing(root, f"{TITLE}+500k (the extra distractors)", layout.DISTRACTORS_FOLDER)


def distractor_files(root: str | Path) -> list[tuple[str, re.Match]]:
    """Names of the 500k further images; group 1 of a match is the camera, where the name tells it."""
    return layout.image_files(distractor_folder(root), _EXTRA, "*.jpg (the 500k distractors)")


def folder_table(dataset: str, subset: str, folder: Path) -> pd.DataFrame:
    """Rows of one folder whose file names begin `PPPP_cC`, the form of Market-1501 and of CUHK03-NP."""
    files = layout.image_files(folder, _NAMED, _FORM)
    return build(
        dataset,
        subset,
        [int(match[1]) for _, match in files],
        [int(match[2]) for _, match in files],
        [f"{folder}/{name}" for name, _ in files],
    )
