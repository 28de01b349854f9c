"""DNS [20]: a discriminative null space (Zhang, Xiang and Gong, CVPR 2016), on LOMO features.

The null Foley-Sammon transform of Section 3: directions w in which all training images of a person fall on one point,
w' S_w w = 0, while people stay apart, w' S_b w > 0; with more dimensions than images, C - 1 of them for C people.
Kernelised as in the paper and the authors' release: RBF kernel exp(-|x - y|^2 / m), m the mean squared distance over
all pairs of training images, centred in kernel space; people are compared by Euclidean distance in the null space.

The printed 61.02 rank-1 / 35.68 mAP are not one feature: the authors' table for Market-1501 gives 55.43 / 29.87 for the
null space of LOMO alone, against which `NullSpace` is to be held, and 61.02 / 35.68 for "fusion", a sum of distances in
two null spaces. The second is learnt, with an exponential chi-square kernel, from colour, HOG and LBP stripes (Lisanti
et al., ICDSC 2014), by the notes of the release (lzrobots/NullSpace_ReID) a re-implementation of the authors' own;
neither its code, nor these features, nor the fusion's weights were released.

Ours is faster than the release: where the centred kernel has rank n - 1 (no two images alike), a direction that
collapses every person is found by solving for it, one Cholesky factorisation for two eigendecompositions of n x n
matrices. Otherwise these are done, with the release's fallback when the null space is empty.
"""

import numpy as np
import scipy.linalg

from reid_core.baselines.checks import compared, fitted, in_blocks, projected, training_set
from reid_core.distance import as_array, check_scale, expand, squared_euclidean, squared_norms
from reid_core.protocols import check_choice

SOLVERS = ("auto", "cholesky", "eigh")
RANK_TOLERANCE = 1e-10


class NullSpace:
    """Kernel null Foley-Sammon transform.

    Parameters
    ----------
    kernel : "rbf" (the paper's and the release's choice for LOMO) or "linear".
    solver : "auto", or "cholesky" or "eigh" to force one of the two ways to the same subspace.

    Learns `support_`, (n, d) float32, the training features; `dual_`, (n, r) float64, their weights, r = C - 1 unless
    the kernel is rank-deficient; `scale_`, the m of the RBF kernel, 1.0 for the linear one; `solver_`, the way taken.
    """

    def __init__(self, kernel="rbf", solver="auto"):
        check_choice("kernel", kernel, ("rbf", "linear"))
        check_choice("solver", solver, SOLVERS)
        self.kernel, self.solver = kernel, solver

    def fit(self, X, person_id, camera_id=None) -> "NullSpace":
        """Learn from features (n, d) of people `person_id` (n,); cameras are not used, as in the paper.

        Raises what `checks.training_set` raises, and ValueError for solver="cholesky" with a kernel of deficient rank.
        """
        X, person, _ = training_set(X, person_id, camera_id, "DNS", cross_camera=False, dtype=np.float32)
        self.support_ = np.array(X, order="C")
        check_scale(squared_norms(X), "training features")
        kernel, people = self._first_kernel(), np.unique(person, return_inverse=True)[1]
        dual = None if self.solver == "eigh" else _by_cholesky(kernel, people)
        if dual is None and self.solver == "cholesky":
            why = "images alike, or fewer dimensions than images"
            raise ValueError(f"The kernel matrix has deficient rank ({why}); use solver='auto' or 'eigh'.")
        self.solver_ = "eigh" if dual is None else "cholesky"
        self.dual_ = _by_eigh(kernel, people) if dual is None else dual
        return self

    def transform(self, X) -> np.ndarray:
        """Features (m, d) in the null space: (m, r) float32."""
        fitted(self, "dual_")
        X = np.ascontiguousarray(as_array(X, "given features", self.support_.shape[1:], np.float32))
        return in_blocks(lambda rows: self._kernel(rows) @ self.dual_, X)

    def distance(self, X_query, X_gallery) -> np.ndarray:
        """Squared Euclidean distance in the null space, (Q, G) float32."""
        fitted(self, "dual_")
        return compared(X_query, X_gallery, self.support_.shape[1:], projected(self.transform))

    def _first_kernel(self) -> np.ndarray:
        """Centred kernel matrix (n, n) of the training features; learns `scale_`."""
        kernel = _gram(self.support_)
        self.scale_ = 1.0
        if self.kernel == "rbf":
            norms = np.diag(kernel).copy()
            kernel = expand(kernel, norms, norms, floor=-np.inf)
            self.scale_ = float(kernel.mean())
            if self.scale_ <= 1e-12 * norms.mean():
                raise ValueError("All training features are alike; DNS has nothing to tell people apart by.")
            kernel /= -self.scale_
            np.exp(kernel, out=kernel)
        means = kernel.mean(axis=0)
        kernel -= means
        kernel -= means[:, None]
        kernel += means.mean()
        return kernel

    def _kernel(self, X) -> np.ndarray:
        if self.kernel == "linear":
            return (X.astype(np.float64) - self.support_.mean(0)) @ self.support_.T  # a shift that all share
        return np.exp(squared_euclidean(X, self.support_).astype(np.float64) / -self.scale_)


