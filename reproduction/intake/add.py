"""Put what a user has where the loaders look for it: recognised by content, checked, then linked or unpacked."""

import contextlib
import errno
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from reid_core import files
from reid_core.datasets import layout
from reid_core.progress import shown
from reproduction.intake import archives
from reproduction.intake.recognise import Piece, recognise_path, walk
from reproduction.intake.status import BROKEN, DIFFERS, MISSING, TITLES, status

_STAGE = ".adding-"


def add(
    path: str | Path, root: str | Path, *, copy: bool = False, accept_differences: bool = False, progress: bool = True
) -> pd.DataFrame:
    """Add data sets to the data folder `root`, which is made if need be.

    Parameters
    ----------
    path : a folder, cuhk-03.mat, or a ZIP archive, holding one or more of the official sets under any name.
    root : the data folder.
    copy : copy a folder or file instead of linking to it. Archives are always unpacked.
    accept_differences : place data whose people, images or digests differ from the published ones all the same.
    progress : show the progress of unpacking.

    Returns the rows of :func:`reproduction.intake.status.status` for what was placed.
    Raises FileNotFoundError where `path` is not there; FileExistsError where such a set is in the data folder already;
    ValueError where `root` holds embedded data, nothing is recognised, a subset is missing, a set does not load or
    differs from the published one, or for an archive that :mod:`reproduction.intake.archives` refuses; OSError, naming
    it, for a data folder that cannot be written or whose disk is full. Nothing is left in the data folder then.
    """
    path, root = Path(path).expanduser().absolute(), Path(root).expanduser().absolute()
    if layout.data_source(root) == "embedded":
        raise ValueError(f"{root} holds embedded data, which is never mixed with official data. Choose another --root.")
    pieces = recognise_path(path)
    for piece in pieces:
        _refuse_occupied(root, path, piece)
    with shown(progress), _staging(root) as stage:
        if path.is_file() and zipfile.is_zipfile(path):
            archives.unpack(path, stage, lambda name: _target(name, pieces))
        else:
            for piece in pieces:
                _place(path / piece.source, stage / piece.target, copy)
        report = _checked(stage, path, accept_differences)
        _move(stage, root, pieces)
    return report


def _refuse_occupied(root: Path, path: Path, piece: Piece) -> None:
    """FileExistsError where the piece's place is taken, saying by what; nobody is told to remove data."""
    place, source = root / piece.target, path / piece.source
    if dead := layout.dead_link(place, root):
        raise FileExistsError(
            f"{layout.hint(dead).strip()} Put the data back there; or remove the link (it is no data: `rm {dead}`) "
            f"and add {path} again."
        )
    inner, outer = source.resolve(), place.resolve()
    if inner in outer.parents:
        raise FileExistsError(f"{source} holds the images themselves: move them into a folder {place}.")
    if not os.path.lexists(place):
        return
    aside = f"To use {path} in its stead, move {place} out of the data folder first."
    why = f"{place} is there already (`reid-core data status --root {root}`). {aside}"
    if outer in inner.parents:
        deep = f"and the set lies too deep in it, in {source}: move what {source} holds up into {place}."
        why = f"{place} is there already, {deep}"
    if inner == outer:
        why = f"{place} is there already, and is this very data."
    raise FileExistsError(why)


def _target(name: str, pieces: list[Piece]) -> PurePosixPath | None:
    """Where an archive's member goes below the data root; None for what belongs to no data set."""
    kept = not (any(map(layout.is_systems, name.split("/"))) or layout.is_clutter(name.rpartition("/")[2]))
    for piece in pieces:
        if name == piece.source or kept and (not piece.source or name.startswith(f"{piece.source}/")):
            return PurePosixPath(piece.target) / name.removeprefix(piece.source).lstrip("/")
    return None


def _place(source: Path, target: Path, copy: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        target.symlink_to(source.resolve())
        return
    for name in walk(source) if source.is_dir() else [""]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def _checked(stage: Path, path: Path, accept_differences: bool) -> pd.DataFrame:
    """Status of the staged data, which is what the loaders will make of it once it is in place."""
    report = status(stage)
    report = report[report["state"] != MISSING].reset_index(drop=True)
    if len(broken := report.loc[report["state"] == BROKEN, "note"]):
        raise ValueError(f"{path} is not added: {broken.iloc[0].replace(f'{stage}/', '')}")
    differs = report[report["state"] == DIFFERS]
    if len(differs) and not accept_differences:
        line = ("{title} {subset}: {people:,} people, {images:,} images, digest {digest}; "
                "published {people published:,}, {images published:,}, {digest published}")  # fmt: skip
        rows = differs.replace({"digest": "", "digest published": ""}, "none").to_dict("records")
        lines = [line.format(title=TITLES[row["set"]], **row) for row in rows]
        remedy = "Obtain it again, or accept the differences (--accept-differences), which every table will then show."
        raise ValueError(f"{path} is not added, since it is not what was published ({' / '.join(lines)}). {remedy}")
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
            remedy = "Make it writable, or choose another with --root"
            why = f"The data folder {root} cannot be written ({error.strerror}). {remedy}"
            raise type(error)(error.errno, why) from error
        try:
            yield stage
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            why = f"{root} has too little space, and nothing was added: {error.strerror}"
            raise OSError(errno.ENOSPC, why) from error


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
