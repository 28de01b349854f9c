"""Anti-aliased shapes on a channel-first canvas.

Every shape is a signed distance in pixels (negative inside) with surface coordinates of its own:
`along` (0 at its start, 1 at its end) and `across` (-1 at its left edge, 1 at its right edge).
Textures and shading are functions of these, so cloth follows the limb that wears it.
"""

from typing import NamedTuple

import numpy as np

DARK = np.float32([0.05, 0.05, 0.055])


class Patch(NamedTuple):
    """Part of a canvas: its view (3, h, w) and the coordinates x (1, w), y (h, 1) of its pixels."""

    pixels: np.ndarray
    x: np.ndarray
    y: np.ndarray


class Surface(NamedTuple):
    """A shape on a patch: `distance` in pixels, `along` in [0, 1], `across` in [-1, 1], all (h, w)."""

    patch: Patch
    distance: np.ndarray
    along: np.ndarray
    across: np.ndarray


def patch_of(canvas: np.ndarray, left: float, top: float, right: float, bottom: float) -> Patch:
    """The part of `canvas` (3, H, W) within the box, without pixels where they do not meet."""
    height, width = canvas.shape[1:]
    x0, y0 = max(0, int(left) - 1), max(0, int(top) - 1)
    x1, y1 = max(x0, min(width, int(right) + 2)), max(y0, min(height, int(bottom) + 2))
    x = np.arange(x0, x1, dtype=np.float32)[None, :] + np.float32(0.5)
    y = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5)
    return Patch(canvas[:, y0:y1, x0:x1], x, y)


def capsule(canvas, a, b, radius_a: float, radius_b: float) -> Surface:
    """A limb from point a to point b whose radius changes linearly, with round ends."""
    r = max(radius_a, radius_b)
    patch = patch_of(canvas, min(a[0], b[0]) - r, min(a[1], b[1]) - r, max(a[0], b[0]) + r, max(a[1], b[1]) + r)
    dx, dy = float(b[0] - a[0]), float(b[1] - a[1])
    length2 = dx * dx + dy * dy + 1e-4
    px, py = patch.x - np.float32(a[0]), patch.y - np.float32(a[1])
    along = px * np.float32(dx / length2) + py * np.float32(dy / length2)
    np.clip(along, 0, 1, out=along)
    radius = np.float32(radius_a) + along * np.float32(radius_b - radius_a)
    ex, ey = px - along * np.float32(dx), py - along * np.float32(dy)
    distance = np.sqrt(ex * ex + ey * ey) - radius
    length = length2**0.5
    across = (px * np.float32(dy / length) - py * np.float32(dx / length)) / radius
    np.clip(across, -1, 1, out=across)
    return Surface(patch, distance, along, across)


def trunk(canvas, top, bottom, heights, half_widths, rounding: float) -> Surface:
    """An upright shape around the line top -> bottom with half width `half_widths` (px) at `heights` in [0, 1]."""
    reach = max(half_widths)
    patch = patch_of(canvas, min(top[0], bottom[0]) - reach, top[1], max(top[0], bottom[0]) + reach, bottom[1])
    extent = max(float(bottom[1] - top[1]), 1.0)
    v = np.clip((patch.y - np.float32(top[1])) / np.float32(extent), 0, 1)
    half = np.interp(v[:, 0], heights, half_widths).astype(np.float32)[:, None]
    centre = np.float32(top[0]) + v * np.float32(bottom[0] - top[0])
    offset = patch.x - centre
    side = np.abs(offset) - half
    cap = np.maximum(np.float32(top[1]) - patch.y, patch.y - np.float32(bottom[1]))
    distance = np.maximum(side, cap)
    if rounding > 0:
        s, c = np.maximum(side + rounding, 0), np.maximum(cap + rounding, 0)
        rounded = np.sqrt(s * s + c * c) - np.float32(rounding)
        distance = np.where(rounded > -rounding, rounded, distance)
    across = np.clip(offset / np.maximum(half, 0.5), -1, 1)
    return Surface(patch, distance, np.broadcast_to(v, distance.shape), across)


def ellipse(canvas, centre, radius_x: float, radius_y: float) -> Surface:
    """An ellipse; `along` runs from its upper to its lower end."""
    r = max(radius_x, radius_y)
    patch = patch_of(canvas, centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r)
    x, y = patch.x - np.float32(centre[0]), patch.y - np.float32(centre[1])
    u, v = x / np.float32(max(radius_x, 0.3)), y / np.float32(max(radius_y, 0.3))
    k = np.sqrt(u * u + v * v)
    distance = (k - 1) * np.float32(min(radius_x, radius_y))
    along = np.clip(v * 0.5 + 0.5, 0, 1)
    return Surface(patch, distance, np.broadcast_to(along, k.shape), np.clip(u, -1, 1) + 0 * v)


def box(canvas, centre, half_x: float, half_y: float, rounding: float) -> Surface:
    """A rectangle with rounded corners."""
    r = half_x + half_y
    patch = patch_of(canvas, centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r)
    x, y = patch.x - np.float32(centre[0]), patch.y - np.float32(centre[1])
    x, y = np.broadcast_arrays(x, y)
    qx, qy = np.abs(x) - np.float32(half_x - rounding), np.abs(y) - np.float32(half_y - rounding)
    outside = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2)
    distance = outside + np.minimum(np.maximum(qx, qy), 0) - np.float32(rounding)
    along = np.clip(y / np.float32(2 * max(half_y, 0.3)) + 0.5, 0, 1)
    return Surface(patch, distance, along, np.clip(x / np.float32(max(half_x, 0.3)), -1, 1))


def coverage(distance: np.ndarray) -> np.ndarray:
    """Share of each pixel inside the shape, (h, w) in [0, 1], from its distance in pixels."""
    return np.clip(0.5 - distance, 0, 1)


def paint(surface: Surface, colour: np.ndarray, shade=1.0, opacity=1.0) -> None:
    """Lay `colour` ((3,) or (3, h, w)) times `shade` (number or (h, w)) over the canvas under the surface."""
    colour = np.asarray(colour, np.float32)
    colour = colour[:, None, None] if colour.ndim == 1 else colour
    alpha, pixels = coverage(surface.distance) * opacity, surface.patch.pixels
    pixels += alpha * (colour * np.asarray(shade, np.float32) - pixels)


def mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(3, h, w) colours between `first` and `second` ((3,) or (3, h, w)) by `weight` (h, w) in [0, 1]."""
    first = first[:, None, None] if first.ndim == 1 else first
    second = second[:, None, None] if second.ndim == 1 else second
    return first + weight * (second - first)
