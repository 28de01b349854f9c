"""What the paper leaves open and how much it matters: every choice beside its alternatives, on the same images.

Two kinds of choices. Those of matching and evaluation (`bench`) are made again on the features of trained runs.
Those of network and training (`variants`) each need trainings of their own, with one setting changed and everything
else as in the default runs beside them. The `controls` ask what HCN's gain is due to, beside the profile's own runs.
Every difference has its interval over test people and, where there are several, seeds; equally many on both sides.
"""

from reproduction.sensitivity.bench import REPORTED, Bench, benches, options
from reproduction.sensitivity.controls import CONTROLS, with_controls
from reproduction.sensitivity.lines import as_printed, feature_lines, fit_lines, matching_lines, people

# isort: split
from reproduction.sensitivity.lines import seed_lines, table, training_lines
from reproduction.sensitivity.picture import draw
from reproduction.sensitivity.variants import VARIANTS, design, own_recipes, train

__all__ = ["CONTROLS", "REPORTED", "VARIANTS", "Bench", "as_printed", "benches", "design", "draw", "feature_lines",
           "fit_lines", "matching_lines", "options", "own_recipes", "people", "seed_lines", "table",
           "train", "training_lines", "with_controls"]  # fmt: skip
