"""What stands behind and before the people: one wide painted scene a camera, cropped anew for every picture."""

import numpy as np
from PIL import Image

from reproduction.embedded.scene.draw import box, capsule, ellipse, paint, patch_of, trunk

WIDTH, HEIGHT, HORIZON = 760, 400, 190
PERSON = 128  # height in backdrop pixels of a person at zoom 1


def noise(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Smooth noise (height, width), about unit variance, with blotches `cell` pixels wide."""
    small = rng.normal(size=(max(2, int(height / cell)), max(2, int(width / cell)))).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def tone(rng, low=0.2, high=0.75, chroma=0.07) -> np.ndarray:
    return np.clip(rng.uniform(low, high) + rng.normal(0, chroma, 3), 0.03, 0.97).astype(np.float32)


def lines(position: np.ndarray, pitch: float, wide: float) -> np.ndarray:
    """1 on lines every `pitch` pixels, `wide` pixels broad, else 0, with soft edges."""
    off = np.abs((position + pitch / 2) % pitch - pitch / 2)
    return np.clip(wide / 2 - off + 0.5, 0, 1).astype(np.float32)


def ground(rng, canvas, kind: str) -> None:
    """Paint everything below the horizon, with joints of paving in perspective."""
    area = canvas[:, HORIZON:]
    height, width = area.shape[1:]
    y = np.arange(height, dtype=np.float32)[:, None] + 4
    x = np.arange(width, dtype=np.float32)[None, :] - width * np.float32(rng.uniform(0.2, 0.8))
    colour = {
        "grass": np.float32([0.24, 0.36, 0.14]) * np.float32(rng.uniform(0.7, 1.3)),
        "asphalt": tone(rng, 0.22, 0.42, 0.015), "paving": tone(rng, 0.42, 0.72, 0.04),
        "tiles": tone(rng, 0.5, 0.8, 0.05),
    }[kind]  # fmt: skip
    rough = 0.05 * noise(rng, height, width, 40) + 0.03 * noise(rng, height, width, 3)
    shade = 1 + rough * (2.2 if kind == "grass" else 1.0)
    if kind in ("paving", "tiles"):
        distance = 9000 / (y + 40)
        along, across = lines(distance, rng.uniform(7, 16), 1.2), lines(x * 90 / (y + 40), rng.uniform(14, 30), 1.0)
        shade = shade * (1 - 0.3 * np.maximum(along, across))
    area[:] = colour[:, None, None] * shade
    if kind == "asphalt" and rng.random() < 0.8:
        stripe = lines(y + 0 * x, 400, rng.uniform(5, 9)) if rng.random() < 0.4 else 0
        zebra = lines(x * 90 / (y + 40), 46, 20) * ((y > 70) & (y < 120)) if rng.random() < 0.6 else 0
        area += np.maximum(stripe, zebra) * np.float32(0.4)


def facade(rng, canvas, kind: str) -> None:
    """Paint everything above the horizon."""
    area = canvas[:, :HORIZON]
    height, width = area.shape[1:]
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)[None, :]
    rough = 0.05 * noise(rng, height, width, 60) + 0.025 * noise(rng, height, width, 3)
    if kind == "hedge":
        leaves = 0.35 * noise(rng, height, width, 7) + 0.2 * noise(rng, height, width, 3)
        area[:] = (tone(rng, 0.2, 0.3, 0.02) * np.float32([0.75, 1.25, 0.6]))[:, None, None] * np.exp(leaves)
        return
    area[:] = tone(rng, 0.25, 0.8, 0.08)[:, None, None] * (1 + rough)
    if kind == "brick":
        tall = rng.uniform(7, 11)
        row = np.floor(y / tall) % 2
        joints = np.maximum(lines(y + 0 * x, tall, 1.3), lines(x + row * tall, 2.4 * tall, 1.3))
        area[:] = np.float32([0.55, 0.3, 0.22])[:, None, None] * np.float32(rng.uniform(0.7, 1.3)) * (1 + 2 * rough)
        area += joints * np.float32(0.18)
    elif kind == "shops":
        left = -20.0
        while left < width:
            wide = rng.uniform(60, 130)
            pane = tone(rng, 0.1, 0.75, 0.15)
            paint(box(canvas, (left + wide / 2, 120), wide * 0.44, 66, 2), pane)
            for _ in range(int(rng.integers(2, 7))):
                spot = (left + rng.uniform(0.15, 0.85) * wide, rng.uniform(75, 175))
                paint(box(canvas, spot, rng.uniform(3, 14), rng.uniform(4, 18), 1), tone(rng, 0.1, 0.9, 0.25))
            paint(box(canvas, (left + wide / 2, 42), wide * 0.46, 12, 2), tone(rng, 0.1, 0.9, 0.3))
            left += wide
    elif kind == "windows":
        pitch, row = rng.uniform(48, 80), rng.uniform(60, 90)
        glass = tone(rng, 0.12, 0.45, 0.05)
        for cx in np.arange(pitch / 2, width, pitch):
            for cy in np.arange(30, height - 20, row):
                paint(box(canvas, (cx, cy), pitch * 0.3, row * 0.32, 1), glass * np.float32(rng.uniform(0.7, 1.5)))
                paint(box(canvas, (cx, cy), 1, row * 0.32, 0.5), np.float32([0.7, 0.7, 0.7]))
    elif kind == "panels":
        area *= 1 - 0.25 * lines(x + 0 * y, rng.uniform(35, 90), 2.0)
        area *= 1 - 0.2 * lines(y + 0 * x, rng.uniform(40, 110), 2.0)


def things(rng, canvas, count: int) -> None:
    """Trees, posts, cars, bins, bicycles and benches before the facade."""
    for _ in range(count):
        x, y = rng.uniform(0, WIDTH), HORIZON + rng.uniform(2, 45)
        k = 0.8 + (y - HORIZON) / 60
        match rng.choice(["tree", "post", "car", "bin", "bicycle", "sign", "door"]):
            case "tree":
                paint(capsule(canvas, (x, y), (x + rng.normal(0, 6), 20), 7 * k, 4 * k), np.float32([0.25, 0.18, 0.12]))
                for _ in range(7):
                    leaf = np.float32([0.16, 0.3, 0.1]) * np.float32(rng.uniform(0.6, 1.5))
                    spot = (x + rng.normal(0, 26), rng.uniform(0, 70))
                    paint(ellipse(canvas, spot, rng.uniform(12, 30), rng.uniform(10, 22)), leaf)
            case "post":
                paint(capsule(canvas, (x, y), (x, y - 160 * k), 2.5 * k, 2 * k), tone(rng, 0.15, 0.7))
            case "car":
                paintwork, glass = tone(rng, 0.1, 0.8, 0.2), np.float32([0.12, 0.14, 0.17])
                paint(ellipse(canvas, (x, y + 3), 75 * k, 6 * k), glass * 0.5, opacity=0.6)
                paint(box(canvas, (x, y - 40 * k), 38 * k, 17 * k, 12 * k), glass)
                paint(box(canvas, (x, y - 20 * k), 72 * k, 15 * k, 8 * k), paintwork)
                for side in (-42, 42):
                    paint(ellipse(canvas, (x + side * k, y - 6 * k), 11 * k, 11 * k), glass * 0.6)
            case "bin":
                paint(trunk(canvas, (x, y - 40 * k), (x, y), [0, 1], [14 * k, 11 * k], 3), tone(rng, 0.1, 0.5, 0.15))
            case "bicycle":
                steel = tone(rng, 0.05, 0.6, 0.2)
                for side in (-20, 20):
                    ring = ellipse(canvas, (x + side * k, y - 15 * k), 14 * k, 14 * k)
                    paint(ring, DARK_STEEL, opacity=np.clip((ring.distance + 3) / 1.5, 0, 1))
                paint(capsule(canvas, (x - 20 * k, y - 15 * k), (x + 14 * k, y - 34 * k), 1.6 * k, 1.6 * k), steel)
                paint(capsule(canvas, (x, y - 15 * k), (x - 6 * k, y - 38 * k), 1.6 * k, 1.6 * k), steel)
            case "sign":
                paint(capsule(canvas, (x, y), (x, y - 120 * k), 1.6 * k, 1.6 * k), tone(rng, 0.3, 0.7))
                paint(box(canvas, (x, y - 125 * k), 14 * k, 14 * k, 4), tone(rng, 0.2, 0.9, 0.3))
            case "door":
                paint(box(canvas, (x, HORIZON - 62), 26, 64, 1), tone(rng, 0.08, 0.6, 0.12))


DARK_STEEL = np.float32([0.08, 0.08, 0.09])
SCENES = {  # above the horizon, below it, how many things
    "street": ("shops", "asphalt", 9), "market": ("shops", "paving", 7), "campus": ("hedge", "paving", 6),
    "lawn": ("hedge", "grass", 6), "wall": ("brick", "asphalt", 5), "court": ("windows", "tiles", 5),
    "hall": ("panels", "tiles", 3), "offices": ("windows", "paving", 6),
}  # fmt: skip


def backdrop(rng: np.random.Generator, scene: str) -> Image.Image:
    """The wide picture (RGB, 760 x 400) of one camera's place."""
    above, below, count = SCENES[scene]
    canvas = np.full((3, HEIGHT, WIDTH), 0.4, np.float32)
    facade(rng, canvas, above)
    ground(rng, canvas, below)
    things(rng, canvas, count)
    canvas *= 1 + 0.06 * noise(rng, HEIGHT, WIDTH, 150)
    return Image.fromarray((np.clip(canvas, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0).copy())


def crop(view: Image.Image, zoom: float, foot: tuple[float, float], canvas_foot, size) -> np.ndarray:
    """(3, H, W) float32 part of the backdrop at `zoom`, with backdrop point `foot` at `canvas_foot`."""
    width, height = size[0] / zoom, size[1] / zoom
    left = min(max(foot[0] - canvas_foot[0] / zoom, 0), WIDTH - width - 1)
    top = min(max(foot[1] - canvas_foot[1] / zoom, 0), HEIGHT - height - 1)
    part = view.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    return np.ascontiguousarray(np.asarray(part).transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def occluder(rng: np.random.Generator, canvas: np.ndarray, scale: float) -> None:
    """Something between the camera and the person: a post, a bush, a car's bonnet, a bicycle's frame."""
    height, width = canvas.shape[1:]
    side = rng.choice([0.1, 0.9]) * width + rng.normal(0, 0.12 * width)
    match rng.choice(["post", "bush", "bonnet", "board"]):
        case "post":
            wide = rng.uniform(0.02, 0.05) * scale
            paint(capsule(canvas, (side, -20), (side, height + 20), wide, wide), tone(rng, 0.1, 0.7))
        case "bush":
            for _ in range(9):
                spot = (side + rng.normal(0, 0.18 * scale), height - abs(rng.normal(0, 0.13)) * scale)
                leaf = np.float32([0.16, 0.32, 0.1]) * np.float32(rng.uniform(0.6, 1.5))
                paint(ellipse(canvas, spot, rng.uniform(0.04, 0.1) * scale, rng.uniform(0.03, 0.08) * scale), leaf)
        case "bonnet":
            high = rng.uniform(0.08, 0.24) * scale
            paint(box(canvas, (side, height), 0.35 * scale, high, 0.05 * scale), tone(rng, 0.1, 0.8, 0.2))
        case "board":
            half = rng.uniform(0.05, 0.12) * scale
            patch = patch_of(canvas, side - half, height - 0.5 * scale, side + half, height)
            if patch.pixels.size:
                patch.pixels[:] = tone(rng, 0.15, 0.85, 0.2)[:, None, None]
