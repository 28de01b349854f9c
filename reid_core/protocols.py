"""Protocols by name: what each query's ranking leaves out, and what counts as true.

In all of them junk images (person -1) are left out, and distractors (person 0) stay and are always wrong.

- ``market``: the same person in the same camera is passed over. As in the released toolchains of Market-1501 (Zheng et
  al., ICCV 2015) and of Zhong et al. (CVPR 2017), and as in the paper.
- ``no_cameras``: only the query's own image is passed over, the gallery row with its image_path. For data whose cameras
  are not known; photographs of one moment then count, and so does a copy under another name, an easy match at distance
  0 (leave copies out beforehand): scores are not to be compared with the others.
- ``single_gallery_shot``: as market, or as no_cameras where cameras are not known, but with one image of each person,
  over seeded trials (CUHK03's and VIPeR's classic protocol). A trial is a random order of the gallery: of each person
  the first image in it stands for the person, the query's own person by the first that is not passed over.
"""

from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

import numpy as np
import pandas as pd

from reid_core import ids
from reid_core.ids import CAMERA, DISTRACTOR, JUNK, PERSON

PROTOCOLS = ("market", "no_cameras", "single_gallery_shot")
PATH = "image_path"


@dataclass(frozen=True)
class Protocol:
    """What each ranking leaves out and what counts as true; made by `protocol`.

    Attributes
    ----------
    name, passed_over : of `PROTOCOLS`; what of a query's person is left out, "same camera" or "own image"
    query_person, person : (Q,) and (G,) ids, int64, or str where they are text
    query_view, view : (Q,) and (G,) cameras, or image paths where they take their place
    places : (T, G) int64, each gallery image's place in the order of each trial of single_gallery_shot; else no trials
    """

    name: str
    passed_over: str
    query_person: np.ndarray
    person: np.ndarray
    query_view: np.ndarray
    view: np.ndarray
    places: np.ndarray

    @property
    def junk(self) -> np.ndarray:
        """(G,) bool: the images that no query ranks."""
        return self.person == JUNK

    @cached_property
    def _columns(self) -> dict:
        return pd.Series(self.person).groupby(self.person).indices

    def split(self, query: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns of the query's person, ascending: its true matches, and what is passed over."""
        own = self._columns.get(self.query_person[query], np.empty(0, np.intp))
        other = self.view[own] != self.query_view[query]
        return own[other], own[~other]

    def shot(self, query: int, trial: int) -> tuple[np.ndarray, np.ndarray]:
        """single_gallery_shot: the query's one true match, (1,) or (0,), and (G,) bool, what its ranking leaves out."""
        own, passed_over = self.split(query)
        match = own[[self.places[trial][own].argmin()]] if len(own) else own
        removed = self._spare[trial].copy()
        removed[own], removed[passed_over], removed[match] = True, True, False
        return match, removed

    @cached_property
    def _spare(self) -> np.ndarray:
        """(T, G) bool: all but the first image of each person in each trial; distractors are nobody and stay."""
        spare = np.ones(self.places.shape, bool)
        for row, place in zip(spare, self.places, strict=True):
            order = place.argsort()
            row[order[np.unique(self.person[order], return_index=True)[1]]] = False
        spare[:, self.person == DISTRACTOR], spare[:, self.junk] = False, True
        return spare

    def removed(self, query: int) -> np.ndarray:
        """(G,) bool: what this query's ranking leaves out, junk and of its person what is passed over."""
        removed = self.junk.copy()
        removed[self.split(query)[1]] = True
        return removed


def protocol(query_table, gallery_table, name=None, *, trials=10, random_state=0) -> Protocol:
    """The protocol for these tables, whose ids are checked.

    Parameters
    ----------
    query_table, gallery_table : Q and G rows with columns person_id and camera_id, of a type that `ids.column` reads,
        the same on both sides. As numbers, person -1 is junk and 0 a distractor, in the gallery only; as text nobody is
        either. Where every camera_id is -1, cameras are not known; image_path then tells a query's own image.
    name : of the module's text; None is market, or no_cameras where cameras are not known.
    trials, random_state : number of trials of single_gallery_shot, and the seed of their orders.

    Raises ValueError for no rows, a missing column, ids that are missing, none or text on one side only, a query that
    is a distractor or junk, a gallery person below -1, people "0", "-1", ... as text; market without cameras.

    >>> query = pd.DataFrame({"person_id": [7], "camera_id": [1]})
    >>> found = protocol(query, pd.DataFrame({"person_id": [7, -1, 7], "camera_id": [1, 2, 2]}))
    >>> found.split(0)[0].tolist(), found.removed(0).tolist()
    ([2], [True, True, False])
    """
    check_choice("protocol", name, (None, *PROTOCOLS))
    for drawn, value, least in (("trials", trials, 1), ("random_state", random_state, 0)):
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{drawn}={value!r} must be at least {least}, a whole number.")
    tables = [pd.DataFrame(table) for table in (query_table, gallery_table)]
    people = _alike(tables, PERSON, "use a table of datasets.load")
    _check_people(people[0], "query", DISTRACTOR)
    _check_people(people[1], "gallery", JUNK - 1 if people[1].dtype.kind == "i" else DISTRACTOR)
    cameras = None if name == "no_cameras" else _cameras(tables, name)
    views = cameras or _alike(tables, PATH, "without cameras it tells which gallery image is the query's own")
    name = name or ("market" if cameras else "no_cameras")
    passed_over = "same camera" if cameras else "own image"
    random, n = np.random.default_rng(random_state), len(people[1])
    places = [random.permutation(n) for _ in range(trials if name == "single_gallery_shot" else 0)]
    return Protocol(name, passed_over, *people, *views, np.array(places, np.int64).reshape(-1, n))


def check_choice(name: str, value, choices) -> None:
    """Raise ValueError unless `value` is one of these."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, choices))}.")


def _alike(tables, column: str, remedy: str) -> tuple[np.ndarray, np.ndarray]:
    """A column of both tables, see `ids.alike`; ValueError for a table without it, or without rows."""
    for name, table in zip(("query", "gallery"), tables, strict=True):
        if column not in table:
            raise ValueError(f"The {name} table lacks the column {column!r}; {remedy}.")
        if len(table) == 0:
            raise ValueError(f"The {name} table is empty; there is nothing to score.")
    return ids.alike(*(table[column] for table in tables), column)


def _cameras(tables, name: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Cameras of both sides, None where not one is known; ValueError where some are, or `name` needs them."""
    cameras = _alike(tables, CAMERA, "use a table of datasets.load")
    unknown = ids.unknown(np.concatenate(cameras))
    if not unknown.any():
        return cameras
    if name == "market" or not unknown.all():
        found = f"{unknown.sum()} of {len(unknown)} images have camera_id {ids.NO_CAMERA}, which says not known"
        raise ValueError(f"{found}: give every image one, or use protocol='no_cameras'.")
    return None


def _check_people(person: np.ndarray, name: str, last: int) -> None:
    """Refuse people at or below `last`, as numbers or as their digits."""
    if person.dtype.kind == "i":
        wrong = np.flatnonzero(person <= last)
    else:
        digits = map(ids.INTEGER.fullmatch, np.char.strip(person))
        wrong = [row for row, match in enumerate(digits) if match and int(match[1]) <= last]
    if len(wrong):
        found = f"Row {wrong[0]} of the {name} table has person_id {person[wrong[0]].item()!r} ({len(wrong)} such rows"
        rule = "0 (distractor) and -1 (junk) are integers and occur in the gallery only"
        raise ValueError(f"{found} in all); {rule}. Number people from 1.")
