"""How hard the rendered pictures are: what cameras do to colours, what a detector's boxes do, who else is there.

Each strength is a share of what looked like street cameras, 0 for none; the people and their poses are the same at
every strength. results/NOTES.md has what each does to hand-crafted features and to a network.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Strengths:
    """Non-negative numbers; 0 is without. Raises ValueError for a negative one."""

    colour: float = 1.0  # of a camera: colour channels mixed (3x3), a tone curve a channel
    light: float = 1.0  # coloured light across a picture, other in each
    boxes: float = 1.0  # a detector's boxes (Market-1501, CUHK03 detected) off in size and place
    drawn: float = 0.6  # the same of boxes drawn by hand (CUHK03 labeled, CUHK01), which are off by less
    clutter: float = 1.0  # other people in their clothes behind the person

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
