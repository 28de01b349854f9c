"""Folders of data sets: which files are images, their rows, which path was meant, what to say where one is wrong."""

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from reid_core.datasets.table import build

MARKET1501_FOLDER = "Market-1501-v15.09.15"
DISTRACTORS_FOLDER = "Market-1501-500k"
CUHK03_MAT = "cuhk03_release/cuhk-03.mat"
CUHK03_NP_FOLDER = "cuhk03-np"
CUHK01_FOLDER = "CUHK01/campus"
EMBEDDED_MARK = "embedded.json"
SUBSET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}

IMAGE = re.compile(r".*\.(jpe?g|png)$", re.IGNORECASE)
_SYSTEMS = re.compile(r"[.~#$@]|__MACOSX|.*(~|#|\r)\Z|(lost\+found|System Volume Information)\Z")
_MEANT = re.compile(r".*\.(jpe?g|png|bmp|gif|tiff?|webp|txt)(\.|\Z)|-?\d+\w*\Z", re.IGNORECASE)


def is_systems(name: str) -> bool:
    """Whether a file or folder is hidden, or marked as file managers, editors and network drives mark theirs."""
    return _SYSTEMS.match(name) is not None


def is_clutter(name: str) -> bool:
    """Whether a file is nobody's image: a system's own, a readme, or no image by its name (Thumbs.db, desktop.ini ...).
    What may be an image of the set with a wrong name, or half of one (x.jpg.part), is not, nor is a text."""
    return is_systems(name) or name.lower().startswith("readme") or not _MEANT.match(name)


def alike(*names: str) -> bool:
    """Whether names differ in case, blanks or Unicode form alone."""
    return len({"".join(unicodedata.normalize("NFC", name).casefold().split()) for name in names}) == 1


def near(path: str | Path) -> Path | None:
    """The path that is there and differs from an absent one in case, blanks, slashes or Unicode form alone."""
    at, *parts = Path(os.path.abspath(path).replace("\\", "/")).parts
    try:
        for part in parts:
            if not os.path.lexists(os.path.join(at, part)):
                part = min(name for name in os.listdir(at) if alike(name, part))
            at = os.path.join(at, part)
    except (OSError, ValueError):
        return None
    return Path(at)


def dead_link(path: Path, root: Path) -> Path | None:
    """The link at `path`, or at a folder between it and `root`, that leads nowhere."""
    places = (path, *(parent for parent in path.parents if root in parent.parents))
    return next((place for place in places if place.is_symlink() and not place.exists()), None)


def hint(path: str | Path) -> str:
    """What to add to "PATH is not there": where a link leads, or the path that is nearly the same."""
    if os.path.islink(path):
        return f" {path} is a link to {os.readlink(path)}, which is not there any more."
    found = near(path)
    return f" {found} is there: write it so." if found and found != Path(os.path.abspath(path)) else ""


def data_source(root: str | Path) -> str:
    """Whether the renderer made the data folder (it holds embedded.json): "embedded", else "official"."""
    return "embedded" if (Path(root) / EMBEDDED_MARK).is_file() else "official"


def existing(root: str | Path, what: str, where: str) -> Path:
    """The folder `where` of a data set below the data folder; raises `missing` where it is absent."""
    if not (folder := Path(root).absolute() / where).is_dir():
        raise missing(root, what, where)
    return folder


def missing(root: str | Path, what: str, where: str) -> FileNotFoundError:
    """The error for an absent data set, saying what to put where."""
    root = Path(root).absolute()
    needed, nearly = f"{what} not found: {root / where} is needed", hint(root / where) or hint(root)
    return FileNotFoundError(f"{needed}, and {_remedy(root, 'lacks it', 'it')}{nearly}")


def nothing(root: str | Path) -> FileNotFoundError:
    """The error for a data folder without any data set, saying what to do."""
    return FileNotFoundError(f"no data set found: {_remedy(Path(root).absolute(), 'has none', 'one')}")


def _remedy(root: Path, lacks: str, what: str) -> str:
    state = "does not exist" if not root.is_dir() else lacks if any(root.iterdir()) else "is empty"
    add = f"`reid-core data add PATH` does it; `reid-core data status --root {root}` shows what is found"
    do = f"Place {what} there ({add}), or use the embedded data, which `make reproduce` renders."
    return f"the data folder {root} {state}. {do}"


def image_files(folder: Path, pattern: re.Pattern, form: str) -> list[tuple[str, re.Match]]:
    """The files of a folder in sorted order with the match of their names, without clutter (:func:`is_clutter`).
    Raises FileNotFoundError for no folder or no image in it, ValueError for a name that is not of the given form."""
    found, state = set(), "empty"
    try:
        with os.scandir(folder) as entries:
            found = {e.name for e in entries if not (is_systems if e.is_dir() else is_clutter)(e.name)}
    except (FileNotFoundError, NotADirectoryError):
        state = "missing"
    if not found:
        remedy = hint(folder).strip() or "Unpack the data set again, whole."
        if deeper := sorted(folder.parent.glob(f"*/{folder.name}")):
            remedy = f"It is one folder too deep, in {deeper[0]}: move everything in {deeper[0].parent} up."
        raise FileNotFoundError(f"The folder {folder} is {state}; it must hold images named {form}. {remedy}")
    matches = [(name, pattern.match(name)) for name in sorted(found)]
    notes = {name for name in found if name.rpartition(".")[0] in found}  # x.jpg.xmp is about x.jpg
    if strange := [name for name, match in matches if match is None and name not in notes]:
        others = f" (and {len(strange) - 1:,} more)" if len(strange) > 1 else ""
        remedy = "Take what does not belong to the data set out of the folder, or unpack the set again beside it."
        if (folder / strange[0]).is_dir():
            remedy = "It is a folder; if it holds the images, they are one folder too deep: move them up."
        raise ValueError(f"{folder / strange[0]}{others} is not named {form}. {remedy}")
    return [(name, match) for name, match in matches if match]


def rows(dataset: str, subset: str, folder: Path, pattern: re.Pattern, form: str, ids: Callable) -> pd.DataFrame:
    """Rows of a folder's images (:func:`image_files`); `ids` reads (person, camera) off the match of a name."""
    files = image_files(folder, pattern, form)
    people, cameras = zip(*(ids(match) for _, match in files), strict=True)
    return build(dataset, subset, people, cameras, [f"{folder}/{name}" for name, _ in files])
