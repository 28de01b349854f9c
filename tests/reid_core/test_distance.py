import numpy as np
import pytest
import torch

from reid_core.distance import squared_euclidean


def features(seed, n, d=12):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_hand_worked():
    distance = squared_euclidean(np.float32([[1, 2], [0, 0]]), np.float32([[1, 2], [4, 6], [-1, 0]]))
    assert distance.dtype == np.float32
    assert distance.tolist() == [[0, 25, 8], [5, 52, 1]]


def test_equals_the_loop_over_the_formula():
    query, gallery = features(0, 5), features(1, 9)
    expected = [
        [sum((float(a) - float(b)) ** 2 for a, b in zip(q, g, strict=True)) for g in gallery] for q in query
    ]
    np.testing.assert_allclose(squared_euclidean(query, gallery), expected, rtol=1e-5)


def test_is_squared_and_never_negative():
    query = features(0, 50)
    distance = squared_euclidean(query, query)
    assert (distance >= 0).all()
    np.testing.assert_allclose(squared_euclidean(3 * query, 3 * query), 9 * distance, atol=1e-3)


def test_tensor_in_tensor_out():
    query, gallery = features(0, 5), features(1, 9)
    distance = squared_euclidean(torch.from_numpy(query), torch.from_numpy(gallery))
    assert isinstance(distance, torch.Tensor) and distance.dtype == torch.float32
    np.testing.assert_allclose(distance.numpy(), squared_euclidean(query, gallery), atol=1e-5)


@pytest.mark.parametrize(
    "query, gallery, message",
    [
        (features(0, 3, 4), features(1, 3, 5), "Query features have 4 dimensions but gallery features 5"),
        (features(0, 0), features(1, 3), "query features are empty"),
        (features(0, 3), features(1, 0), "gallery features are empty"),
        (features(0, 3).astype(np.float64), features(1, 3), "dtype float64; convert"),
        (features(0, 3)[0], features(1, 3), r"shape \(12,\); expected \(n, d\)"),
        (features(0, 3).tolist(), features(1, 3), "are a list; pass a NumPy array"),
        (torch.zeros(3, 12), features(1, 3), "both be NumPy arrays or both be torch"),
    ],
)
def test_bad_input_is_named(query, gallery, message):
    with pytest.raises(ValueError, match=message):
        squared_euclidean(query, gallery)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_first_bad_row_is_named(value):
    query, gallery = features(0, 5), features(1, 9)
    gallery[[4, 7], 3] = value
    with pytest.raises(ValueError, match=r"Row 4 of the gallery features .*\(2 such rows"):
        squared_euclidean(query, gallery)
    with pytest.raises(ValueError, match=r"Row 4 of the query features"):
        squared_euclidean(torch.from_numpy(gallery), torch.from_numpy(query))
