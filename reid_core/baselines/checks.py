"""What every metric learner of this folder asks of its training set, and the errors when it does not get it."""

import numpy as np


def training_set(
    X, person_id, camera_id, method: str, *, cross_camera: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training features (n, d) and the (n,) person and camera numbers as arrays, checked.

    Raises ValueError, naming `method`, unless lengths agree, all features are finite, there are two people or
    more, someone has two images, and (with `cross_camera`) someone was seen by two cameras.

    >>> training_set([[1.0], [2.0]], [7, 8], [1, 2], "DNS")
    Traceback (most recent call last):
        ...
    ValueError: DNS needs people with two or more images; each of the 2 people here has one image.
    """
    X, person, camera = np.asarray(X), np.asarray(person_id), np.asarray(camera_id)
    if X.ndim != 2 or not len(X) == len(person) == len(camera):
        raise ValueError(
            f"{method} needs features (n, d) with n person and n camera numbers, "
            f"not {X.shape}, {person.shape} and {camera.shape}."
        )
    if not np.issubdtype(X.dtype, np.floating):
        raise ValueError(f"{method} needs floating-point features, not {X.dtype}.")
    bad = np.flatnonzero([not np.isfinite(row).all() for row in X])
    if len(bad):
        raise ValueError(f"Training feature {bad[0]} holds NaN or infinity; {method} cannot use it.")
    people, images = np.unique(person, return_counts=True)
    if len(people) < 2:
        raise ValueError(f"{method} needs two or more people to tell apart, not {len(people)}.")
    if images.max() < 2:
        raise ValueError(
            f"{method} needs people with two or more images; each of the {len(people)} people here has one image."
        )
    if cross_camera:
        pairs = np.unique(np.stack([person, camera]), axis=1)
        if len(pairs[0]) == len(people):
            raise ValueError(
                f"{method} learns from one person seen by two cameras, but nobody of the {len(people)} people was "
                f"(cameras here: {', '.join(map(str, np.unique(camera)))}); train on images of two cameras."
            )
    return X, person, camera


def fitted(learner, attribute: str) -> None:
    """Raise ValueError unless `learner` has been fitted."""
    if not hasattr(learner, attribute):
        name = type(learner).__name__
        raise ValueError(f"This {name} has not been fitted; call fit(X, person_id, camera_id) first.")


def width(X, expected: int, name: str) -> np.ndarray:
    """Features (n, d) as an array; raise ValueError unless d is what the learner was fitted on, n > 0, all finite."""
    X = np.asarray(X)
    if X.ndim != 2 or X.shape[1] != expected or len(X) == 0:
        raise ValueError(
            f"The {name} features have shape {X.shape}; expected (n, {expected}), as in training, with n > 0."
        )
    if not np.isfinite(X).all():
        raise ValueError(f"The {name} features hold NaN or infinity; extract them again.")
    return X
