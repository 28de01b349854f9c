import numpy as np
import pytest
import scipy.optimize

from reid_core.baselines import scsp
from reid_core.baselines.scsp import SCSP

LAYERS, D = 3, 7


def people(n_people=6, images=4, noise=0.5, seed=0):
    random = np.random.RandomState(seed)
    person = np.repeat(np.arange(n_people) + 3, images)
    X = random.randn(n_people, LAYERS, D)[person - 3]
    X[..., 4:] = 2 * random.randn(len(person), LAYERS, D - 4)  # dimensions that say nothing about the person
    X += noise * random.randn(*X.shape)
    return X.astype(np.float32), person, np.tile([1, 2, 3, 1], n_people)


def small(**settings):
    return SCSP(**{"n_distance": 3, "n_bilinear": 5, "layer_weights": [1.1, 1, 1], "iterations": 6} | settings)


# --- the oracle: every pair's feature map written out, every step of the ADMM by plain loops ---


def pack(matrix):
    d = len(matrix)
    return [matrix[i][j] / (2**0.5 if i == j else 1) for i in range(d) for j in range(i + 1)]


def unpack(values, d):
    matrix, values = np.zeros((d, d)), list(values)
    for i in range(d):
        for j in range(i + 1):
            matrix[i, j] = matrix[j, i] = values.pop(0) * (2**0.5 if i == j else 1)
    return matrix


def pair_map(x, z, weights):
    parts = []
    for layer, weight in enumerate(weights):
        a, b = (x[layer, :3], z[layer, :3]), (x[layer, :5], z[layer, :5])
        (xa, za), (xb, zb) = ([v / np.linalg.norm(v) for v in pair] for pair in (a, b))
        parts += [weight * np.array(pack(np.outer(xa - za, xa - za)))]
        parts += [weight * np.array(pack(np.outer(xb, zb) + np.outer(zb, xb)))]
    return np.concatenate(parts)


