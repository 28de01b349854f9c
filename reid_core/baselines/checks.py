"""What every metric learner of this folder asks of its training set, and the errors when it does not get it."""

import warnings

import numpy as np

from reid_core import ids
from reid_core.copies import once
from reid_core.distance import LOST, as_array, check_differ, squared_euclidean, squared_norms


def training_set(
    X, person_id, camera_id, method: str, *, cross_camera: bool = True, shape=("d",), dtype=None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training features (n, *shape) and the ids of people (n,) and cameras (n,) as arrays, checked.

    `shape`, `dtype`: see `reid_core.distance.as_array`; ids: see `reid_core.ids.column`. A camera that is not known
    (-1; all with camera_id None) counts as one of its own, so that any two images are of two cameras.

    Raises ValueError, naming `method`, unless lengths agree, all features are finite and not all alike, ids are such,
    there are two people or more, someone has two images, and (with `cross_camera`) someone was seen by two cameras.

    >>> training_set([[1.0], [2.0]], [7, 8], [1, 2], "DNS")
    Traceback (most recent call last):
        ...
    ValueError: DNS needs people with two or more images; each of the 2 people here has one image.
    """
    X = as_array(X, "training features", shape, dtype)
    person = ids.column(person_id, "person_id")
    camera = np.full(len(person), ids.NO_CAMERA) if camera_id is None else ids.column(camera_id, "camera_id")
    if not len(X) == len(person) == len(camera):
        wanted, found = f"(n, {', '.join(shape)})", f"{X.shape}, {person.shape} and {camera.shape}"
        raise ValueError(f"{method} needs features {wanted} with n person and n camera numbers, not {found}.")
    check_differ(X, method)
    if (own := ids.unknown(camera)).any():
        camera = np.where(own, camera.min() - 1 - np.arange(len(camera)), camera)
    training_people(person, camera, method, cross_camera=cross_camera)
    return X, person, camera


def training_people(person, camera, method: str, *, cross_camera: bool = True) -> None:
    """Raise what `training_set` raises of who was seen where: n ids of people and n of cameras."""
    people, numbers, images = np.unique(person, return_inverse=True, return_counts=True)
    if len(people) < 2:
        raise ValueError(f"{method} needs two or more people to tell apart, not {len(people)}.")
    if images.max() < 2:
        one = f"each of the {len(people)} people here has one image"
        raise ValueError(f"{method} needs people with two or more images; {one}.")
    if cross_camera:
        cameras, seen_by = np.unique(camera, return_inverse=True)
        pairs = np.unique(np.stack([numbers, seen_by]), axis=1)
        if len(pairs[0]) == len(people):
            nobody = f"nobody of the {len(people)} people was (cameras here: {', '.join(map(str, cameras))})"
            needs = f"{method} learns from one person seen by two cameras"
            raise ValueError(f"{needs}, but {nobody}; train on images of two cameras.")


def fitted(learner, attribute: str) -> None:
    """Raise ValueError unless `learner` has been fitted."""
    if not hasattr(learner, attribute):
        name = type(learner).__name__
        raise ValueError(f"This {name} has not been fitted; call fit(X, person_id, camera_id) first.")


def in_blocks(function, X: np.ndarray, rows: int = 1024) -> np.ndarray:
    """float32 of `function` over some rows (n, d) at a time."""
    return np.concatenate([function(X[i : i + rows]).astype(np.float32) for i in range(0, len(X), rows)])


def projected(transform):
    """Measure for `compared`: the squared Euclidean distance between what `transform` makes of two sides.
    Warns where rounding takes what tells them apart, as of features of another scale than those learnt from."""

    def measure(query, gallery):
        both = np.concatenate(sides := (transform(query), transform(gallery)))
        spread, largest = np.ptp(both, axis=0).max(), np.abs(both).max()
        if len(both) > 2 and spread * LOST <= np.finfo(np.float32).eps * largest:
            found = f"Where these features are compared they differ by {spread:.2g}, beside values of {largest:.2g}"
            warnings.warn(f"{found}: rounding ranks them. Bring them to scale and mean of the learnt.", stacklevel=6)
        return squared_euclidean(*sides)

    return measure


def compared(X_query, X_gallery, shape, measure, itself=0.0) -> np.ndarray:
    """(Q, G) float32: `measure(query, gallery)` of features (n, *shape), checked, with copies measured only once."""
    sides = {"query features": X_query, "gallery features": X_gallery}
    query, gallery = (as_array(X, name, shape, np.float32) for name, X in sides.items())
    flat = [X.reshape(len(X), -1) for X in (query, gallery)]
    norms = [squared_norms(X) for X in flat]
    return once(*flat, lambda rows, columns: measure(query[rows], gallery[columns]), norms, itself)
