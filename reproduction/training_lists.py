"""Lists of training images: a file that names the images of a set from which its trainings learn.

[13] trains its baseline for Market-1501 on 11,642 of the 12,936 images. No rule by which they were chosen is public
beyond its list, so a profile may name that file, or another of one image a line: `path label`, as released, or a path
alone. Images are known by their file names; labels are made anew. A list concerns the trainings of its set, of both
models; the combined training and XQDA, which [13] gives all images, learn from all.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from reid_core.datasets.table import PATH, SUBSET, TRAIN


def check(lists: Mapping[str, str], sets: Iterable[str]) -> None:
    """Raise ValueError unless `lists` maps some of the `sets` to .txt files."""
    known = ", ".join(sets)
    if not isinstance(lists, Mapping):
        raise ValueError(f"training_lists is {lists!r}; write it as {{set: file.txt}}, with a set of {known}.")
    for name, file in lists.items():
        if name not in sets:
            raise ValueError(f"training_lists: {name!r} has no list; it is one of {known} (combined takes all images).")
        if not (isinstance(file, str) and file.endswith(".txt")):
            raise ValueError(f"training_lists: the list of {name} is {file!r}; name a .txt file in data_root.")


def read(path: Path) -> list[str]:
    """File names of the images that a list names, in its order.
    Raises FileNotFoundError or ValueError for a list that is absent, empty, no text, or names an image twice."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: training_lists names this list, but it is not there.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not readable as text ({error}); a list has a line an image: path label.") from None
    names = [re.split(r"[/\\]", re.sub(r"\s+\d+$", "", line.strip()))[-1] for line in lines if line.strip()]
    if not names:
        raise ValueError(f"{path} names no image; it has a line an image: path label.")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"{path} names {_some(twice)} more than once; name each image on one line.")
    return names


def keep(table: pd.DataFrame, every: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A set's image table with those of its training images that a list names; test images stay.

    `every`: the set before anything was left out of `table`. Raises what :func:`read` raises, and ValueError for names
    that are no training images of `every`, or that two of them have."""
    names, files = read(path), every.loc[every[SUBSET] == TRAIN, PATH].map(os.path.basename)
    if wrong := sorted(set(names) - set(files)):
        raise ValueError(f"{path} names {_some(wrong)}: no training images of this set; take them out of the list.")
    if (alike := files[files.duplicated() & files.isin(names)]).size:
        raise ValueError(f"{path} names {_some(alike)}, and two training images are called so: rename one of them.")
    return table[table[PATH].map(os.path.basename).isin(names) | (table[SUBSET] != TRAIN)].reset_index(drop=True)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
