"""LOMO, local maximal occurrence (Liao, Hu, Zhu and Li, CVPR 2015), the feature of "LOMO+XQDA [19]".

A 128x48 image is read at three sizes, each half of the one before. At each size a 10x10 window slides by 5 pixels over
it and gives three histograms: joint HSV (8x8x8 bins), and SILTP texture of radius 3 and of radius 5 (3^4 bins each). Of
all windows at one height only the *largest* count of every bin is kept, so that a person may turn or stand a little
aside. 24 + 11 + 5 heights x (512 + 81 + 81) bins = 26,960 numbers; logarithm of one plus the count; then the HSV part
and the two SILTP parts each get unit length.

After the paper and the authors' release: the colour pyramid averages the H, S and V *bin numbers* 2x2, rounding down,
and joins them afterwards; the texture pyramid averages the gray image. SILTP (Liao et al., CVPR 2010) compares the
centre with its right, upper, left and lower neighbour R pixels away, borders replicated: 1 if the neighbour is darker
than (1 - tau) times the centre, 2 if brighter than (1 + tau) times, else 0; tau = 0.3.

Where ours differs: multi-scale Retinex precedes the HSV part. The release has it only as a closed binary; the paper
names the two scales (sigma 5 and 20) and cites Jobson, Rahman and Woodell (IEEE Transactions on Image Processing,
1997). `retinex` below is that published algorithm with its colour restoration; the stretch to 0..255 is our choice, as
neither says it for photographs of this size. `retinex=False` leaves it out. The order of the bins within a block is
ours too, and does not matter to any metric.
"""

import functools
import os
from pathlib import Path

import numpy as np

from reid_core import files
from reid_core.baselines import windows
from reid_core.images import Images, batches, count
from reid_core.progress import shown

WINDOW, STEP, LEVELS = 10, 5, 3
HSV_BINS = 8
SILTP_RADII = (3, 5)
SILTP_CODES = 3**4
CACHED = 8  # images described at once: their arrays stay in a core's cache
RETINEX_SIGMAS = (5.0, 20.0)


def extract(
    images: Images, *, retinex: bool = True, height: int = 128, width: int = 48, path: str | os.PathLike | None = None,
    progress: bool = True,
) -> np.ndarray:  # fmt: skip
    """LOMO features (N, d) float32; d = 26,960 at the default size. Norm of every row: sqrt(3).

    Parameters
    ----------
    images : an image table, a sequence of paths or a uint8 RGB array (N, h, w, 3).
    retinex : whether the colours are those of the multi-scale Retinex, as published.
    height, width : pixels that every image is brought to first.
    path : a file (ending in .npy) that the features are written to as they come; they are then returned memory-mapped
        and read-only, for sets that do not fit in memory.
    progress : show how far it is.

    Raises ValueError for height or width below the three pyramid levels' 44 pixels, and a `path` that does not end in
    .npy; and what `reid_core.images.batches` raises.
    """
    smallest = max(WINDOW, 2 * max(SILTP_RADII) + 1) * 2 ** (LEVELS - 1)
    if min(height, width) < smallest:
        few = f"{height}x{width} pixels are too few for LOMO"
        raise ValueError(f"{few}: its {LEVELS} levels need at least {smallest} each way; use the published 128x48.")
    shape = count(images), dimension(height, width)
    if path is None:
        with shown(progress):
            return _fill(np.empty(shape, np.float32), images, retinex, height, width)
    if (path := Path(path)).suffix != ".npy":
        raise ValueError(f"The feature file {path} must end in .npy.")
    files.remove_dead(path.parent)
    with files.replacing(path) as partial, shown(progress):
        features = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
        _fill(features, images, retinex, height, width).flush()
        del features
    return np.load(path, mmap_mode="r")


