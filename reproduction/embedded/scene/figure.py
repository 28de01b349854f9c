"""A person in a pose: joints of the walk, their way into the picture, and light on round surfaces.

The body frame has its origin on the ground between the feet: `left` (the person's), `forward`, `up`, in shares
of a nominal height. Heading 0 faces the camera, pi/2 walks to the picture's right. A place of the body's surface
at body angle a (0 = front, positive to the person's left) is seen at the angle a + heading.
"""

from typing import NamedTuple

import numpy as np

from reproduction.embedded.people import Garment, Person
from reproduction.embedded.scene.clothes import cloth_colours
from reproduction.embedded.scene.draw import Surface, paint

Point = tuple[float, float]


class Light(NamedTuple):
    """Directional light (x right, z towards the camera) over an ambient part; the shade lies around 1."""

    x: float
    z: float
    ambient: float

    def on(self, across: np.ndarray) -> np.ndarray:
        """Shade (h, w) of an upright round surface at `across` in [-1, 1]."""
        facing = across * np.float32(self.x) + np.sqrt(1 - across * across) * np.float32(self.z)
        return np.float32(self.ambient) + np.float32(1.15 - self.ambient) * np.maximum(facing, 0)


class Pose(NamedTuple):
    """Where and how a person stands in a picture: `foot` in pixels, `scale` in pixels a nominal height."""

    foot: Point
    scale: float
    heading: float
    phase: float
    pitch: float
    stride: float
    folds: float


class Figure:
    """One person in one pose under one light: where everything is, and how cloth and skin are painted there."""

    def __init__(self, person: Person, pose: Pose, light: Light):
        self.person, self.pose, self.light = person, pose, light
        self.size = pose.scale * person.height
        self.cos, self.sin = float(np.cos(pose.heading)), float(np.sin(pose.heading))
        lowest = min(joint[2] for side in (-1, 1) for joint in self.leg(side)[2:])
        self.drop = lowest - 0.035  # the lower foot stands on the ground

    comes = property(lambda self: self.cos >= 0, doc="Whether the front is towards the camera.")

    def at(self, left: float, forward: float, up: float) -> Point:
        """Pixel (x, y) of a body point."""
        forward = forward + self.person.lean * up
        x = left * self.cos + forward * self.sin
        y = (up - self.drop) * np.cos(self.pose.pitch) - self.depth(left, forward) * np.sin(self.pose.pitch)
        return float(self.pose.foot[0] + x * self.size), float(self.pose.foot[1] - y * self.size)

    def depth(self, left: float, forward: float) -> float:
        """How much nearer to the camera than the body's axis."""
        return forward * self.cos - left * self.sin

    def width(self, lateral: float, sagittal: float) -> float:
        """Half width in pixels of an elliptic cross-section seen from the heading."""
        return self.size * float(np.hypot(lateral * self.cos, sagittal * self.sin))

    def angle(self, across: np.ndarray) -> np.ndarray:
        """Body angle in [-pi, pi] of a surface place seen at `across`."""
        a = np.arcsin(across) - np.float32(self.pose.heading)
        return a - np.float32(2 * np.pi) * np.round(a / np.float32(2 * np.pi))

    def extent(self) -> tuple[float, float, float, float]:
        """The tight box (left, top, right, bottom) in pixels around body and clothes."""
        points = [(self.at(0, 0, 0.88), 0.05), (self.at(0, 0, 0.5), 0.1)]
        for side in (-1, 1):
            points += [(self.at(*joint), 0.035) for joint in (*self.leg(side), *self.arm(side))]
        left = min(p[0] - r * self.size for p, r in points)
        right = max(p[0] + r * self.size for p, r in points)
        bottom = max(p[1] for p, _ in points) + 0.03 * self.size
        return left, self.at(0, 0, 1.005)[1], right, bottom

    def leg(self, side: int):
        """Hip, knee, ankle and toe as (left, forward, up); side is 1 for the left leg and -1 for the right."""
        p = self.person
        phase = self.pose.phase + (0 if side > 0 else np.pi)
        thigh = np.sin(phase) * self.pose.stride * p.stride * 1.25
        shin = thigh - max(0.0, np.cos(phase)) * 0.7 * self.pose.stride - 0.04
        hip = (side * 0.052 * p.build**0.5, 0.0, 0.50)
        knee = (hip[0], 0.235 * np.sin(thigh), hip[2] - 0.235 * np.cos(thigh))
        ankle = (hip[0] * 0.9, knee[1] + 0.225 * np.sin(shin), knee[2] - 0.225 * np.cos(shin))
        toe_up = ankle[2] + 0.085 * np.sin(shin * 0.6) - 0.012
        return hip, knee, ankle, (ankle[0] * 1.25, ankle[1] + 0.085 * np.cos(shin * 0.6), toe_up)

    def arm(self, side: int):
        """Shoulder, elbow and hand as (left, forward, up); an arm that carries something hardly swings."""
        p = self.person
        phase = self.pose.phase + (0 if side > 0 else np.pi)
        upper = -np.sin(phase) * self.pose.stride * (p.swing + 0.4)
        bend = 0.2 + p.swing * (0.5 + 0.5 * np.sin(self.pose.phase))
        if side == p.bag_side and p.bag in ("handbag", "shopping", "case"):
            upper, bend = upper * 0.2, 0.08
        elif side == p.bag_side and p.bag == "umbrella":
            upper, bend = 0.35, 2.2
        shoulder = (side * 0.094 * p.shoulders * p.build**0.5, 0.0, 0.79)
        elbow = (shoulder[0] + side * 0.02, 0.17 * np.sin(upper), shoulder[2] - 0.17 * np.cos(upper))
        hand = (elbow[0], elbow[1] + 0.15 * np.sin(upper + bend), elbow[2] - 0.15 * np.cos(upper + bend))
        return shoulder, elbow, hand

    def shade(self, surface: Surface, far: float = 1.0) -> np.ndarray:
        """Light on a round surface with the folds of its cloth; `far` darkens limbs on the averted side."""
        folds = np.float32(self.pose.folds)
        drape = np.sin(surface.along * np.float32(9) + folds) * np.cos(surface.across * np.float32(2.5) + 2 * folds)
        return (self.light.on(surface.across) + np.float32(0.05) * drape) * np.float32(far)

    def cloth(self, surface: Surface, garment: Garment, start=0.0, stretch=1.0, far=1.0) -> None:
        """Paint a surface with a garment whose heights run from `start` over `stretch` along it."""
        along = surface.along * np.float32(stretch) + np.float32(start)
        paint(surface, cloth_colours(garment, self.angle(surface.across), along), self.shade(surface, far))

    def plain(self, surface: Surface, colour: np.ndarray, far: float = 1.0) -> None:
        """Paint a surface with one colour (3,)."""
        paint(surface, colour, self.shade(surface, far))


def between(a: Point, b: Point, share: float) -> Point:
    """The point `share` of the way from a to b."""
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
