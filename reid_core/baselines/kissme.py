"""KISSME, "keep it simple and straightforward" metric learning (Koestinger et al., CVPR 2012), on LOMO features.

M = inv(S_1) - inv(S_0): S_1 the mean outer product of the differences of image pairs of one person, S_0 that of pairs
of two people; the log-likelihood ratio of two zero-mean Gaussians. As in the authors' release M loses its negative
eigenvalues, so that it is a (squared) distance, and features are first reduced by PCA, without which S_1 is singular.

A plain reference of ours: Tables 2 and 3 have no such row. Chosen, where the source leaves it open: 100 components (so
Liao et al., CVPR 2015, in their figures); all pairs of one person across cameras, as many random ones of two people.
"""

import numpy as np
import scipy.linalg

from reid_core.baselines.checks import compared, fitted, projected, training_set
from reid_core.baselines.pca import PCA

ROUNDING = 1e-12  # squares of what float32 tells from zero


class KISSME:
    """Mahalanobis metric from equivalence constraints.

    Parameters
    ----------
    n_components : dimensions kept by PCA before learning.
    random_state : seed (int) of the random pairs of two people.

    Learns `pca_`, a `PCA`; `metric_`, (k, k) float64, symmetric, positive semi-definite; `root_`, (k, k) float64,
    metric_ = root_ @ root_.T; `n_pairs_`, the number of pairs of one person, and of two people alike.
    """

    def __init__(self, n_components=100, random_state=0):
        self.n_components, self.random_state = n_components, random_state

    def fit(self, X, person_id, camera_id=None) -> "KISSME":
        """Learn from features (n, d) of people `person_id` (n,) in cameras `camera_id` (n,), -1 or None: not known.

        Raises what `checks.training_set` raises, and ValueError for fewer pairs of one person than dimensions kept."""
        X, person, camera = training_set(X, person_id, camera_id, "KISSME")
        self.pca_ = PCA(self.n_components).fit(X)
        reduced = self.pca_.transform(X).astype(np.float64)
        same = same_person_pairs(person, camera)
        self.n_pairs_ = len(same[0])
        if self.n_pairs_ < reduced.shape[1]:
            few = f"{self.n_pairs_} pairs of one person for {reduced.shape[1]} dimensions, so that their covariance is"
            remedy = f"set n_components to {self.n_pairs_} or fewer, or give it more images"
            raise ValueError(f"KISSME has {few} singular; {remedy}.")
        different = different_person_pairs(person, camera, self.n_pairs_, self.random_state)
        of_one, of_two = _scatter(reduced, same), _scatter(reduced, different)
        if scipy.linalg.eigvalsh(of_one)[0] <= ROUNDING * np.trace(of_two):
            none = f"In some of the {reduced.shape[1]} directions kept no pair of images of one person differs"
            raise ValueError(f"{none} (copies of one image?); leave copies out, or lower n_components.")
        metric = scipy.linalg.inv(of_one) - scipy.linalg.inv(of_two)
        values, vectors = scipy.linalg.eigh((metric + metric.T) / 2)
        self.root_ = vectors * np.sqrt(np.maximum(values, 0))
        self.metric_ = self.root_ @ self.root_.T
        return self

    def transform(self, X) -> np.ndarray:
        """Features (m, d) where the learnt metric is Euclidean: (m, k) float32."""
        fitted(self, "metric_")
        return (self.pca_.transform(X) @ self.root_).astype(np.float32)

    def distance(self, X_query, X_gallery) -> np.ndarray:
        """(u - v)' M (u - v), a squared distance, (Q, G) float32."""
        fitted(self, "metric_")
        return compared(X_query, X_gallery, self.pca_.mean_.shape, projected(self.transform))


def same_person_pairs(person: np.ndarray, camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs i < j of images of one person in two cameras.

    >>> [pair.tolist() for pair in same_person_pairs(np.array([7, 8, 7, 7]), np.array([1, 1, 2, 1]))]
    [[0, 2], [2, 3]]
    """
    people = [np.flatnonzero(person == number) for number in np.unique(person)]
    pairs = [images[np.stack(np.triu_indices(len(images), 1))] for images in people]
    first, second = np.concatenate(pairs, axis=1)
    across = camera[first] != camera[second]
    return first[across], second[across]


def different_person_pairs(person, camera, n_pairs: int, random_state: int) -> tuple[np.ndarray, np.ndarray]:
    """`n_pairs` random pairs of images of two people in two cameras, drawn with replacement."""
    random = np.random.RandomState(random_state)
    first, second = np.empty(0, np.int64), np.empty(0, np.int64)
    for _ in range(1000):
        i, j = random.randint(len(person), size=(2, 2 * n_pairs))
        kept = (person[i] != person[j]) & (camera[i] != camera[j])
        first, second = np.append(first, i[kept])[:n_pairs], np.append(second, j[kept])[:n_pairs]
        if len(first) == n_pairs:
            return first, second
    raise ValueError("Next to no pair of two people in two cameras could be drawn; check camera_id.")


def _scatter(X: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Mean outer product of X[i] - X[j] over the pairs, (k, k)."""
    total = np.zeros((X.shape[1],) * 2)
    for start in range(0, len(pairs[0]), 8192):
        difference = np.subtract(*(X[side[start : start + 8192]] for side in pairs))
        total += difference.T @ difference
    return total / len(pairs[0])
