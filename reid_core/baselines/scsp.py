"""SCSP [3]: similarity learning with spatial constraints (Chen, Yuan, Chen and Zheng, CVPR 2016).

Two images x and z are alike by a sum over layers, a layer being one visual cue in one region (whole image or stripe):
f(x, z) = sum of w_l [ (x - z)' A_l (x - z) + x' B_l z + z' B_l x ], linear in the polynomial feature maps of the pair,
with A_l negative semi-definite (a distance) and B_l symmetric (a bilinear similarity). Learnt (their Section 4, by ADMM
as in the authors' release, dapengchen123/SCSP): every query's mean similarity to its matches should exceed that to its
non-matches by 1 (hinge loss, weight `penalty`), with few dimensions (sparsity of the rows of A_l and B_l, `sparsity`).

After the release: the settings, each vector of unit length, whole images weighted 1.1 against stripes, and its steps:
rows are shrunk and the result made symmetric again, in place of the exact proximal step for symmetric matrices. The
weight 1.1 enters the similarity when learning, ours when matching too (the release's test leaves it out).

Left open: the release covers one image a person in each of two cameras. For more we take as queries all training images
(a random `n_queries` where there are more), as matches the person's images in other cameras, as non-matches other
people's there, their mean as above; with one image a person in two cameras this is the release's problem with both
cameras as queries.
"""

import numpy as np
import pandas as pd
import scipy.optimize

from reid_core.baselines.checks import compared, fitted, training_set

ROUNDING = 1e-12  # of differences between vectors of unit length


