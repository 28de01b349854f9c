"""The literature's rows of Tables 2 and 3, and plain references: hand-crafted features and metrics, a module each.

At Market-1501's size (12,936 training, 3,368 query and 19,732 gallery images), counted from measurements at a fifth of
the training images, KISSME, DNS and SCSP hold less than 8 GiB, and minutes of one core are: LOMO 2 (400 images a
second; 4 GB in the cache), KISSME 5 and DNS 7 on top of it, SCSP 4.
"""

from reid_core.baselines import colour_histogram, kissme, lomo, null_space, scsp

__all__ = ["colour_histogram", "kissme", "lomo", "null_space", "scsp"]
