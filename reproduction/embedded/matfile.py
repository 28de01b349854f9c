"""A MATLAB 7.3 file (HDF5 with a MATLAB header) of nested cells, as MATLAB writes CUHK03's release."""

import zlib
from pathlib import Path

import h5py
import numpy as np

USERBLOCK = 512
HEADER_TEXT = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Jan  1 00:00:00 1970 HDF5 schema 1.00 ."
DEFLATE_LEVEL = 3


def deflate(array: np.ndarray) -> bytes:
    """An array's bytes in its HDF5 order, compressed as a chunk of the file."""
    return zlib.compress(np.ascontiguousarray(array).tobytes(), DEFLATE_LEVEL)


class MatFile:
    """Writer of one MATLAB 7.3 file; use it as a context manager.

    MATLAB stores arrays column by column, so an (H, W, 3) image is an HDF5 data set of shape (3, W, H) and an (m, n)
    cell one of (n, m) references into the group `#refs#`. No time stamps are kept: the same calls give the same bytes.
    """

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> "MatFile":
        self.file = h5py.File(self.path, "w", userblock_size=USERBLOCK, libver=("earliest", "v108"))
        self.refs = self.file.create_group("#refs#", track_order=False)
        self.count = 0
        self.empty = self.refs.create_dataset("a", data=np.zeros(2, np.uint64), track_times=False)
        self.label(self.empty, "canonical empty", empty=True)
        self.blank = self.refs.create_dataset("b", data=np.zeros(2, np.uint64), track_times=False)
        self.label(self.blank, "double", empty=True)
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.file.close()
        if kind is None:
            with open(self.path, "r+b") as stream:
                stream.write(HEADER_TEXT.ljust(116) + bytes(8) + b"\x00\x02IM")

    def label(self, dataset: h5py.Dataset, matlab_class: str, empty: bool = False) -> None:
        """Attach MATLAB's class, a fixed-length ASCII string, and its mark of an empty array."""
        dataset.attrs.create("MATLAB_class", np.bytes_(matlab_class))
        if empty:
            dataset.attrs.create("MATLAB_empty", np.uint8(1))

    def _name(self) -> str:
        self.count += 1
        return f"c{self.count:06d}"

    def image(self, shape: tuple[int, int, int], chunk: bytes) -> h5py.Reference:
        """Store a uint8 image from its HDF5 shape (3, W, H) and its compressed bytes; return its reference."""
        dataset = self.refs.create_dataset(
            self._name(), shape, np.uint8, chunks=shape, compression="gzip", compression_opts=DEFLATE_LEVEL,
            track_times=False,
        )  # fmt: skip
        dataset.id.write_direct_chunk((0, 0, 0), chunk)
        self.label(dataset, "uint8")
        return dataset.ref

    def matrix(self, values: np.ndarray) -> h5py.Reference:
        """Store an (m, n) matrix of doubles; return its reference."""
        data = np.asarray(values, np.float64).T
        dataset = self.refs.create_dataset(self._name(), data=data, track_times=False)
        self.label(dataset, "double")
        return dataset.ref

    def cell(self, references: list[list[h5py.Reference | None]], name: str | None = None) -> h5py.Reference:
        """Store an (m, n) cell from rows of references (None: `[]`), as variable `name` or within another cell."""
        rows, columns = len(references), len(references[0])
        data = np.empty((columns, rows), dtype=h5py.ref_dtype)
        for i, row in enumerate(references):
            for j, reference in enumerate(row):
                data[j, i] = self.blank.ref if reference is None else reference
        group = self.refs if name is None else self.file
        dataset = group.create_dataset(name or self._name(), data=data, dtype=h5py.ref_dtype, track_times=False)
        self.label(dataset, "cell")
        return dataset.ref