def _gram(X: np.ndarray) -> np.ndarray:
    """Inner products (n, n) of float32 rows in float64, block by block: their small differences matter here."""
    gram = np.empty((len(X), len(X)))
    for i in range(0, len(X), 2048):
        rows = X[i : i + 2048].astype(np.float64)
        for j in range(0, i + 1, 2048):
            block = rows @ X[j : j + 2048].T.astype(np.float64)
            gram[i : i + 2048, j : j + 2048] = block
            gram[j : j + 2048, i : i + 2048] = block.T
    return gram


def _by_cholesky(kernel: np.ndarray, people: np.ndarray) -> np.ndarray | None:
    """Dual weights (n, C - 1) where the centred kernel has rank n - 1, else None.

    Any value per image, of mean 0, is then w' phi(x) for one w in the images' span: so take an orthonormal
    basis T of the values that are constant on every person, solve K A = T, and make the w's orthonormal."""
    n = len(kernel)
    try:
        factor = scipy.linalg.cho_factor(kernel + 1 / n, lower=True, overwrite_a=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        return None
    diagonal = np.diag(factor[0])
    if diagonal.min() ** 2 < n * RANK_TOLERANCE * diagonal.max() ** 2:
        return None
    constant = np.eye(people.max() + 1)[people]
    constant /= np.sqrt(constant.sum(axis=0))
    weights = np.sqrt(np.bincount(people) / n)[:, None]  # the mean, in that basis
    targets = constant @ scipy.linalg.null_space(weights.T)
    dual = scipy.linalg.cho_solve(factor, targets, check_finite=False)
    root = scipy.linalg.cholesky(targets.T @ dual, lower=True)
    return scipy.linalg.solve_triangular(root, dual.T, lower=True, check_finite=False).T


def _by_eigh(kernel: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Dual weights (n, r) by two eigendecompositions, for any kernel, as the authors' release does it.

    r is the dimension of the null space of the within-person scatter in the images' span. If that is 0 the one
    direction of least scatter is kept."""
    values, vectors = scipy.linalg.eigh(kernel)
    kept = values > len(kernel) * RANK_TOLERANCE * values[-1]
    basis = vectors[:, kept] / np.sqrt(values[kept])  # orthonormal directions in kernel space
    projected = vectors[:, kept] * np.sqrt(values[kept])  # the images' coordinates along them
    means = np.zeros((people.max() + 1, projected.shape[1]))
    np.add.at(means, people, projected)
    within = projected - (means / np.bincount(people)[:, None])[people]
    scatter, directions = scipy.linalg.eigh(within.T @ within)
    null = scatter < len(kernel) * RANK_TOLERANCE * max(scatter[-1], values[-1])
    null[0] = True
    dual = basis @ directions[:, null]
    return dual - dual.mean(axis=0)
