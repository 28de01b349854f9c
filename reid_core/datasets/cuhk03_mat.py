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

_MANIFEST = "release.json"
_VIEWS, _IMAGES_PER_VIEW = 2, 5


@dataclass(frozen=True)
class Release:
    """What the extracted file holds for one kind of boxes."""

    folder: Path  # of the images
    names: list[str]  # pair_person_view_image.png, sorted, which is the file's order
    people: list[int]  # how many in each camera pair
    testsets: list[list[list[int]]]  # the classic ones: (pair, person) each


def open_release(mat: Path, boxes: str) -> Release:
    """The extracted images of a .mat; the first call extracts them to the cache, which a change of the file renews.
    Raises ValueError for a file that is truncated, of another kind, or holds a cell that is no image; OSError, with its
    name, for a cache that cannot be written."""
    folder = cache_root() / "cuhk03" / fingerprint(mat)[:16] / boxes
    try:
        if not (folder / _MANIFEST).is_file():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with files.locked(folder.parent / f"{boxes}.lock") as alone:
                files.remove_dead(folder.parent, boxes, alone=alone)
                if not (folder / _MANIFEST).is_file():
                    _extract(mat, boxes, folder)
    except OSError as error:
        if str(mat) in str(error):  # not the cache's fault
            raise
        found = f"The images of {mat} cannot be extracted to {folder.parent}: {error.strerror or error}"
        remedy = "free some space there, or set REID_CORE_CACHE to a folder that can be written"
        raise OSError(error.errno, f"{found}. Both kinds of boxes need about 2 GB; {remedy}") from error
    manifest = json.loads((folder / _MANIFEST).read_text())
    return Release(folder, manifest["names"], manifest["people"], manifest["testsets"])


def fingerprint(path: Path) -> str:
    """SHA-256 of a file's content; remembered in the cache."""
    for _ in progress.bar([path], desc=f"Reading {path.name}", unit="file"):
        digest = cache.contents([path])[0]
    return digest or files.digest(path)  # which says why it cannot be read


@contextlib.contextmanager
def open_mat(path: Path):
    """The HDF5 file, checked to be a cuhk-03.mat; what cannot be read of it, now or later, is a ValueError."""
    try:
        with opened(path) as file:
            if absent := {"labeled", "detected", "testsets"} - set(file):
                lacks, holds = ", ".join(sorted(absent)), ", ".join(sorted(set(file) - {"#refs#"})) or "nothing"
                found = f"it lacks {lacks} and holds {holds}"
                raise ValueError(f"{path} is not the CUHK03 release: {found}. The file wanted is cuhk-03.mat.")
            yield file
    except (KeyError, RuntimeError, OSError) as error:  # what HDF5 raises for a damaged file has no number
        if getattr(error, "errno", None) is not None:
            raise
        reason = _reason(path, str(error).strip("'\""))
        raise ValueError(f"{path} cannot be read as CUHK03: {reason}.") from error


def _reason(path: Path, found: str) -> str:
    with open(path, "rb") as file:
        head = file.read(10)
    if "truncated" in found or not head:
        return f"it is truncated ({path.stat().st_size:,} bytes are here); copy or download it again"
    if "signature not found" not in found:
        return f"it is damaged ({found}). Copy or download it again"
    if head == b"MATLAB 5.0":
        return "it is a MATLAB v5 file, as the split files *_config_*.mat are; the images are in cuhk-03.mat"
    return "it is not a MATLAB v7.3 (HDF5) file; it may be damaged or something else"


def opened(path: Path) -> h5py.File:
    """The file, read without a lock where the file system has none. Raises OSError naming who may hold it."""
    import h5py

    for options in ({}, {"locking": False}):  # without locks (NFS) nobody could hold that of a writer
        try:
            return h5py.File(path, "r", **options)
        except OSError as error:
            if error.errno is None:
                raise
            if options or error.errno not in files.NO_LOCKS:
                remedy = "The file itself may be whole"
                if isinstance(error, BlockingIOError):
                    remedy = "Another program has it open to write: close it there"
                message = f"{path} cannot be opened ({os.strerror(error.errno)}). {remedy}, then try again"
                raise type(error)(error.errno, message) from error


