"""Features or distances that any tool wrote: .npz, .npy with a .csv beside it, .mat, .pt, .pth, .safetensors, .csv.

A field's name says what it holds: a word of feature_fields.toml, alone or with a part's name before or after it. So
`gallery_f` and `query_label` (layumi's pytorch_result.mat), `feat` with `queryID` and `queryCAM`, `labels`, `camId` and
`query_idx` (MATLAB code of Zhong et al.), `galFea` and `descriptors` (Liao's XQDA), `qf` with `q_pids` and `q_camids`
(torchreid) are known. Other fields are passed over; no code in a file is run.
"""

import contextlib
import io
import json
import re
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import scipy.io
import torch
from safetensors import safe_open

from reid_core import ids
from reid_core.datasets.cuhk03_mat import opened
from reid_core.datasets.table import CAMERA, GALLERY, LABEL, PATH, PERSON, QUERY, SUBSET, SUBSETS, TRAIN
from reid_core.distance import as_array

VALUES, DISTANCE, INDEX, META = "features", "distance", "index", "reid_core_meta"
ALIKE = ("weights_digest", "output")  # of META, what features must share to be compared
NAMES = tomllib.loads(Path(__file__).with_name("feature_fields.toml").read_text(encoding="utf-8"))
WORDS = NAMES["words"]
PARTS = {name: part for part, names in NAMES["parts"].items() for name in names}
KNOWN = {re.sub("[^a-z]", "", name): (what, part) for what, words in WORDS.items() for word in words
         for side, part in [("", None), *PARTS.items()] for name in (side + word, word + side)}  # fmt: skip
