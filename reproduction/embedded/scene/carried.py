"""Things carried: backpack, sling bag, handbag, shopping bag, suitcase, umbrella."""

import numpy as np

from reproduction.embedded.scene.draw import DARK, box, capsule, ellipse, mix, paint, trunk
from reproduction.embedded.scene.figure import Figure, Point


def on_back(canvas, figure: Figure) -> None:
    """A backpack: behind the trunk of a person who comes, before that of one who goes."""
    p, s = figure.person, figure.size
    if p.bag != "backpack":
        return
    k = p.bag_size
    half = figure.width(0.085 * k, 0.055 * k)
    figure.plain(box(canvas, figure.at(0, -0.095, 0.69), half, 0.125 * k * s, 0.03 * s), p.bag_colour)
    if figure.cos < 0.2:
        figure.plain(box(canvas, figure.at(0, -0.13, 0.63), half * 0.7, 0.05 * k * s, 0.015 * s), p.bag_trim)


def straps(canvas, figure: Figure) -> None:
    """Straps of a backpack over the chest, or a sling bag's strap with its bag at the hip."""
    p, s = figure.person, figure.size
    if p.bag == "backpack" and figure.comes:
        for side in (-1, 1):
            a, b = figure.at(side * 0.06, 0.05, 0.82), figure.at(side * 0.07, 0.06, 0.66)
            figure.plain(capsule(canvas, a, b, 0.011 * s, 0.011 * s), p.bag_colour)
    if p.bag != "sling":
        return
    near = 0.07 if figure.comes else -0.07
    a, b = figure.at(-p.bag_side * 0.07, near * 0.6, 0.825), figure.at(p.bag_side * 0.1, near, 0.53)
    figure.plain(capsule(canvas, a, b, 0.009 * s, 0.009 * s), p.bag_trim)
    if figure.depth(p.bag_side * 0.12, 0) > -0.09:
        k = p.bag_size * s
        middle = figure.at(p.bag_side * 0.125, 0, 0.49)
        half = (0.03 + 0.06 * abs(figure.sin)) * k
        figure.plain(box(canvas, middle, half, 0.06 * k, 0.012 * s), p.bag_colour)
        figure.plain(box(canvas, (middle[0], middle[1] - 0.03 * k), half, 0.022 * k, 0.006 * s), p.bag_trim)


def in_hand(canvas, figure: Figure, side: int, hand: Point, far: float) -> None:
    """A handbag, shopping bag or suitcase in the hand on the person's bag side."""
    p, s = figure.person, figure.size
    if side != p.bag_side or p.bag not in ("handbag", "shopping", "case"):
        return
    k = p.bag_size * s
    if p.bag == "case":
        half = (0.045 + 0.055 * abs(figure.sin)) * k
        middle = (hand[0] - 0.09 * figure.sin * s, figure.pose.foot[1] - 0.15 * k)
        paint(capsule(canvas, hand, middle, 0.006 * s, 0.006 * s), DARK)
        figure.plain(box(canvas, middle, half, 0.13 * k, 0.015 * s), p.bag_colour, far)
        figure.plain(box(canvas, middle, half, 0.012 * s, 0.005 * s), p.bag_trim, far)
        return
    half = (0.03 + 0.055 * abs(figure.sin)) * k
    tall = (0.09 if p.bag == "shopping" else 0.055) * k
    middle = (hand[0], hand[1] + tall + 0.025 * s)
    paint(capsule(canvas, hand, middle, 0.006 * s, half * 0.5), p.bag_trim)
    figure.plain(box(canvas, middle, half, tall, 0.012 * s), p.bag_colour, far)
    if p.bag == "shopping":
        figure.plain(ellipse(canvas, middle, half * 0.5, tall * 0.4), p.bag_trim, far)
    else:
        top = (middle[0], middle[1] - tall * 0.5)
        figure.plain(box(canvas, top, half, 0.01 * s, 0.004 * s), p.bag_trim, far)


def overhead(canvas, figure: Figure) -> None:
    """An open umbrella with panels of two colours."""
    p, s = figure.person, figure.size
    if p.bag != "umbrella":
        return
    hand = figure.at(*figure.arm(p.bag_side)[2])
    rim = (hand[0], figure.at(0, 0, 0.97)[1])
    crown = (hand[0], rim[1] - 0.12 * s)
    paint(capsule(canvas, hand, crown, 0.005 * s, 0.005 * s), DARK)
    wide = 0.23 * p.bag_size * s
    arch = [0.05 * wide, 0.5 * wide, 0.76 * wide, 0.93 * wide, wide]
    canopy = trunk(canvas, crown, rim, [0, 0.15, 0.4, 0.75, 1], arch, 0)
    panels = np.clip(np.sin(np.arcsin(canopy.across) * 4 + 0.8) * 2 + 0.5, 0, 1)
    paint(canopy, mix(p.bag_colour, p.bag_trim, panels), figure.shade(canopy))
