"""Strengths change what cameras and detectors make of people, never the people or their poses."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from reproduction.embedded import CUHK01Sizes, CUHK03Sizes, Market1501Sizes, Sizes, Strengths, render
from reproduction.embedded.scene.shot import World, boxed, compose, expose
from reproduction.embedded.strengths import FULL, NONE, lit, response, shaken

SMALL = Sizes(Market1501Sizes(4, 12, 4, 9, 14, 3, 4), CUHK03Sizes((4, 2, 1, 1, 1), 42, 29, 41, 30), CUHK01Sizes(3))
BOX = (40.0, 20.0, 80.0, 140.0)
SIZE = (104, 168)


def world(**strengths) -> World:
    return World(3, 1, 20, Strengths(**{"colour": 0, "light": 0, "boxes": 0, "drawn": 0, "clutter": 0} | strengths))


def test_people_and_poses_are_the_same_at_every_strength():
    plain, hard = (compose(w, 5, 2, 77, SIZE, 120.0) for w in (world(), world(colour=2, light=2, boxes=2)))
    assert np.array_equal(plain.pixels, hard.pixels) and plain.box == hard.box


def test_clutter_is_behind_the_person():
    plain, crowded = (compose(w, 5, 2, 77, SIZE, 120.0) for w in (world(), world(clutter=8)))
    changed = np.any(plain.pixels != crowded.pixels, axis=0)
    left, top, right, bottom = (round(x) for x in plain.box)
    middle = changed[round(top + 0.3 * (bottom - top)), (left + right) // 2]
    assert plain.box == crowded.box and changed.mean() > 0.05 and not middle


@pytest.mark.parametrize("name", ["colour", "light"])
def test_a_camera_changes_the_same_picture(name):
    frame = compose(world(), 5, 2, 77, SIZE, 120.0)
    plain, changed = (np.asarray(expose(w, 2, 77, frame), float) for w in (world(), world(**{name: 1})))
    assert 2 < np.abs(plain - changed).mean() < 60


def test_the_response_is_the_cameras_and_the_light_the_pictures():
    frame = compose(world(), 5, 2, 77, SIZE, 120.0)
    coloured, bright = world(colour=1), world(light=1)
    shifts = [np.asarray(expose(coloured, 2, n, frame), float).mean((0, 1)) for n in range(40, 52)]
    balance = np.array(shifts) - np.mean(shifts, axis=0)
    assert np.abs(balance).mean() < 25, "one camera's colours move little from picture to picture"
    mixing, exponents = response(np.random.default_rng(0), 1.0)
    assert np.allclose(mixing.sum(axis=1), 1) and (exponents > 0).all()
    grey = np.full((3, 8, 6), 0.5, np.float32)
    assert not np.array_equal(*(lit(grey, bright.rng(9, n), 1.0) for n in (1, 2)))


def test_strength_nought_is_without():
    mixing, exponents = response(np.random.default_rng(0), 0.0)
    assert np.array_equal(mixing, np.eye(3)) and np.array_equal(exponents, np.ones(3))
    assert boxed(world(), 7, BOX) == BOX
    assert boxed(world(boxes=1), 7, BOX) != BOX == boxed(world(boxes=1), 7, BOX, drawn=True)
    assert boxed(world(drawn=1), 7, BOX, drawn=True) != BOX == boxed(world(drawn=1), 7, BOX)


def test_boxes_are_off_by_a_tenth_in_size_and_a_twentieth_in_place():
    rng = np.random.default_rng(1)
    boxes = np.array([shaken(rng, BOX, 1.0) for _ in range(4000)])
    tall = boxes[:, 3] - boxes[:, 1]
    assert np.log(tall / 120).std() == pytest.approx(0.10, rel=0.05)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert (centre.std(axis=0) / 120).tolist() == pytest.approx([0.05, 0.055], rel=0.05)
    wide = boxes[:, 2] - boxes[:, 0]
    assert np.allclose(wide / tall, 40 / 120), "the aspect is the detector's own"


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_strength_that_makes_no_sense_is_refused(value):
    with pytest.raises(ValueError, match="Strength light"):
        Strengths(light=value)


def test_another_strength_is_another_rendering(tmp_path):
    first = render(tmp_path / "data", SMALL, 3, strengths=NONE, workers=1, progress=False)
    easy = json.loads((first / "embedded.json").read_text())
    with pytest.raises(FileExistsError, match="strengths"):
        render(first, SMALL, 3, workers=1, progress=False)
    hard = json.loads((render(first, SMALL, 3, workers=1, progress=False, replace=True) / "embedded.json").read_text())
    assert hard["strengths"] == asdict(FULL)
    assert easy["digest"] != hard["digest"] and easy["counts"] == hard["counts"]


def test_a_rendering_of_the_time_before_strengths_is_known_as_one_and_replaced(tmp_path):
    root = render(tmp_path / "data", SMALL, 3, workers=1, progress=False)
    record = json.loads((root / "embedded.json").read_text())
    older = {key: value for key, value in record.items() if key != "strengths"} | {"renderer_version": 4}
    (root / "embedded.json").write_text(json.dumps(older))
    with pytest.raises(FileExistsError, match="another rendering.*strengths None instead"):
        render(root, SMALL, 3, workers=1, progress=False)
    render(root, SMALL, 3, workers=1, progress=False, replace=True)
    assert json.loads((root / "embedded.json").read_text()) == record
