"""From image files to network input: decoded once into one cached array (training), or streamed (features)."""

import functools
import hashlib
import io
import itertools
import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import PIL
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from reid_core import files, machine
from reid_core.datasets import table as image_table

# RGB mean and standard deviation on which torchvision's ImageNet weights were trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CHUNK = 64  # images a decoding job


@functools.cache
@torch.inference_mode(False)
def _mean_and_scale(device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor(MEAN, device=device) * 255, 1 / (torch.tensor(STD, device=device) * 255)


def normalise(pixels: Tensor) -> Tensor:
    """Network input (n, 3, height, width) float32, channels last in memory, of uint8 (n, height, width, 3)."""
    mean, scale = _mean_and_scale(pixels.device)
    return ((pixels.float() - mean) * scale).permute(0, 3, 1, 2)


def decode(content: bytes, path: str, height: int, width: int) -> np.ndarray:
    """An image file's content as uint8 RGB (height, width, 3), resized bilinearly, aspect not kept.

    Raises ValueError, naming the path, for one that is no whole image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} cannot be decoded ({error}); put back a whole copy.") from error


def read(path: str) -> bytes:
    """The content of an image file; FileNotFoundError with a remedy where there is none."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None


def _missing(path: str) -> FileNotFoundError:
    return FileNotFoundError(f"{path}: there is no such image; put the data back, or load it again.")


def files_digest(table: pd.DataFrame) -> str:
    """SHA-256 (hex) of size and date of change of a table's image files: a cheap sign that they are the same.

    Raises FileNotFoundError naming a missing image.
    """
    with ThreadPoolExecutor(machine.cores()) as pool:
        try:
            stats = [(stat.st_size, stat.st_mtime_ns) for stat in pool.map(os.stat, table[image_table.PATH])]
        except FileNotFoundError as error:
            raise _missing(error.filename) from None
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()


def streamed(
    paths: list[str], height: int, width: int, batch_size: int, device: torch.device
) -> Iterator[Tensor]:
    """Normalised images (n, 3, height, width) float32 batch by batch, two batches decoded ahead in parallel."""

    def pixels(path: str) -> np.ndarray:
        return decode(read(path), path, height, width)

    with ThreadPoolExecutor(machine.cores()) as pool:
        starts = range(0, len(paths), batch_size)
        jobs = ([pool.submit(pixels, path) for path in paths[i : i + batch_size]] for i in starts)
        ahead = deque(itertools.islice(jobs, 2))
        try:
            while ahead:
                batch = np.stack([job.result() for job in ahead.popleft()])
                ahead.extend(itertools.islice(jobs, 1))
                yield normalise(torch.from_numpy(batch).to(device))
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Decoded:
    """pixels: uint8 (N, height, width, 3), memory-mapped. digest: SHA-256 (hex) of the table's rows and files."""

    pixels: np.ndarray
    digest: str


def decoded(
    table: pd.DataFrame, height: int, width: int, *, data_root: str | Path, progress: bool = True
) -> Decoded:
    """All images of a table as one array from the cache, decoded in parallel at the first call.

    The array's name holds a digest of all that made it: the rows, size and date of change of every file, the
    target size, Pillow's version. It is written whole or not at all; what killed processes left is removed first.

    Raises FileNotFoundError or ValueError naming an image that is missing or broken, OSError for a full disk.
    """
    paths, rows = list(table[image_table.PATH]), image_table.digest(table, data_root)
    made_from = [rows, files_digest(table), str(height), str(width), "bilinear", PIL.__version__]
    key = hashlib.sha256(" ".join(made_from).encode()).hexdigest()[:32]
    path = image_table.cache_root() / "decoded" / f"{key}-{height}x{width}.npy"
    record = path.with_suffix(".json")
    if not (path.exists() and record.exists()):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.remove_dead(path.parent)
        size = len(paths) * height * width * 3
        files.require_space(path.parent, size, "the decoded images (REID_CORE_CACHE moves the cache)")
        contents = _decode_all(paths, height, width, path, progress)
        digest = hashlib.sha256("".join([rows, *contents]).encode()).hexdigest()
        files.write_text(record, json.dumps({"digest": digest}))
    pixels = np.load(path, mmap_mode="c")  # copy on write, as torch wants writable memory
    return Decoded(pixels, json.loads(record.read_text())["digest"])


def _decode_all(paths: list[str], height: int, width: int, target: Path, progress: bool) -> list[str]:
    """Write the array; return the SHA-256 of each file's content."""
    digests = [""] * len(paths)
    with files.replacing(target) as temporary, ThreadPoolExecutor(machine.cores()) as pool:
        shape = (len(paths), height, width, 3)
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)

        def job(start: int) -> int:
            rows = range(start, min(start + _CHUNK, len(paths)))
            for i in rows:
                content = read(paths[i])
                digests[i] = hashlib.sha256(content).hexdigest()
                array[i] = decode(content, paths[i], height, width)
            return len(rows)

        try:
            with tqdm(
                total=len(paths), desc="Decode", unit="image", leave=False, disable=not progress
            ) as bar:
                for done in pool.map(job, range(0, len(paths), _CHUNK)):
                    bar.update(done)
        finally:
            pool.shutdown(cancel_futures=True)
        array.flush()
    return digests
