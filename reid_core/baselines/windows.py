"""Histograms of sliding windows, which LOMO and SCSP share."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def counts(codes: np.ndarray, bins: int, window: tuple[int, int], step: tuple[int, int]) -> np.ndarray:
    """How often each code 0..bins-1 of an image (h, w) occurs in its windows: (down, right, bins) int64.

    `window` and `step` are in pixels, (down, right); windows that would leave the image are left out.

    >>> counts(np.array([[0, 1, 1, 1]]), 2, window=(1, 2), step=(1, 2)).tolist()
    [[[1, 1], [0, 2]]]
    """
    view = sliding_window_view(codes.astype(np.int64), window)[:: step[0], :: step[1]]
    down, right = view.shape[:2]
    first = np.arange(down * right).reshape(down, right, 1, 1) * bins
    return np.bincount((view + first).ravel(), minlength=down * right * bins).reshape(down, right, bins)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows (n, d) divided by their length."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
