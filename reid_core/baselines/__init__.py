"""The other rows of Tables 2 and 3, and plain references: hand-crafted features, metrics and a Siamese network.

`METHODS` maps the name of a row to a function of the training, query and gallery tables that returns an
`Outcome`: the distance, the seconds it took and what stands behind the row. Each method is a module of its own,
usable without the tables: `colour_histogram`, `lomo`, `kissme`, `null_space` (DNS), `scsp`, `gated`.
"""

from reid_core.baselines import colour_histogram, gated, kissme, lomo, null_space, scsp
from reid_core.baselines.methods import METHODS, chosen, why_not
from reid_core.baselines.outcome import Outcome

__all__ = [
    "METHODS",
    "Outcome",
    "chosen",
    "colour_histogram",
    "gated",
    "kissme",
    "lomo",
    "null_space",
    "scsp",
    "why_not",
]
