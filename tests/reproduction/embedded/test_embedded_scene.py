"""People, cameras and shapes of the renderer: pure functions with the geometry they promise."""

from dataclasses import fields, replace

import numpy as np
import pytest

from reproduction.embedded.cameras import camera
from reproduction.embedded.layouts import detector_box
from reproduction.embedded.people import TABLES, Garment, Person, person
from reproduction.embedded.scene.body import draw_person
from reproduction.embedded.scene.clothes import pattern_weight
from reproduction.embedded.scene.draw import box, capsule, coverage, ellipse, paint, trunk
from reproduction.embedded.scene.figure import Figure, Light, Pose
from reproduction.embedded.scene.shot import World, compose, expose

LIGHT = Light(0.3, 0.9, 0.6)


def blank(height=200, width=160) -> np.ndarray:
    return np.full((3, height, width), 0.5, np.float32)


def same(first: Person, second: Person) -> bool:
    def equal(a, b):
        if isinstance(a, Garment):
            return all(equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Garment))
        return np.array_equal(a, b)

    return all(equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(Person))


@pytest.mark.parametrize(
    ("surface", "area"),
    [
        (lambda c: ellipse(c, (80, 100), 30, 30), np.pi * 900),
        (lambda c: capsule(c, (40, 60), (110, 150), 12, 12), 24 * np.hypot(70, 90) + np.pi * 144),
        (lambda c: box(c, (80, 100), 30, 20, 0.01), 4 * 30 * 20),
        (lambda c: trunk(c, (80, 40), (80, 140), [0, 1], [10, 30], 0), 4000),
    ],
    ids=["disc", "capsule", "box", "trunk"],
)
def test_shapes_cover_their_area(surface, area):
    shape = surface(blank())
    assert coverage(shape.distance).sum() == pytest.approx(area, rel=0.02)
    inside = shape.distance < -1
    along, across = np.broadcast_arrays(shape.along, shape.across)
    assert 0 <= along[inside].min() and along[inside].max() <= 1
    assert -1 <= across[inside].min() < -0.8 and 0.8 < across[inside].max() <= 1


def test_a_shape_outside_the_canvas_paints_nothing():
    canvas = blank()
    paint(ellipse(canvas, (-50, -50), 20, 20), np.ones(3, np.float32))
    assert (canvas == 0.5).all()


def test_people_are_pure_functions_and_neighbours_differ():
    people = [person((7, 1), index, 100) for index in range(60)]
    assert all(same(person((7, 1), index, 100), people[index]) for index in range(0, 60, 9))
    for first in range(60):
        assert not any(same(people[first], people[second]) for second in range(first))
    assert not same(person((7, 2), 3, 100), people[3]) and not same(person((8, 1), 3, 100), people[3])


def test_many_people_share_the_colour_of_their_upper_garment():
    colours = np.stack([person((0, 1), index, 300).upper.colour for index in range(300)])
    distance = np.abs(colours[:, None] - colours[None]).sum(2) + 9 * np.eye(300)
    assert (np.sort(distance, axis=1)[:, 5] < 0.15).mean() > 0.8


def test_every_pattern_and_thing_is_drawn_differently_from_plain():
    base = replace(person((0, 1), 0, 100), bag="none", opening="closed", sleeve_colour=None)
    pose = Pose((80, 190), 170, 0.4, 1.0, 0.1, 0.6, 0.0)

    def picture(who: Person) -> np.ndarray:
        canvas = blank()
        draw_person(canvas, Figure(who, pose, LIGHT))
        return canvas

    plain = picture(replace(base, upper=replace(base.upper, pattern="plain")))
    for pattern in TABLES["PATTERNS"].keys() - {"plain"}:
        other = picture(replace(base, upper=replace(base.upper, pattern=pattern)))
        assert np.abs(other - plain).max() > 0.1, pattern
    for bag in TABLES["BAGS"].keys() - {"none"}:
        other = picture(replace(base, upper=replace(base.upper, pattern="plain"), bag=bag, bag_side=1))
        assert np.abs(other - plain).max() > 0.1, bag


def test_a_print_on_the_chest_is_not_on_the_back():
    garment = replace(person((0, 1), 0, 100).upper, pattern="print", back=False)
    angle = np.linspace(-np.pi, np.pi, 181, dtype=np.float32)[None, :]
    weight = pattern_weight(garment, angle, np.full_like(angle, 0.35))
    assert weight[np.abs(angle) > 2].max() == 0
    both = pattern_weight(replace(garment, back=True), angle, np.full_like(angle, 0.35))
    assert both[np.abs(angle) > 2].max() == weight.max()


def test_an_unknown_pattern_is_named():
    garment = replace(person((0, 1), 0, 100).upper, pattern="tartan")
    with pytest.raises(ValueError, match="no cloth pattern 'tartan'"):
        pattern_weight(garment, np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32))


def test_the_tight_box_holds_the_body_and_little_else():
    rng = np.random.default_rng(0)
    for index in range(40):
        who = replace(person((0, 1), index, 100), bag="none", headwear="none", hair_style="cropped", height=1.0)
        heading, phase = rng.uniform(-3, 3), rng.uniform(0, 6)
        canvas = blank()
        figure = Figure(who, Pose((80, 185), 165, heading, phase, 0.1, 0.7, 0.0), LIGHT)
        draw_person(canvas, figure)
        drawn = np.abs(canvas - 0.5).max(0) > 0.02
        drawn[170:] = False  # the shadow on the ground
        rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
        left, top, right, _ = figure.extent()
        assert abs(rows[0] - top) < 8
        assert left - 3 < columns[0] < left + 20 and right - 20 < columns[-1] < right + 3


def test_the_lower_foot_stands_on_the_ground_in_every_phase():
    who = replace(person((0, 1), 4, 100), height=1.0)
    for phase in np.linspace(0, 6.2, 12):
        figure = Figure(who, Pose((80, 185), 165, 1.2, phase, 0.0, 1.0, 0.0), LIGHT)
        lowest = max(figure.at(*joint)[1] for side in (-1, 1) for joint in figure.leg(side)[2:])
        assert lowest == pytest.approx(185 - 0.035 * 165, abs=0.5)


def test_pictures_are_pure_functions_of_world_camera_and_number():
    world = World(5, 1, 50)
    first, again = (compose(world, 3, 2, 17, (80, 160), 120.0) for _ in range(2))
    assert np.array_equal(first.pixels, again.pixels) and first.box == again.box
    assert expose(world, 2, 17, first).tobytes() == expose(world, 2, 17, again).tobytes()
    other = compose(world, 3, 2, 18, (80, 160), 120.0)
    assert not np.array_equal(first.pixels, other.pixels)
    assert first.pixels.shape == (3, 160, 80) and np.isfinite(first.pixels).all()


def test_cameras_differ_in_place_and_colour():
    cameras = [camera((0, 1), number) for number in range(1, 7)]
    assert len({place.scene for place in cameras}) == 6
    balance = np.stack([place.gain / place.gain.mean() for place in cameras])
    assert np.ptp(balance, axis=0).max() > 0.1


def test_detector_boxes_err_more_with_more_spread():
    rng = np.random.default_rng(0)
    exact = (10.0, 20.0, 60.0, 140.0)

    def error(spread):
        boxes = np.array([detector_box(rng, exact, 0.41, spread) for _ in range(400)])
        assert np.allclose((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1]), 0.41)
        return np.abs(boxes[:, [1, 3]] - [20, 140]).mean()

    assert error(0.0) < error(0.5) < error(1.5)
