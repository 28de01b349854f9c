import numpy as np
import pytest

from reid_core.baselines.null_space import NullSpace


def people(n_people=8, images=4, d=60, seed=0, spread=0.4):
    random = np.random.RandomState(seed)
    person = np.repeat(np.arange(n_people) * 3 + 5, images)
    X = random.randn(n_people, d)[np.repeat(np.arange(n_people), images)] + spread * random.randn(n_people * images, d)
    order = random.permutation(len(person))
    return X[order].astype(np.float32), person[order], np.tile([1, 2], len(person) // 2)[order]


def oracle(X, person, Y):
    """NFST from its definition in the plain feature space: null(S_w) within span(S_t), by SVDs."""
    X, Y = X.astype(float), Y.astype(float)
    centred = X - X.mean(axis=0)
    within = np.concatenate([X[person == p] - X[person == p].mean(axis=0) for p in np.unique(person)])
    _, values, span = np.linalg.svd(centred, full_matrices=False)
    span = span[values > 1e-9 * values[0]]
    _, values, directions = np.linalg.svd(within @ span.T, full_matrices=True)
    null = directions[(values > 1e-9 * values[0]).sum() :] @ span
    return Y @ null.T


def pairwise(a, b):
    return np.array([[((x - y) ** 2).sum() for y in b] for x in a])


@pytest.mark.parametrize("solver", ["auto", "cholesky", "eigh"])
def test_linear_kernel_equals_the_definition_in_feature_space(solver):
    X, person, camera = people()
    Y = people(seed=1)[0]
    learner = NullSpace("linear", solver).fit(X, person, camera)
    projected = oracle(X, person, Y)
    assert learner.dual_.shape == (len(X), 7) and projected.shape[1] == 7
    np.testing.assert_allclose(learner.distance(Y, Y[:5]), pairwise(projected, projected[:5]), rtol=1e-4, atol=1e-4)


def test_rbf_kernel_equals_the_definition_in_an_explicit_kernel_space():
    """Training and test images as vectors whose inner products are the kernel values, then NFST by definition."""
    X, person, camera = people()
    Y = people(seed=2)[0][:6]
    both = np.concatenate([X, Y]).astype(float)
    m = pairwise(X.astype(float), X.astype(float)).mean()
    values, vectors = np.linalg.eigh(np.exp(-pairwise(both, both) / m))
    explicit = vectors * np.sqrt(np.maximum(values, 0))
    projected = oracle(explicit[: len(X)], person, explicit[len(X) :])
    learner = NullSpace().fit(X, person, camera)
    assert learner.scale_ == pytest.approx(m, rel=1e-5)
    np.testing.assert_allclose(learner.distance(Y, Y), pairwise(projected, projected), rtol=2e-3, atol=2e-4)


def test_both_solvers_agree():
    X, person, camera = people(12, 5)
    Y = people(seed=4)[0]
    first, second = (NullSpace(solver=s).fit(X, person, camera).distance(Y, X) for s in ("cholesky", "eigh"))
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4)


def test_every_person_collapses_to_one_point_and_people_stay_apart():
    X, person, camera = people(spread=2.0)
    projected = NullSpace().fit(X, person, camera).transform(X)
    centres = np.stack([projected[person == p].mean(axis=0) for p in np.unique(person)])
    within = max(np.abs(projected[person == p] - c).max() for p, c in zip(np.unique(person), centres, strict=True))
    between = pairwise(centres, centres)[~np.eye(8, dtype=bool)].min() ** 0.5
    assert within < 1e-3 * between


def test_toy_two_people_on_a_plane_of_noise():
    """Person 0 at x = 0, person 1 at x = 2, anything along y and z: the null direction is x."""
    X = np.float32([[0, 0, 0], [0, 1, 0], [2, 0, 0], [2, 0, 3]])
    learner = NullSpace("linear").fit(X, [0, 0, 1, 1], [1, 2, 1, 2])
    expected = [[4, 0], [1, 1]]
    query, gallery = np.float32([[0, 9, 9], [1, -5, 2]]), np.float32([[2, 4, 4], [0, 7, 7]])
    np.testing.assert_allclose(learner.distance(query, gallery), expected, atol=1e-4)


def test_duplicate_images_take_the_general_way_and_change_nothing():
    X, person, camera = people()
    doubled = [np.concatenate([a, a[:3]]) for a in (X, person, camera)]
    learner = NullSpace().fit(*doubled)
    assert learner.solver_ == "eigh"
    projected = learner.transform(X)
    for p in np.unique(person):
        assert np.ptp(projected[person == p], axis=0).max() < 1e-3
    with pytest.raises(ValueError, match="deficient rank"):
        NullSpace(solver="cholesky").fit(*doubled)


def test_more_images_than_dimensions_falls_back_to_least_scatter():
    random = np.random.RandomState(0)
    person = np.repeat(np.arange(10), 6)
    X = random.randn(60, 3) * [5.0, 0.01, 5.0] + person[:, None] * [0.0, 1.0, 0.0]
    learner = NullSpace("linear").fit(X, person, np.tile([1, 2], 30))
    assert learner.dual_.shape == (60, 1)
    direction = learner.dual_[:, 0] @ learner.support_
    assert abs(direction[1]) > 50 * max(abs(direction[0]), abs(direction[2]))


def test_same_input_same_bits():
    X, person, camera = people()
    first, second = (NullSpace().fit(X, person, camera).distance(X, X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_one_image_per_person():
    with pytest.raises(ValueError, match="each of the 4 people here has one image"):
        NullSpace().fit(np.eye(4), [1, 2, 3, 4], [1, 2, 1, 2])


def test_one_camera_is_enough_since_cameras_are_not_used():
    X, person, camera = people()
    one, several = (NullSpace().fit(X, person, c).distance(X, X) for c in (np.ones(len(X), int), camera))
    np.testing.assert_array_equal(one, several)


@pytest.mark.parametrize(
    "arguments, message",
    [(dict(kernel="poly"), "kernel='poly' is unknown"), (dict(solver="qr"), "solver='qr' is unknown")],
)
def test_unknown_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        NullSpace(**arguments)


def test_bad_input_is_named():
    X, person, camera = people()
    with pytest.raises(ValueError, match="not been fitted"):
        NullSpace().transform(X)
    with pytest.raises(ValueError, match="All training features are alike"):
        NullSpace().fit(np.ones_like(X), person, camera)
    with pytest.raises(ValueError, match=r"expected \(n, 60\)"):
        NullSpace().fit(X, person, camera).distance(X[:, :9], X)
    X[3, 2] = np.nan
    with pytest.raises(ValueError, match="Row 3 of the training features holds NaN"):
        NullSpace().fit(X, person, camera)
