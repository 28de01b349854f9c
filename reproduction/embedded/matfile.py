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
        for name, matlab_class in (("a", "canonical empty"), ("b", "double")):
            self.blank = self._new(matlab_class, name, data=np.zeros(2, np.uint64))
            self.blank.attrs.create("MATLAB_empty", np.uint8(1))
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.file.close()
        if kind is None:
            with open(self.path, "r+b") as stream:
                stream.write(HEADER_TEXT.ljust(116) + bytes(8) + b"\x00\x02IM")

    def _new(self, matlab_class: str, name: str | None = None, group: h5py.Group | None = None, **data) -> h5py.Dataset:
        """A data set with MATLAB's class, a fixed-length ASCII string; in `#refs#` and numbered unless told."""
        self.count += name is None
        group = self.refs if group is None else group
        dataset = group.create_dataset(name or f"c{self.count:06d}", track_times=False, **data)
        dataset.attrs.create("MATLAB_class", np.bytes_(matlab_class))
        return dataset

    def image(self, shape: tuple[int, int, int], chunk: bytes) -> h5py.Reference:
        """Store a uint8 image from its HDF5 shape (3, W, H) and its compressed bytes; return its reference."""
        how = {"chunks": shape, "compression": "gzip", "compression_opts": DEFLATE_LEVEL}
        dataset = self._new("uint8", shape=shape, dtype=np.uint8, **how)
        dataset.id.write_direct_chunk((0, 0, 0), chunk)
        return dataset.ref

    def matrix(self, values: np.ndarray) -> h5py.Reference:
        """Store an (m, n) matrix of doubles; return its reference."""
        return self._new("double", data=np.asarray(values, np.float64).T).ref

    def cell(self, references: list[list[h5py.Reference | None]], name: str | None = None) -> h5py.Reference:
        """Store an (m, n) cell from rows of references (None: `[]`), as variable `name` or within another cell."""
        data = np.empty((len(references[0]), len(references)), dtype=h5py.ref_dtype)
        for i, row in enumerate(references):
            for j, reference in enumerate(row):
                data[j, i] = self.blank.ref if reference is None else reference
        return self._new("cell", name, name and self.file, data=data, dtype=h5py.ref_dtype).ref
