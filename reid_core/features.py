"""From images to L2-normalised features, and the feature file that holds them.

The retrieval feature is the pooled output of R5 (Section 3.2: "we take the output of R5 to be feature
representations"), divided by its length before any metric, as in the released toolchain of Zhong et al., CVPR 2017.
Several outputs can be joined into one feature, each divided by its own length first, so that none outweighs the
others by its scale; the paper does not do so.
"""

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as as_bytes
from torch import nn
from torch.nn.functional import normalize

from reid_core import feature_files, files, images, machine, model, own_network
from reid_core.datasets import cache
from reid_core.datasets import table as image_table
from reid_core.datasets.table import DATASET, PATH, SUBSET
from reid_core.distance import as_array
from reid_core.progress import shown
from reid_core.training import run_folder

KEPT_PIXELS = 1 << 24  # of a small set, which a study passes through dozens of networks: decoded once, in the cache
_KIT = tuple(model.MODELS.values())


@dataclass(frozen=True)
class Features:
    """values (N, d) float32, of length 1 each if extracted; table: the same rows' ids; meta: what made them."""

    values: np.ndarray
    table: pd.DataFrame
    meta: dict[str, Any]

    def __len__(self) -> int:
        return len(self.values)

    def subset(self, mask) -> "Features":
        """The rows where a mask is true, such as `f.subset(f.table["subset"] == "query")`.
        mask: (N,) booleans; those of a Series belong to the rows that its index names, whatever their order. Raises
        ValueError for another number of them, another index than the table's, missing ones, or no booleans."""
        if isinstance(mask, pd.Series):
            if not mask.index.sort_values().equals(self.table.index.sort_values()):
                raise ValueError("The mask has another index than the table; make it of the table's columns.")
            mask = mask.reindex(self.table.index)
        mask = np.asarray(mask)
        kind = pd.api.types.infer_dtype(mask.ravel(), skipna=False)
        if kind != "boolean" or mask.shape != (len(self),):
            wanted = f"one true or false for each of the {len(self)} rows"
            raise ValueError(f"A mask is {wanted}, not {mask.size} {kind} values; for row numbers there is `take`.")
        return self.take(np.flatnonzero(mask))

    def take(self, rows) -> "Features":
        """Some rows by a slice or their numbers from 0, (n,) integers in any order; ValueError for others."""
        rows = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        whole = rows.ndim == 1 and (not len(rows) or rows.dtype.kind in "iu")
        if not whole or len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise ValueError(f"Row numbers are integers from 0 to {len(self) - 1}; for a mask there is `subset`.")
        rows = rows.astype(np.int64)
        return Features(self.values[rows], self.table.iloc[rows].reset_index(drop=True), self.meta)


