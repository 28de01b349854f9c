"""The original CUHK03 file, `cuhk-03.mat` (MATLAB v7.3, that is HDF5), and its images extracted once.

`labeled` and `detected` are cells of 5 camera pairs; a pair is a cell of M people x 10 images, 1-5 from one view
and 6-10 from the other, empty where there is none.  `testsets` is a cell of 20 tables of 100 (pair, person).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reid_core import files, machine, progress
from reid_core.datasets import cache
from reid_core.datasets.table import cache_root

if TYPE_CHECKING:  # loaded where a .mat is opened: most users have folders
    import h5py
    from tqdm import tqdm

_MANIFEST = "release.json"
_VIEWS, _IMAGES_PER_VIEW = 2, 5


@dataclass(frozen=True)
class Release:
    """What the extracted file holds for one kind of boxes.

    `folder` holds the images `names` (sorted, which is the file's order), named pair_person_view_image.png;
    `people` is the number of people in each camera pair; `testsets` the classic test sets of (pair, person).
    """

    folder: Path
    names: list[str]
    people: list[int]
    testsets: list[list[list[int]]]


def open_release(mat: Path, boxes: str) -> Release:
    """The extracted images of a .mat; the first call extracts them to the cache, which a change of the file renews.

    Raises ValueError for a file that is truncated, of another kind, or holds a cell that is no image; OSError, with its
    name, for a cache that cannot be written.
    """
    folder = cache_root() / "cuhk03" / fingerprint(mat)[:16] / boxes
    if not (folder / _MANIFEST).is_file():
        with _explaining(folder.parent, mat):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with files.locked(folder.parent / f"{boxes}.lock") as alone:
                files.remove_dead(folder.parent, boxes, alone=alone)
                if not (folder / _MANIFEST).is_file():
                    _extract(mat, boxes, folder)
    manifest = json.loads((folder / _MANIFEST).read_text())
    return Release(folder, manifest["names"], manifest["people"], manifest["testsets"])


def fingerprint(path: Path) -> str:
    """SHA-256 of a file's content; remembered in the cache."""
    for _ in progress.bar([path], desc=f"Reading {path.name}", unit="file"):
        digest = cache.contents([path])[0]
    return digest or files.digest(path)  # which says why it cannot be read


@contextlib.contextmanager
def open_mat(path: Path):
    """The HDF5 file, checked to be a cuhk-03.mat; what cannot be read of it later is a ValueError, too."""
    try:
        file = _opened(path)
    except OSError as error:
        if error.errno is not None:
            raise
        with open(path, "rb") as head:
            version5 = head.read(20).startswith(b"MATLAB 5.0")
        if version5:
            reason = "it is a MATLAB v5 file, as the split files *_config_*.mat are; the images are in cuhk-03.mat"
        elif "truncated" in str(error) or not path.stat().st_size:
            reason = f"it is truncated ({path.stat().st_size:,} bytes are here); copy or download it again"
        else:
            reason = "it is not a MATLAB v7.3 (HDF5) file; it may be damaged or something else"
        raise ValueError(f"{path} cannot be read as CUHK03: {reason}.") from error
    with file, _naming(path):
        if absent := {"labeled", "detected", "testsets"} - set(file):
            raise ValueError(
                f"{path} is not the CUHK03 release: it lacks {', '.join(sorted(absent))} and holds "
                f"{', '.join(sorted(set(file) - {'#refs#'})) or 'nothing'}. The file wanted is cuhk-03.mat."
            )
        yield file


def _opened(path: Path) -> h5py.File:
    """The file, read without a lock where the file system has none. Raises OSError naming who may hold it."""
    import h5py

    try:
        try:
            return h5py.File(path, "r")
        except OSError as error:
            if error.errno not in files.NO_LOCKS:
                raise
            return h5py.File(path, "r", locking=False)  # NFS: nobody could hold the lock of a writer
    except OSError as error:
        if error.errno is None:
            raise
        held = isinstance(error, BlockingIOError)
        remedy = "Another program has it open to write: close it there" if held else "The file itself may be whole"
        message = f"{path} cannot be opened ({os.strerror(error.errno)}). {remedy}, then try again"
        raise type(error)(error.errno, message) from error


@contextlib.contextmanager
def _naming(path: Path):
    """Turn what HDF5 raises for a damaged file (KeyError, RuntimeError, OSError without a number) into a ValueError."""
    try:
        yield
    except (KeyError, RuntimeError, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        found = str(error).strip("'\"")
        reason = f"it is damaged ({found}). Copy or download it again"
        raise ValueError(f"{path} cannot be read as CUHK03: {reason}.") from error


def index(mat: Path, boxes: str) -> Release:
    """What :func:`open_release` would give, without extracting: the images' names only, `folder` being the .mat.

    Raises ValueError as :func:`open_release` does, but does not read the pixels.
    """
    folder = cache_root() / "cuhk03" / fingerprint(mat)[:16] / boxes
    if (folder / _MANIFEST).is_file():
        return open_release(mat, boxes)
    with open_mat(mat) as file:
        people = _people(file, boxes)
        with progress.bar(total=sum(people), desc=f"CUHK03 {boxes}: counting", unit="person") as bar:
            names = [name for name, cell in _cells(file, boxes, bar) if not _is_empty(cell)]
        return Release(mat, names, people, _testsets(file))


def _extract(mat: Path, boxes: str, folder: Path) -> None:
    """Write every image as PNG, and the manifest last, into a temporary folder that is then renamed."""
    before = cache.state(mat)
    with (
        open_mat(mat) as file,
        files.replacing(folder, folder=True) as target,
        ThreadPoolExecutor(machine.cores()) as pool,
    ):
        people, names, writing = _people(file, boxes), [], []
        with progress.bar(total=sum(people), desc=f"CUHK03 {boxes}: extracting", unit="person") as bar:
            for name, cell in _cells(file, boxes, bar):
                if not _is_empty(cell):
                    names.append(name)
                    writing.append(pool.submit(_write_png, _pixels(cell, mat, boxes, name), target / name))
                while len(writing) > 256:
                    writing.pop(0).result()
        for written in writing:
            written.result()
        manifest = {"source": mat.name, "boxes": boxes, "people": people, "names": names, "testsets": _testsets(file)}
        if cache.state(mat) != before:
            raise ValueError(f"{mat} changed while it was read. Wait until it is copied whole, then try again.")
        (target / _MANIFEST).write_text(json.dumps(manifest))


def _pairs(file: h5py.File, boxes: str) -> list[np.ndarray]:
    """Per camera pair the (M, 10) references to its image cells."""
    cells = _references(file, file[boxes], boxes).ravel()
    pairs = [_references(file, file[cell], f"a camera pair of {boxes}") for cell in cells]
    for number, pair in enumerate(pairs, 1):
        if pair.ndim != 2 or pair.shape[0] != _VIEWS * _IMAGES_PER_VIEW:
            raise ValueError(
                f"{file.filename}: camera pair {number} of {boxes} is not a cell of M x 10 images "
                f"(HDF5 shape {pair.shape}, 10 x M wanted). The file is not the CUHK03 release."
            )
    return [pair.T for pair in pairs]


def _people(file: h5py.File, boxes: str) -> list[int]:
    return [len(pair) for pair in _pairs(file, boxes)]


def _cells(file: h5py.File, boxes: str, bar: tqdm) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every image cell, empty ones too, in the file's order with the name everyone gives it."""
    for number, pair in enumerate(_pairs(file, boxes), 1):
        for person, cells in enumerate(pair, 1):
            for image, cell in enumerate(cells):
                yield f"{number}_{person:03d}_{image // _IMAGES_PER_VIEW + 1}_{image + 1:02d}.png", file[cell]
            bar.update()


def _testsets(file: h5py.File) -> list[list[list[int]]]:
    tables = [file[reference][()] for reference in _references(file, file["testsets"], "testsets").ravel()]
    return [table.T.astype(int).tolist() for table in tables]


def _references(file: h5py.File, node: h5py.Dataset | h5py.Group, what: str) -> np.ndarray:
    import h5py

    if not isinstance(node, h5py.Dataset) or h5py.check_ref_dtype(node.dtype) is not h5py.Reference:
        raise ValueError(f"{file.filename}: {what} is not a MATLAB cell array. The file is not the CUHK03 release.")
    return node[()]


def _is_empty(cell: h5py.Dataset) -> bool:
    return "MATLAB_empty" in cell.attrs or cell.ndim < 3 or 0 in cell.shape


def _pixels(cell: h5py.Dataset, mat: Path, boxes: str, name: str) -> np.ndarray:
    """(height, width, 3) uint8 of a cell; MATLAB stores the axes in reverse."""
    if cell.ndim != 3 or cell.shape[0] != 3 or cell.dtype != np.uint8:
        found = f"{cell.dtype} of HDF5 shape {cell.shape}"
        raise ValueError(f"{mat}: image {name} of {boxes} is {found}, not uint8 (3, width, height).")
    try:
        return cell[()].transpose(2, 1, 0)
    except OSError as error:
        raise ValueError(f"{mat}: image {name} of {boxes} cannot be read; the file is damaged: {error}.") from error


def _write_png(pixels: np.ndarray, path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.ascontiguousarray(pixels)).save(path, compress_level=1)


@contextlib.contextmanager
def _explaining(folder: Path, mat: Path):
    try:
        yield
    except OSError as error:
        if str(mat) in str(error):  # not the cache's fault
            raise
        raise OSError(
            error.errno,
            f"The images of {mat} cannot be extracted to {folder}: {error.strerror or error}. Both kinds of boxes "
            "need about 2 GB; free some space there, or set REID_CORE_CACHE to a folder that can be written",
        ) from error
