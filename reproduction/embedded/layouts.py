"""The three official layouts: what a worker draws for each, and what the parent writes from it."""

import hashlib
import io
from pathlib import Path

import numpy as np

from reid_core import images
from reid_core.datasets.layout import CUHK01_FOLDER, MARKET1501_FOLDER
from reproduction.embedded import plan
from reproduction.embedded.matfile import MatFile, deflate
from reproduction.embedded.scene.shot import Box, Frame, World, as_jpeg, boxed, compose, cut, expose
from reproduction.embedded.sizes import CUHK03Sizes


def detector_box(rng: np.random.Generator, box: Box, aspect: float, spread: float) -> Box:
    """What a part-based detector reports for a person with the tight box `box`: a box of its own aspect (width /
    height), shifted and scaled at random, which once in a while loses feet or head."""
    tall = box[3] - box[1]
    x = (box[0] + box[2]) / 2 + rng.normal(0, 0.035 * spread) * tall
    y = (box[1] + box[3]) / 2 + rng.normal(0, 0.03 * spread) * tall
    high = tall * 1.06 * np.exp(rng.normal(0, 0.06 * spread))
    top, bottom = y - high / 2, y + high / 2
    if rng.random() < 0.07 * spread:
        bottom -= rng.uniform(0.1, 0.26) * tall
    elif rng.random() < 0.03 * spread:
        top += rng.uniform(0.06, 0.15) * tall
    wide = (bottom - top) * aspect
    return x - wide / 2, top, x + wide / 2, bottom


def fragment_box(rng: np.random.Generator, box: Box) -> Box:
    """A box that overlaps the person by less than half: a limb, a half, far too much."""
    tall = box[3] - box[1]
    high = tall * rng.choice([0.35, 0.5, 1.5]) * rng.uniform(0.85, 1.15)
    y = (box[1] + box[3]) / 2 + rng.choice([-1, 1]) * rng.uniform(0.15, 0.4) * tall
    x = (box[0] + box[2]) / 2 + rng.choice([-1, 1]) * rng.uniform(0.05, 0.22) * tall
    return x - high / 4, y - high / 2, x + high / 4, y + high / 2


def market_file(world: World, image: plan.MarketImage) -> bytes:
    """The JPEG (64 x 128) of one Market-1501 file."""
    rng = world.rng(8, image.picture)
    frame = compose(world, image.who, image.camera_id, image.picture, (104, 168), 120.0)
    if image.kind in ("distractor", "junk"):
        box = fragment_box(rng, frame.box)
    else:
        box = detector_box(rng, frame.box, 0.5, 0.5 if image.kind == "query" else 0.8)
        box = boxed(world, image.picture, box)
    picture = cut(expose(world, image.camera_id, image.picture, frame), box, (64, 128))
    return as_jpeg(world, image.camera_id, picture)


def cuhk03_boxes(world: World, frame: plan.CampusFrame) -> dict[str, np.ndarray]:
    """The uint8 images of one frame, (3, W, H) as MATLAB stores them, by form."""
    rng = world.rng(8, frame.picture)
    tall = float(rng.uniform(105, 165))
    drawn = compose(world, frame.who, frame.camera, frame.picture, (round(tall * 0.85), round(tall * 1.35)), tall)
    picture = expose(world, frame.camera, frame.picture, drawn)
    picture = images.rgb(as_jpeg(world, frame.camera, picture))
    boxes = {
        "labeled": boxed(world, frame.picture, tight(rng, drawn), drawn=True),
        "detected": boxed(world, frame.picture, detector_box(rng, drawn.box, 0.41, 0.8)),
    }
    return {
        form: np.ascontiguousarray(np.asarray(cut(picture, box)).transpose(2, 1, 0))
        for form, box in boxes.items()
        if getattr(frame, form)
    }


def tight(rng: np.random.Generator, drawn: Frame) -> Box:
    """A box as an annotator draws it: around the body with a pixel or two to spare, never a mere strip."""
    left, top, right, bottom = drawn.box
    slack = max(0.0, 0.36 * (bottom - top) - (right - left)) / 2
    spare = rng.uniform(0.0, 0.02, 4) * (bottom - top)
    return left - slack - spare[0], top - spare[1], right + slack + spare[2], bottom + spare[3]


def cuhk01_file(world: World, image: plan.CampusImage) -> bytes:
    """The PNG (60 x 160) of one CUHK01 file."""
    rng = world.rng(8, image.picture)
    frame = compose(world, image.who, image.camera, image.picture, (100, 190), 146.0)
    picture = expose(world, image.camera, image.picture, frame)
    box = boxed(world, image.picture, detector_box(rng, frame.box, 0.375, 0.4), drawn=True)
    stream = io.BytesIO()
    cut(picture, box, (60, 160)).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


class CUHK03Writer(MatFile):
    """Writes `cuhk-03.mat` from frames that come in file order."""

    def __init__(self, path: Path, sizes: CUHK03Sizes):
        super().__init__(path)
        self.cells = {form: [[[None] * 10 for _ in range(people)] for people in sizes.pair_people]
                      for form in ("labeled", "detected")}  # fmt: skip

    def add(self, frame: plan.CampusFrame, form: str, shape: tuple[int, int, int], chunk: bytes) -> None:
        self.cells[form][frame.pair][frame.person][5 * frame.view + frame.column] = self.image(shape, chunk)

    def finish(self, testsets: list[np.ndarray]) -> None:
        """Write the cells, which hold the references of all images."""
        for form in ("detected", "labeled"):
            self.cell([[self.cell(pair)] for pair in self.cells[form]], form)
        self.cell([[self.matrix(table)] for table in testsets], "testsets")


def draw(job: tuple[World, Path, list]) -> list:
    """Worker: draw a batch of one data set.

    Files of Market-1501 and CUHK01 are written below the given folder; boxes of CUHK03 come back compressed,
    as (frame, form, shape, chunk). The digest of each image, SHA-256 of its bytes, comes last."""
    world, root, batch = job
    done = []
    for item in batch:
        if isinstance(item, plan.CampusFrame):
            for form, array in cuhk03_boxes(world, item).items():
                digest = hashlib.sha256(repr(array.shape).encode() + array.tobytes()).digest()
                done.append(((item, form, array.shape, deflate(array)), digest))
            continue
        market = isinstance(item, plan.MarketImage)
        content = (market_file if market else cuhk01_file)(world, item)
        place = f"{MARKET1501_FOLDER}/{item.folder}" if market else CUHK01_FOLDER
        (root / place / item.name).write_bytes(content)
        done.append((None, hashlib.sha256(content).digest()))
    return done
