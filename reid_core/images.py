"""From image files to pixels: the one opener of pictures, and the one look-ahead that decodes them batch by batch.

Training decodes a table once (`decoded`); networks (`streamed`) and hand-crafted features (`batches`) as they go.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import math
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError

from reid_core import machine
from reid_core.datasets import cache
from reid_core.datasets import table as image_table
from reid_core.progress import bar

if TYPE_CHECKING:  # loaded where tensors are made: looking at pictures does without
    import torch

# RGB mean and standard deviation on which torchvision's ImageNet weights were trained.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
File = str | os.PathLike
Images = pd.DataFrame | Sequence[File] | np.ndarray

_AHEAD = 2  # batches decoded while the caller works on one
_SPAN = 16  # of 256 levels: a picture of 16 bits that spans less has its values in a small part of the range
_PHOTOMETRIC = 262  # a tag of TIFF


class Undecodable(ValueError):
    """An image file that cannot be used. `reason` says why, without the file's name."""

    def __init__(self, name: File, reason: str, remedy: str = "put back a whole copy"):
        super().__init__(f"{name} cannot be decoded ({reason}); {remedy}.")
        self.reason = reason


def rgb(source: bytes | File, name: File | None = None, *, at_least: tuple[int, int] | None = None) -> Image.Image:
    """A picture as people see it, of mode "RGB": the one way in which the kit opens an image file.

    Turned upright as its EXIF block says. Of 16 bits a channel, in gray or colour, the upper 8 are taken whatever the
    picture shows, so that pictures of one camera stay comparable. Transparency is left out, palettes, gray, CMYK and
    YCbCr are converted as Pillow does it.

    Parameters
    ----------
    source : an image file's path or its content
    name : what messages call it; the path where there is one
    at_least : (width, height) below which nobody will look at it: a JPEG is decoded at a fraction of its size then

    Raises FileNotFoundError for a missing file. Undecodable (a ValueError) for what is empty, no image or cut short;
    larger than `PIL.Image.MAX_IMAGE_PIXELS`; of several frames or pages, but for the extra views that phones add to a
    JPEG; of 32-bit integers or floats, whose range the file does not say; or of 16 bits with its values in so small a
    part of the range (12 of 16 bits, say) that at most 16 of 256 levels would be left.
    """
    name = source if name is None and not isinstance(source, bytes) else name
    content = source if isinstance(source, bytes) else read(source)
    try:
        with Image.open(io.BytesIO(content)) as image:
            _check(image, name)
            if at_least:
                image.draft("RGB", at_least)
            return _eight_bits(image, name)
    except Undecodable:
        raise
    except UnidentifiedImageError as error:
        raise Undecodable(name, "not an image" if content else "the file is empty") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Undecodable(name, str(error), "scale it down, or leave it out") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error ...
        raise Undecodable(name, str(error) or type(error).__name__) from error


def _check(image: Image.Image, name) -> None:
    """Refuse by what the header says, before anything is decoded."""
    limit, (width, height) = Image.MAX_IMAGE_PIXELS, image.size
    if limit and width * height > limit:  # Pillow itself warns, and raises from twice the limit on
        reason = f"it has {width:,} x {height:,} pixels, more than the limit of {limit:,}"
        raise Undecodable(name, reason, "scale it down, or leave it out")
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise Undecodable(name, f"it holds {frames:,} frames or pages", "save the one that is meant alone")
    if _wide(image) is None and image.mode in ("I", "F"):
        reason = f"it holds {'32-bit integers' if image.mode == 'I' else 'floats'}, of which no range is known"
        raise Undecodable(name, reason, "save it with 8 or 16 bits a channel, scaled to the whole range")


def _wide(image: Image.Image) -> str | None:
    """ "gray" or "colour" for a picture of 16 bits a channel, else None."""
    if image.mode.startswith("I;16") or image.mode == "I" and image.format in ("PNG", "PPM"):
        return "gray"  # PPM, and PNG in Pillow before 11, come as integers 0 to 65,535
    return "colour" if re.search(";16[BLN]", str(image.tile)) else None  # Pillow reads the upper bytes only


def _eight_bits(image: Image.Image, name) -> Image.Image:
    """A picture in RGB of 8 bits, upright; Undecodable for one of 16 whose values fill too little of their range."""
    wide = _wide(image)
    loses = wide is not None
    image.load()
    with contextlib.suppress(Exception):  # a damaged EXIF block says nothing of the pixels
        ImageOps.exif_transpose(image, in_place=True)
    if wide == "gray":
        values = np.asarray(image).astype(np.int32)  # (height, width), 0 to 65,535
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # a TIFF in which 0 is white
            values = 65535 - values
        image, loses = Image.fromarray((values >> 8).astype(np.uint8)), values.min() < values.max()
    picture = image.convert("RGB")
    if loses and (span := int(np.ptp(np.asarray(picture)))) < _SPAN:
        reason = f"its values of 16 bits lie so close together that {span + 1} of 256 levels would be left"
        remedy = "scale them to the whole range, alike for all images of a camera (12 bits: times 16)"
        raise Undecodable(name, reason, remedy)
    return picture


