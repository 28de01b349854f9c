"""Which data sets a folder or an archive holds, told by the names of the files in it, whatever its own name is."""

import os
import re
import warnings
import zipfile
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from reid_core.datasets import cuhk03, layout, market1501
from reid_core.progress import bar
from reproduction.intake import archives

_CUHK01_NAME = re.compile(r"\d{4}00[1-4]\.png$", re.IGNORECASE)
_CUHK03_NAME = re.compile(r"\d{4}_c[12]_(?!f\d)", re.IGNORECASE)  # DukeMTMC's go on with the frame, f0046182
_CUHK03_MAT = re.compile(r"cuhk[-_ ]?03\.mat$", re.IGNORECASE)
_DISTRACTOR = re.compile(r"0000_c[1-6]s\d", re.IGNORECASE)  # MSMT17 has a person 0000, but other names
_EXPECTED = (
    f"{layout.MARKET1501_FOLDER} ({', '.join(layout.SUBSET_FOLDERS.values())}), cuhk-03.mat, cuhk03-np/labeled and "
    "detected, CUHK01's campus, or the 500k distractors' images"
)


class Piece(NamedTuple):
    """A data set found in what was given: its place there ("" is the whole) and its place below the data root."""

    source: str
    target: str


def recognise_path(path: Path) -> list[Piece]:
    """The data sets in a folder, a .mat or a ZIP archive, recognised by names inside, not by its own name.
    Raises FileNotFoundError where nothing is there; the message says where a link leads, or which path is nearly the
    same. Raises ValueError where nothing is recognised, a subset is missing, a set is there more than once, or for an
    archive that :mod:`reproduction.intake.archives` refuses."""
    if path.is_dir():
        return recognise(bar(walk(path), desc=f"Looking through {path.name}", unit="file", delay=2), path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there. Give a folder, cuhk-03.mat or a ZIP archive.{layout.hint(path)}")
    if path.suffix.lower() == ".mat":
        return [Piece("", layout.CUHK03_MAT)]
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no folder, .mat file or ZIP archive. Unpack other archives and add the folder.")
    return recognise(archives.members(path), path)


def recognise(names: Iterable[str], path: Path) -> list[Piece]:
    """The data sets among relative file names; `path` is where they are, for messages and for a folder's own name."""
    folders = defaultdict(list)
    for name in names:
        parent, _, base = name.rpartition("/")
        if not layout.is_clutter(base) or _CUHK03_MAT.match(base):
            if not any(map(layout.is_systems, name.split("/"))):
                folders[parent].append(base)
    pieces, foreign = _with_subsets(folders, path)
    taken = tuple(f"{base}/" if base else "" for base in [piece.source for piece in pieces] + foreign)
    for parent, bases in folders.items():
        if not f"{parent}/".startswith(taken):
            pieces += _alone(parent, bases)
    if not pieces:
        raise ValueError(_nothing(folders, foreign, path))
    why = "is passed over: it has the folders of Market-1501, but is none of the sets."
    for base in foreign:
        warnings.warn(f"{path / base} {why}", stacklevel=3)
    return _once(pieces, path)


def _alone(parent: str, bases: list[str]) -> list[Piece]:
    """The set that the files of one folder are."""
    images = [base for base in bases if layout.IMAGE.match(base)]
    if mats := [base for base in bases if _CUHK03_MAT.match(base)]:
        return [Piece(f"{parent}/{mat}".lstrip("/"), layout.CUHK03_MAT) for mat in mats]
    if _most(images, _CUHK01_NAME):
        return [Piece(parent, layout.CUHK01_FOLDER)]
    return [Piece(parent, layout.DISTRACTORS_FOLDER)] if _most(images, _DISTRACTOR) else []


def _with_subsets(folders: dict[str, list[str]], path: Path) -> tuple[list[Piece], list[str]]:
    """Market-1501 and CUHK03-NP: folders that hold the three subset folders; and those of other sets."""
    wanted = set(layout.SUBSET_FOLDERS.values())
    holding = defaultdict(set)
    for parent in folders:
        above, _, last = parent.rpartition("/")
        if last in wanted:
            holding[above].add(last)
    pieces, foreign = [], []
    for base, present in sorted(holding.items()):
        names = [name for last in present for name in folders[f"{base}/{last}".lstrip("/")]]
        if not (target := _target(base, names, path)):
            foreign += [base] * (present == wanted)
        elif lacking := sorted(wanted - present):
            holds = f"(or has no images in it), although it holds {', '.join(sorted(present))}"
            remedy = "Market-1501 and CUHK03-NP need all three; obtain the set again."
            hint = layout.hint(path / base / lacking[0])
            raise ValueError(f"{path / base} lacks {', '.join(lacking)} {holds}. {remedy}{hint}")
        else:
            pieces.append(Piece(base, target))
    return pieces, foreign


def _target(base: str, names: list[str], path: Path) -> str | None:
    """Where a folder of three subsets belongs: Market-1501 by its names, CUHK03-NP by names and the kind of boxes."""
    if _most(names, market1501.OFFICIAL_NAME):
        return layout.MARKET1501_FOLDER
    boxes = _boxes(base, path)
    return f"{layout.CUHK03_NP_FOLDER}/{boxes}" if boxes and _most(names, _CUHK03_NAME) else None


def _boxes(base: str, path: Path) -> str | None:
    """Which boxes of CUHK03 a folder has: what its name says, or the nearest above it that says one of the two."""
    for part in reversed([path.name, *PurePosixPath(base).parts]):
        name = part.lower()
        said = [boxes for boxes in cuhk03.BOXES if boxes.removesuffix("ed") in name and "unlabel" not in name]
        if len(said) == 1:
            return said[0]
    return None


def _most(names: list[str], form: re.Pattern) -> bool:
    return sum(map(bool, map(form.match, names))) > len(names) / 2


def _once(pieces: list[Piece], path: Path) -> list[Piece]:
    """The pieces without second names (links) of one file; ValueError for two of one kind."""
    kept = {}
    for piece in pieces:
        first = kept.setdefault(piece.target, piece)
        if first is not piece and not (path.is_dir() and (path / first.source).samefile(path / piece.source)):
            both = f"({first.source or '.'} and {piece.source})"
            raise ValueError(f"{path} holds {piece.target} more than once {both}. Give the folder of one of them.")
    return list(kept.values())


def _nothing(folders: dict[str, list[str]], foreign: list[str], path: Path) -> str:
    own = "other data comes in as own data (data/README.md)."
    if foreign:
        why = "its name does not say which boxes it has, or its files are named otherwise"
        remedy = f"If it is CUHK03-NP, name the folder labeled or detected; {own}"
        return f"{path / foreign[0]} has the folders of CUHK03-NP, but {why}. {remedy}"
    seen = ", ".join(sorted(folders)[:5]) or "no files"
    return f"{path} holds none of the data sets. Looked for {_EXPECTED}; found {seen}; {own}"


def walk(folder: Path, skipped: Iterable[str] = ()) -> Iterator[str]:
    """Relative names of all files below a folder but in `skipped`; every folder once, however many links lead to it."""
    waiting, seen = deque([""]), set()
    while waiting:
        below = waiting.popleft()
        try:
            state = os.stat(folder / below)
            entries = sorted(os.scandir(folder / below), key=lambda entry: entry.name)
        except OSError:  # not to be read, as lost+found is, or gone by now
            continue
        if (state.st_dev, state.st_ino) in seen or below in skipped:
            continue
        seen.add((state.st_dev, state.st_ino))
        for entry in entries:
            name = f"{below}/{entry.name}".lstrip("/")
            if not os.path.isdir(entry.path) if entry.is_symlink() else entry.is_file():
                yield name
            elif entry.is_symlink():  # last, so that a folder goes by its own name
                waiting.append(name)
            elif entry.is_dir():
                waiting.appendleft(name)