NUMPY = [np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdU")]  # in .pt: arrays of plain numbers
NUMPY += [(np._core.multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]


def known(name: str) -> tuple[str, str | None] | None:
    """What a field of this name holds, and of which part; None where that is not known.

    >>> known("queryCAM"), known("galFea"), known("label"), known("epoch")
    (('camera_id', 'query'), ('features', 'gallery'), ('label', None), None)
    """
    return KNOWN.get(re.sub("[^a-z]", "", name.lower()))


class Fields(NamedTuple):
    """What some files hold together: all `names`, the known fields by role and part, whether MATLAB wrote one."""

    where: str
    matlab: bool
    names: list[str]
    found: dict[tuple[str, str | None], np.ndarray]

    def need(self, what: str, *parts: str | None) -> np.ndarray:
        """The field of the first of these parts that has it, or ValueError: what there is and what is wanted."""
        for role in (what, LABEL) if what == PERSON else (what,):
            for part in parts:
                if (role, part) in self.found:
                    return self.found[role, part]
        has, wanted, part = ", ".join(self.names) or "(none)", ", ".join(WORDS[what]), parts[0] or ""
        remedy = f"Call it one of {wanted}{part and f', after {part}_'}"
        raise ValueError(f"{self.where} has the fields {has}; none is the {what} of its {part or 'images'}. {remedy}.")

    def table(self, *parts: str | None) -> pd.DataFrame:
        """The ids of the images of a part: person_id, and camera_id, subset and image_path where they are there."""
        columns = {}
        for what in (PERSON, CAMERA, SUBSET, PATH):
            if what == PERSON or any((what, part) in self.found for part in parts):
                x = self.need(what, *parts)
                x = np.ravel(x) if 1 in x.shape else x
                if x.ndim != 1:
                    raise ValueError(f"{self.where}: {what} has shape {x.shape}; one an image is expected: (n,).")
                columns[what] = ids.column(x, f"{self.where}: {what}") if what in (PERSON, CAMERA) else x.astype(str)
        if len({len(x) for x in columns.values()}) > 1:
            lengths = ", ".join(f"{len(x)} {name}" for name, x in columns.items())
            raise ValueError(f"{self.where}: the fields of one part differ in length: {lengths}.")
        return pd.DataFrame(columns)

    def matrix(self, what: str, count: int, images: str | None, *parts: str | None) -> np.ndarray:
        """A field (count, m), transposed where images (or queries) are its columns; ValueError if unclear."""
        if images not in (None, "rows", "columns"):
            raise ValueError(f"images is {images!r}; it is 'rows' or 'columns'.")
        kind = np.float32 if what == VALUES else None  # of a distance only the order counts, which rounding may change
        x = as_array(self.need(what, *parts), f"{what} of {self.where}", dtype=kind)
        rows, columns = (size == count for size in x.shape)
        if rows and columns and self.matlab and images is None:
            raise ValueError(f"{self.where}: the {what} are {x.shape}, and in MATLAB either may be images: say which.")
        if not (rows if images == "rows" else columns if images == "columns" else rows or columns):
            raise ValueError(f"{self.where}: {count} ids, but {what} of shape {x.shape}; one id an image is needed.")
        return x.T if images == "columns" or not rows else x


def fields(paths) -> Fields:
    """The known fields of a file, or of several that belong together (features in one, ids in another).
    Raises FileNotFoundError, and ValueError for another format, a damaged file, pickled objects, a field that is twice.
    """
    paths = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    beside = [path.with_suffix(".csv") for path in paths if path.suffix.lower() == ".npy"]
    paths = list(dict.fromkeys([*paths, *filter(Path.is_file, beside)]))
    out = Fields(" + ".join(map(str, paths)), any(path.suffix.lower() == ".mat" for path in paths), [], {})
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}.")
        if (read := READERS.get(path.suffix.lower())) is None:
            raise ValueError(f"{path}: features are read from {', '.join(READERS)}; convert it to one of these.")
        name = "(none yet)"
        try:
            held = read(path)
            if not isinstance(held, Mapping):  # one array, which the file's name may name
                held = {path.stem if known(path.stem) else VALUES: held}
            for name in map(str, held):
                out.names.append(name)
                if (role := known(name)) in out.found:
                    raise ValueError("another field says the same; leave one of them out")
                if role and (x := _plain(held[name])).ndim and x.size:  # one number, or MATLAB's [], is of no image
                    out.found[role] = x
        except Exception as error:  # of six libraries, and the file may be anything
            if getattr(error, "errno", None) is not None:  # it may be whole, but the system does not give it
                raise
            reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
            reason = reason.partition(" Please use")[0].rstrip(".") or type(error).__name__
            remedy = "a whole file of plain numbers and text is needed"
            raise ValueError(f"{path} cannot be read, at field {name}: {reason}; {remedy}.") from error
    return out


def read(files=None, query=None, gallery=None, train=None, images=None) -> tuple[np.ndarray, pd.DataFrame, dict]:
    """Values (N, d) float32, table, and what the files say of their making, of `reid_core.features.read`."""
    values, tables, made = [], [], []
    for part, paths in ((None, files), (TRAIN, train), (QUERY, query), (GALLERY, gallery)):
        if paths is None:
            continue
        held = fields(paths)
        made.append(json.loads(np.ravel(held.found.get((META, None), "{}"))[0]))
        apart = [side for side in SUBSETS if part is None and (VALUES, side) in held.found]
        for sides in [(side,) for side in apart] or [(part, None)]:
            held.need(VALUES, *sides)
            table = held.table(*sides)
            block = held.matrix(VALUES, len(table), images, *sides)
            whole = sides[0] and (SUBSET not in table or table[SUBSET].nunique() == 1)
            rows_of = {sides[0]: slice(None)} if whole else _parted(held, table)
            if part not in (None, *rows_of):
                raise ValueError(f"{held.where} has no {part} images by its field subset, only {', '.join(rows_of)}.")
            for name, rows in (rows_of if part is None else {part: rows_of[part]}).items():
                values.append(block[rows])
                tables.append(table.iloc[rows].assign(**{SUBSET: name}))
    if not values:
        raise ValueError("There is nothing to read; give files, or query and gallery.")
    if len(widths := {block.shape[1] for block in values}) > 1:
        raise ValueError(f"The parts have features of {sorted(widths)} dimensions; extract all with one model.")
    for name in (PERSON, CAMERA):
        if len({table[name].dtype.kind if name in table else None for table in tables}) > 1:
            raise ValueError(f"{name} is there, or is a number, in some parts only; give it alike in all.")
    for name in ALIKE:
        if len(found := {str(meta.get(name)) for meta in made if meta}) > 1:
            raise ValueError(f"The parts differ in {name} ({', '.join(sorted(found))}); extract all with one model.")
    meta = {name: x for name, x in made[0].items() if all(one.get(name) == x for one in made)}
    return np.concatenate(values), _with_cameras(pd.concat(tables, ignore_index=True)), meta


def read_distance(files, query=None, gallery=None, images=None) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """A matrix (Q, G) (with images="columns", or where lengths say so, its transpose) and both sides' ids."""
    held = fields(files)
    sides = {QUERY: held if query is None else fields(query), GALLERY: held if gallery is None else fields(gallery)}
    tables = [side.table(*(part, None)[: 1 + (side is not held)]) for part, side in sides.items()]
    matrix = held.matrix(DISTANCE, len(tables[0]), images, None)
    if matrix.shape[1] != len(tables[1]):
        raise ValueError(f"{held.where}: the matrix is {matrix.shape} for {len(tables[0])} and {len(tables[1])} ids.")
    return matrix, *map(_with_cameras, tables)


def _with_cameras(table: pd.DataFrame) -> pd.DataFrame:
    return table if CAMERA in table else table.assign(**{CAMERA: ids.NO_CAMERA})


def _parted(held: Fields, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Rows of each part by the field `subset`, or by `query_idx`, `gallery_idx`, ..."""
    if SUBSET in table:
        named = table[SUBSET].str.strip().str.lower().map(PARTS)
        if len(wrong := table[SUBSET][named.isna()]):
            raise ValueError(f"{held.where}: subset is {wrong.iloc[0]!r}; use {', '.join(SUBSETS)}.")
        return {part: np.flatnonzero(named == part) for part in SUBSETS if (named == part).any()}
    numbered = {part: held.found[INDEX, part] for part in SUBSETS if (INDEX, part) in held.found}
    numbered = numbered or held.need(SUBSET, None)  # which is not there: its error
    found = {part: ids.column(np.ravel(x), INDEX) - held.matlab for part, x in numbered.items()}
    if any(rows.min() < 0 or rows.max() >= len(table) for rows in found.values()):
        raise ValueError(f"{held.where}: a row number is outside of its {len(table)} images.")
    return found


def _plain(x) -> np.ndarray:
    """As an array: tensors, lists of one entry an image or a batch."""
    if isinstance(x, list | tuple) and x and isinstance(x[0], torch.Tensor):
        x = torch.cat(x) if x[0].ndim > 1 else torch.stack(x)
    if isinstance(x, torch.Tensor):
        x = (x.float() if x.dtype == torch.bfloat16 else x).numpy(force=True)
    x = np.asarray(x)
    if x.dtype == object:
        cells = [np.asarray(cell) for cell in x.ravel()]
        if not all(cell.dtype.kind == "U" and cell.size == 1 for cell in cells):  # MATLAB's cells of a text each
            raise ValueError("it holds objects or cells")
        x = np.array([cell.item() for cell in cells])
    return x


def _csv(source) -> dict:
    encoding = {"encoding": "utf-8-sig", "encoding_errors": "surrogateescape"}
    table, found = pd.read_csv(source, dtype=str, keep_default_na=False, **encoding), {}
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first cells for names of rows then
        raise ValueError("its rows have more cells than its first line names columns")
    for name, cells in table.items():
        if cells.str.strip().any():
            found[name] = list(cells)
            with contextlib.suppress(ValueError):  # unless all cells are whole numbers they are text
                found[name] = [ids.exact(cell) for cell in cells]
    return found


def _matlab(path: Path) -> dict:
    if not h5py.is_hdf5(path):
        return {name: x for name, x in scipy.io.loadmat(path).items() if not name.startswith("__")}
    with opened(path) as file:  # MATLAB's 7.3, which holds every array transposed, and of an empty one the shape
        plain = {name for name, x in file.items() if getattr(x, "dtype", np.dtype("O")).kind in "fiub"}
        plain -= {name for name, x in file.items() if x.attrs.get("MATLAB_class") in (b"char", b"cell", b"struct")}
        empty = {name: [] for name, x in file.items() if "MATLAB_empty" in x.attrs}
        return {name: x[()].T if name in plain else [None] for name, x in file.items()} | empty


def _torch(path: Path):
    with torch.serialization.safe_globals(NUMPY):
        found = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(found, dict):
        return found
    nested = {f"{a}_{b}": y for a, x in found.items() if isinstance(x, dict) for b, y in x.items()}
    return {str(name): x for name, x in (found | nested).items() if not isinstance(x, dict)}


def _safetensors(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}
        if "meta" in (made := file.metadata() or {}):  # of `features.save`
            found |= _csv(io.BytesIO(found.pop("table").numpy().tobytes())) | {META: [made["meta"]]}
    return found


_numpy = partial(np.load, allow_pickle=False)
READERS = {".npz": _numpy, ".npy": _numpy, ".csv": _csv, ".mat": _matlab, ".pt": _torch, ".pth": _torch,
           ".safetensors": _safetensors}  # fmt: skip