def read(path: File) -> bytes:
    """The content of an image file; FileNotFoundError with a remedy where there is none."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such image; put the data back, or load it again.") from None


def decode(source: File | np.ndarray, height: int, width: int, resample=BILINEAR) -> np.ndarray:
    """An image file (see `rgb`), or uint8 pixels (h, w, 3), as uint8 RGB (height, width, 3), the aspect not kept."""
    image = Image.fromarray(source) if isinstance(source, np.ndarray) else rgb(Path(source))
    return np.asarray(image.resize((width, height), resample))


def batches(
    images: Images, height: int, width: int, *, batch_size: int = 64, resample=BICUBIC, desc: str = "Images"
) -> Iterator[tuple[slice, np.ndarray]]:
    """Decode images in order, by as many threads as the process has cores, two batches ahead of the caller.

    Parameters
    ----------
    images : an image table, a sequence of paths, or a uint8 array (N, h, w, 3)
    height, width : pixels to which all are resized, the aspect not kept; what has that size passes unchanged
    batch_size : images at a time; memory holds three batches at most
    resample : how they are resized: networks take BILINEAR, the hand-crafted features BICUBIC
    desc : the bar's title

    Yields which images, as a slice of rows, and their uint8 RGB pixels (n, height, width, 3).
    Raises ValueError for another kind of input, or an empty one; and what `rgb` raises.
    """
    sources = _sources(images)
    if min(height, width, batch_size) < 1:
        raise ValueError(f"height, width and batch_size must be positive, not {height}, {width} and {batch_size}.")
    pool = ThreadPoolExecutor(machine.cores())
    with pool, bar(total=len(sources), desc=desc, unit="image") as line:
        jobs = (pool.submit(decode, source, height, width, resample) for source in sources)
        ahead = deque(itertools.islice(jobs, _AHEAD * batch_size))
        try:
            for start in range(0, len(sources), batch_size):
                stop = min(start + batch_size, len(sources))
                batch = np.stack([ahead.popleft().result() for _ in range(start, stop)])
                ahead.extend(itertools.islice(jobs, batch_size))
                yield slice(start, stop), batch
                line.update(len(batch))
        finally:
            pool.shutdown(cancel_futures=True)


def count(images: Images) -> int:
    """Number of images in a table, a sequence of paths or an array."""
    return len(_sources(images))


def _sources(images: Images) -> Sequence:
    if isinstance(images, File):
        raise ValueError(f"images is a table, a sequence of paths or an array, not the one path {images}.")
    if isinstance(images, pd.DataFrame):
        if image_table.PATH not in images:
            raise ValueError(f"The image table has no column image_path; its columns are {list(images)}.")
        images = images[image_table.PATH].tolist()
    elif isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            found = f"{images.dtype} of shape {images.shape}"
            raise ValueError(f"An array of images must be uint8 of shape (N, height, width, 3), not {found}.")
    if len(images) == 0:
        raise ValueError("There are no images: the table, list or array is empty.")
    return images


def streamed(
    images: Images, height: int, width: int, batch_size: int, device: torch.device, desc="Images", mean=MEAN, std=STD
) -> Iterator[torch.Tensor]:
    """Network input (n, 3, height, width) float32 on a device, batch by batch; raises what `batches` raises."""
    import torch

    for _, pixels in batches(images, height, width, batch_size=batch_size, resample=BILINEAR, desc=desc):
        yield normalise(torch.from_numpy(pixels).to(device), mean, std)


def normalise(pixels: torch.Tensor, mean: tuple = MEAN, std: tuple = STD) -> torch.Tensor:
    """Network input (n, 3, height, width) float32, channels last in memory, of uint8 (n, height, width, 3)."""
    mean, scale = _mean_and_scale(pixels.device, mean, std)
    return ((pixels.float() - mean) * scale).permute(0, 3, 1, 2)


@functools.cache
def _mean_and_scale(device: torch.device, mean: tuple, std: tuple) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    with torch.inference_mode(False):
        return torch.tensor(mean, device=device) * 255, 1 / (torch.tensor(std, device=device) * 255)


class Decoded(NamedTuple):
    """pixels: uint8 (N, height, width, 3), memory-mapped. digest: SHA-256 of rows and files. seconds: it once took."""

    pixels: np.ndarray
    digest: str
    seconds: float


def decoded(table: pd.DataFrame, height: int, width: int, *, data_root: str | Path) -> Decoded:
    """All images of a table as one array from the cache (`cache.place`), decoded at the first call.
    Raises FileNotFoundError or ValueError naming an image that is missing or broken; ValueError for images that change
    meanwhile; OSError for a full disk."""
    rows, contents = image_table.digest(table, data_root), _contents(table)
    digest = hashlib.sha256("".join([rows, *contents]).encode()).hexdigest()
    shape = (len(table), height, width, 3)

    def make(path: Path) -> None:
        array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        for rows, pixels in batches(table, height, width, resample=BILINEAR, desc="Decode"):
            array[rows] = pixels
        array.flush()
        if _contents(table) != contents:
            raise ValueError("Images changed while they were decoded; start again when they are in place.")

    path = cache.place("decoded", [digest, height, width, "bilinear", PIL.__version__], [__file__])
    seconds = cache.made(path, make, math.prod(shape), "the decoded images")
    return Decoded(np.load(path, mmap_mode="c"), digest, seconds)  # copy on write, as torch wants writable memory


def files_digest(table: pd.DataFrame) -> str:
    """SHA-256 (hex) of the contents of a table's image files. Raises FileNotFoundError naming a missing one."""
    return hashlib.sha256("".join(_contents(table)).encode()).hexdigest()


def _contents(table: pd.DataFrame) -> list[str]:
    """SHA-256 (hex) of each image file, from the cache while the files stay; what cannot be read raises."""
    digests = cache.contents(table[image_table.PATH])
    for path, digest in zip(table[image_table.PATH], digests, strict=True):
        digest or read(path)
    return digests
