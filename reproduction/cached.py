"""LOMO features kept in the cache: four rows of the tables share them, and on the full sets they take minutes."""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import PIL

from reid_core import files
from reid_core.baselines import images, lomo, windows
from reid_core.datasets.table import PATH, cache_root
from reid_core.images import files_digest


@dataclass(frozen=True)
class Cached:
    """values (N, d) float32, memory-mapped, read-only; the file they lie in; the seconds they once took."""

    values: np.ndarray
    path: Path
    seconds: float


def lomo_path(table: pd.DataFrame, *, retinex: bool = True) -> Path:
    """Where the LOMO features of an image table are kept.

    The file's name holds a digest of all that made it: paths, sizes and dates of the images, the setting, the
    code of the feature, the versions of NumPy and Pillow.
    """
    code = [Path(module.__file__).read_text(encoding="utf-8") for module in (lomo, windows, images)]
    made_from = [list(table[PATH]), files_digest(table), retinex, code, np.__version__, PIL.__version__]
    key = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]
    return cache_root() / "lomo" / f"{key}.npy"


def lomo_features(table: pd.DataFrame, *, retinex: bool = True, progress: bool = True) -> Cached:
    """LOMO features of an image table, extracted at the first call and read from `lomo_path` afterwards."""
    path = lomo_path(table, retinex=retinex)
    record = path.with_suffix(".json")
    if not (path.is_file() and record.is_file()):
        path.parent.mkdir(parents=True, exist_ok=True)
        size = 4 * len(table) * lomo.dimension()
        files.require_space(path.parent, size, "the LOMO features (REID_CORE_CACHE moves the cache)")
        started = time.perf_counter()
        lomo.extract(table, retinex=retinex, path=path, progress=progress)
        files.write_text(record, json.dumps({"seconds": time.perf_counter() - started}))
    return Cached(np.load(path, mmap_mode="r"), path, json.loads(record.read_text())["seconds"])
