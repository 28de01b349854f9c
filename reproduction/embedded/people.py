"""Who is in the pictures: a person's build, hair, garments, shoes and carried things.

Colours are drawn from a short, skewed list, so many people share them; two in five come from circles who
dress nearly alike (classmates in one uniform, friends of one taste) and differ in details only.
What tells a person from all others is the whole: cut, pattern, layout and things carried.
"""

from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path

import numpy as np
import yaml

TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
CLOTH, COLOURS = TABLES["CLOTH"], np.array([rgb for rgb, _, _ in TABLES["CLOTH"].values()], np.float32)
SKIN, HAIR = np.array(TABLES["SKIN"], np.float32), np.array(TABLES["HAIR"], np.float32)


@dataclass(frozen=True)
class Garment:
    """A cloth: two colours (3,), the pattern that lays the second over the first, and its form."""

    colour: np.ndarray
    second: np.ndarray
    pattern: str
    pitch: float  # repeats over the garment's length
    phase: float
    motif: np.ndarray  # (3, 4) blobs of a print: angle, height, angular radius, height radius
    back: bool  # the print is on the back as well


Person = make_dataclass("Person", TABLES["PERSON"], frozen=True)  # what does not change from image to image


def pick(rng: np.random.Generator, table: dict[str, float]) -> str:
    weights = np.array(list(table.values()))
    return list(table)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def cloth_colour(rng: np.random.Generator, column: int) -> np.ndarray:
    weights = np.array([entry[column] for entry in CLOTH.values()])
    rgb = COLOURS[rng.choice(len(weights), p=weights / weights.sum())]
    return np.clip(rgb + rng.normal(0, 0.02, 3), 0.03, 0.97).astype(np.float32)


def contrasting(rng: np.random.Generator, colour: np.ndarray, column: int) -> np.ndarray:
    """Another cloth colour that can be told from `colour` at a distance."""
    for _ in range(20):
        other = cloth_colour(rng, column)
        if np.abs(other - colour).sum() > 0.7:
            return other
    return 1 - colour


def garment(rng: np.random.Generator, column: int, plain: float, patterns: dict[str, float]) -> Garment:
    """Upper (`column` 1) or lower (2) garment, plain with probability `plain`, else of a pattern by its weight."""
    colour = cloth_colour(rng, column)
    motif = np.column_stack(
        [rng.uniform(-0.5, 0.5, 3), rng.uniform(0.2, 0.55, 3), rng.uniform(0.15, 0.5, 3), rng.uniform(0.04, 0.14, 3)]
    ).astype(np.float32)
    second, pattern = contrasting(rng, colour, column), "plain" if rng.random() < plain else pick(rng, patterns)
    pitch, phase, back = float(rng.uniform(3.0, 8.0)), float(rng.random()), bool(rng.random() < 0.3)
    return Garment(colour, second, pattern, pitch, phase, motif, back)


def draw_person(rng: np.random.Generator) -> Person:
    """A person at random: build, skin, hair, garments, shoes, things carried; a generator state gives one person."""
    lower_kind = pick(rng, TABLES["LOWER_KINDS"])
    upper, lower = garment(rng, 1, 0.05, TABLES["PATTERNS"]), garment(rng, 2, 0.82, TABLES["LEG_PATTERNS"])
    coat = rng.random() < 0.18
    opening = pick(rng, TABLES["OPENINGS"])
    sleeve = float(rng.choice([0.08, 0.42, 0.6, 1.0], p=[0.1, 0.42, 0.08, 0.4]))
    some = lambda chance, colour: colour if rng.random() < chance else None  # noqa: E731
    shoe = contrasting(rng, upper.colour, 1) if rng.random() < 0.5 else cloth_colour(rng, 2)
    return Person(
        height=float(rng.normal(1.0, 0.045)), build=float(np.exp(rng.normal(0, 0.13))),
        shoulders=float(np.exp(rng.normal(0, 0.08))), skin=SKIN[rng.choice(5, p=[0.3, 0.34, 0.2, 0.1, 0.06])],
        hair=HAIR[rng.choice(5, p=[0.46, 0.24, 0.15, 0.07, 0.08])], hair_style=pick(rng, TABLES["HAIR_STYLES"]),
        headwear=pick(rng, TABLES["HEADWEAR"]), headwear_colour=cloth_colour(rng, 1), glasses=bool(rng.random() < 0.25),
        upper=upper, sleeve=1.0 if coat else sleeve, sleeve_colour=some(0.22, contrasting(rng, upper.colour, 1)),
        collar=some(0.25, contrasting(rng, upper.colour, 1)),
        hem=float(rng.uniform(0.1, 0.22) if coat else rng.uniform(-0.02, 0.06)),
        opening=opening if coat or sleeve > 0.5 else "closed", inner=contrasting(rng, upper.colour, 1),
        lower_kind=lower_kind, lower=lower, lower_length=float(rng.uniform(*TABLES["LENGTHS"][lower_kind])),
        fit=float(rng.uniform(0.85, 1.3)), side_stripe=some(0.12, contrasting(rng, lower.colour, 2)),
        belt=some(0.25, cloth_colour(rng, 2)), shoe_kind=pick(rng, TABLES["SHOE_KINDS"]), shoe=shoe,
        sole=np.float32([0.9, 0.9, 0.88]) if rng.random() < 0.5 else np.float32([0.12, 0.11, 0.1]),
        sock=cloth_colour(rng, 1), bag=pick(rng, TABLES["BAGS"]), bag_colour=cloth_colour(rng, 1),
        bag_trim=cloth_colour(rng, 1), bag_side=int(rng.choice([-1, 1])), bag_size=float(rng.uniform(0.8, 1.25)),
        stride=float(rng.uniform(0.3, 0.5)), swing=float(rng.uniform(0.15, 0.5)), lean=float(rng.normal(0.02, 0.02)),
    )  # fmt: skip


def person(world: tuple[int, ...], index: int, people: int) -> Person:
    """Person `index` of `people` in the world (seed, data set number).

    A pure function of its arguments: neighbouring indices have nothing in common. Who dresses as a circle does keeps
    the own BODY and up to three of the DETAILS of people.yaml."""
    rng = np.random.default_rng((*world, 1, index))
    own = draw_person(rng)
    if rng.random() > 0.4:
        return own
    circle = int(rng.integers(max(1, people // 8)))
    shared = draw_person(np.random.default_rng((*world, 2, circle)))
    details = TABLES["DETAILS"]
    groups = rng.choice(len(details), size=int(rng.choice(4, p=[0.12, 0.23, 0.35, 0.3])), replace=False)
    kept = [field for group in groups for field in details[group]]
    return replace(shared, **{field: getattr(own, field) for field in (*TABLES["BODY"], *kept)})
