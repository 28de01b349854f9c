"""What the paper leaves open and how much it matters: every choice beside its alternatives, on the same images.

Two kinds of choices. Those of matching and evaluation (`bench`) are made again on the features of trained runs.
Those of network and training (`variants`) each need trainings of their own, with one setting changed and everything
else as in the default runs beside them. A difference means little where it is smaller than what the seed alone does,
so the default is trained with several seeds, and every line of the table says how far apart these are.
"""

from reproduction.sensitivity.bench import REPORTED, Bench, benches, options
from reproduction.sensitivity.lines import (
    as_printed,
    feature_lines,
    fit_lines,
    headline,
    matching_lines,
    seed_lines,
    table,
    training_lines,
)
from reproduction.sensitivity.picture import draw
from reproduction.sensitivity.variants import VARIANTS, design, own_recipe, train

__all__ = [
    "REPORTED",
    "VARIANTS",
    "Bench",
    "as_printed",
    "benches",
    "design",
    "draw",
    "feature_lines",
    "fit_lines",
    "headline",
    "matching_lines",
    "options",
    "own_recipe",
    "seed_lines",
    "table",
    "train",
    "training_lines",
]
