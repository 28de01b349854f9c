"""What a camera does to a picture: where it looks, its light and colour cast, resolution, blur, noise, JPEG."""

from dataclasses import make_dataclass
from pathlib import Path

import numpy as np
import yaml

from reproduction.embedded.scene.backdrop import SCENES

TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
Camera = make_dataclass("Camera", TABLES["CAMERA"], frozen=True)  # its constant part; single pictures vary around it


def camera(world: tuple[int, ...], number: int, path_heading: float | None = None) -> Camera:
    """Camera `number` of the world (seed, data set number): a pure function of its arguments."""
    rng = np.random.default_rng((*world, 3, number))
    places = np.random.default_rng((*world, 9)).permutation(len(SCENES))
    warmth, tint = rng.uniform(-0.12, 0.12), rng.normal(0, 0.035)
    gain = np.exp(np.array([warmth, tint, -warmth]) + rng.normal(0, 0.03, 3)) * rng.uniform(0.85, 1.12)
    heading = float(rng.uniform(-np.pi, np.pi) if path_heading is None else path_heading)
    return Camera(
        scene=list(SCENES)[places[number % len(SCENES)]], path_heading=heading,
        return_share=float(rng.uniform(0.15, 0.4)), pitch=float(rng.uniform(0.02, 0.28)), gain=gain.astype(np.float32),
        cast=(rng.uniform(0.0, 0.08) * rng.uniform(0.5, 1.0, 3)).astype(np.float32),
        gamma=float(np.exp(rng.normal(0, 0.12))),
        **{name: float(rng.uniform(*ends)) for name, ends in TABLES["RANGES"].items()},
        quality=int(rng.integers(45, 88)),
    )  # fmt: skip
