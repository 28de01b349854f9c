"""Drawing a figure back to front: far limbs, legs, trunk, head, near arms, and what is worn on them."""

import numpy as np

from reproduction.embedded.scene import carried, head
from reproduction.embedded.scene.clothes import cloth_colours
from reproduction.embedded.scene.draw import DARK, Surface, capsule, ellipse, paint, trunk
from reproduction.embedded.scene.figure import Figure, Point, between


def draw_person(canvas: np.ndarray, figure: Figure) -> None:
    """Lay a person with shadow, clothes and things over canvas (3, H, W), in place."""
    x, y = figure.pose.foot
    paint(ellipse(canvas, (x, y), 0.2 * figure.size, 0.03 * figure.size), DARK, opacity=0.45)
    arms = {side: figure.depth(figure.arm(side)[0][0], figure.arm(side)[1][1]) > -0.02 for side in (-1, 1)}
    legs = sorted((-1, 1), key=lambda s: figure.depth(figure.leg(s)[0][0], figure.leg(s)[2][1]))
    if figure.comes:
        carried.on_back(canvas, figure)
        head.hanging_hair(canvas, figure)
    for side, near in arms.items():
        if not near:
            draw_arm(canvas, figure, side, far=0.82)
    for side, far in zip(legs, (0.8, 1.0), strict=True):
        draw_leg(canvas, figure, side, far)
    draw_skirt(canvas, figure)
    draw_torso(canvas, figure)
    head.draw_head(canvas, figure)
    if not figure.comes:
        carried.on_back(canvas, figure)
        head.hanging_hair(canvas, figure)
    carried.straps(canvas, figure)
    for side, near in arms.items():
        if near:
            draw_arm(canvas, figure, side, far=1.0)
    carried.overhead(canvas, figure)


def draw_leg(canvas, figure: Figure, side: int, far: float) -> None:
    """One leg with shoe, sock and trouser leg."""
    p, s = figure.person, figure.size
    hip, knee, ankle, toe = (figure.at(*joint) for joint in figure.leg(side))
    girth = p.build**0.7
    thigh, calf, shin = 0.055 * girth * s, 0.04 * girth * s, 0.024 * girth * s
    draw_shoe(canvas, figure, ankle, toe, far)
    trousers = p.lower_kind in ("trousers", "shorts")
    if not trousers or p.lower_length < 0.85:
        figure.plain(capsule(canvas, hip, knee, thigh * 0.9, calf * 0.9), p.skin, far)
        figure.plain(capsule(canvas, knee, ankle, calf, shin), p.skin, far)
        if p.shoe_kind in ("trainer", "boot"):
            top = between(ankle, knee, 0.25)
            figure.plain(capsule(canvas, top, ankle, shin * 1.25, shin * 1.1), p.sock, far)
    if not trousers:
        return
    if p.lower_length >= 0.6:
        cuff = between(knee, ankle, 2 * p.lower_length - 1)
        below = capsule(canvas, knee, cuff, calf * 1.08 * p.fit, (shin * 1.25 + 0.008 * s) * p.fit)
        figure.cloth(below, p.lower, 0.5, 0.5, far)
    end = between(hip, knee, min(1.0, 2 * p.lower_length))
    figure.cloth(capsule(canvas, hip, end, thigh * 1.02, calf * 1.12 * p.fit), p.lower, 0.0, 0.5, far)
    if p.side_stripe is not None and figure.depth(side, 0) > -0.3:
        shift = side * figure.cos * 0.8
        parts = [(hip, end, thigh)] + ([(knee, cuff, calf)] if p.lower_length >= 0.6 else [])
        for first, last, radius in parts:
            a, b = (first[0] + shift * radius, first[1]), (last[0] + 0.7 * shift * radius, last[1])
            figure.plain(capsule(canvas, a, b, 0.009 * s, 0.008 * s), p.side_stripe, far)


def draw_shoe(canvas, figure: Figure, ankle: Point, toe: Point, far: float) -> None:
    """Sole and upper from ankle to toe, points in pixels of the canvas; `far` darkens the leg that is farther away."""
    p, s = figure.person, figure.size
    heel = (ankle[0], ankle[1] + 0.022 * s)
    tip = (toe[0], max(toe[1], heel[1] + 0.004 * s) + 0.008 * s)
    sole = capsule(canvas, (heel[0], heel[1] + 0.01 * s), (tip[0], tip[1] + 0.008 * s), 0.022 * s, 0.018 * s)
    figure.plain(sole, p.sole, far)
    upper = p.skin if p.shoe_kind == "sandal" else p.shoe
    figure.plain(capsule(canvas, heel, tip, 0.024 * s, 0.018 * s), upper, far)
    if p.shoe_kind == "boot":
        figure.plain(capsule(canvas, (ankle[0], ankle[1] - 0.07 * s), heel, 0.032 * s, 0.028 * s), p.shoe, far)