def extract(
    run_dir_or_model: str | Path | Callable, table: pd.DataFrame, *, data_root: str | Path,
    path: str | Path | None = None, output: str = "r5", layer: str | None = None, height: int | None = None,
    width: int | None = None, size: tuple[int, int] | None = None, mean: Sequence[float] = images.MEAN,
    std: Sequence[float] = images.STD, batch_size: int = 64, device: str | torch.device | None = None,
    progress: bool = True,
) -> Features:  # fmt: skip
    """Features of every image of a table, by a trained run or by any network in memory.

    Parameters
    ----------
    run_dir_or_model : a finished run folder; a network of `reid_core.model`; or any torch module (of one with
        `encode_image`, as CLIP's, that is called) or function of images (n, 3, height, width) float32 that gives
        (n, d) floats. A module comes back in the mode and on the device that it was in
    table, data_root : image table of N rows, and the data folder, to which paths in the file are relative
    path : the feature file (.safetensors), if any: read instead if the same weights made it from the same rows and
        image files with the same settings, else replaced, as always for networks of others, whose code no digest knows
    output : which pooled map of the kit's networks: "r5" (the paper's feature), "c1", "c2"; or several joined, such as
        "r5+c1+c2": each L2-normalised, then concatenated, then normalised again (`parts` takes them apart)
    layer : of a torch module, the layer whose output is taken, such as "blocks.11" (`named_modules`): (n, d) as it is,
        maps (n, d, h, w) averaged over space, tokens (n, t, d) over all tokens; others are refused
    height, width, size : input in pixels, or both as (height, width); of a run those it was trained at, else required
    mean, std : of RGB from 0 to 1, by which the input is normalised. The kit's own networks take ImageNet's alone
    batch_size : images at a time, on which the features depend by rounding alone
    device : "cpu", "cuda", ...; None: a GPU where there is one, for a function that is no torch module the CPU
    progress : show how far it is

    Returns values (N, d) float32 in the table's order; d = 2048 for R5 of ResNet-50, 5120 for all three.
    Raises FileNotFoundError for a missing run or image; TypeError for no network; ValueError for an unfinished run,
    weights that do not fit it, an output, layer or device that is not there, a missing input size, an image that cannot
    be decoded, and for what is no (n, d) finite floats, at the first batch.
    """
    table = image_table.validate(table)
    if size is not None and (height or width or np.shape(size) != (2,)):
        raise ValueError(f"size is (height, width), instead of these two, not {size!r}.")
    network, meta = run_dir_or_model, _about(run_dir_or_model, *((height, width) if size is None else size))
    own = layer is None and isinstance(network, (str, Path, *_KIT))
    mean, std = _normalisation(mean, std, own)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}.")
    meta |= {"output": output, "pillow": PIL.__version__}
    meta |= {"table_digest": image_table.digest(table, data_root), "files_digest": images.files_digest(table)}
    if own and path is not None and (found := _reusable(Path(path), meta, data_root)) is not None:
        return found
    network = run_folder.load_network(network)[0] if isinstance(network, str | Path) else network
    outputs = output.split("+") if own else []
    if unknown := [name for name in outputs if name not in network.widths]:
        raise ValueError(f"The network has the outputs {', '.join(network.widths)}, not {unknown[0]!r}.")
    if len(set(outputs)) < len(outputs):
        raise ValueError(f"output {output!r} names one output twice.")
    device = machine.choose(device if own or device or own_network.module_of(network) else "cpu")
    started, size = time.perf_counter(), (meta["height"], meta["width"])
    inputs = images.streamed(table, *size, batch_size, device, "Extract", mean, std)
    if own and device.type == "cpu" and len(table) * size[0] * size[1] <= KEPT_PIXELS:
        with shown(progress), contextlib.suppress(OSError):  # without a cache, or an image: as larger sets
            pixels, _, seconds = images.decoded(table, *size, data_root=data_root)
            inputs = [images.normalise(part, mean, std) for part in torch.from_numpy(pixels).split(batch_size)]
            started = time.perf_counter() - seconds
    with shown(progress):
        rows = _values(network, outputs, inputs, device) if own else own_network.rows(network, layer, inputs, device)
        values = torch.cat(list(rows)).numpy()
    meta["widths"] = [network.widths[name] for name in outputs] if own else [values.shape[1]]
    meta |= {} if own else {"output": layer or "output", "mean": mean, "std": std}
    meta |= {"device": machine.device_name(device), "seconds": time.perf_counter() - started}
    features = Features(values, table, meta)
    if path is not None:
        save(features, path, data_root)
    return features


def parts(features: Features) -> dict[str, Features]:
    """The single outputs of features that join several, as if extracted one by one, up to rounding.

    >>> joined = Features(np.float32([[0.6, 0, 0.8]]), pd.DataFrame(), {"output": "r5+c1", "widths": [2, 1]})
    >>> {name: part.values.tolist() for name, part in parts(joined).items()}
    {'r5': [[1.0, 0.0]], 'c1': [[1.0]]}
    """
    names, widths = features.meta["output"].split("+"), features.meta["widths"]
    blocks = (normalize(block).numpy() for block in torch.from_numpy(features.values).split(widths, 1))
    return {
        name: replace(features, values=block, meta=features.meta | {"output": name, "widths": [width]})
        for name, width, block in zip(names, widths, blocks, strict=True)
    }


def save(features: Features, path: str | Path, data_root: str | Path) -> Path:
    """Write a feature file: the values and ids as tensors, paths relative to the data root, `meta` as JSON."""
    table = image_table.validate(features.table)
    if len(table) != len(features):
        raise ValueError(f"There are {len(features)} rows of features for {len(table)} rows of the table.")
    table[PATH] = image_table.portable_paths(table[PATH], data_root)
    rows = table.to_csv(index=False, lineterminator="\n")
    table = torch.frombuffer(bytearray(rows, "utf-8", "surrogateescape"), dtype=torch.uint8)
    values = np.require(as_array(features.values, "features", dtype=np.float32), requirements="CW")
    meta = {"meta": json.dumps(features.meta, default=lambda x: x.item() if isinstance(x, np.generic) else str(x))}
    files.write_tensors(Path(path), {"values": torch.from_numpy(values), "table": table}, meta)
    return Path(path)


