"""Images for training: decoded once into one array, then batches gathered, augmented and normalised on the device.

`plain_batch` makes the same batches from the files with torchvision's transforms, slowly: the reference.
"""

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
import torchvision.transforms.v2.functional as TF
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from reid_core import atomic
from reid_core.datasets import table as tables
from reid_core.training.recipe import Recipe

# RGB mean and standard deviation on which torchvision's ImageNet weights were trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CHUNK = 64  # images a decoding job


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
    with ThreadPoolExecutor(_cores()) as pool:
        try:
            stats = [(stat.st_size, stat.st_mtime_ns) for stat in pool.map(os.stat, table[tables.PATH])]
        except FileNotFoundError as error:
            raise _missing(error.filename) from None
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()


def streamed(
    paths: list[str], height: int, width: int, batch_size: int, device: torch.device
) -> Iterator[Tensor]:
    """Normalised images (n, 3, height, width) float32 batch by batch, two batches decoded ahead in parallel."""
    batches = Batches(np.empty((0, height, width, 3), np.uint8), device)

    def pixels(path: str) -> np.ndarray:
        return decode(read(path), path, height, width)

    with ThreadPoolExecutor(_cores()) as pool:
        starts = range(0, len(paths), batch_size)
        jobs = ([pool.submit(pixels, path) for path in paths[i : i + batch_size]] for i in starts)
        ahead = deque(itertools.islice(jobs, 2))
        try:
            while ahead:
                batch = np.stack([job.result() for job in ahead.popleft()])
                ahead.extend(itertools.islice(jobs, 1))
                yield batches.normalise(torch.from_numpy(batch).to(device))
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
    target size, Pillow's version. It is written whole or not at all.

    Raises FileNotFoundError or ValueError naming an image that is missing or broken, OSError for a full disk.
    """
    paths, rows = list(table[tables.PATH]), tables.digest(table, data_root)
    made_from = [rows, files_digest(table), str(height), str(width), "bilinear", PIL.__version__]
    key = hashlib.sha256(" ".join(made_from).encode()).hexdigest()[:32]
    path = tables.cache_root() / "decoded" / f"{key}-{height}x{width}.npy"
    record = path.with_suffix(".json")
    if not (path.exists() and record.exists()):
        path.parent.mkdir(parents=True, exist_ok=True)
        size = len(paths) * height * width * 3
        require_space(path.parent, size, "the decoded images (REID_CORE_CACHE moves the cache)")
        contents = _decode_all(paths, height, width, path, progress)
        digest = hashlib.sha256("".join([rows, *contents]).encode()).hexdigest()
        atomic.write_text(record, json.dumps({"digest": digest}))
    pixels = np.load(path, mmap_mode="c")  # copy on write, as torch wants writable memory
    return Decoded(pixels, json.loads(record.read_text())["digest"])


def _decode_all(paths: list[str], height: int, width: int, target: Path, progress: bool) -> list[str]:
    """Write the array; return the SHA-256 of each file's content."""
    digests = [""] * len(paths)
    with atomic.replacing(target) as temporary, ThreadPoolExecutor(_cores()) as pool:
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


def require_space(folder: Path, size: int, purpose: str) -> None:
    """Raise OSError when the disk of `folder` has less than `size` bytes free."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < size:
        raise OSError(
            f"{folder} has {free / 2**20:,.0f} MiB free and needs {size / 2**20:,.0f} MiB for {purpose}. "
            "Make room, or choose another folder."
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Draw:
    """What chance decides about one batch of n images: which, and how each is augmented.

    rows (n,) int64; mirror (n,) bool; shift (n, 2) int64, down and right, pixels; box (n, 4) int64, the blanked
    rectangle as top, left, bottom, right (bottom and right excluded; all 0: none).
    """

    rows: np.ndarray
    mirror: np.ndarray
    shift: np.ndarray
    box: np.ndarray

    def shard(self, rank: int, processes: int) -> "Draw":
        """This process's equal share of the batch."""
        n = len(self.rows) // processes
        part = slice(rank * n, (rank + 1) * n)
        return Draw(self.rows[part], self.mirror[part], self.shift[part], self.box[part])


