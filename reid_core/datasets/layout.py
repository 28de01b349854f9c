"""Reading the folders of the official data sets: which files count as images, and what to say when they are wrong."""

import os
import re
from pathlib import Path

MARKET1501_FOLDER = "Market-1501-v15.09.15"
DISTRACTORS_FOLDER = "Market-1501-500k"
CUHK03_MAT = "cuhk03_release/cuhk-03.mat"
CUHK03_NP_FOLDER = "cuhk03-np"
CUHK01_FOLDER = "CUHK01/campus"
EMBEDDED_MARK = "embedded.json"

SUBSET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}

_CLUTTER = re.compile(r"\.|Thumbs\.db$|desktop\.ini$|__MACOSX$|readme", re.IGNORECASE)


def is_clutter(name: str) -> bool:
    """Whether a file or folder name is hidden or what file managers and readers leave (Thumbs.db, a readme ...)."""
    return _CLUTTER.match(name) is not None


def data_source(root: str | Path) -> str:
    """Whether the renderer made the data folder (it holds embedded.json): "embedded", else "official"."""
    return "embedded" if (Path(root) / EMBEDDED_MARK).is_file() else "official"


def missing(root: str | Path, what: str, where: str) -> FileNotFoundError:
    """The error for an absent data set, saying what to put where."""
    root = Path(root).absolute()
    return FileNotFoundError(
        f"{what} not found: {root / where} is needed, and the data folder {root} {_state(root, 'lacks it')}. "
        f"Place it there {_remedy(root)}"
    )


def nothing(root: str | Path) -> FileNotFoundError:
    """The error for a data folder without any data set, saying what to do."""
    root = Path(root).absolute()
    return FileNotFoundError(
        f"no data set found: the data folder {root} {_state(root, 'has none')}. Place one there {_remedy(root)}"
    )


def _state(root: Path, otherwise: str) -> str:
    return "does not exist" if not root.is_dir() else "is empty" if not any(root.iterdir()) else otherwise


def _remedy(root: Path) -> str:
    return (
        f"(`reid-core data add PATH` does it; `reid-core data status --root {root}` shows what is "
        "found), or use the embedded data, which `make reproduce` renders."
    )


def image_files(folder: Path, pattern: re.Pattern, form: str) -> list[tuple[str, re.Match]]:
    """The files of a folder in sorted order with the match of their names.

    Hidden files and the clutter of file managers (Thumbs.db, desktop.ini, a readme) are passed over.

    Raises
    ------
    FileNotFoundError : the folder is missing or holds no image.
    ValueError : a name does not have the given form.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not is_clutter(entry.name))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"The folder {folder} is missing; it must hold images named {form}. Unpack the data set again, whole."
        ) from error
    if not names:
        raise FileNotFoundError(
            f"The folder {folder} is empty; it must hold images named {form}. Unpack the data set again, whole."
        )
    matches = [(name, pattern.match(name)) for name in names]
    if strange := [name for name, match in matches if match is None]:
        others = f" (and {len(strange) - 1:,} more)" if len(strange) > 1 else ""
        raise ValueError(
            f"{folder / strange[0]}{others} is not named {form}. Remove what does not belong to the data set, "
            "or unpack it again."
        )
    return matches
