"""Principal components of features with many more dimensions than images."""

import numpy as np
import scipy.linalg

from reid_core.baselines.checks import fitted, in_blocks
from reid_core.distance import as_array, check_scale, squared_norms


class PCA:
    """The leading principal components, by the Gram matrix of the images (n x n, not d x d).

    Parameters
    ----------
    n_components : how many to keep; fewer are kept if n - 1 or the data's rank is lower.
    whiten : give every component unit variance over the training images.

    Learns `mean_`, (d,) float32; `components_`, (d, k) float32, columns, divided by the deviations if `whiten`;
    `variances_`, (k,) float64, descending.
    """

    def __init__(self, n_components: int, whiten: bool = False):
        if n_components < 1:
            raise ValueError(f"n_components must be at least 1, not {n_components}.")
        self.n_components, self.whiten = n_components, whiten

    def fit(self, X) -> "PCA":
        """Learn from (n, d) features, n at least 2. Raises ValueError if all n are alike."""
        X = as_array(X, "training features", dtype=np.float32)
        if len(X) < 2:
            raise ValueError(f"PCA needs features (n, d) of two or more images, not {X.shape}.")
        self.mean_ = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = X - self.mean_
        check_scale(squared_norms(centred), "training features")
        gram, leading = (centred @ centred.T).astype(np.float64), (max(0, len(X) - self.n_components), len(X) - 1)
        values, vectors = (x[..., ::-1] for x in scipy.linalg.eigh(gram, subset_by_index=leading))
        if values[0] <= 0:
            raise ValueError("All training features are alike: there is no principal component.")
        kept = np.flatnonzero(values > 1e-6 * values[0])[: len(X) - 1]  # what float32 products tell from zero
        values, vectors = values[kept], vectors[:, kept]
        self.variances_ = values / (len(X) - 1)
        lengths = np.sqrt(values * (self.variances_ if self.whiten else 1))
        self.components_ = centred.T @ (vectors / lengths).astype(np.float32)
        return self

    def transform(self, X) -> np.ndarray:
        """Features (m, d) in the components: (m, k) float32."""
        fitted(self, "components_")
        X = as_array(X, "given features", self.mean_.shape)
        return in_blocks(lambda rows: (rows - self.mean_) @ self.components_, X)
