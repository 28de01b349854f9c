"""What the owners of the data sets publish: people, images and cameras a subset, and digests of who is seen where."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from reid_core.datasets.table import CAMERA, DISTRACTOR, PERSON


class Subset(NamedTuple):
    """People (junk and distractors are none), images, cameras (CUHK03's are the two views of a pair), and the digest of
    the official (person, camera) rows."""

    people: int
    images: int
    cameras: int
    ids: str


_PUBLISHED = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
SETS = {name: {subset: Subset(*facts) for subset, facts in subsets.items()} for name, subsets in _PUBLISHED.items()}
MARKET1501_DISTRACTORS = 500_000


def found(rows: pd.DataFrame) -> Subset:
    """The same facts of the rows of one subset.

    The digest is the first 16 hex digits of SHA-256 of the sorted (person, camera) rows as little-endian int32, so
    it depends neither on file names nor on the form of CUHK03."""
    ids = rows[[PERSON, CAMERA]].sort_values([PERSON, CAMERA]).to_numpy("<i4")
    people = rows.loc[rows[PERSON] > DISTRACTOR, PERSON].nunique()
    digest = hashlib.sha256(ids.tobytes()).hexdigest()[:16]
    return Subset(people, len(rows), rows[CAMERA].nunique(), digest)
