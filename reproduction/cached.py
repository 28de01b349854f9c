"""LOMO features kept in the cache: four rows of the tables share them, and on the full sets they take minutes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import PIL

from reid_core import images
from reid_core.baselines import lomo, windows
from reid_core.datasets import cache


class Cached(NamedTuple):
    """values (N, d) float32, memory-mapped, read-only; the file they lie in; the seconds they once took."""

    values: np.ndarray
    path: Path
    seconds: float


def lomo_path(table: pd.DataFrame, *, retinex: bool = True) -> Path:
    """Where the LOMO features of an image table are kept.

    The file's name holds a digest of all that made it: the images' contents, the setting, the code of the feature,
    the versions of NumPy and Pillow."""
    made_from = [images.files_digest(table), retinex, np.__version__, PIL.__version__]
    return cache.place("lomo", made_from, [module.__file__ for module in (lomo, windows, images)])


def lomo_features(table: pd.DataFrame, *, retinex: bool = True) -> Cached:
    """LOMO features of an image table, extracted at the first call and read from `lomo_path` afterwards."""
    path, size = lomo_path(table, retinex=retinex), 4 * len(table) * lomo.dimension()
    seconds = cache.made(
        path, lambda temporary: lomo.extract(table, retinex=retinex, path=temporary), size, "the LOMO features"
    )
    return Cached(np.load(path, mmap_mode="r"), path, seconds)
