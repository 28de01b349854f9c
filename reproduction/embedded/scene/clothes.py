"""Patterns of cloth in the coordinates of the body that wears it."""

import numpy as np

from reproduction.embedded.people import Garment
from reproduction.embedded.scene.draw import mix

TAU = np.float32(2 * np.pi)


def soft(value: np.ndarray, sharpness: float) -> np.ndarray:
    """0 below zero and 1 above, with an edge as wide as 1 / sharpness."""
    return np.clip(value * np.float32(sharpness) + np.float32(0.5), 0, 1)


def pattern_weight(cloth: Garment, angle: np.ndarray, along: np.ndarray) -> np.ndarray | None:
    """Weight (h, w) of the second colour at body angle (0 = front, radians) and height on the garment (0-1)."""
    k, phase = np.float32(cloth.pitch), np.float32(cloth.phase)
    match cloth.pattern:
        case "plain":
            return None
        case "hoops":
            return soft(np.sin(TAU * (k * along + phase)) + np.float32(0.4 * phase), 1.6) + 0 * angle
        case "pinstripes":
            return soft(np.sin(angle * np.float32(1.1 * cloth.pitch)) - np.float32(0.2), 1.4) + 0 * along
        case "check":
            across = np.sin(angle * np.float32(0.9 * cloth.pitch))
            down = np.sin(TAU * (k * along + phase))
            return 0.5 * soft(across, 1.5) + 0.5 * soft(down, 1.5)
        case "dots":
            across = np.sin(angle * np.float32(0.9 * cloth.pitch))
            return soft(across * np.sin(TAU * (k * along + phase)) - np.float32(0.35), 2.5)
        case "yoke":
            return soft(np.float32(0.2 + 0.3 * cloth.phase) - along, 18) + 0 * angle
        case "band":
            middle = np.float32(0.25 + 0.4 * cloth.phase)
            return soft(np.float32(0.35 / cloth.pitch + 0.02) - np.abs(along - middle), 18) + 0 * angle
        case "sash":
            return soft(np.float32(0.11) - np.abs(along - np.float32(0.4) - angle * np.float32(0.22)), 14)
        case "halves":
            return soft(np.sin(angle + phase), 5) + 0 * along
        case "print":
            return motif_weight(cloth, angle, along)
    raise ValueError(f"There is no cloth pattern {cloth.pattern!r}.")


def motif_weight(cloth: Garment, angle: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Three overlapping blobs on the chest, and on the back where the garment has them there."""
    if cloth.back:
        angle = np.float32(np.pi / 2) - np.abs(np.abs(angle) - np.float32(np.pi / 2))
    weight = np.float32(0)
    for place, height, wide, high in cloth.motif:
        u, v = (angle - place) / wide, (along - height) / high
        weight = np.maximum(weight, np.clip(2.2 * (1.2 - (u * u + v * v)), 0, 1))
    return weight


def cloth_colours(cloth: Garment, angle: np.ndarray, along: np.ndarray) -> np.ndarray:
    """(3,) or (3, h, w) colours of the garment at these places."""
    weight = pattern_weight(cloth, angle, along)
    return cloth.colour if weight is None else mix(cloth.colour, cloth.second, weight)
