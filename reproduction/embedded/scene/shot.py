"""One picture: a person walking through a camera's place, and what the camera makes of it."""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from reproduction.embedded.cameras import Camera, camera
from reproduction.embedded.people import Person, person
from reproduction.embedded.scene import backdrop as scenery
from reproduction.embedded.scene.body import draw_person
from reproduction.embedded.scene.draw import patch_of
from reproduction.embedded.scene.figure import Figure, Light, Pose
from reproduction.embedded.strengths import Strengths, lit, response, shaken

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the frame


@dataclass(frozen=True)
class World:
    """The people and cameras of one data set: pure functions of the seed; `strengths` change neither build nor pose."""

    seed: int
    dataset: int
    people: int
    strengths: Strengths = Strengths()

    key = property(lambda self: (self.seed, self.dataset))

    def rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng((*self.key, *key))


@lru_cache(maxsize=4096)
def _person(world: World, index: int) -> Person:
    return person(world.key, index, world.people)


@lru_cache(maxsize=32)
def _camera(world: World, number: int) -> tuple[Camera, Image.Image]:
    place = camera(world.key, number)
    return place, scenery.backdrop(world.rng(4, number), place.scene)


def boxed(world: World, picture: int, box: Box, drawn: bool = False) -> Box:
    """A box as it is found in a picture: off as far as a detector's is, or one `drawn` by hand."""
    strength = world.strengths.drawn if drawn else world.strengths.boxes
    return shaken(world.rng(10, picture), box, strength) if strength else box


class Frame(NamedTuple):
    """A drawn scene before the camera's optics: pixels (3, H, W) and the person's tight box."""

    pixels: np.ndarray
    box: Box


def compose(world: World, who: int | None, number: int, picture: int, size: tuple[int, int], tall: float) -> Frame:
    """Draw person `who` (None: nobody) before camera `number`'s backdrop; `picture` numbers the picture.

    `size` is (width, height) of the frame and `tall` the height in pixels of a person of nominal height, who
    stands in the frame's middle. The heading is that of the person's walk past the camera."""
    place, view = _camera(world, number)
    rng = world.rng(5, picture)
    zoom = tall / scenery.PERSON * rng.uniform(0.75, 1.25)
    canvas_foot = (size[0] / 2, (size[1] + tall) / 2)
    spot = (rng.uniform(0.05, 0.95) * scenery.WIDTH, rng.uniform(0.66, 0.9) * scenery.HEIGHT)
    canvas = scenery.crop(view, zoom, spot, canvas_foot, size)
    light = Light(np.sin(place.sun + rng.normal(0, 0.25)), np.cos(place.sun), place.ambient)
    crowd = world.rng(11, picture)
    behind = [crowd] * crowd.poisson(0.8 * world.strengths.clutter) + [rng] * (rng.random() < 0.16)
    for draws in behind:
        passer_by(world, draws, canvas, canvas_foot, tall, light, behind=True)
    box = (canvas_foot[0] - 0.2 * tall, canvas_foot[1] - tall, canvas_foot[0] + 0.2 * tall, canvas_foot[1])
    if who is not None:
        figure = Figure(_person(world, who), walk(world, who, number, place, rng, canvas_foot, tall), light)
        draw_person(canvas, figure)
        box = figure.extent()
    if rng.random() < 0.05:
        passer_by(world, rng, canvas, canvas_foot, tall, light, behind=False)
    if rng.random() < 0.10:
        scenery.occluder(rng, canvas, tall)
    if rng.random() < 0.22:
        cast_shadow(rng, canvas)
    return Frame(canvas, box)


def walk(world: World, who: int, number: int, place: Camera, rng, foot, tall: float) -> Pose:
    """The pose of a walk along the camera's path, there or back; the direction belongs to person and camera."""
    track = world.rng(6, who, number)
    back = track.random() < place.return_share
    heading = place.path_heading + (np.pi if back else 0) + track.normal(0, 0.35) + rng.normal(0, 0.15)
    phase, stride, folds = (float(rng.uniform(*ends)) for ends in ((0, 2 * np.pi), (0.25, 1.0), (0, 6)))
    return Pose(foot, tall, float(heading), phase, place.pitch, stride, folds)


