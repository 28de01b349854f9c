import numpy as np
import pytest
import scipy.sparse
import torch

from reid_core.copies import representatives
from reid_core.distance import as_array, common_part, squared_euclidean, squared_norms


def features(seed, n, d=12):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_hand_worked():
    distance = squared_euclidean(np.float32([[1, 2], [0, 0]]), np.float32([[1, 2], [4, 6], [-1, 0]]))
    assert distance.dtype == np.float32
    assert distance.tolist() == [[0, 25, 8], [5, 52, 1]]


def test_equals_the_loop_over_the_formula():
    query, gallery = features(0, 5), features(1, 9)
    expected = [[sum((float(a) - float(b)) ** 2 for a, b in zip(q, g, strict=True)) for g in gallery] for q in query]
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


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_representatives(kind):
    x = features(6, 40, 8)
    x[7], x[30], x[12] = x[2], x[2], x[11]
    x[20], x[21] = 0.0, -0.0
    first, group = representatives(kind(x), norms=[squared_norms(kind(x))])
    expected = np.arange(40)
    expected[[7, 30, 12, 21]] = [2, 2, 11, 20]
    np.testing.assert_array_equal(first[group], expected)
    assert (np.diff(first) > 0).all()


def test_representatives_survive_equal_digests(monkeypatch):
    """Rows whose digests collide are told apart by their values."""

    class Zeros:
        def integers(self, low, high, size):
            return np.zeros(size, np.int64) - 1

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Zeros())
    x = np.float32(np.eye(4)[[0, 1, 0, 2, 1]])  # one-hot rows have one sum of bits
    np.testing.assert_array_equal(representatives(x, norms=[squared_norms(x)])[1], [0, 1, 0, 2, 1])


X = np.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize("given", [X[:, :1], X[:0], X[0], X * np.nan])
def test_features_that_a_learner_cannot_take_are_named(given):
    with pytest.raises(ValueError, match="of the query features|The query features"):
        as_array(given, "query features", (2,))


def exact(query, gallery):
    """Squared distances in float64."""
    return ((query.astype(np.float64)[:, None] - gallery.astype(np.float64)) ** 2).sum(2)


KINDS = pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["array", "tensor"])


@KINDS
@pytest.mark.parametrize("shift", [0, 10, 1000, 30_000])
def test_a_common_shift_costs_no_digits(kind, shift):
    query, gallery = (features(seed, n, 64) + np.float32(shift) for seed, n in ((0, 30), (1, 50)))
    found = np.asarray(squared_euclidean(kind(query), kind(gallery)))
    np.testing.assert_allclose(found, exact(query, gallery), rtol=1e-5)


@KINDS
def test_a_shift_of_one_dimension_costs_no_digits(kind):
    query, gallery = features(0, 300), features(1, 500)
    for part in (query, gallery):
        part[:, 3] += 5000
    found = np.asarray(squared_euclidean(kind(query), kind(gallery)))
    np.testing.assert_allclose(found, exact(query, gallery), rtol=1e-4)


def test_features_that_share_little_are_multiplied_as_they_are():
    query, gallery = np.abs(features(0, 30)), np.abs(features(1, 50))
    assert common_part(query, gallery) is None
    norms = [np.float32([np.float32((row.astype(float) ** 2).sum()) for row in x]) for x in (query, gallery)]
    plain = -2 * (query @ gallery.T) + norms[0][:, None] + norms[1]
    assert np.array_equal(squared_euclidean(query, gallery), np.maximum(plain, 0))
    assert np.array_equal(
        common_part(query + np.float32(99)), (query + np.float32(99)).mean(0, dtype=float).astype("f4")
    )


