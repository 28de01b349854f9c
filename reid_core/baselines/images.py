"""Images for the hand-crafted baselines: from files to uint8 RGB arrays of one size, batch by batch."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

Images = pd.DataFrame | Sequence[str | os.PathLike] | np.ndarray


def batches(
    images: Images,
    height: int,
    width: int,
    *,
    batch_size: int = 64,
    progress: bool = True,
    description: str = "images",
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield `(rows, pixels)`: which images, and their uint8 RGB pixels (n, height, width, 3).

    `images` is an image table (its column `image_path` is read), a sequence of paths, or a uint8 array
    (N, h, w, 3). Whatever has another size is resized with bicubic interpolation, the aspect not kept;
    an image of the right size passes unchanged. Memory holds three batches at most: the one in the
    caller's hands and two that are decoded ahead, by as many threads as the process has cores.

    Raises ValueError for anything else, an empty input or an image that cannot be decoded (naming it),
    FileNotFoundError for a missing file.
    """
    sources = _sources(images)
    if height < 1 or width < 1 or batch_size < 1:
        raise ValueError(
            f"height, width and batch_size must be positive, not {height}, {width} and {batch_size}."
        )

    slices = [slice(i, min(i + batch_size, len(sources))) for i in range(0, len(sources), batch_size)]
    with (
        ThreadPoolExecutor(_cores()) as pool,
        tqdm(total=len(sources), desc=description, unit="image", leave=False, disable=not progress) as bar,
    ):

        def decode(rows):
            return [pool.submit(_pixels, source, height, width) for source in sources[rows]]

        ahead = deque(decode(rows) for rows in slices[:2])
        try:
            for i, rows in enumerate(slices):
                pixels = np.stack([future.result() for future in ahead.popleft()])
                if i + 2 < len(slices):
                    ahead.append(decode(slices[i + 2]))
                yield rows, pixels
                bar.update(len(pixels))
        finally:
            pool.shutdown(cancel_futures=True)


def count(images: Images) -> int:
    """Number of images in a table, a sequence of paths or an array.

    >>> count(np.zeros((3, 8, 4, 3), np.uint8))
    3
    """
    return len(_sources(images))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sources(images: Images) -> Sequence:
    if isinstance(images, str | os.PathLike):
        raise ValueError(
            f"images must be an image table, a sequence of paths or an array, not the one path {images}."
        )
    if isinstance(images, pd.DataFrame):
        if "image_path" not in images:
            raise ValueError(f"The image table has no column image_path; its columns are {list(images)}.")
        images = images["image_path"].tolist()
    elif isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(
                "An array of images must be uint8 of shape (N, height, width, 3), "
                f"not {images.dtype} of shape {images.shape}."
            )
    if len(images) == 0:
        raise ValueError("There are no images: the table, list or array is empty.")
    return images


def _pixels(source: str | os.PathLike | np.ndarray, height: int, width: int) -> np.ndarray:
    """One image as uint8 RGB (height, width, 3)."""
    if isinstance(source, np.ndarray):
        if source.shape[:2] == (height, width):
            return source
        image = Image.fromarray(source)
    else:
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(
                f"Image {path} does not exist; load the table again, its files have moved."
            )
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(
                f"Image {path} cannot be decoded ({error}); restore it from its archive."
            ) from error
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)