def dimension(height: int = 128, width: int = 48) -> int:
    """Length of the feature of a height x width image.

    >>> dimension()
    26960
    """
    bands = sum(((height >> level) - WINDOW) // STEP + 1 for level in range(LEVELS))
    return bands * (HSV_BINS**3 + len(SILTP_RADII) * SILTP_CODES)


def _fill(out, images, retinex, height, width):
    for rows, pixels in batches(images, height, width, batch_size=CACHED, desc="LOMO"):
        out[rows] = describe(pixels, retinex=retinex)
    return out


def describe(pixels: np.ndarray, *, retinex: bool = True) -> np.ndarray:
    """LOMO features (n, d) float32 of uint8 RGB images (n, height, width, 3), all in memory at once."""
    bins = np.moveaxis(hsv_bins(multiscale_retinex(pixels) if retinex else pixels), -1, 0).astype(np.uint16)
    gray = gray_level(pixels).astype(np.uint16)  # which holds 13 times the sum of 16 of them
    colour, texture = [], [[] for _ in SILTP_RADII]
    for level in range(LEVELS):
        if level:
            bins = _sum_2x2(bins) // 4
            gray = _sum_2x2(gray)  # a sum serves as well as a mean: SILTP does not see scale
        h, s, v = bins
        colour.append(_band_maxima((v * HSV_BINS + s) * HSV_BINS + h, HSV_BINS**3))
        for blocks, radius in zip(texture, SILTP_RADII, strict=True):
            blocks.append(_band_maxima(siltp(gray, radius), SILTP_CODES))
    logarithm = np.log1p(np.arange(WINDOW**2 + 1, dtype=np.float32))
    return np.concatenate([windows.unit(logarithm.take(np.concatenate(b, axis=1))) for b in (colour, *texture)], axis=1)


def hsv_bins(pixels: np.ndarray, bins: int = HSV_BINS) -> np.ndarray:
    """Bin numbers 0..bins-1 of hue, saturation and value (..., 3) uint8 of uint8 RGB (..., 3), in exact integers.

    >>> hsv_bins(np.array([[255, 0, 0], [0, 255, 0], [100, 100, 100]], np.uint8))
    array([[0, 7, 7],
           [2, 7, 7],
           [0, 0, 3]], dtype=uint8)
    """
    r, g, b = np.moveaxis(pixels, -1, 0).astype(np.int16, order="C")
    top = np.maximum(np.maximum(r, g), b)
    spread = top - np.minimum(np.minimum(r, g), b)
    sixths = np.where(top == r, g - b, np.where(top == g, b - r + 2 * spread, r - g + 4 * spread))
    circle = 6 * spread
    sixths += circle * (sixths < 0)  # hue in sixths of the circle, times spread
    parts = (sixths, circle), (spread, top), (top, np.int16(255))
    shares = [bins * part.astype(np.float32) / np.maximum(whole, 1) for part, whole in parts]  # rounds none of these up
    return np.moveaxis(np.minimum(shares, bins - 1).astype(np.uint8), 0, -1)


def gray_level(pixels: np.ndarray) -> np.ndarray:
    """Luma of ITU-R BT.601, rounded, (...) uint8 of uint8 RGB (..., 3)."""
    return np.rint(pixels @ np.array([0.2989, 0.5870, 0.1140])).astype(np.uint8)


def siltp(gray: np.ndarray, radius: int) -> np.ndarray:
    """SILTP codes 0..80 (n, h, w) uint8 of integer gray images (n, h, w), with tau = 0.3 exactly.

    >>> siltp(np.array([[[10, 15, 10]]]), 1)  # digits: right 1, up 3, left 9, down 27
    array([[[ 2, 10, 18]]], dtype=uint8)
    """
    h, w = gray.shape[1:]
    padded = np.pad(gray, ((0, 0), (radius, radius), (radius, radius)), mode="edge") * 10
    starts = [(radius * (1 + dy), radius * (1 + dx)) for dy, dx in [(0, 1), (-1, 0), (0, -1), (1, 0)]]
    around = np.stack([padded[:, y : y + h, x : x + w] for y, x in starts])
    digits = (around < gray * 7) + np.uint8(2) * (around > gray * 13)
    digits *= 3 ** np.arange(4, dtype=np.uint8)[:, None, None, None]
    return digits.sum(axis=0, dtype=np.uint8)


def multiscale_retinex(pixels: np.ndarray, *, restoration: float = 125.0, clip: float = 2.0) -> np.ndarray:
    """Multi-scale Retinex with colour restoration, uint8 RGB (n, h, w, 3) to the same.

    Per channel, the logarithm of the image minus that of its Gaussian blur, averaged over sigma 5 and 20; times
    log(restoration * share of the channel in R + G + B); then each image is stretched linearly, all channels together,
    so that mean - clip and mean + clip standard deviations become 0 and 255.
    """
    light = np.moveaxis(pixels, -1, 0).astype(np.float32, order="C") + 1  # a plane a channel
    reflectance = np.log(light)
    for sigma in RETINEX_SIGMAS:
        blurred = _blur(light.shape[2], sigma) @ light @ _blur(light.shape[3], sigma).T
        reflectance -= np.log(blurred, out=blurred) / len(RETINEX_SIGMAS)
    reflectance *= np.log(restoration * light / light.sum(axis=0))
    joined = np.ascontiguousarray(np.moveaxis(reflectance, 0, -1))  # the order decides how sums round
    mean, deviation = (f(joined, axis=(1, 2, 3))[:, None, None] for f in (np.mean, np.std))
    stretched = (reflectance - mean) / (2 * clip * np.maximum(deviation, 1e-3)) + 0.5
    return np.moveaxis(np.rint(np.clip(stretched, 0, 1) * 255).astype(np.uint8), 0, -1)


@functools.cache
def _blur(length: int, sigma: float) -> np.ndarray:
    """Gaussian blur along one axis as a matrix (length, length), cut at 3 sigma, borders replicated."""
    radius = int(3 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    matrix = np.zeros((length, length))
    source = np.clip(np.arange(length)[:, None] + np.arange(-radius, radius + 1), 0, length - 1)
    np.add.at(matrix, (np.arange(length)[:, None], source), kernel / kernel.sum())
    return matrix.astype(np.float32)


def _band_maxima(codes: np.ndarray, bins: int) -> np.ndarray:
    """Largest count of each bin over the windows at each height: codes (n, h, w) -> (n, heights * bins) uint8."""
    found = windows.counts(codes, bins, (WINDOW, WINDOW), (STEP, STEP)).max(axis=2)
    return found.reshape(len(codes), -1)


def _sum_2x2(maps: np.ndarray) -> np.ndarray:
    """Sums of 2x2 pixels of (..., h, w), the last row or column of an odd size left out."""
    h, w = maps.shape[-2] // 2 * 2, maps.shape[-1] // 2 * 2
    rows = maps[..., :h:2, :w] + maps[..., 1:h:2, :w]
    return rows[..., ::2] + rows[..., 1::2]