@KINDS
@pytest.mark.parametrize("d", [1, 7, 512, 1501])
def test_copies_have_equal_distances_and_an_image_none_to_itself(kind, d):
    """On either side, at any place, and whatever else is there."""
    query, gallery = features(0, 41, d), features(1, 101, d)
    gallery[13] = query[4]
    order = np.random.default_rng(2).permutation(202)
    twice = np.concatenate([gallery, gallery])[order]
    found = np.asarray(squared_euclidean(kind(np.concatenate([query, query])), kind(twice)))
    back = np.empty_like(found)
    back[:, order] = found
    assert np.array_equal(back[:, :101], back[:, 101:]) and np.array_equal(found[:41], found[41:])
    assert back[4, 13] == 0 and (np.delete(back[:41, 13], 4) > 0).all()
    np.testing.assert_allclose(back[:41, :101], exact(query, gallery), rtol=1e-4, atol=1e-4)
    itself = np.asarray(squared_euclidean(kind(gallery), kind(gallery)))
    assert not itself.diagonal().any() and itself.flags.c_contiguous and found.flags.c_contiguous


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e15])
def test_any_scale_that_float32_squares(scale):
    query, gallery = (features(seed, n) * np.float32(scale) for seed, n in ((0, 5), (1, 9)))
    np.testing.assert_allclose(squared_euclidean(query, gallery), exact(query, gallery), rtol=1e-4)


@KINDS
@pytest.mark.parametrize("scale", [1e-16, 1e-22, 1e-38])
def test_features_too_small_to_square_are_refused(kind, scale):
    query, gallery = (kind(features(seed, n) * np.float32(scale)) for seed, n in ((0, 5), (1, 9)))
    with pytest.raises(ValueError, match="too small to square in float32. Scale them"):
        squared_euclidean(query, gallery)
    assert not np.asarray(squared_euclidean(query * 0, gallery * 0)).any()


def test_tensors_that_require_a_gradient_are_refused_where_one_is_asked_for():
    query, gallery = torch.from_numpy(features(0, 5)).requires_grad_(), torch.from_numpy(features(1, 9))
    with pytest.raises(ValueError, match="query features require a gradient.*detach"):
        squared_euclidean(query, gallery)
    with pytest.raises(ValueError, match="gallery features require a gradient"):
        squared_euclidean(gallery, query)
    with torch.no_grad():
        found = squared_euclidean(query, gallery)
    assert torch.equal(found, squared_euclidean(query.detach(), gallery)) and not found.requires_grad


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (np.asmatrix, "matrix"),
        (np.ma.masked_invalid, "MaskedArray"),
        (scipy.sparse.csr_matrix, "sparse csr_matrix"),
        (scipy.sparse.coo_array, "sparse coo_array"),
        (lambda X: torch.from_numpy(X).to_sparse(), "sparse Tensor"),
        (lambda X: torch.from_numpy(X).to_sparse_csr(), "sparse Tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*(matrix subclass|Sparse CSR)")
def test_what_looks_like_an_array_and_is_none_gets_one_sentence(kind, words):
    dense, strange = features(0, 5), kind(features(0, 5))
    for check in (lambda: squared_euclidean(strange, dense), lambda: as_array(strange, "query features")):
        with pytest.raises(ValueError, match=f"The query features are a {words}; pass a NumPy array or a torch tensor"):
            check()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_other_types_are_refused_by_name(dtype):
    x = torch.from_numpy(features(0, 3)).to(dtype)
    with pytest.raises(ValueError, match=f"query features have dtype {dtype}; convert them to float32"):
        squared_euclidean(x, x)
    with pytest.raises(ValueError, match="are a MaskedArray; pass a NumPy array"):
        squared_euclidean(np.ma.array(features(0, 3), mask=features(0, 3) > 0), features(0, 3))


def test_what_learners_take():
    x = features(0, 6)
    assert as_array(x, "features") is x and as_array(x.tolist(), "features").dtype == np.float64
    for short in (torch.bfloat16, torch.float16):
        tensor = torch.from_numpy(x).to(short)
        assert np.array_equal(as_array(tensor, "features"), tensor.float().numpy())
    with pytest.raises(ValueError, match=r"Row 2 of the features holds NaN, infinity or values beyond float32"):
        as_array(x.astype(float) * [[1]] * 2 + [[0], [0], [1e39], [0], [0], [0]], "features", dtype=np.float32)
    with pytest.raises(ValueError, match=r"have shape \(6, 12\); expected \(n, layers, d\)"):
        as_array(x, "features", ("layers", "d"))
    with pytest.raises(ValueError, match="features require a gradient"):
        as_array(torch.from_numpy(x).requires_grad_(), "features")
    with pytest.raises(ValueError, match="dtype int8; pass a floating-point type"):
        as_array(torch.zeros(3, 2, dtype=torch.int8), "features")
