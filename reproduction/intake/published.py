"""What the owners of the data sets publish: people, images and cameras a subset, and digests of who is seen where."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reid_core.datasets.table import CAMERA, DISTRACTOR, GALLERY, PERSON, QUERY, TRAIN


@dataclass(frozen=True)
class Subset:
    """People (junk and distractors are none), images, cameras (CUHK03's are the two views of a pair), and the digest of
    the official (person, camera) rows.
    """

    people: int
    images: int
    cameras: int
    ids: str


SETS: dict[str, dict[str, Subset]] = {
    "market1501": {
        TRAIN: Subset(751, 12936, 6, "618877ca62871065"),
        QUERY: Subset(750, 3368, 6, "26003ed3326ec14f"),
        GALLERY: Subset(750, 19732, 6, "f9a9451f5265d484"),
    },
    "cuhk03_labeled": {
        TRAIN: Subset(767, 7368, 2, "3aefa99681d39a9b"),
        QUERY: Subset(700, 1400, 2, "f08074b564abffd5"),
        GALLERY: Subset(700, 5328, 2, "980ad515a3c19679"),
    },
    "cuhk03_detected": {
        TRAIN: Subset(767, 7365, 2, "f1f79e1c713a38ef"),
        QUERY: Subset(700, 1400, 2, "dc6e4623013b67bf"),
        GALLERY: Subset(700, 5332, 2, "c468ab80f3988f83"),
    },
    "cuhk01": {TRAIN: Subset(971, 3884, 2, "00407b144ee0e1e8")},
}
MARKET1501_DISTRACTORS = 500_000


def found(rows: pd.DataFrame) -> Subset:
    """The same facts of the rows of one subset.

    The digest is the first 16 hex digits of SHA-256 of the sorted (person, camera) rows as little-endian int32, so
    it depends neither on file names nor on the form of CUHK03.
    """
    ids = rows[[PERSON, CAMERA]].to_numpy("<i4")
    ids = ids[np.lexsort(ids.T[::-1])]
    people = rows.loc[rows[PERSON] > DISTRACTOR, PERSON].nunique()
    digest = hashlib.sha256(ids.tobytes()).hexdigest()[:16]
    return Subset(people, len(rows), rows[CAMERA].nunique(), digest)
