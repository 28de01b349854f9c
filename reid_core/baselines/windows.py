"""Histograms of sliding windows, which LOMO and SCSP share."""

import numpy as np


def counts(codes: np.ndarray, bins: int, window: tuple[int, int], step: tuple[int, int]) -> np.ndarray:
    """How often each code 0..bins-1 of images (n, h, w) occurs in their windows: (n, down, right, bins) uint8.

    `window` and `step` are in pixels, (down, right), a window whole steps and at most 255 pixels; windows that would
    leave the image are left out. Cells of one step are counted once, and added up to windows.

    >>> counts(np.array([[[0, 1, 1, 1]]]), 2, window=(1, 2), step=(1, 2)).tolist()
    [[[[1, 1], [0, 2]]]]
    """
    down, right = (size // stride for size, stride in zip(codes.shape[1:], step, strict=True))
    cell = np.repeat(np.arange(down), step[0])[:, None] * right + np.repeat(np.arange(right), step[1])
    places = (cell * bins + codes[:, : len(cell), : cell.shape[1]]).reshape(len(codes), -1)
    cells = np.empty((len(codes), down, right, bins), np.uint8)
    for counted, image in zip(cells, places, strict=True):
        counted[:] = np.bincount(image, minlength=counted.size).reshape(counted.shape)
    high, wide = (size // stride for size, stride in zip(window, step, strict=True))
    cells = sum(cells[:, i : down - high + 1 + i] for i in range(high))
    return sum(cells[:, :, i : right - wide + 1 + i] for i in range(wide))


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows (n, d) divided by their length."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
