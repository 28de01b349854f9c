"""A walking person drawn from joints: limbs, garments, hair and carried things, back to front.

The body frame has its origin on the ground between the feet: `left` (the person's), `forward`, `up`, in shares
of a nominal height. Heading 0 faces the camera, pi/2 walks to the picture's right. A point of the body's surface
at body angle a (0 = front, positive to the person's left) is seen at the angle a + heading.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..people import Garment, Person
from .clothes import cloth_colours
from .draw import Surface, box, capsule, ellipse, paint, trunk

DARK = np.float32([0.05, 0.05, 0.055])


@dataclass(frozen=True)
class Light:
    """Directional light (x right, z towards the camera) over an ambient part; the shade lies around 1."""

    x: float
    z: float
    ambient: float

    def on(self, across: np.ndarray) -> np.ndarray:
        """Shade (h, w) of an upright round surface at `across` in [-1, 1]."""
        facing = across * np.float32(self.x) + np.sqrt(1 - across * across) * np.float32(self.z)
        return np.float32(self.ambient) + np.float32(1.15 - self.ambient) * np.maximum(facing, 0)


@dataclass(frozen=True)
class Pose:
    """Where and how a person stands in a picture. `foot` and `scale` (px a nominal height) are in pixels."""

    foot: tuple[float, float]
    scale: float
    heading: float
    phase: float
    pitch: float
    stride: float
    folds: float


class Figure:
    """One person in one pose under one light; `draw` lays it on a canvas."""

    def __init__(self, person: Person, pose: Pose, light: Light):
        self.person, self.pose, self.light = person, pose, light
        self.size = pose.scale * person.height
        self.cos, self.sin = np.cos(pose.heading), np.sin(pose.heading)
        self.lean = person.lean
        self.drop = 0.0
        self.drop = min(joint[2] for side in (-1, 1) for joint in self.leg(side)[2:]) - 0.035

    def at(self, left: float, forward: float, up: float) -> tuple[float, float]:
        """Pixel (x, y) of a body point."""
        forward = forward + self.lean * up
        x = left * self.cos + forward * self.sin
        depth = self.depth(left, forward)
        y = (up - self.drop) * np.cos(self.pose.pitch) - depth * np.sin(self.pose.pitch)
        return self.pose.foot[0] + x * self.size, self.pose.foot[1] - y * self.size

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

    def shade(self, surface: Surface, far: float = 1.0) -> np.ndarray:
        """Light on a round surface with the folds of its cloth."""
        drape = np.sin(surface.along * np.float32(9) + np.float32(self.pose.folds))
        drape = drape * np.cos(surface.across * np.float32(2.5) + np.float32(2 * self.pose.folds))
        return (self.light.on(surface.across) + np.float32(0.05) * drape) * np.float32(far)

    def cloth(
        self, surface: Surface | None, garment: Garment, start: float = 0.0, stretch: float = 1.0, far=1.0
    ):
        """Paint a surface with a garment whose heights run from `start` over `stretch` along it."""
        if surface is None:
            return
        along = surface.along * np.float32(stretch) + np.float32(start)
        paint(surface, cloth_colours(garment, self.angle(surface.across), along), self.shade(surface, far))

    def plain(self, surface: Surface | None, colour: np.ndarray, far: float = 1.0):
        if surface is not None:
            paint(surface, colour, self.shade(surface, far))

    def extent(self) -> tuple[float, float, float, float]:
        """The tight box (left, top, right, bottom) in pixels around body, clothes and what is worn on them."""
        points = [(self.at(0, 0, 0.88), 0.05), (self.at(0, 0, 0.5), 0.1)]
        for side in (-1, 1):
            points += [(self.at(*joint), 0.035) for joint in (*self.leg(side), *self.arm(side))]
        pad = [r * self.size for _, r in points]
        left = min(p[0] - r for (p, _), r in zip(points, pad, strict=True))
        right = max(p[0] + r for (p, _), r in zip(points, pad, strict=True))
        bottom = max(p[1] for p, _ in points) + 0.03 * self.size
        return left, self.at(0, 0, 1.005)[1], right, bottom

    # ---- joints of the walk -------------------------------------------------------------------------------

    def leg(self, side: int):
        """Hip, knee, ankle and toe of one leg as (left, forward, up)."""
        p = self.person
        swing = np.sin(self.pose.phase + (0 if side > 0 else np.pi))
        thigh = swing * self.pose.stride * p.stride * 1.25
        bend = max(0.0, np.cos(self.pose.phase + (0 if side > 0 else np.pi))) * 0.7 * self.pose.stride + 0.04
        hip = (side * 0.052 * p.build**0.5, 0.0, 0.50)
        knee = (hip[0], 0.235 * np.sin(thigh), hip[2] - 0.235 * np.cos(thigh))
        shin = thigh - bend
        ankle = (hip[0] * 0.9, knee[1] + 0.225 * np.sin(shin), knee[2] - 0.225 * np.cos(shin))
        toe = (
            ankle[0] * 1.25,
            ankle[1] + 0.085 * np.cos(shin * 0.6),
            ankle[2] + 0.085 * np.sin(shin * 0.6) - 0.012,
        )
        return hip, knee, ankle, toe

    def arm(self, side: int):
        """Shoulder, elbow and hand of one arm."""
        p = self.person
        swing = -np.sin(self.pose.phase + (0 if side > 0 else np.pi)) * self.pose.stride
        upper = swing * (p.swing + 0.4)
        carrying = p.bag in ("handbag", "shopping", "case") and side == p.bag_side
        if carrying:
            upper *= 0.2
        bend = 0.08 if carrying else 0.2 + p.swing * (0.5 + 0.5 * np.sin(self.pose.phase * 1.0))
        shoulder = (side * 0.094 * p.shoulders * p.build**0.5, 0.0, 0.79)
        elbow = (shoulder[0] + side * 0.02, 0.17 * np.sin(upper), shoulder[2] - 0.17 * np.cos(upper))
        fore = upper + bend
        hand = (elbow[0], elbow[1] + 0.15 * np.sin(fore), elbow[2] - 0.15 * np.cos(fore))
        return shoulder, elbow, hand

    # ---- parts --------------------------------------------------------------------------------------------

    def draw(self, canvas: np.ndarray) -> None:
        """Lay shadow, body, clothes and things over canvas (3, H, W), in place."""
        shadow = ellipse(canvas, (self.pose.foot[0], self.pose.foot[1]), 0.2 * self.size, 0.03 * self.size)
        paint(shadow, DARK, opacity=0.45)
        behind, before = [], []
        for side in (-1, 1):
            shoulder, elbow, _ = self.arm(side)
            (before if self.depth(shoulder[0], elbow[1]) > -0.02 else behind).append(side)
        back_is_near = self.cos < 0
        legs = sorted((-1, 1), key=lambda s: self.depth(self.leg(s)[0][0], self.leg(s)[2][1]))
        if not back_is_near:
            self.on_back(canvas)
        for side in behind:
            self.draw_arm(canvas, side, far=0.82)
        for side, far in zip(legs, (0.8, 1.0), strict=True):
            self.draw_leg(canvas, side, far)
        self.draw_skirt(canvas)
        self.draw_neck(canvas)
        self.draw_torso(canvas)
        if back_is_near:
            self.draw_head(canvas)
            self.on_back(canvas)
        else:
            self.draw_head(canvas)
        self.draw_straps(canvas, back_is_near)
        for side in before:
            self.draw_arm(canvas, side, far=1.0)

    def draw_leg(self, canvas, side, far):
        p, s = self.person, self.size
        hip, knee, ankle, toe = (self.at(*joint) for joint in self.leg(side))
        girth = p.build**0.7
        thigh, calf, shin = 0.055 * girth, 0.04 * girth, 0.024 * girth
        self.draw_shoe(canvas, ankle, toe, far)
        trousers = p.lower_kind in ("trousers", "shorts")
        bare = not trousers or p.lower_length < 0.85
        if bare:
            self.plain(capsule(canvas, hip, knee, thigh * s * 0.9, calf * s * 0.9), p.skin, far)
            self.plain(capsule(canvas, knee, ankle, calf * s, shin * s), p.skin, far)
            sock_top = tuple(0.75 * a + 0.25 * k for a, k in zip(ankle, knee, strict=True))
            if p.shoe_kind in ("trainer", "boot"):
                self.plain(capsule(canvas, sock_top, ankle, shin * 1.25 * s, shin * 1.1 * s), p.sock, far)
        if not trousers:
            return
        wide = p.fit
        share = min(1.0, p.lower_length / 0.5)
        end = tuple(h + (k - h) * share for h, k in zip(hip, knee, strict=True))
        if p.lower_length >= 0.6:
            low = (p.lower_length - 0.5) / 0.5
            cuff = tuple(k + (a - k) * low for k, a in zip(knee, ankle, strict=True))
            self.cloth(
                capsule(canvas, knee, cuff, calf * 1.08 * wide * s, (shin * 1.25 + 0.008) * wide * s),
                p.lower, 0.5, 0.5, far,
            )  # fmt: skip
        upper = capsule(canvas, hip, end, thigh * 1.02 * s, calf * 1.12 * wide * s)
        self.cloth(upper, p.lower, 0.0, 0.5, far)
        if p.side_stripe is not None and self.depth(side, 0) > -0.3:
            across = side * self.cos
            for first, last, ra in ((hip, knee, thigh), (knee, ankle, calf)):
                if p.lower_length < 0.6 and first is knee:
                    break
                shift = across * ra * s * 0.8
                a, b = (first[0] + shift, first[1]), (last[0] + shift * 0.7, last[1])
                self.plain(capsule(canvas, a, b, 0.009 * s, 0.008 * s), p.side_stripe, far)

    def draw_shoe(self, canvas, ankle, toe, far):
        p, s = self.person, self.size
        heel = (ankle[0], ankle[1] + 0.022 * s)
        tip = (toe[0], max(toe[1], heel[1] + 0.004 * s) + 0.008 * s)
        self.plain(
            capsule(
                canvas, (heel[0], heel[1] + 0.01 * s), (tip[0], tip[1] + 0.008 * s), 0.022 * s, 0.018 * s
            ),
            p.sole,
            far,
        )
        colour = p.skin if p.shoe_kind == "sandal" else p.shoe
        self.plain(capsule(canvas, heel, tip, 0.024 * s, 0.018 * s), colour, far)
        if p.shoe_kind == "boot":
            top = (ankle[0], ankle[1] - 0.07 * s)
            self.plain(capsule(canvas, top, heel, 0.032 * s, 0.028 * s), p.shoe, far)

    def draw_skirt(self, canvas):
        p, s = self.person, self.size
        if p.lower_kind not in ("skirt", "long skirt"):
            return
        end = 0.52 - 0.5 * p.lower_length
        flare = 0.07 + 0.05 * p.fit + 0.02 * p.lower_length
        sway = 0.015 * np.sin(self.pose.phase)
        widths = [self.width(0.088 * p.build, 0.068 * p.build), self.width(flare * 1.05, flare)]
        self.cloth(
            trunk(canvas, self.at(0, 0, 0.585), self.at(0, sway, end), [0, 1], widths, 0.008 * s), p.lower
        )

    def torso_shape(self, canvas, bottom: float) -> Surface | None:
        p, s = self.person, self.size
        b = p.build
        up = np.array([0.845, 0.825, 0.80, 0.72, 0.61, 0.53, 0.44])
        frame = p.shoulders * b**0.5
        lateral = np.array([0.036, 0.07 * frame, 0.105 * frame, 0.1 * frame, 0.084 * b, 0.097 * b, 0.104 * b])
        sagittal = np.array([0.034, 0.045, 0.056, 0.068 * b**0.6, 0.062 * b**1.3, 0.072 * b, 0.075 * b])
        levels = (up[0] - up) / (up[0] - bottom)
        widths = [self.width(la, sa) for la, sa in zip(lateral, sagittal, strict=True)]
        return trunk(canvas, self.at(0, 0, up[0]), self.at(0, 0, bottom), levels, widths, 0.01 * s)

    def draw_torso(self, canvas):
        p, s = self.person, self.size
        if p.lower_kind in ("trousers", "shorts"):
            hips = [
                self.width(0.088 * p.build, 0.066 * p.build),
                self.width(0.096 * p.build, 0.072 * p.build),
            ]
            self.cloth(
                trunk(canvas, self.at(0, 0, 0.585), self.at(0, 0, 0.455), [0, 1], hips, 0.02 * s),
                p.lower,
                0,
                0.1,
            )
        bottom = 0.52 - p.hem
        shirt = self.torso_shape(canvas, bottom)
        if shirt is None:
            return
        angle = self.angle(shirt.across)
        colours = cloth_colours(p.upper, angle, shirt.along)
        shade = self.shade(shirt) * (1 - 0.12 * np.maximum(shirt.along * 6 - 5, 0))
        paint(shirt, colours, shade)
        if p.opening != "closed":
            gap = 0.38 + 0.25 * shirt.along if p.opening == "open" else np.float32(0.09)
            front = np.clip((gap - np.abs(angle)) * np.float32(6), 0, 1)
            paint(shirt, p.inner, shade, front)
        if p.collar is not None:
            paint(shirt, p.collar, shade, np.clip((np.float32(0.1) - shirt.along) * 20, 0, 1))
        if p.belt is not None and p.hem < 0.02:
            line = np.clip((shirt.along - np.float32(0.93)) * 30, 0, 1)
            paint(shirt, p.belt, shade, line)

    def draw_arm(self, canvas, side, far):
        p, s = self.person, self.size
        shoulder, elbow, hand = (self.at(*joint) for joint in self.arm(side))
        g = p.build**0.6
        if far == 1.0:
            below = (elbow[0] - 0.006 * s, elbow[1] + 0.01 * s)
            paint(capsule(canvas, shoulder, below, 0.042 * g * s, 0.04 * g * s), DARK, opacity=0.22)
        if p.sleeve < 0.95:
            self.plain(capsule(canvas, shoulder, elbow, 0.03 * g * s, 0.024 * g * s), p.skin, far)
            self.plain(capsule(canvas, elbow, hand, 0.024 * g * s, 0.017 * g * s), p.skin, far)
        self.draw_held(canvas, side, hand, far)
        self.plain(ellipse(canvas, hand, 0.02 * s, 0.026 * s), p.skin, far)
        if p.sleeve < 0.1:
            return
        worn = p.upper
        colour = p.sleeve_colour
        parts = [(shoulder, elbow, 0.036, 0.029, min(1.0, p.sleeve / 0.5), 0.0)]
        if p.sleeve > 0.5:
            parts.append((elbow, hand, 0.029, 0.023, (p.sleeve - 0.5) / 0.5, 0.45))
        for first, last, ra, rb, share, start in parts:
            end = tuple(f + (t - f) * share for f, t in zip(first, last, strict=True))
            surface = capsule(canvas, first, end, ra * g * s, (ra + (rb - ra) * share) * g * s)
            if colour is not None:
                self.plain(surface, colour, far)
            else:
                self.cloth(surface, worn, start, 0.45 * share, far)

    def draw_held(self, canvas, side, hand, far):
        p, s = self.person, self.size
        if side != p.bag_side or p.bag not in ("handbag", "shopping", "case"):
            return
        k = p.bag_size
        deep = abs(self.sin)
        if p.bag == "case":
            half = (0.045 + 0.055 * deep) * k * s
            middle = (hand[0] - 0.09 * self.sin * s, self.pose.foot[1] - 0.15 * k * s)
            paint(capsule(canvas, hand, middle, 0.006 * s, 0.006 * s), DARK)
            self.plain(box(canvas, middle, half, 0.13 * k * s, 0, 0.015 * s), p.bag_colour, far)
            self.plain(box(canvas, middle, half, 0.012 * s, 0, 0.005 * s), p.bag_trim, far)
            return
        half = (0.03 + 0.055 * deep) * k * s
        tall = (0.09 if p.bag == "shopping" else 0.055) * k * s
        middle = (hand[0], hand[1] + tall + 0.025 * s)
        paint(capsule(canvas, hand, middle, 0.006 * s, half * 0.5), p.bag_trim)
        self.plain(box(canvas, middle, half, tall, 0, 0.012 * s), p.bag_colour, far)
        if p.bag == "shopping":
            self.plain(ellipse(canvas, middle, half * 0.5, tall * 0.4), p.bag_trim, far)
        else:
            top = (middle[0], middle[1] - tall * 0.5)
            self.plain(box(canvas, top, half, 0.01 * s, 0, 0.004 * s), p.bag_trim, far)

    def on_back(self, canvas):
        """Backpack and hanging hair: behind the trunk for a person who comes, before it for one who goes."""
        p, s = self.person, self.size
        if p.bag == "backpack":
            k = p.bag_size
            middle = self.at(0, -0.095, 0.69)
            half = self.width(0.085 * k, 0.055 * k)
            self.plain(box(canvas, middle, half, 0.125 * k * s, 0, 0.03 * s), p.bag_colour)
            pocket = self.at(0, -0.13, 0.63)
            if self.cos < 0.2:
                self.plain(box(canvas, pocket, half * 0.7, 0.05 * k * s, 0, 0.015 * s), p.bag_trim)
        if p.hair_style in ("long", "tail"):
            wide, end = (0.052, 0.74) if p.hair_style == "long" else (0.022, 0.76)
            top, low = self.at(0, -0.035, 0.93), self.at(0, -0.06, end)
            self.plain(capsule(canvas, top, low, wide * s, wide * 0.75 * s), p.hair)

    def draw_straps(self, canvas, back_is_near):
        p, s = self.person, self.size
        if p.bag == "backpack" and not back_is_near:
            for side in (-1, 1):
                a, b = self.at(side * 0.06, 0.05, 0.82), self.at(side * 0.07, 0.06, 0.66)
                self.plain(capsule(canvas, a, b, 0.011 * s, 0.011 * s), p.bag_colour)
        if p.bag == "sling":
            near = -0.07 if back_is_near else 0.07
            a, b = self.at(-p.bag_side * 0.07, near * 0.6, 0.825), self.at(p.bag_side * 0.1, near, 0.53)
            self.plain(capsule(canvas, a, b, 0.009 * s, 0.009 * s), p.bag_trim)
            if self.depth(p.bag_side * 0.12, 0) > -0.09:
                k = p.bag_size
                middle = self.at(p.bag_side * 0.125, 0, 0.49)
                half = (0.03 + 0.06 * abs(self.sin)) * k * s
                self.plain(box(canvas, middle, half, 0.06 * k * s, 0, 0.012 * s), p.bag_colour)
                flap = (middle[0], middle[1] - 0.03 * k * s)
                self.plain(box(canvas, flap, half, 0.022 * k * s, 0, 0.006 * s), p.bag_trim)

    def draw_neck(self, canvas):
        s = self.size
        self.plain(
            capsule(canvas, self.at(0, 0, 0.82), self.at(0, 0.01, 0.88), 0.03 * s, 0.028 * s),
            self.person.skin,
        )

    def draw_head(self, canvas):
        p, s = self.person, self.size
        rx, ry = 0.046 * s, 0.064 * s
        centre = self.at(0, 0.012, 0.925)
        self.plain(ellipse(canvas, centre, rx, ry), p.skin)
        towards = self.cos
        if p.hair_style != "bald":
            thick = {"cropped": 0.6, "bob": 1.1}.get(p.hair_style, 0.9)
            crown = self.at(0, -0.012, 0.957)
            self.plain(ellipse(canvas, crown, rx * (0.98 + 0.1 * thick), ry * (0.45 + 0.14 * thick)), p.hair)
            nape = self.at(0, -0.03, 0.93 - 0.02 * thick)
            if towards < 0.75:
                cover = min(1.0, 1.05 - max(0.0, towards))
                self.plain(ellipse(canvas, nape, rx * cover, ry * (0.75 + 0.2 * thick)), p.hair)
            if p.hair_style in ("bob", "long") and towards > -0.5:
                for side in (-1, 1):
                    a, b = self.at(side * 0.042, -0.012, 0.95), self.at(side * 0.046, -0.012, 0.87)
                    self.plain(capsule(canvas, a, b, 0.012 * s, 0.016 * s), p.hair)
            if p.hair_style == "bun":
                self.plain(ellipse(canvas, self.at(0, -0.04, 0.995), 0.026 * s, 0.024 * s), p.hair)
        if towards > 0.1:
            self.draw_face(canvas, rx)
        self.draw_headwear(canvas, rx, ry)

    def draw_face(self, canvas, rx):
        p, s = self.person, self.size
        for side in (-1, 1):
            eye = self.at(side * 0.018, 0.05, 0.928)
            paint(ellipse(canvas, eye, 0.007 * s, 0.005 * s), DARK, opacity=0.8)
        if p.glasses:
            a, b = self.at(-0.03, 0.05, 0.928), self.at(0.03, 0.05, 0.928)
            paint(capsule(canvas, a, b, 0.008 * s, 0.008 * s), DARK, opacity=0.75)

    def draw_headwear(self, canvas, rx, ry):
        p, s = self.person, self.size
        if p.headwear == "none":
            return
        crown = self.at(0, 0.0, 0.972)
        if p.headwear == "hood":
            self.plain(ellipse(canvas, self.at(0, -0.02, 0.94), rx * 1.25, ry * 1.15), p.upper.colour)
            if self.cos > 0.2:
                face = self.at(0, 0.03, 0.92)
                self.plain(ellipse(canvas, face, rx * 0.75 * self.cos, ry * 0.8), p.skin)
            return
        self.plain(ellipse(canvas, crown, rx * 1.1, ry * 0.52), p.headwear_colour)
        if p.headwear == "cap":
            brim = self.at(0, 0.07, 0.955)
            self.plain(ellipse(canvas, brim, rx * (0.6 + 0.3 * abs(self.sin)), 0.014 * s), p.headwear_colour)
        else:
            self.plain(ellipse(canvas, self.at(0, 0, 0.957), rx * 1.75, 0.016 * s), p.headwear_colour)
