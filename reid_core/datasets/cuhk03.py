"""CUHK03 (Li et al., CVPR 2014): 1,467 people, two views each, hand-labeled and detected boxes.

It is at hand as the original `cuhk-03.mat` or as CUHK03-NP folders; both give the same people, cameras and subsets.
The split is CUHK03-NP, "the new protocol" of Zhong et al., CVPR 2017 (767 people train, 700 test), which
:func:`new_protocol` regenerates from the images alone.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from reid_core.datasets import cuhk03_mat, layout
from reid_core.datasets.market1501 import three_folders
from reid_core.datasets.table import GALLERY, QUERY, SUBSETS, TRAIN, build, validate

NAME, TITLE = "cuhk03", "CUHK03"
BOXES = ("labeled", "detected")
PEOPLE, _TEST_PEOPLE = 1467, 700
# first 16 hex digits of SHA-256 of the sorted 0-based image indices of each subset, little-endian int32
SPLIT_DIGESTS = {
    "labeled": {TRAIN: "c4e6ab297c1123c0", QUERY: "46a3656635937126", GALLERY: "44c6255357845ede"},
    "detected": {TRAIN: "d91063ee37a17993", QUERY: "4a55d4fa45c4b869", GALLERY: "776db3f801b17cb0"},
}


def load(root: str | Path, *, boxes="labeled", form: str | None = None, testset: int | None = None) -> pd.DataFrame:
    """The image table of CUHK03.

    Camera is the view (1 or 2) within a camera pair, as in the released toolchain of Zhong et al.; people are
    numbered from 1 in the file's order, pair after pair.

    Parameters
    ----------
    root : the data folder, holding `cuhk03_release/cuhk-03.mat` or `cuhk03-np/`.
    boxes : "labeled" (drawn by hand) or "detected" (by a pedestrian detector).
    form : "mat", "np", or None for the .mat where both are there.
    testset : 0-19: instead of CUHK03-NP, one of the file's 20 classic test sets of 100 people; everybody else trains,
        test images of view 1 are queries and those of view 2 the gallery. Needs the .mat. The classic evaluation
        draws one gallery image a person at random and averages over draws; drawing is left to the caller.

    Raises FileNotFoundError for a missing form, or a folder missing or empty; ValueError for a wrong option or file
    name, a .mat unreadable or another, or of full size and official with a split that is not the published one.
    """
    if boxes not in BOXES:
        raise ValueError(f"boxes is {boxes!r}; CUHK03 has 'labeled' and 'detected'.")
    root = Path(root).absolute()
    mat = root / layout.CUHK03_MAT
    if form is None:
        if not mat.is_file() and not (root / layout.CUHK03_NP_FOLDER).is_dir():
            raise layout.missing(root, TITLE, f"{layout.CUHK03_MAT} (or {layout.CUHK03_NP_FOLDER}/)")
        form = "mat" if mat.is_file() else "np"
    if form == "np":
        if testset is not None:
            raise ValueError(f"The classic test sets are in cuhk-03.mat only; place it at {layout.CUHK03_MAT}.")
        base = layout.existing(root, f"{TITLE} ({boxes})", f"{layout.CUHK03_NP_FOLDER}/{boxes}")
        return validate(three_folders(NAME, base), every_query_matched=True)
    if form != "mat":
        raise ValueError(f"form is {form!r}; CUHK03 comes as 'mat' or 'np'.")
    release = cuhk03_mat.open_release(mat, boxes)
    check_split(release, boxes, root)
    return release_table(release, testset)


def release_table(release: cuhk03_mat.Release, testset: int | None = None) -> pd.DataFrame:
    """The image table of a release's names, by subset and then in file order."""
    person, view = _ids(release)
    subset = split(release, testset)
    paths = [f"{release.folder}/{name}" for name in release.names]
    order = np.argsort(pd.Categorical(subset, categories=SUBSETS).codes, kind="stable")
    return validate(build(NAME, subset, person, view, paths).iloc[order], every_query_matched=True)


