"""Heads: face, hair and headwear."""

from reproduction.embedded.scene.draw import DARK, capsule, ellipse, paint
from reproduction.embedded.scene.figure import Figure


def draw_head(canvas, figure: Figure) -> None:
    """Skull, hair, face where it is seen, and headwear, painted on the canvas."""
    p, s = figure.person, figure.size
    rx, ry = 0.046 * s, 0.064 * s
    figure.plain(ellipse(canvas, figure.at(0, 0.012, 0.925), rx, ry), p.skin)
    if p.hair_style != "bald":
        draw_hair(canvas, figure, rx, ry)
    if figure.cos > 0.1:
        draw_face(canvas, figure)
    if p.headwear != "none":
        draw_headwear(canvas, figure, rx, ry)


def draw_hair(canvas, figure: Figure, rx: float, ry: float) -> None:
    """Crown, nape as far as it is seen, and the strands of longer styles beside the face."""
    p, s = figure.person, figure.size
    thick = {"cropped": 0.6, "bob": 1.1}.get(p.hair_style, 0.9)
    crown = figure.at(0, -0.012, 0.957)
    figure.plain(ellipse(canvas, crown, rx * (0.98 + 0.1 * thick), ry * (0.45 + 0.14 * thick)), p.hair)
    if figure.cos < 0.75:
        cover = min(1.0, 1.05 - max(0.0, figure.cos))
        nape = figure.at(0, -0.03, 0.93 - 0.02 * thick)
        figure.plain(ellipse(canvas, nape, rx * cover, ry * (0.75 + 0.2 * thick)), p.hair)
    if p.hair_style in ("bob", "long") and figure.cos > -0.5:
        for side in (-1, 1):
            a, b = figure.at(side * 0.042, -0.012, 0.95), figure.at(side * 0.046, -0.012, 0.87)
            figure.plain(capsule(canvas, a, b, 0.012 * s, 0.016 * s), p.hair)
    if p.hair_style == "bun":
        figure.plain(ellipse(canvas, figure.at(0, -0.04, 0.995), 0.026 * s, 0.024 * s), p.hair)


def hanging_hair(canvas, figure: Figure) -> None:
    """Hair down the back, long or tied: behind the trunk of a person who comes, before that of one who goes."""
    p, s = figure.person, figure.size
    if p.hair_style in ("long", "tail"):
        wide, end = (0.052 * s, 0.74) if p.hair_style == "long" else (0.022 * s, 0.76)
        top, low = figure.at(0, -0.035, 0.93), figure.at(0, -0.06, end)
        figure.plain(capsule(canvas, top, low, wide, wide * 0.75), p.hair)


def draw_face(canvas, figure: Figure) -> None:
    s = figure.size
    for side in (-1, 1):
        eye = figure.at(side * 0.018, 0.05, 0.928)
        paint(ellipse(canvas, eye, 0.007 * s, 0.005 * s), DARK, opacity=0.8)
    if figure.person.glasses:
        a, b = figure.at(-0.03, 0.05, 0.928), figure.at(0.03, 0.05, 0.928)
        paint(capsule(canvas, a, b, 0.008 * s, 0.008 * s), DARK, opacity=0.75)


def draw_headwear(canvas, figure: Figure, rx: float, ry: float) -> None:
    """A hood, cap or hat on a head of half axes `rx`, `ry` in pixels."""
    p, s = figure.person, figure.size
    if p.headwear == "hood":
        figure.plain(ellipse(canvas, figure.at(0, -0.02, 0.94), rx * 1.25, ry * 1.15), p.upper.colour)
        if figure.cos > 0.2:
            figure.plain(ellipse(canvas, figure.at(0, 0.03, 0.92), rx * 0.75 * figure.cos, ry * 0.8), p.skin)
        return
    figure.plain(ellipse(canvas, figure.at(0, 0, 0.972), rx * 1.1, ry * 0.52), p.headwear_colour)
    cap = (figure.at(0, 0.07, 0.955), rx * (0.6 + 0.3 * abs(figure.sin)), 0.014 * s)
    brim = cap if p.headwear == "cap" else (figure.at(0, 0, 0.957), rx * 1.75, 0.016 * s)
    figure.plain(ellipse(canvas, *brim), p.headwear_colour)