class Sampler:
    """The batches of a run: a function of recipe, number of images and iteration, so resuming needs no state.

    The images come in one endless stream, shuffled anew in every epoch, cut into batches without regard to the
    epochs' ends, as Caffe's data layer does. The order depends on the seed alone, not on the model.

    >>> [Sampler(5, Recipe(batch_size=2, iterations=5)).draw(i).rows.tolist() for i in range(5)]
    [[2, 4], [3, 0], [1, 1], [3, 4], [2, 0]]
    """

    def __init__(self, images: int, recipe: Recipe):
        self.images, self.recipe = images, recipe
        self._epoch, self._order = None, None

    def draw(self, iteration: int) -> Draw:
        """The batch of iteration 0, 1, ..."""
        r = self.recipe
        position = iteration * r.batch_size
        rows = self._rows(position, r.batch_size)
        rng = np.random.default_rng([r.seed, 1, iteration])
        mirror = rng.random(r.batch_size) < (0.5 if r.mirror else 0.0)
        shift = rng.integers(-r.crop_padding, r.crop_padding, (r.batch_size, 2), endpoint=True)
        return Draw(rows, mirror, shift, self._boxes(rng))

    def _rows(self, position: int, count: int) -> np.ndarray:
        epoch, place = divmod(position, self.images)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.recipe.seed, 0, epoch]).permutation(self.images)
        rows = self._order[place : place + count]
        if len(rows) == count:
            return rows
        return np.concatenate([rows, self._rows(position + len(rows), count - len(rows))])

    def _boxes(self, rng: np.random.Generator) -> np.ndarray:
        r = self.recipe
        n = r.batch_size
        area, aspect = rng.uniform(0.02, 0.2, n), np.exp(rng.uniform(-1, 1, n) * np.log(3))
        height = np.minimum(np.round(np.sqrt(area * r.height * r.width * aspect)), r.height)
        width = np.minimum(np.round(np.sqrt(area * r.height * r.width / aspect)), r.width)
        top = np.floor(rng.random(n) * (r.height - height + 1))
        left = np.floor(rng.random(n) * (r.width - width + 1))
        chosen = rng.random(n) < r.erasing
        return np.stack([top, left, top + height, left + width], 1).astype(np.int64) * chosen[:, None]


class Batches:
    """Network inputs from the decoded array: gather, mirror, shift, blank and normalise on the device.

    `images`: uint8 (N, height, width, 3). It is kept on the GPU where it fills at most half of the free memory.
    """

    def __init__(self, images: np.ndarray, device: torch.device):
        self.images = torch.from_numpy(images)
        self.device = device
        self.resident = device.type == "cuda" and images.nbytes < torch.cuda.mem_get_info(device)[0] / 2
        if self.resident:
            self.images = self.images.to(device)
        self.mean = torch.tensor(MEAN, device=device) * 255
        self.scale = 1 / (torch.tensor(STD, device=device) * 255)

    def pixels(self, rows: Tensor) -> Tensor:
        """uint8 (n, height, width, 3) on the device; `rows` lies where the images do."""
        return self.images.index_select(0, rows).to(self.device, non_blocking=True)

    def __call__(self, draw: Draw) -> Tensor:
        """Normalised images of one batch, (n, 3, height, width) float32, channels last."""
        pixels = self.pixels(torch.from_numpy(draw.rows).to(self.images.device))
        mirror, shift, box = (
            torch.from_numpy(a).to(self.device) for a in (draw.mirror, draw.shift, draw.box)
        )
        return self.augment(pixels, mirror, shift, box, bool(draw.shift.any()), bool(draw.box.any()))

    def normalise(self, pixels: Tensor) -> Tensor:
        """(n, 3, height, width) float32, channels last in memory, of uint8 (n, height, width, 3)."""
        return ((pixels.float() - self.mean) * self.scale).permute(0, 3, 1, 2)

    def augment(
        self, pixels: Tensor, mirror: Tensor, shift: Tensor, box: Tensor, shifts: bool, boxes: bool
    ) -> Tensor:
        """Normalise uint8 (n, height, width, 3), mirror, then shift, then blank; (n, 3, height, width) out."""
        x = self.normalise(pixels)
        x = torch.where(mirror[:, None, None, None], x.flip(3), x)
        n, _, height, width = x.shape
        down, right = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        if shifts:
            rows, columns = down - shift[:, :1], right - shift[:, 1:]  # (n, height), (n, width)
            inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
                :, None
            ]
            rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
            image = torch.arange(n, device=x.device)[:, None, None]
            x = x.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None]] * inside[..., None]
            x = x.permute(0, 3, 1, 2)
        if boxes:
            top, left, bottom, end = box.T[:, :, None]
            blank = ((down >= top) & (down < bottom))[:, :, None] & ((right >= left) & (right < end))[:, None]
            x = x.masked_fill(blank[:, None], 0.0)
        return x.contiguous(memory_format=torch.channels_last)


def plain_batch(table: pd.DataFrame, recipe: Recipe, draw: Draw) -> Tensor:
    """The reference: the same batch (n, 3, height, width) float32 from the files, image by image, by torchvision."""
    images = []
    for row, mirror, (down, right), (top, left, bottom, end) in zip(
        draw.rows, draw.mirror, draw.shift, draw.box, strict=True
    ):
        with Image.open(table[tables.PATH].iloc[row]) as image:
            x = TF.pil_to_tensor(TF.resize(image.convert("RGB"), [recipe.height, recipe.width]))
        x = TF.normalize(TF.to_dtype(x, torch.float32, scale=True), MEAN, STD)
        x = TF.hflip(x) if mirror else x
        if recipe.crop_padding:
            p = recipe.crop_padding
            x = TF.crop(TF.pad(x, [p]), int(p - down), int(p - right), recipe.height, recipe.width)
        images.append(TF.erase(x, int(top), int(left), int(bottom - top), int(end - left), torch.zeros(())))
    return torch.stack(images)
