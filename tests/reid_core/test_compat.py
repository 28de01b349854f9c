"""`compat.re_ranking` against the released algorithm, written out image by image over its arrays."""

import numpy as np
import pytest
import torch

from reid_core.compat import re_ranking
from reid_core.reranking import k_reciprocal


def released(q_g, q_q, g_g, k1=20, k2=6, lambda_value=0.3):
    """Squares, divides each column by its largest, transposes; float64 throughout, ties by the lower index."""
    n_query = len(q_g)
    d = np.square(np.block([[q_q, q_g], [q_g.T, g_g]])).astype(np.float32).astype(np.float64)
    d = (d / d.max(axis=0)).T
    rank = np.argsort(d, axis=1, kind="stable")

    def reciprocal(i, size):
        return [j for j in rank[i, :size] if i in rank[j, :size]]

    V = np.zeros_like(d)
    for i in range(len(d)):
        near = reciprocal(i, k1 + 1)
        expanded = set(near)
        for candidate in near:
            theirs = reciprocal(candidate, int(np.around(k1 / 2)) + 1)
            if len(np.intersect1d(theirs, near)) > 2 / 3 * len(theirs):
                expanded |= set(theirs)
        members = sorted(expanded)
        weight = np.exp(-d[i, members])
        V[i, members] = weight / weight.sum()
    if k2 != 1:
        V = np.array([V[rank[i, :k2]].mean(axis=0) for i in range(len(d))])
    shared = np.minimum(V[:n_query, None], V[None, n_query:]).sum(axis=2)
    return (1 - shared / (2 - shared)) * (1 - lambda_value) + d[:n_query, n_query:] * lambda_value


def features(seed=0, n_query=12, n_gallery=60, d=16):
    random = np.random.default_rng(seed)
    people = random.normal(size=(8, d))[random.integers(0, 8, n_query + n_gallery)]
    x = (people + 0.6 * random.normal(size=people.shape)).astype(np.float32)
    return x[:n_query], x[n_query:]


def matrices(query, gallery):
    pairs = (query, gallery), (query, query), (gallery, gallery)
    return [np.linalg.norm(a[:, None].astype(np.float64) - b, axis=2) for a, b in pairs]


@pytest.mark.parametrize("k1, k2, lambda_value", [(20, 6, 0.3), (7, 3, 0.0), (11, 1, 1.0), (1, 1, 0.3), (200, 6, 0.3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_released_algorithm(k1, k2, lambda_value, seed):
    given = matrices(*features(seed))
    before = [part.copy() for part in given]
    found = re_ranking(*given, k1, k2, lambda_value)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, released(*given, k1, k2, lambda_value), atol=2e-6)
    assert all((part == copy).all() for part, copy in zip(given, before, strict=True))


def test_equals_the_form_from_features_and_not_what_squares_would_give():
    query, gallery = features(2)
    given = matrices(query, gallery)
    np.testing.assert_allclose(re_ranking(*given), k_reciprocal(query, gallery, half="ports"), atol=2e-5)
    assert np.abs(re_ranking(*[part**2 for part in given]) - re_ranking(*given)).max() > 0.01


def test_a_matrix_that_is_not_symmetric_is_read_as_the_released_code_reads_it():
    given = matrices(*features(3))
    for part in given[1:]:
        part *= np.random.default_rng(0).uniform(0.8, 1.2, part.shape)
    np.testing.assert_allclose(re_ranking(*given), released(*given), atol=2e-6)


@pytest.mark.parametrize("exponent", [-500, -100, 60, 400])
def test_a_power_of_two_changes_no_bit(exponent):
    given = matrices(*features(4))
    assert (re_ranking(*[part * 2.0**exponent for part in given]) == re_ranking(*given)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_short_types_count_as_the_numbers_they_hold(dtype):
    given = [torch.from_numpy(part).to(getattr(torch, dtype)) for part in matrices(*features(5))]
    exact = [part.double().numpy() for part in given]
    assert (re_ranking(*given) == re_ranking(*exact)).all()


def test_copies_and_nothing_but_copies():
    query, gallery = features(6)
    gallery[5] = gallery[40] = query[0]
    given = matrices(query, gallery)
    np.testing.assert_allclose(re_ranking(*given), released(*given), atol=2e-6)
    alike = re_ranking(np.zeros((2, 3)), np.zeros((2, 2)), np.zeros((3, 3)))
    assert np.isfinite(alike).all() and len(np.unique(alike)) == 1


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda q_g, q_q, g_g: (q_g.T, q_q, g_g), r"q_q_dist have shape \(12, 12\); expected \(n, 60\)"),
        (lambda q_g, q_q, g_g: (q_g, q_q[:5], g_g), r"q_q_dist have shape \(5, 12\); expected \(12, 12\), as q_g_dist"),
        (lambda q_g, q_q, g_g: (q_g, q_q, -g_g), "g_g_dist of an image to itself.*not similarities"),
        (lambda q_g, q_q, g_g: (q_g * np.nan, q_q, g_g), "Row 0 of the q_g_dist holds NaN"),
        (lambda q_g, q_q, g_g: (q_g.astype(int), q_q, g_g), "q_g_dist have dtype int64"),
        (lambda q_g, q_q, g_g: (q_g[0], q_q, g_g), r"q_g_dist have shape \(60,\)"),
        (lambda q_g, q_q, g_g: (q_g, q_q, g_g, 5, 6), "k2=6 exceeds k1=5"),
    ],
)
def test_what_would_give_something_else_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        re_ranking(*change(*matrices(*features())))