def passer_by(world: World, rng, canvas, foot, tall, light, behind: bool) -> None:
    """Somebody else, partly in the picture."""
    other = int(rng.integers(world.people))
    side = rng.choice([-1, 1]) * rng.uniform(0.25, 0.5) * tall
    scale = tall * (rng.uniform(0.6, 0.95) if behind else rng.uniform(1.0, 1.2))
    drop = (-0.1 if behind else 0.08) * tall
    pose = Pose((foot[0] + side, foot[1] + drop), scale, rng.uniform(-3, 3), rng.uniform(0, 6), 0.1, 0.6, 0.0)
    draw_person(canvas, Figure(_person(world, other), pose, light))


def cast_shadow(rng, canvas) -> None:
    """The edge of a building's or tree's shadow across the picture."""
    height, width = canvas.shape[1:]
    patch = patch_of(canvas, 0, 0, width, height)
    angle, offset = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.18)
    side = (patch.x / width - 0.5) * np.cos(angle) + (patch.y / height - 0.5) * np.sin(angle) + offset
    canvas *= 1 - np.float32(rng.uniform(0.2, 0.5)) * np.clip(side * 12 + 0.5, 0, 1).astype(np.float32)


def expose(world: World, number: int, picture: int, frame: Frame) -> Image.Image:
    """What camera `number` records of the frame: light, colour, resolution, blur and noise, as RGB."""
    place, _ = _camera(world, number)
    rng = world.rng(7, picture)
    pixels = frame.pixels
    balance = np.exp(rng.normal(0, 0.11) + rng.normal(0, 0.03, 3))
    if world.strengths.light:
        pixels = lit(pixels, world.rng(9, picture), world.strengths.light)
    pixels = np.maximum(pixels * (place.gain * balance).astype(np.float32)[:, None, None], 0)
    if world.strengths.colour:
        mixing, exponents = response(world.rng(12, number), world.strengths.colour)
        pixels = np.maximum(np.tensordot(mixing, pixels, 1), 0) ** exponents[:, None, None]
    grey = pixels.mean(0, keepdims=True)
    pixels = grey + np.float32(place.saturation) * (pixels - grey)
    pixels = np.clip(pixels, 0, 1.3) ** np.float32(place.gamma * np.exp(rng.normal(0, 0.08)))
    pixels = (pixels - np.float32(0.45)) * np.float32(place.contrast) + np.float32(0.45)
    pixels = pixels * (1 - place.cast)[:, None, None] + place.cast[:, None, None]
    height, width = pixels.shape[1:]
    picture_ = Image.fromarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy())
    tall = frame.box[3] - frame.box[1]
    factor = min(1.0, place.resolution * rng.uniform(0.8, 1.2) / tall)
    if place.blur > 0.25:
        picture_ = picture_.filter(ImageFilter.GaussianBlur(float(place.blur * rng.uniform(0.6, 1.4) * tall / 128)))
    if factor < 0.95:
        small = (max(8, round(width * factor)), max(16, round(height * factor)))
        picture_ = picture_.resize(small, Image.Resampling.BILINEAR)
    grain = rng.standard_normal((picture_.height, picture_.width, 1), dtype=np.float32)
    noisy = np.asarray(picture_, np.float32) + grain * np.float32(255 * place.noise)
    picture_ = Image.fromarray(np.clip(noisy + 0.5, 0, 255).astype(np.uint8))
    return picture_.resize((width, height), Image.Resampling.BILINEAR) if factor < 0.95 else picture_


def as_jpeg(world: World, number: int, picture: Image.Image) -> bytes:
    """A picture as camera `number` saves it."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_camera(world, number)[0].quality)
    return stream.getvalue()


def cut(picture: Image.Image, box: Box, size: tuple[int, int] | None = None) -> Image.Image:
    """The part of the picture within the box, resized to `size` (width, height) or kept at its own size."""
    left, top = min(max(box[0], 0), picture.width - 8), min(max(box[1], 0), picture.height - 16)
    right, bottom = max(left + 8, min(box[2], picture.width)), max(top + 16, min(box[3], picture.height))
    if size is None:
        return picture.crop((round(left), round(top), round(right), round(bottom)))
    return picture.resize(size, Image.Resampling.BILINEAR, box=(left, top, right, bottom))
