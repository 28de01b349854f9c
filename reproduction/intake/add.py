"""Put what a user has where the loaders look for it: recognised by content, checked, then linked or unpacked."""

import contextlib
import errno
import os
import re
import shutil
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from reid_core import files
from reid_core.datasets import cuhk03, layout
from reproduction.intake import archives
from reproduction.intake.status import BROKEN, DIFFERS, MISSING, TITLES, status

_STAGE = ".adding-"
_MARKET_NAME = re.compile(r"-?\d+_c\d+s\d")
_CUHK01_NAME = re.compile(r"\d{4}00[1-4]\.png$", re.IGNORECASE)
_IMAGE = re.compile(r".*\.(jpg|jpeg|png)$", re.IGNORECASE)
_DISTRACTOR_FOLDER = re.compile(r"images$|.*(distract|500k)", re.IGNORECASE)
_EXPECTED = (
    f"{layout.MARKET1501_FOLDER} ({', '.join(layout.SUBSET_FOLDERS.values())}), cuhk-03.mat, cuhk03-np/labeled and "
    "detected, CUHK01's campus, or the 500k distractors' images"
)


@dataclass(frozen=True)
class Piece:
    """A data set found in what was given: its place there ("" is the whole) and its place below the data root."""

    source: str
    target: str


def add(
    path: str | Path,
    root: str | Path,
    *,
    copy: bool = False,
    accept_differences: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Add data sets to the data folder `root`, which is made if need be.

    Parameters
    ----------
    path : a folder, cuhk-03.mat, or a ZIP archive, holding one or more of the official sets under any name.
    root : the data folder.
    copy : copy a folder or file instead of linking to it. Archives are always unpacked.
    accept_differences : place data whose people, images or digests differ from the published ones all the same.
    progress : show the progress of unpacking.

    Returns
    -------
    DataFrame
        The rows of :func:`reproduction.intake.status.status` for what was placed, with its `target` below the root.

    Raises
    ------
    FileNotFoundError : `path` is not there.
    FileExistsError : such a set is in the data folder already.
    ValueError : `root` holds embedded data, nothing is recognised, a subset is missing, a set does not load or differs
        from the published one, or an archive that :mod:`reproduction.intake.archives` refuses.
    OSError : the data folder cannot be written, or its disk is full; the message names it.

    On any of them nothing is left in the data folder.
    """
    path, root = Path(path).expanduser().absolute(), Path(root).expanduser().absolute()
    if layout.data_source(root) == "embedded":
        raise ValueError(
            f"{root} holds embedded data, which is never mixed with official data. Choose another --root."
        )
    pieces = recognise_path(path)
    for piece in pieces:
        if os.path.lexists(root / piece.target):
            raise FileExistsError(
                f"{root / piece.target} is there already (`reid-core data status --root {root}`). Remove it first to "
                f"replace it by {path}."
            )
    with _staging(root) as stage:
        if path.is_file() and zipfile.is_zipfile(path):
            archives.unpack(path, stage, lambda name: _target(name, pieces), progress=progress)
        else:
            for piece in pieces:
                _place(path / piece.source if piece.source else path, stage / piece.target, copy)
        report = _checked(stage, path, accept_differences, progress)
        _move(stage, root, pieces)
    return report


def recognise_path(path: Path) -> list[Piece]:
    """The data sets in a folder, a .mat or a ZIP archive, recognised by names inside, not by its own name."""
    if path.is_dir():
        return recognise(_walk(path), path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there. Give a folder, cuhk-03.mat or a ZIP archive.")
    if path.suffix.lower() == ".mat":
        return [Piece("", layout.CUHK03_MAT)]
    if path.suffix.lower() != ".zip" and not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is no folder, .mat file or ZIP archive. Unpack other archives and add the folder."
        )
    return recognise(archives.members(path), path)


def recognise(names: Iterable[str], path: Path) -> list[Piece]:
    """The data sets among relative file names; `path` is where they are, for messages and for a folder's own name."""
    folders = defaultdict(list)
    for name in names:
        parent, _, base = name.rpartition("/")
        if not any(map(layout.is_clutter, name.split("/"))):
            folders[parent].append(base)
    pieces = _with_subsets(folders, path)
    taken = tuple(f"{piece.source}/" if piece.source else "" for piece in pieces)
    for parent, bases in folders.items():
        if f"{parent}/".startswith(taken):
            continue
        images = [base for base in bases if _IMAGE.match(base)]
        if mats := [base for base in bases if base.lower() == "cuhk-03.mat"]:
            pieces.append(Piece(f"{parent}/{mats[0]}".lstrip("/"), layout.CUHK03_MAT))
        elif images and sum(map(bool, map(_CUHK01_NAME.match, images))) > len(images) / 2:
            pieces.append(Piece(parent, layout.CUHK01_FOLDER))
        elif images and _are_distractors(PurePosixPath(parent).name or path.stem, images):
            pieces.append(Piece(parent, layout.DISTRACTORS_FOLDER))
    if not pieces:
        seen = ", ".join(sorted(folders)[:5]) or "no files"
        raise ValueError(f"{path} holds none of the data sets. Looked for {_EXPECTED}; found {seen}.")
    if twice := {
        piece.target for piece in pieces if sum(piece.target == other.target for other in pieces) > 1
    }:
        raise ValueError(f"{path} holds {min(twice)} more than once. Give the folder of one of them.")
    return pieces


def _with_subsets(folders: dict[str, list[str]], path: Path) -> list[Piece]:
    """Market-1501 and CUHK03-NP: folders that hold the three subset folders."""
    wanted = set(layout.SUBSET_FOLDERS.values())
    holding = defaultdict(set)
    for parent in folders:
        above, _, last = parent.rpartition("/")
        if last in wanted:
            holding[above].add(last)
    pieces = []
    for base, present in sorted(holding.items()):
        where = path / base
        if lacking := wanted - present:
            raise ValueError(
                f"{where} lacks {', '.join(sorted(lacking))} (or has no images in it), although it holds "
                f"{', '.join(sorted(present))}. Market-1501 and CUHK03-NP need all three; obtain the set again."
            )
        boxes = (PurePosixPath(base).name or path.stem).lower()
        train = folders[f"{base}/{layout.SUBSET_FOLDERS['train']}".lstrip("/")]
        if boxes in cuhk03.BOXES:
            pieces.append(Piece(base, f"{layout.CUHK03_NP_FOLDER}/{boxes}"))
        elif any(map(_MARKET_NAME.match, train)):
            pieces.append(Piece(base, layout.MARKET1501_FOLDER))
        else:
            raise ValueError(
                f"{where} has the folders of CUHK03-NP, but its name does not say which boxes it has. If it is "
                "CUHK03-NP, name the folder labeled or detected; other data comes in as own data (data/README.md)."
            )
    return pieces


def _are_distractors(folder: str, images: list[str]) -> bool:
    named = sum(name.startswith("0000") for name in images) > len(images) / 2
    return named or _DISTRACTOR_FOLDER.match(folder) is not None


def _walk(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder, followlinks=True):
        below = os.path.relpath(parent, folder)
        yield from (name if below == "." else f"{below}/{name}" for name in names)


def _target(name: str, pieces: list[Piece]) -> PurePosixPath | None:
    """Where an archive's member goes below the data root; None for what belongs to no data set."""
    if any(map(layout.is_clutter, name.split("/"))):
        return None
    for piece in pieces:
        if name == piece.source:
            return PurePosixPath(piece.target)
        if not piece.source or name.startswith(f"{piece.source}/"):
            return PurePosixPath(piece.target) / name.removeprefix(f"{piece.source}/")
    return None


def _place(source: Path, target: Path, copy: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        target.symlink_to(source.resolve())
    elif source.is_dir():
        for name in _walk(source):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
    else:
        shutil.copyfile(source, target)


def _checked(stage: Path, path: Path, accept_differences: bool, progress: bool) -> pd.DataFrame:
    """Status of the staged data, which is what the loaders will make of it once it is in place."""
    report = status(stage, progress=progress)
    report = report[report["state"] != MISSING].reset_index(drop=True)
    broken = report[report["state"] == BROKEN]
    if len(broken):
        note = broken["note"].iloc[0].replace(f"{stage}/", "")
        raise ValueError(f"{path} is not added: {note}")
    differs = report[report["state"] == DIFFERS]
    if len(differs) and not accept_differences:
        lines = [
            f"{TITLES[row['set']]} {row['subset']}: {row['people']:,} people, {row['images']:,} images, digest "
            f"{row['digest'] or 'none'}; published {row['people published']:,}, {row['images published']:,}, "
            f"{row['digest published'] or 'none'}"
            for row in differs.to_dict("records")
        ]
        raise ValueError(
            f"{path} is not added, since it is not what was published ({' / '.join(lines)}). Obtain it again, or "
            "accept the differences (--accept-differences), which every table will then show."
        )
    return report


@contextlib.contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A folder inside the data root, gone afterwards; one process at a time, leftovers of killed ones are removed."""
    with contextlib.ExitStack() as cleaning:
        try:
            root.mkdir(parents=True, exist_ok=True)
            if cleaning.enter_context(files.locked(root)):
                for left in root.glob(f"{_STAGE}*"):
                    shutil.rmtree(left, ignore_errors=True)
            stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=root))
            cleaning.callback(shutil.rmtree, stage, ignore_errors=True)
        except OSError as error:
            raise type(error)(
                error.errno,
                f"The data folder {root} cannot be written ({error.strerror}). Make it writable, or choose another "
                "with --root",
            ) from error
        try:
            yield stage
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise OSError(
                errno.ENOSPC, f"{root} has too little space, and nothing was added: {error.strerror}"
            ) from error


def _move(stage: Path, root: Path, pieces: list[Piece]) -> None:
    moved = []
    try:
        for piece in pieces:
            (root / piece.target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(stage / piece.target, root / piece.target)
            moved.append(piece)
    except BaseException:
        for piece in moved:
            os.replace(root / piece.target, stage / piece.target)
        raise
