"""Whole-image colour histogram: the plainest reference a learned feature has to beat.

One joint RGB histogram over all pixels, background included, no position, no learning. Its square root is the feature,
so that the feature has unit length by itself and the Euclidean distance between two features is the Hellinger distance
(times the square root of two) between their histograms: without the root the few bins of a large background would hide
the clothes. No paper prints this row; it is ours.
"""

import numpy as np

from reid_core.images import Images, batches, count
from reid_core.progress import shown


def extract(images: Images, *, bins: int = 8, height: int = 128, width: int = 64, progress: bool = True) -> np.ndarray:
    """Colour histograms (N, bins ** 3) float32, each of unit L2 norm.

    Parameters
    ----------
    images : an image table, a sequence of paths or a uint8 RGB array (N, h, w, 3)
    bins : per channel, 2 to 32; value v falls in bin v * bins // 256
    height, width : pixels to which all images are brought first
    progress : show how far it is

    Raises ValueError for other `bins`, and what `reid_core.images.batches` raises.

    >>> red = np.zeros((1, 128, 64, 3), np.uint8)
    >>> red[..., 0] = 255
    >>> np.flatnonzero(extract(red, bins=2, progress=False))
    array([4])
    """
    if not 2 <= bins <= 32:
        raise ValueError(f"bins must lie between 2 and 32 per channel, not {bins}.")
    features = np.empty((count(images), bins**3), np.float32)
    with shown(progress):
        for rows, pixels in batches(images, height, width, desc="Colour histogram"):
            r, g, b = np.moveaxis(pixels.astype(np.int32) * bins // 256, -1, 0)
            joint = (r * bins + g) * bins + b
            joint += (np.arange(len(pixels), dtype=np.int32) * bins**3)[:, None, None]
            counts = np.bincount(joint.ravel(), minlength=len(pixels) * bins**3)
            features[rows] = np.sqrt(counts.reshape(len(pixels), -1) / (height * width))
    return features