def index(mat: Path, boxes: str) -> Release:
    """What :func:`open_release` gives or raises, without reading any pixels: `folder` is the .mat if not extracted."""
    folder = cache_root() / "cuhk03" / fingerprint(mat)[:16] / boxes
    if (folder / _MANIFEST).is_file():
        return open_release(mat, boxes)
    with open_mat(mat) as file:
        pairs = _pairs(file, boxes)
        names = [name for name, _ in _images(file, pairs, f"CUHK03 {boxes}: counting")]
        return Release(mat, names, [*map(len, pairs)], _testsets(file))


def _extract(mat: Path, boxes: str, folder: Path) -> None:
    """Write every image as PNG, and the manifest last, into a temporary folder that is then renamed."""
    before = cache.state(mat)
    pool = ThreadPoolExecutor(machine.cores())
    with open_mat(mat) as file, files.replacing(folder, folder=True) as target, pool:
        pairs, names, writing = _pairs(file, boxes), [], []
        for name, cell in _images(file, pairs, f"CUHK03 {boxes}: extracting"):
            names.append(name)
            writing.append(pool.submit(_write_png, _pixels(cell, mat, boxes, name), target / name))
            while len(writing) > 256:
                writing.pop(0).result()
        for written in writing:
            written.result()
        manifest = {"source": mat.name, "boxes": boxes, "people": [*map(len, pairs)], "names": names}
        manifest["testsets"] = _testsets(file)
        if cache.state(mat) != before:
            raise ValueError(f"{mat} changed while it was read. Wait until it is copied whole, then try again.")
        (target / _MANIFEST).write_text(json.dumps(manifest))


def _pairs(file: h5py.File, boxes: str) -> list[np.ndarray]:
    """Per camera pair the (M, 10) references to its image cells."""
    cells = _references(file, file[boxes], boxes).ravel()
    pairs = [_references(file, file[cell], f"a camera pair of {boxes}") for cell in cells]
    for number, pair in enumerate(pairs, 1):
        if pair.ndim != 2 or pair.shape[0] != _VIEWS * _IMAGES_PER_VIEW:
            found = f"is not a cell of M x 10 images (HDF5 shape {pair.shape}, 10 x M wanted)"
            where = f"{file.filename}: camera pair {number} of {boxes}"
            raise ValueError(f"{where} {found}. The file is not the CUHK03 release.")
    return [pair.T for pair in pairs]


def _images(file: h5py.File, pairs: list[np.ndarray], desc: str) -> Iterator[tuple[str, h5py.Dataset]]:
    """The cell of every image that is there, in the file's order, with the name everyone gives it."""
    with progress.bar(total=sum(map(len, pairs)), desc=desc, unit="person") as bar:
        for number, pair in enumerate(pairs, 1):
            for person, references in enumerate(pair, 1):
                for image, cell in enumerate(map(file.__getitem__, references)):
                    if not ("MATLAB_empty" in cell.attrs or cell.ndim < 3 or 0 in cell.shape):
                        yield f"{number}_{person:03d}_{image // _IMAGES_PER_VIEW + 1}_{image + 1:02d}.png", cell
                bar.update()


def _testsets(file: h5py.File) -> list[list[list[int]]]:
    tables = [file[reference][()] for reference in _references(file, file["testsets"], "testsets").ravel()]
    return [table.T.astype(int).tolist() for table in tables]


def _references(file: h5py.File, node: h5py.Dataset | h5py.Group, what: str) -> np.ndarray:
    import h5py

    if not isinstance(node, h5py.Dataset) or h5py.check_ref_dtype(node.dtype) is not h5py.Reference:
        raise ValueError(f"{file.filename}: {what} is not a MATLAB cell array. The file is not the CUHK03 release.")
    return node[()]


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