def load(path: str | Path, data_root: str | Path) -> Features:
    """Read a feature file; image paths become absolute under `data_root`. FileNotFoundError for no file, ValueError for
    one that is damaged or no feature file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no feature file {path}; features.extract(..., path=...) makes it.")
    try:
        with safe_open(path, "numpy") as file:
            meta = json.loads(file.metadata()["meta"])
            values, rows = file.get_tensor("values"), file.get_tensor("table")
        how = {"dtype": dict.fromkeys((PATH, DATASET, SUBSET), str), "encoding_errors": "surrogateescape"}
        table = pd.read_csv(io.BytesIO(rows.tobytes()), keep_default_na=False, na_values=[""], **how)  # a set may be NA
        table[PATH] = image_table.absolute_paths(table[PATH], data_root)
        if values.ndim != 2 or len(values) != len(table):
            raise ValueError(f"{values.shape} values for {len(table)} rows")
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no whole feature file ({error}); move it aside and extract again.") from error
    return Features(values, image_table.validate(table), meta)


def read(files=None, *, query=None, gallery=None, train=None, images: str | None = None) -> Features:
    """Features that any tool wrote, as they are: .npz, .npy with a .csv beside it, .mat, .pt, .pth or .safetensors.

    Parameters
    ----------
    files : a path with all parts, told apart by names of fields or a field `subset`; or several paths, read as one
    query, gallery, train : paths of the parts that lie apart, of one part each
    images : "rows" or "columns" of the features; None: the one that agrees with the number of ids

    Returns values (N, d) float32, a table with subset, person_id, camera_id (-1 without one) and image_path where it is
    there, and as `meta` the files and what a feature file of ours says of its making (several: what they agree in).
    Names of fields: see `reid_core.feature_files`. Raises FileNotFoundError for a missing file; ValueError, with the
    file's fields and the names that are wanted, for a field that is missing, damaged, pickled or of another length.
    """
    values, table, meta = feature_files.read(files, query, gallery, train, images)
    return Features(values, table, meta | {"files": [str(x) for x in (files, query, gallery, train) if x is not None]})


def _normalisation(mean, std, own: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Both as numbers; what the network was not trained with, or what is of pixels from 0 to 255, is refused."""
    mean, std = tuple(map(float, mean)), tuple(map(float, std))
    if len(mean) != 3 or len(std) != 3 or not all(0 <= x <= 1 for x in mean) or not all(0 < x <= 1 for x in std):
        raise ValueError(f"mean and std are three numbers each, of RGB from 0 to 1, not {mean} and {std}.")
    if own and (mean, std) != (images.MEAN, images.STD):
        raise ValueError("The kit's own networks are trained with ImageNet's mean and std; leave these out.")
    return mean, std


def _about(source, height: int | None, width: int | None) -> dict[str, Any]:
    """What identifies a network and its input."""
    if not isinstance(source, str | Path):
        if height is None or width is None:
            raise ValueError("A network in memory does not say its input size; give height and width.")
        facts = {"model": type(own_network.module_of(source) or source).__name__, "height": height, "width": width}
        if isinstance(source, _KIT):
            state = {name: x.detach().cpu().contiguous() for name, x in source.state_dict().items()}
            about = repr((source.backbone_name, source.settings)).encode()
            facts["weights_digest"] = hashlib.sha256(about + as_bytes(state)).hexdigest()
        return facts
    run, (digest,) = run_folder.read(source), cache.contents([Path(source) / run_folder.WEIGHTS])
    size = {"height": height or run["recipe"]["height"], "width": width or run["recipe"]["width"]}
    about = {name: run[name] for name in ("model", "data_source")} | {"run": Path(source).name} | size
    return about | {"weights_digest": digest}


def _reusable(path: Path, meta: dict[str, Any], data_root: str | Path) -> Features | None:
    """What the file holds, if it was made by all that `meta` says."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        found = load(path, data_root)
        if all(found.meta.get(name) == value for name, value in meta.items()):
            return found


@torch.inference_mode()
def _values(network: nn.Module, outputs: list[str], batches: Iterable[torch.Tensor], device) -> list[torch.Tensor]:
    """Rows (n, d) float32 of each batch: one output's pooled map, or several, each of length 1 before, side by side.
    A list of batches has a thread each: threads that share small maps wait for each other, on a busy machine long."""
    one, threads = outputs[0], torch.get_num_threads()

    @torch.inference_mode()  # of each thread
    def rows(batch: torch.Tensor) -> torch.Tensor:
        pooled = {one: network.features(batch, one)} if len(outputs) == 1 else network.pooled(batch)
        parts = [normalize(pooled[name].float()) for name in outputs]
        return (torch.cat(parts, 1) / len(outputs) ** 0.5).cpu()

    try:
        with (own_network.lent(network, device),
              ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool):  # fmt: skip
            network.to(memory_format=torch.channels_last)
            return list((pool.map if isinstance(batches, list) else map)(rows, batches))
    finally:
        torch.set_num_threads(threads)  # the pool has set it for every thread to come
