"""The other rows of Tables 2 and 3, and plain references: hand-crafted features, metrics and a Siamese network.

`METHODS` maps the name of a row to a function of the training, query and gallery tables that returns an
`Outcome`: the distance, the seconds it took and what stands behind the row. Each method is a module of its own,
usable without the tables: `colour_histogram`, `lomo`, `kissme`, `null_space` (DNS), `scsp`, `gated`.

At Market-1501's size (12,936 training, 3,368 query and 19,732 gallery images), counted from measurements at a fifth of
the training images: KISSME, DNS, SCSP and the gated network hold less than 8 GiB, and minutes of one core are: LOMO 2
(400 images a second; 4 GB in the cache), KISSME 5 and DNS 7 on top of it, SCSP 4, the gated network 30 to train and 25
to match.
"""

from reid_core.baselines import colour_histogram, gated, kissme, lomo, null_space, scsp

__all__ = [
    "colour_histogram",
    "gated",
    "kissme",
    "lomo",
    "null_space",
    "scsp",
]