def split(release: cuhk03_mat.Release, testset: int | None = None) -> np.ndarray:
    """The subset of every image of a release in file order: CUHK03-NP, or a classic test set (see :func:`load`)."""
    person, view = _ids(release)
    if testset is None:
        return new_protocol(person, view)
    if not 0 <= testset < len(release.testsets):
        raise ValueError(f"testset is {testset}; the file has 0 to {len(release.testsets) - 1}.")
    first = np.cumsum([0, *release.people])
    chosen = [first[pair - 1] + number for pair, number in release.testsets[testset]]
    return np.where(np.isin(person, chosen), np.where(view == 1, QUERY, GALLERY), TRAIN)


def _ids(release: cuhk03_mat.Release) -> tuple[np.ndarray, np.ndarray]:
    """(N,) person, numbered from 1 pair after pair, and (N,) view of every image, read off its name."""
    parts = np.array([name[:-4].split("_") for name in release.names], dtype=np.int64).reshape(-1, 4)
    return np.cumsum([0, *release.people])[parts[:, 0] - 1] + parts[:, 1], parts[:, 2]


def new_protocol(person_id, camera_id, test_people: int | None = None) -> np.ndarray:
    """The subset of every image under CUHK03-NP, equal to the released split when given all images in file order.

    The people, in an order drawn by MATLAB's default generator (MT19937 seeded with 5489, a permutation being the
    ranks of uniform numbers), are taken for the test set until it is full; a person needs two images in both
    views. In each view of a taken person one image, drawn the same way, is a query and the rest gallery.

    person_id, camera_id: (N,) integers; the camera is 1 or 2. test_people: how many; by default 700 of 1,467, and the
    same share (rounded) of any other number. Returns (N,) str: train, query or gallery.

    >>> new_protocol([1, 1, 1, 1, 2, 2], [1, 1, 2, 2, 1, 2], test_people=1).tolist()
    ['query', 'gallery', 'gallery', 'query', 'train', 'train']
    """
    person_id, camera_id = np.asarray(person_id), np.asarray(camera_id)
    people, generator = np.unique(person_id), np.random.RandomState(5489)

    def permuted(values: np.ndarray) -> np.ndarray:
        return values[np.argsort(generator.rand(len(values)), kind="stable")]

    if test_people is None:
        test_people = round(len(people) * _TEST_PEOPLE / PEOPLE)
    subset = np.full(len(person_id), TRAIN, dtype=f"U{len(GALLERY)}")
    for person in permuted(people):
        views = [np.flatnonzero((person_id == person) & (camera_id == view)) for view in (1, 2)]
        if test_people and min(map(len, views)) > 1:
            test_people -= 1
            for view in map(permuted, views):
                subset[view[0]], subset[view[1:]] = QUERY, GALLERY
    return subset


def split_digests(subset: np.ndarray) -> dict[str, str]:
    """What `SPLIT_DIGESTS` holds, of these subsets."""
    indices = {name: np.flatnonzero(subset == name).astype("<i4") for name in SUBSETS}
    return {name: hashlib.sha256(index.tobytes()).hexdigest()[:16] for name, index in indices.items()}


def check_split(release: cuhk03_mat.Release, boxes: str, root: str | Path) -> None:
    """Refuse a full-size official .mat that does not give the published split; other data passes."""
    if sum(release.people) != PEOPLE or layout.data_source(root) != "official":
        return
    if (found := split_digests(split(release))) != SPLIT_DIGESTS[boxes]:
        mat, published = Path(root) / layout.CUHK03_MAT, SPLIT_DIGESTS[boxes]
        differ = f"the digests of its image indices are {found}, published are {published}"
        what = f"does not give the published CUHK03-NP split of the {boxes} images: {differ}"
        raise ValueError(f"{mat} {what}. The file is not the released one; obtain it again.")
