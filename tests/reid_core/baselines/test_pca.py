import numpy as np
import pytest

from reid_core.baselines.pca import PCA


def data(n=30, d=200, seed=0):
    random = np.random.RandomState(seed)
    return (random.randn(n, 12) * np.arange(12, 0, -1) @ random.randn(12, d) + 3).astype(np.float32)


def test_equals_the_svd_of_the_centred_features():
    X = data()
    pca = PCA(5).fit(X)
    _, values, directions = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(pca.variances_, values[:5] ** 2 / 29, rtol=1e-4)
    np.testing.assert_allclose(np.abs(directions[:5] @ pca.components_), np.eye(5), atol=1e-3)
    expected = (X - X.mean(axis=0)) @ directions[:5].T
    np.testing.assert_allclose(np.abs(pca.transform(X)), np.abs(expected), atol=0.05)


def test_toy_three_points_on_a_line():
    pca = PCA(1).fit(np.float32([[0, 1], [1, 1], [2, 1]]))
    assert pca.variances_ == pytest.approx([1.0])
    assert np.abs(pca.components_).ravel() == pytest.approx([1, 0], abs=1e-6)


def test_whitened_components_have_unit_covariance():
    X = data(50)
    np.testing.assert_allclose(np.cov(PCA(8, whiten=True).fit(X).transform(X).T), np.eye(8), atol=1e-3)


def test_no_more_components_than_the_rank():
    assert PCA(100).fit(data(30)).components_.shape == (200, 12)
    assert PCA(100).fit(np.random.RandomState(0).randn(5, 50)).components_.shape == (50, 4)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="at least 1"):
        PCA(0)
    with pytest.raises(ValueError, match="two or more images"):
        PCA(2).fit(data(1))
    with pytest.raises(ValueError, match="alike"):
        PCA(2).fit(np.ones((4, 3), np.float32))
    with pytest.raises(ValueError, match="not been fitted"):
        PCA(2).transform(data())