def draw_skirt(canvas, figure: Figure) -> None:
    p, s = figure.person, figure.size
    if p.lower_kind not in ("skirt", "long skirt"):
        return
    flare = 0.07 + 0.05 * p.fit + 0.02 * p.lower_length
    low = figure.at(0, 0.015 * np.sin(figure.pose.phase), 0.52 - 0.5 * p.lower_length)
    widths = [figure.width(0.088 * p.build, 0.068 * p.build), figure.width(flare * 1.05, flare)]
    figure.cloth(trunk(canvas, figure.at(0, 0, 0.585), low, [0, 1], widths, 0.008 * s), p.lower)


def torso_shape(canvas, figure: Figure, bottom: float) -> Surface:
    """Neck to hem: half widths to the side and to the front at seven heights, scaled by the build."""
    b = figure.person.build
    frame = figure.person.shoulders * b**0.5
    up = np.array([0.845, 0.825, 0.80, 0.72, 0.61, 0.53, 0.44])
    lateral = [0.036, 0.07 * frame, 0.105 * frame, 0.1 * frame, 0.084 * b, 0.097 * b, 0.104 * b]
    sagittal = [0.034, 0.045, 0.056, 0.068 * b**0.6, 0.062 * b**1.3, 0.072 * b, 0.075 * b]
    widths = [figure.width(la, sa) for la, sa in zip(lateral, sagittal, strict=True)]
    levels = (up[0] - up) / (up[0] - bottom)
    return trunk(canvas, figure.at(0, 0, up[0]), figure.at(0, 0, bottom), levels, widths, 0.01 * figure.size)


def draw_torso(canvas, figure: Figure) -> None:
    """Neck, hips and the upper garment with opening, collar and belt."""
    p, s = figure.person, figure.size
    figure.plain(capsule(canvas, figure.at(0, 0, 0.82), figure.at(0, 0.01, 0.88), 0.03 * s, 0.028 * s), p.skin)
    if p.lower_kind in ("trousers", "shorts"):
        widths = [figure.width(0.088 * p.build, 0.066 * p.build), figure.width(0.096 * p.build, 0.072 * p.build)]
        hips = trunk(canvas, figure.at(0, 0, 0.585), figure.at(0, 0, 0.455), [0, 1], widths, 0.02 * s)
        figure.cloth(hips, p.lower, 0, 0.1)
    shirt = torso_shape(canvas, figure, 0.52 - p.hem)
    angle = figure.angle(shirt.across)
    shade = figure.shade(shirt) * (1 - 0.12 * np.maximum(shirt.along * 6 - 5, 0))
    paint(shirt, cloth_colours(p.upper, angle, shirt.along), shade)
    if p.opening != "closed":
        gap = 0.38 + 0.25 * shirt.along if p.opening == "open" else np.float32(0.09)
        paint(shirt, p.inner, shade, np.clip((gap - np.abs(angle)) * np.float32(6), 0, 1))
    if p.collar is not None:
        paint(shirt, p.collar, shade, np.clip((np.float32(0.1) - shirt.along) * 20, 0, 1))
    if p.belt is not None and p.hem < 0.02:
        paint(shirt, p.belt, shade, np.clip((shirt.along - np.float32(0.93)) * 30, 0, 1))


def draw_arm(canvas, figure: Figure, side: int, far: float) -> None:
    """One arm with hand, sleeve and what it holds."""
    p, s = figure.person, figure.size
    shoulder, elbow, hand = (figure.at(*joint) for joint in figure.arm(side))
    g = p.build**0.6 * s
    if far == 1.0:
        below = (elbow[0] - 0.006 * s, elbow[1] + 0.01 * s)
        paint(capsule(canvas, shoulder, below, 0.042 * g, 0.04 * g), DARK, opacity=0.22)
    if p.sleeve < 0.95:
        figure.plain(capsule(canvas, shoulder, elbow, 0.03 * g, 0.024 * g), p.skin, far)
        figure.plain(capsule(canvas, elbow, hand, 0.024 * g, 0.017 * g), p.skin, far)
    carried.in_hand(canvas, figure, side, hand, far)
    figure.plain(ellipse(canvas, hand, 0.02 * s, 0.026 * s), p.skin, far)
    if p.sleeve < 0.1:
        return
    parts = [(shoulder, elbow, 0.036, 0.029, min(1.0, 2 * p.sleeve), 0.0)]
    if p.sleeve > 0.5:
        parts.append((elbow, hand, 0.029, 0.023, 2 * p.sleeve - 1, 0.45))
    for first, last, wide, narrow, share, start in parts:
        end = between(first, last, share)
        surface = capsule(canvas, first, end, wide * g, (wide + (narrow - wide) * share) * g)
        if p.sleeve_colour is not None:
            figure.plain(surface, p.sleeve_colour, far)
        else:
            figure.cloth(surface, p.upper, start, 0.45 * share, far)