class SCSP:
    """Similarity with spatial constraints.

    Parameters
    ----------
    layer_weights : (L,) weight of each layer, or None for 1; see `scsp_features.layer_weights`.
    n_distance, n_bilinear : leading dimensions of the features used for A and for B.
    penalty, sparsity, rho, iterations : of the objective and its ADMM, above.
    n_queries : at most so many training queries, drawn at random.
    random_state : seed (int) of that draw.

    Learns `distance_`, A, (L, n_distance, n_distance) float64, negative semi-definite; `bilinear_`, B, (L, n_bilinear,
    n_bilinear) float64, symmetric; `n_queries_`, the queries used; `n_features_`, (L, d) of the features.
    """

    def __init__(
        self, layer_weights=None, n_distance=90, n_bilinear=120, penalty=1.0, sparsity=3e-4, rho=1e-3, iterations=20,
        n_queries=1500, random_state=0,
    ):  # fmt: skip
        if min(penalty, rho) <= 0 or sparsity < 0 or iterations < 1 or n_queries < 1:
            positive = f"{penalty=}, {rho=}, {iterations=} and {n_queries=}"
            raise ValueError(f"{positive} must be positive and {sparsity=} not negative.")
        self.layer_weights = layer_weights
        self.n_distance, self.n_bilinear = n_distance, n_bilinear
        self.penalty, self.sparsity, self.rho, self.iterations = penalty, sparsity, rho, iterations
        self.n_queries, self.random_state = n_queries, random_state

    def fit(self, X, person_id, camera_id=None) -> "SCSP":
        """Learn from features (n, L, d) of people `person_id` (n,) in cameras `camera_id` (n,), -1 or None: not known.

        Raises what `checks.training_set` raises, and ValueError for weights that do not fit the layers."""
        X, person, camera = training_set(X, person_id, camera_id, "SCSP", shape=("layers", "d"))
        self.n_features_ = X.shape[1:]
        self._weights()
        queries = queries_with_both(person, camera)
        if len(queries) > self.n_queries:
            drawn = np.random.RandomState(self.random_state).permutation(len(queries))[: self.n_queries]
            queries = queries[np.sort(drawn)]
        self.n_queries_ = len(queries)
        maps = self._mean_maps(X, person, camera, queries)
        if np.abs(maps).max() < ROUNDING:
            raise ValueError("All training features have one direction; SCSP, which compares these, sees no person.")
        self.distance_, self.bilinear_ = self._unpacked(self._admm(maps))
        return self

    def distance(self, X_query, X_gallery) -> np.ndarray:
        """Negative similarity -f of every query to every gallery image, (Q, G) float32: no metric, of any sign."""
        fitted(self, "distance_")
        return compared(X_query, X_gallery, self.n_features_, self._dissimilarity, itself=None)

    def _dissimilarity(self, query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        out = np.zeros((len(query), len(gallery)), np.float32)
        for layer, weight in enumerate(self._weights()):
            q, g = self._views(query[:, layer]), self._views(gallery[:, layer])
            a, b = (m[layer].astype(np.float32) for m in (self.distance_, self.bilinear_))
            similarity = 2 * (q[1] @ b @ g[1].T - q[0] @ a @ g[0].T)
            similarity += np.einsum("nd,nd->n", q[0] @ a, q[0])[:, None]
            similarity += np.einsum("nd,nd->n", g[0] @ a, g[0])
            out -= np.float32(weight / 2) * similarity  # 1 / 2: see `_packed`
        return out

    def _weights(self) -> np.ndarray:
        """Weight of each layer, over the number of layers."""
        layers = self.n_features_[0]
        weights = np.ones(layers) if self.layer_weights is None else np.asarray(self.layer_weights, float)
        if weights.shape != (layers,):
            raise ValueError(f"layer_weights has shape {weights.shape}, but the features have {layers} layers.")
        return weights / layers

    def _views(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two vectors of unit length of one layer: for A and for B."""
        return tuple(_unit(X[:, :d]) for d in (self.n_distance, self.n_bilinear))

    def _mean_maps(self, X, person, camera, queries) -> np.ndarray:
        """Phi: each query's mean feature map over matches minus that over non-matches, (n_queries, D) float32."""
        parts = []
        for layer, weight in enumerate(self._weights()):
            for view, squared in zip(self._views(X[:, layer].astype(np.float64)), (True, False), strict=True):
                difference = _mean_difference(view, person, camera, queries, squared)
                parts.append((weight * _packed(difference)).astype(np.float32))
        return np.concatenate(parts, axis=1)

    def _admm(self, maps: np.ndarray) -> np.ndarray:
        """The release's three steps: hinge loss, sparsity, definiteness. Packed weights (D,) float64."""
        gram = (maps @ maps.T).astype(np.float64)
        third, dual_first, dual_second = np.zeros((3, maps.shape[1]))
        alpha = np.zeros(len(maps))
        for _ in range(self.iterations):
            start = third - dual_first
            offset = maps @ start.astype(np.float32) - 1
            alpha = hinge_dual(gram, offset, self.rho, self.penalty / len(maps), alpha)
            first = start + (alpha.astype(np.float32) @ maps) / self.rho
            second = self._repacked(third - dual_second, self._sparser, self._sparser)
            third = self._repacked((first + second + dual_first + dual_second) / 2, _negative, lambda m: m)
            dual_first += first - third
            dual_second += second - third
        return third

    def _sparser(self, matrices: np.ndarray) -> np.ndarray:
        norms = np.maximum(np.linalg.norm(matrices, axis=-1, keepdims=True), 1e-10)
        shrunk = matrices * np.maximum(0, 1 - self.sparsity / self.rho / norms)
        return (shrunk + shrunk.swapaxes(-1, -2)) / 2

    def _repacked(self, weights, on_distance, on_bilinear) -> np.ndarray:
        distance, bilinear = self._unpacked(weights)
        return np.concatenate([_packed(on_distance(distance)), _packed(on_bilinear(bilinear))], axis=1).ravel()

    def _unpacked(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A (L, n, n) and B (L, m, m) of packed weights; both in the layers' order."""
        d = [min(n, self.n_features_[1]) for n in (self.n_distance, self.n_bilinear)]
        weights = weights.reshape(self.n_features_[0], -1)
        split = d[0] * (d[0] + 1) // 2
        return _symmetric(weights[:, :split], d[0]), _symmetric(weights[:, split:], d[1])


def queries_with_both(person: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Rows whose person, and some other person, was seen by another camera.

    >>> queries_with_both(np.array([1, 1, 2]), np.array([1, 2, 2])).tolist()
    [0]
    """
    ids = pd.DataFrame({"person": person, "camera": camera})
    own, here, both = (ids.groupby(by).person.transform("size") for by in ("person", "camera", ["person", "camera"]))
    return np.flatnonzero((own > both) & (len(ids) - here > own - both))


def hinge_dual(gram, offset, rho: float, bound: float, start) -> np.ndarray:
    """Minimise a' G a / 2 + rho a' offset over 0 <= a <= bound, from `start`: the dual of the hinge-loss step."""

    def objective(a):  # in units of the bound, so that the solver's tolerances fit
        product = gram @ (a * bound)
        return a @ product / 2 + rho * (a @ offset), product + rho * offset

    how = {"method": "L-BFGS-B", "bounds": [(0.0, 1.0)] * len(gram)}
    how["options"] = {"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-9}
    return scipy.optimize.minimize(objective, start / bound, jac=True, **how).x * bound


def _mean_difference(view, person, camera, queries, second_order: bool) -> np.ndarray:
    """Mean map over matches minus mean map over non-matches of each query, in closed form: (n, d, d).

    The map of a pair is (x - z)(x - z)' with `second_order`, else x z' + z x'; their means need only the mean
    and the mean outer product of the z's, which sums over cameras and people give."""
    out = np.empty((len(queries), view.shape[1], view.shape[1]))
    everyone = _moments(view)
    of_camera = {c: _moments(view[camera == c]) for c in np.unique(camera[queries])}
    for row, query in enumerate(queries):
        own, here = person == person[query], camera == camera[query]
        n_match, sum_match, outer_match = _moments(view[own & ~here])
        parts = everyone, of_camera[camera[query]], _moments(view[own]), _moments(view[own & here])
        n_other, sum_other, outer_other = (a - c - p + both for a, c, p, both in zip(*parts, strict=True))
        gap = np.outer(view[query], sum_match / n_match - sum_other / n_other)
        out[row] = gap + gap.T
        if second_order:
            out[row] = outer_match / n_match - outer_other / n_other - out[row]
    return out


def _moments(rows: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    return len(rows), rows.sum(axis=0), rows.T @ rows


def _packed(matrices: np.ndarray) -> np.ndarray:
    """Lower triangles (n, d (d + 1) / 2) of symmetric (n, d, d), diagonals over sqrt 2: halves inner products."""
    d = matrices.shape[-1]
    i, j = np.tril_indices(d)
    return matrices[:, i, j] * np.where(i == j, 0.5**0.5, 1.0)


def _symmetric(packed: np.ndarray, d: int) -> np.ndarray:
    """Inverse of `_packed`."""
    i, j = np.tril_indices(d)
    out = np.empty((len(packed), d, d))
    out[:, i, j] = out[:, j, i] = packed * np.where(i == j, 2**0.5, 1.0)
    return out


def _negative(matrices: np.ndarray) -> np.ndarray:
    """Nearest negative semi-definite matrices."""
    values, vectors = np.linalg.eigh(matrices)
    return (vectors * np.minimum(values, 0)[:, None, :]) @ vectors.swapaxes(-1, -2)


def _unit(rows: np.ndarray) -> np.ndarray:
    # squares of tiny or huge values are no numbers
    rows = np.ldexp(rows, -np.frexp(np.abs(rows).max(axis=1, keepdims=True))[1])
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(rows.dtype).tiny)
