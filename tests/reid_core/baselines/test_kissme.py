import numpy as np
import pytest

from reid_core.baselines.kissme import KISSME, different_person_pairs, same_person_pairs


def people(n_people=30, images=4, d=40, seed=0):
    """Rank-8 features: 4 directions tell people apart, 4 are noise."""
    random = np.random.RandomState(seed)
    person = np.repeat(np.arange(n_people), images)
    latent = np.concatenate([random.randn(n_people, 4)[person], 3 * random.randn(len(person), 4)], axis=1)
    latent[:, :4] += 0.3 * random.randn(len(person), 4)
    return (
        (latent @ np.linalg.qr(random.randn(d, 8))[0].T).astype(np.float32),
        person,
        np.tile([1, 2], len(person) // 2),
    )


def test_equals_the_formula_pair_by_pair():
    X, person, camera = people()
    learner = KISSME(6, random_state=3).fit(X, person, camera)
    Z = learner.pca_.transform(X).astype(float)
    same = [(i, j) for i in range(120) for j in range(i + 1, 120) if person[i] == person[j] and camera[i] != camera[j]]
    assert learner.n_pairs_ == len(same)
    different = list(zip(*different_person_pairs(person, camera, len(same), 3), strict=True))
    scatter = [sum(np.outer(Z[i] - Z[j], Z[i] - Z[j]) for i, j in pairs) / len(pairs) for pairs in (same, different)]
    values, vectors = np.linalg.eigh(np.linalg.inv(scatter[0]) - np.linalg.inv(scatter[1]))
    metric = sum(max(v, 0) * np.outer(u, u) for v, u in zip(values, vectors.T, strict=True))
    np.testing.assert_allclose(learner.metric_, metric, rtol=1e-6, atol=1e-8)
    expected = [[(Z[i] - Z[j]) @ metric @ (Z[i] - Z[j]) for j in range(7)] for i in range(5)]
    np.testing.assert_allclose(learner.distance(X[:5], X[:7]), expected, rtol=1e-3, atol=1e-3)


def test_metric_is_positive_semidefinite_and_ignores_what_varies_within_a_person():
    X, person, camera = people()
    learner = KISSME(8).fit(X, person, camera)
    assert np.linalg.eigvalsh(learner.metric_).min() > -1e-9
    distance, plain = learner.distance(X, X), ((X[:, None] - X[None]) ** 2).sum(axis=-1)
    across = camera[:, None] != camera[None]

    def rank1(d):
        return np.mean(person[np.where(across, d, np.inf).argmin(axis=1)] == person)

    assert rank1(distance) > 0.8 > 0.5 > rank1(plain)


def test_toy_one_dimension():
    """Pairs of one person differ by 1, of two people by 9 or 11: M = 1 - 1 / mean square."""
    X = np.float32([[0], [1], [10], [11]])
    person, camera = np.array([1, 1, 2, 2]), np.array([1, 2, 1, 2])
    learner = KISSME(1).fit(X, person, camera)
    i, j = different_person_pairs(person, camera, 2, 0)
    expected = 1 - 1 / np.mean((X[i] - X[j]) ** 2)
    assert learner.metric_.item() == pytest.approx(expected, rel=1e-5)
    assert learner.distance(X[:1], X[2:3]).item() == pytest.approx(100 * expected, rel=1e-5)


def test_random_pairs_are_of_two_people_in_two_cameras():
    person, camera = np.arange(40) % 7, np.arange(40) % 3
    i, j = different_person_pairs(person, camera, 500, 1)
    assert len(i) == 500 and (person[i] != person[j]).all() and (camera[i] != camera[j]).all()
    i, j = same_person_pairs(person, camera)
    assert (i < j).all() and (person[i] == person[j]).all() and (camera[i] != camera[j]).all()


def test_same_seed_same_bits():
    X, person, camera = people()
    first, second, other = (KISSME(6, seed).fit(X, person, camera).metric_ for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_too_few_pairs_for_the_dimensions():
    X = np.random.RandomState(0).randn(20, 50)
    person = np.array([0, 0, 1, 1] + list(range(2, 18)))
    with pytest.raises(ValueError, match="2 pairs of one person for 19 dimensions.*n_components to 2"):
        KISSME().fit(X, person, np.tile([1, 2], 10))


def test_one_image_per_person_and_one_camera():
    X = np.random.RandomState(0).randn(6, 50)
    with pytest.raises(ValueError, match="has one image"):
        KISSME().fit(X, np.arange(6), [1, 2] * 3)
    with pytest.raises(ValueError, match="seen by two cameras"):
        KISSME().fit(X, [0, 0, 1, 1, 2, 2], [1] * 6)


def test_not_fitted():
    with pytest.raises(ValueError, match="not been fitted"):
        KISSME().distance(np.ones((1, 2)), np.ones((1, 2)))
