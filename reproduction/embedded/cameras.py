"""What a camera does to a picture: where it looks, its light and colour cast, resolution, blur, noise, JPEG."""

from typing import NamedTuple

import numpy as np

from reproduction.embedded.scene.backdrop import SCENES

RANGES = {"saturation": (0.6, 1.1), "contrast": (0.8, 1.15), "sun": (-1.2, 1.2), "ambient": (0.4, 0.8),
          "resolution": (60, 120), "blur": (0.0, 0.9), "noise": (0.006, 0.03)}  # fmt: skip


class Camera(NamedTuple):
    """One camera's constant part; single pictures vary around it.

    Directions are headings in radians (0 = people come towards it), colours multiply RGB, blur is the sigma in
    pixels at a person height of 128, resolution the person's height in sensor pixels.
    """

    scene: str
    path_heading: float
    return_share: float
    pitch: float
    gain: np.ndarray
    cast: np.ndarray
    gamma: float
    saturation: float
    contrast: float
    sun: float
    ambient: float
    resolution: float
    blur: float
    noise: float
    quality: int


def camera(world: tuple[int, ...], number: int, path_heading: float | None = None) -> Camera:
    """Camera `number` of the world (seed, data set number): a pure function of its arguments."""
    rng = np.random.default_rng((*world, 3, number))
    places = np.random.default_rng((*world, 9)).permutation(len(SCENES))
    warmth, tint = rng.uniform(-0.12, 0.12), rng.normal(0, 0.035)
    gain = np.exp(np.array([warmth, tint, -warmth]) + rng.normal(0, 0.03, 3)) * rng.uniform(0.85, 1.12)
    heading = rng.uniform(-np.pi, np.pi) if path_heading is None else path_heading
    return Camera(
        scene=list(SCENES)[places[number % len(SCENES)]],
        path_heading=float(heading),
        return_share=float(rng.uniform(0.15, 0.4)),
        pitch=float(rng.uniform(0.02, 0.28)),
        gain=gain.astype(np.float32),
        cast=(rng.uniform(0.0, 0.08) * rng.uniform(0.5, 1.0, 3)).astype(np.float32),
        gamma=float(np.exp(rng.normal(0, 0.12))),
        **{name: float(rng.uniform(*ends)) for name, ends in RANGES.items()},
        quality=int(rng.integers(45, 88)),
    )
