"""How hard the rendered pictures are: what cameras do to colours, what a detector's boxes do, who else is there.

Each strength is a share of what looked like street cameras, 0 for none; the people and their poses are the same at
every strength. Beside each stands what it does alone to rank-1 of LOMO+XQDA and of the baseline with XQDA (the colour
histogram is at chance with or without), in points on CUHK03 labeled; detected. benchmarks/strengths/alone.py measures
it, results/NOTES.md has the intervals, about 5 points to either side.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Strengths:
    """Non-negative numbers; 0 is without. Raises ValueError for a negative one."""

    colour: float = 1.0  # a camera's: channels mixed (3x3), a tone curve each; LOMO -2; -3, network -7; -4
    light: float = 1.0  # coloured light across a picture, other in each; LOMO +2; -2, network -4; +1
    boxes: float = 1.0  # a detector's (Market-1501, CUHK03 detected), off in size and place; LOMO -26, network -8
    drawn: float = 0.6  # boxes drawn by hand (CUHK03 labeled, CUHK01), off by less; LOMO -13, network -2
    clutter: float = 1.0  # other people in their clothes behind the person; LOMO 0; -3, network 0; +1

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value < np.inf:
                raise ValueError(f"Strength {name} of the embedded data must not be negative, but it is {value!r}.")


FULL, NONE = Strengths(), Strengths(0, 0, 0, 0, 0)


def response(rng: np.random.Generator, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """A camera's colour response: mixing matrix (3, 3) whose rows sum to 1, and an exponent a channel (3,)."""
    mixing = np.eye(3) + strength * rng.normal(0, 0.14, (3, 3))
    mixing /= mixing.sum(axis=1, keepdims=True)
    return mixing.astype(np.float32), np.exp(strength * rng.normal(0, 0.22, 3)).astype(np.float32)


def lit(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Pixels (3, H, W) under light whose colour changes from one side of the picture to the other."""
    height, width = pixels.shape[1:]
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width]
    side = ((x / width - 0.5) * np.cos(angle) + (y / height - 0.5) * np.sin(angle)).astype(np.float32)
    change = (strength * (rng.normal(0, 0.25) + rng.normal(0, 0.3, 3))).astype(np.float32)
    return pixels * np.exp(side * change[:, None, None])


def shaken(rng: np.random.Generator, box: tuple, strength: float) -> tuple[float, float, float, float]:
    """A box (left, top, right, bottom) scaled by about 10% and shifted by about 5% of its height."""
    left, top, right, bottom = box
    tall = bottom - top
    scale = np.exp(strength * rng.normal(0, 0.10)) / 2
    x = (left + right) / 2 + strength * rng.normal(0, 0.05) * tall
    y = (top + bottom) / 2 + strength * rng.normal(0, 0.055) * tall
    return x - scale * (right - left), y - scale * tall, x + scale * (right - left), y + scale * tall