def oracle(X, person, camera, weights, iterations, rho=1e-3, sparsity=3e-4, penalty=1.0):
    X, n = X.astype(float), len(X)
    phi = []
    for i in range(n):
        others = [j for j in range(n) if camera[j] != camera[i]]
        match = [pair_map(X[i], X[j], weights) for j in others if person[j] == person[i]]
        non = [pair_map(X[i], X[j], weights) for j in others if person[j] != person[i]]
        phi.append(np.mean(match, axis=0) - np.mean(non, axis=0))
    phi = np.array(phi)
    sizes = [3, 5] * LAYERS
    ends = np.cumsum([d * (d + 1) // 2 for d in sizes])[:-1]

    def each(w, change):
        return np.concatenate(
            [pack(change(unpack(part, d), d)) for part, d in zip(np.split(w, ends), sizes, strict=True)]
        )

    def shrink(matrix, d):
        rows = [row * max(0, 1 - sparsity / rho / max(np.linalg.norm(row), 1e-10)) for row in matrix]
        return (np.array(rows) + np.array(rows).T) / 2

    def negative(matrix, d):
        if d == 5:
            return matrix
        values, vectors = np.linalg.eigh(matrix)
        return sum(min(v, 0) * np.outer(u, u) for v, u in zip(values, vectors.T, strict=True))

    w3 = np.zeros(phi.shape[1])
    u1, u2 = w3.copy(), w3.copy()
    for _ in range(iterations):
        start = w3 - u1
        dual = scipy.optimize.minimize(
            lambda a, s=start: (a @ phi @ phi.T @ a / 2 + rho * a @ (phi @ s - 1)) * 1e3,
            np.full(n, penalty / n / 2),
            jac=lambda a, s=start: (phi @ phi.T @ a + rho * (phi @ s - 1)) * 1e3,
            bounds=[(0, penalty / n)] * n,
            method="SLSQP",
            options={"ftol": 1e-16, "maxiter": 2000},
        )
        w1 = start + dual.x @ phi / rho
        w2 = each(w3 - u2, shrink)
        w3 = each((w1 + w2 + u1 + u2) / 2, negative)
        u1, u2 = u1 + w1 - w3, u2 + w2 - w3
    return w3


def test_equals_the_pair_by_pair_oracle():
    X, person, camera = people()
    learner = small().fit(X, person, camera)
    weights = np.array([1.1, 1, 1]) / LAYERS
    expected = oracle(X, person, camera, weights, iterations=6)
    parts = np.split(expected, np.cumsum([6, 15] * LAYERS)[:-1])
    scale = np.abs(expected).max()
    assert scale > 0.1
    np.testing.assert_allclose(learner.distance_, [unpack(p, 3) for p in parts[::2]], atol=0.005 * scale)
    np.testing.assert_allclose(learner.bilinear_, [unpack(p, 5) for p in parts[1::2]], atol=0.005 * scale)
    similarity = [
        [expected @ pair_map(X[i].astype(float), X[j].astype(float), weights) for j in range(6)] for i in range(4)
    ]
    np.testing.assert_allclose(
        learner.distance(X[:4], X[:6]), -np.array(similarity), atol=0.01 * np.abs(similarity).max()
    )


def test_mean_maps_equal_the_mean_of_the_maps():
    X, person, camera = people()
    weights = np.array([1.1, 1, 1]) / LAYERS
    learner = small()
    learner.n_features_ = X.shape[1:]
    maps = learner._mean_maps(X, person, camera, np.array([5]))[0]
    others = np.flatnonzero(camera != camera[5])
    pairs = {True: [], False: []}
    for j in others:
        pairs[person[j] == person[5]].append(pair_map(X[5].astype(float), X[j].astype(float), weights))
    np.testing.assert_allclose(maps, np.mean(pairs[True], axis=0) - np.mean(pairs[False], axis=0), atol=1e-6)


def test_toy_hinge_step_of_one_query():
    """One variable: a = rho (1 - score) / G, kept in [0, bound]."""
    for score, expected in ((0.5, 0.25), (2.0, 0.0), (-9.0, 0.6)):
        found = scsp.hinge_dual(np.array([[2.0]]), np.array([score - 1]), 1.0, 0.6, np.zeros(1))
        assert found == pytest.approx([expected], abs=1e-7)


def test_hinge_step_meets_the_conditions_of_optimality():
    random = np.random.RandomState(0)
    root = random.randn(40, 60)
    gram, offset, bound = root @ root.T, 30 * random.randn(40), 0.3
    a = scsp.hinge_dual(gram, offset, 1.0, bound, np.zeros(40))
    slope = gram @ a + offset
    assert (np.abs(slope[(a > 1e-9) & (a < bound - 1e-9)]) < 1e-3).all()
    assert (slope[a <= 1e-9] > -1e-3).all() and (slope[a >= bound - 1e-9] < 1e-3).all()


def test_definiteness_symmetry_and_a_similarity_that_generalises():
    X, person, camera = people(20)
    learner = SCSP(n_distance=7, n_bilinear=7).fit(X, person, camera)
    assert np.linalg.eigvalsh(learner.distance_).max() < 1e-9
    np.testing.assert_array_equal(learner.bilinear_, learner.bilinear_.swapaxes(1, 2))

    Y, person, camera = people(20, seed=5)
    distance = learner.distance(Y, Y)
    np.testing.assert_allclose(distance, distance.T, atol=1e-4 * np.abs(distance).max())
    across = camera[:, None] != camera

    def rank1(d):
        return np.mean(person[np.where(across, d, np.inf).argmin(axis=1)] == person)

    plain = ((Y[:, None] - Y[None]) ** 2).sum(axis=(2, 3))
    assert rank1(distance) > rank1(plain) + 0.1


def test_queries_need_a_match_and_a_non_match_in_another_camera():
    person, camera = np.array([1, 1, 2, 3]), np.array([1, 2, 1, 1])
    assert scsp.queries_with_both(person, camera).tolist() == [1]
    person, camera = np.random.RandomState(0).randint(0, [[9], [3]], (2, 40))
    expected = [
        i for i in range(40) if {person[j] == person[i] for j in range(40) if camera[j] != camera[i]} == {True, False}
    ]
    assert scsp.queries_with_both(person, camera).tolist() == expected


def test_same_seed_same_bits_and_the_seed_draws_the_queries():
    X, person, camera = people()
    first, second, other = (small(n_queries=9, random_state=s).fit(X, person, camera) for s in (0, 0, 1))
    assert first.n_queries_ == 9
    np.testing.assert_array_equal(first.distance_, second.distance_)
    np.testing.assert_array_equal(first.bilinear_, second.bilinear_)
    assert not np.array_equal(first.bilinear_, other.bilinear_)


def test_packed_product_is_half_the_product_of_matrices():
    random = np.random.RandomState(0)
    a, b = (m + m.swapaxes(1, 2) for m in random.randn(2, 4, 5, 5))
    np.testing.assert_allclose((scsp._packed(a) * scsp._packed(b)).sum(axis=1), (a * b).sum(axis=(1, 2)) / 2)
    np.testing.assert_allclose(scsp._symmetric(scsp._packed(a), 5), a)


def test_one_image_per_person_and_one_camera():
    X = people()[0]
    with pytest.raises(ValueError, match="SCSP needs people with two or more images"):
        small().fit(X, np.arange(len(X)), np.tile([1, 2], 12))
    with pytest.raises(ValueError, match="SCSP learns from one person seen by two cameras"):
        small().fit(X, people()[1], np.ones(len(X), int))


def test_bad_input_is_named():
    X, person, camera = people()
    with pytest.raises(ValueError, match=r"expected \(n, layers, d\)"):
        small().fit(X[:, 0], person, camera)
    with pytest.raises(ValueError, match="3 layers"):
        small(layer_weights=[1, 1]).fit(X, person, camera)
    with pytest.raises(ValueError, match="not been fitted"):
        small().distance(X, X)
    with pytest.raises(ValueError, match=r"query features have shape \(24, 3, 2\)"):
        small().fit(X, person, camera).distance(X[..., :2], X)
    with pytest.raises(ValueError, match="rho=0"):
        small(rho=0)
