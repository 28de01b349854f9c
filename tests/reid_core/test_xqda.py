import os
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from reid_core import xqda
from reid_core.xqda import XQDA, covariances, official_pairs

PROTOCOLS = Path(os.environ.get("REID_PROTOCOLS", Path(__file__).parents[3] / "shared" / "protocols"))


def people(seed=0, n_people=30, d=16, images=6):
    """Clustered features of people seen by three cameras, each with its own shift."""
    random = np.random.default_rng(seed)
    person = np.repeat(np.arange(1, n_people + 1), images)
    camera = random.integers(1, 4, len(person))
    features = random.normal(size=(n_people + 1, d))[person] + 0.4 * random.normal(size=(len(person), d))
    features += 0.5 * random.normal(size=(4, d))[camera]
    return features.astype(np.float32), person, camera


def loop_covariances(gallery, probe, gallery_id, probe_id):
    """Mean outer product of differences over every pair, written from the definition."""
    d = gallery.shape[1]
    sums, counts = {True: np.zeros((d, d)), False: np.zeros((d, d))}, {True: 0, False: 0}
    for x, i in zip(gallery, gallery_id, strict=True):
        for z, j in zip(probe, probe_id, strict=True):
            sums[i == j] += np.outer(x - z, x - z)
            counts[i == j] += 1
    return sums[True] / counts[True], sums[False] / counts[False]


def loop_fit(features, person, camera, solver, seed=5489):
    """XQDA from explicit pairs: the metric as one (d, d) matrix W M W'."""
    random = np.random.RandomState(seed)
    first, second = [], []
    for number in sorted(set(person.tolist())):
        images = [i for i in range(len(person)) if person[i] == number]
        draw = random.rand(len(images)).tolist()
        shuffled = [images[i] for i in sorted(range(len(images)), key=draw.__getitem__)]
        half = len(images) // 2
        for i in range(half):
            a, b = shuffled[i], shuffled[half + i]
            if camera[a] != camera[b]:
                first.append(a)
                second.append(b)
    X = features.astype(np.float64)
    intra, extra = loop_covariances(X[first], X[second], person[first], person[second])
    intra = intra + 0.001 * np.eye(X.shape[1])
    if solver == "svd":
        vectors, values, _ = np.linalg.svd(np.linalg.inv(intra) @ extra)
    else:
        values, vectors = scipy.linalg.eig(np.linalg.inv(intra) @ extra)
        order = np.argsort(-values.real)
        values, vectors = values.real[order], vectors.real[:, order]
    W = vectors[:, : max(1, int((values > 1).sum()))]
    M = np.linalg.inv(W.T @ intra @ W) - np.linalg.inv(W.T @ extra @ W)
    return W @ M @ W.T


def loop_distance(query, gallery, full_metric):
    return np.array([[(q - g) @ full_metric @ (q - g) for g in gallery] for q in query])


@pytest.mark.parametrize("scale", [1, 300])  # at 300 singular values are too large for squaring: a full SVD
@pytest.mark.parametrize("solver", ["svd", "eigh"])
def test_equals_the_oracle_that_forms_every_pair(solver, scale):
    features, person, camera = people()
    features *= scale * np.linspace(0.01, 1, features.shape[1], dtype=np.float32) ** 3
    fitted = XQDA(solver=solver).fit(features, person, camera)
    full = loop_fit(features, person, camera, solver)
    query, gallery = features[:7], features[7:30]
    expected = loop_distance(query.astype(np.float64), gallery.astype(np.float64), full)
    np.testing.assert_allclose(fitted.distance(query, gallery), expected, rtol=1e-4, atol=1e-4 * expected.max())
    full_ours = fitted.components_ @ fitted.metric_ @ fitted.components_.T
    np.testing.assert_allclose(full_ours, full, rtol=1e-7, atol=1e-7 * np.abs(full).max())


def test_hand_worked_one_dimensional_metric():
    # Differences within a person are 1 and -1, so S_I = 1 + 0.001; between people 10 + 1 = 11 and 10 - 1 = 9 (as
    # |0 - 9| and |10 - 1|), so S_E = (81 + 81) / 2 = 81 and M = 1 / 1.001 - 1 / 81.
    fitted = XQDA().fit_views(np.array([[0.0], [10.0]]), np.array([[1.0], [9.0]]), [1, 2], [1, 2])
    assert fitted.metric_[0, 0] * fitted.components_[0, 0] ** 2 == pytest.approx(1 / 1.001 - 1 / 81)
    distance = fitted.distance(np.float32([[2.0]]), np.float32([[5.0]]))
    assert distance[0, 0] == pytest.approx(9 * (1 / 1.001 - 1 / 81), rel=1e-6)


def test_covariances_with_uneven_views():
    random = np.random.default_rng(1)
    gallery_id, probe_id = np.array([0, 0, 0, 1, 2, 2, 4]), np.array([0, 1, 1, 3, 2])
    gallery, probe = random.normal(size=(7, 5)), random.normal(size=(5, 5))
    expected = loop_covariances(gallery, probe, gallery_id, probe_id)
    rows = np.concatenate([gallery, probe])
    intra, extra = covariances(rows, np.concatenate([gallery_id, probe_id]), 7)
    np.testing.assert_allclose(intra, expected[0], atol=1e-12)
    np.testing.assert_allclose(extra, expected[1], atol=1e-12)


@pytest.mark.parametrize("solver", ["svd", "eigh"])
def test_more_dimensions_than_images_equals_the_padded_problem(solver):
    """The QR path learns the same distance as the direct one: pad with dimensions until it is taken."""
    features, person, camera = people(n_people=12, d=10, images=4)
    n_rows = 2 * len(official_pairs(person, camera)[0])
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(n_rows + 5, n_rows + 5)))[0][:10]
    wide = features.astype(np.float64) @ rotation
    direct = XQDA(solver=solver).fit(features, person, camera)
    by_qr = XQDA(solver=solver).fit(wide, person, camera)
    assert by_qr.components_.shape == (n_rows + 5, direct.components_.shape[1])
    expected = direct.distance(features[:9], features[9:])
    ours = by_qr.distance(wide[:9].astype(np.float32), wide[9:].astype(np.float32))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_eigh_metric_is_positive_semidefinite_and_whitens():
    """In the generalised eigenvectors both covariances are diagonal, so M = 1 - 1 / value > 0."""
    fitted = XQDA(solver="eigh").fit(*people())
    np.testing.assert_allclose(fitted.metric_, np.diag(1 - 1 / fitted.values_), atol=1e-9)
    assert (fitted.values_ > 1).all() and (np.diff(fitted.values_) <= 0).all()


@pytest.mark.parametrize("solver", ["svd", "eigh"])
def test_keeps_at_least_one_dimension(solver):
    random = np.random.default_rng(0)
    noise = random.normal(size=(40, 5)) * np.array([1, 1, 1, 1, 1e-4])
    identity = np.repeat(np.arange(20), 2)  # people differ less than their own images do
    noise[::2] -= noise[1::2] * 0.9
    learner = XQDA(solver=solver, regularizer=100.0)
    with pytest.warns(UserWarning, match="the 1 that it keeps tell.*regularizer=100.0.: then bring them to unit"):
        fitted = learner.fit_views(noise[::2], noise[1::2], identity[::2], identity[1::2])
    assert fitted.components_.shape == (5, 1)


@pytest.mark.parametrize("solver", ["svd", "eigh"])
@pytest.mark.parametrize("scale", [1e-2, 1e-6, 1e-12])
def test_features_that_are_small_beside_the_regularizer_are_said_to_be(solver, scale):
    features, person, camera = people()
    with pytest.warns(UserWarning, match="mean squared difference of two people is .*, beside regularizer=0.001"):
        XQDA(solver=solver).fit(features * np.float32(scale), person, camera)
    XQDA(solver=solver, regularizer=1e-3 * scale**2).fit(features * np.float32(scale), person, camera)


@pytest.mark.parametrize("solver", ["svd", "eigh"])
def test_features_that_tell_nobody_apart_are_refused(solver):
    features, person, camera = people()
    for alike in (np.zeros_like(features), np.full_like(features, 0.1)):
        with pytest.raises(ValueError, match="All training features are alike; XQDA has nothing"):
            XQDA(solver=solver).fit(alike, person, camera)
    for scale in (1e-170, 1e170):  # squares of 0 and of infinity
        with pytest.raises(ValueError, match="XQDA cannot learn at this scale.*Bring the features to unit length"):
            with np.errstate(over="ignore", invalid="ignore"):
                XQDA(solver=solver).fit(features.astype(float) * scale, person, camera)


@pytest.mark.parametrize("solver", ["svd", "eigh"])
def test_a_common_shift_costs_no_digits(solver):
    features, person, camera = people()
    plain = XQDA(solver=solver).fit(features, person, camera)
    shifted = XQDA(solver=solver).fit(features.astype(float) + 1e6, person, camera)
    expected = plain.distance(features, features)
    np.testing.assert_allclose(shifted.distance(features, features), expected, atol=1e-5 * np.abs(expected).max())


def test_left_singular_vectors_where_squares_lose_their_digits():
    """Values of 1e9 and 3: squared they are 18 digits apart, more than float64 has."""
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(6, 6)))[0] for _ in range(2))
    values, vectors = xqda._left_singular(left * [1e9, 3.0, 2.0, 0.5, 0.4, 0.1] @ right.T)
    np.testing.assert_allclose(values, [1e9, 3.0, 2.0], rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(vectors * left[:, :3], axis=0)), 1, atol=1e-5)


def test_the_number_of_pairs_is_that_of_the_last_fit():
    features, person, camera = people()
    fitted = XQDA().fit(features, person, camera)
    assert fitted.n_pairs_ == len(official_pairs(person, camera)[0])
    assert not hasattr(fitted.fit_views(features[:90], features[90:], person[:90], person[:90]), "n_pairs_")
    with pytest.raises(ValueError, match="person_id is text on one side.*in the gallery view"):
        XQDA().fit_views(features[:90], features[90:], person[:90], person[:90].astype(str))


def test_distance_is_symmetric_and_zero_to_itself():
    features, person, camera = people()
    fitted = XQDA().fit(features, person, camera)
    distance = fitted.distance(features, features)
    scale = np.abs(distance).max()
    np.testing.assert_allclose(distance, distance.T, atol=1e-5 * scale)
    np.testing.assert_allclose(np.diag(distance), 0, atol=1e-5 * scale)


def test_same_seed_same_bits_and_other_seed_other_pairs():
    data = people()
    one, two, other = XQDA().fit(*data), XQDA().fit(*data), XQDA(random_state=1).fit(*data)
    assert np.array_equal(one.components_, two.components_) and np.array_equal(one.metric_, two.metric_)
    assert one.metric_.shape != other.metric_.shape or not np.array_equal(one.metric_, other.metric_)


def test_official_pairing_leaves_4914_pairs_on_market1501():
    path = PROTOCOLS / "market1501.npz"
    if not path.exists():
        pytest.skip(f"official identity arrays not found at {path}")
    arrays = np.load(path)
    person, camera = arrays["train_person_id"], arrays["train_camera_id"]
    first, second = official_pairs(person, camera)
    assert len(first) == 4914
    assert (person[first] == person[second]).all() and (camera[first] != camera[second]).all()
    assert len(np.unique(np.concatenate([first, second]))) == 2 * len(first)
    random, numpys_own = np.random.RandomState(0), 0  # what gives the other number in circulation
    for number in np.unique(person):
        permuted = random.permutation(np.flatnonzero(person == number))
        half = len(permuted) // 2
        numpys_own += np.sum(camera[permuted[:half]] != camera[permuted[half : 2 * half]])
    assert numpys_own == 4846
    over_seeds = [len(official_pairs(person, camera, seed)[0]) for seed in range(60)]
    assert np.mean(over_seeds) == pytest.approx(4847, abs=16) and np.std(over_seeds) == pytest.approx(31, abs=10)


def test_accepts_tensors():
    torch = pytest.importorskip("torch")
    features, person, camera = people()
    fitted = XQDA().fit(torch.from_numpy(features), torch.from_numpy(person), torch.from_numpy(camera))
    assert np.array_equal(fitted.metric_, XQDA().fit(features, person, camera).metric_)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_first_row_that_is_not_finite_is_named_as_the_caller_counts(value, monkeypatch):
    monkeypatch.setattr(xqda, "ROWS_AT_ONCE", 50)
    features, person, camera = people(images=7)
    paired = np.concatenate(official_pairs(person, camera))
    alone = np.setdiff1d(np.arange(len(person)), paired)
    for row in (alone[-1], paired[0]):
        broken = features.copy()
        broken[row, 3] = value
        with pytest.raises(ValueError, match=rf"Row {row} of the features .*\(1 such rows .* drop these images"):
            XQDA().fit(broken, person, camera)
    gallery, probe = features[::2], broken[1::2]
    probe[4, 0] = probe[9, 1] = value
    with pytest.raises(ValueError, match="Row 4 of the probe view"):
        XQDA().fit_views(gallery, probe, person[::2], person[1::2])


def test_views_that_do_not_go_together_are_named():
    features, person, _ = people()
    with pytest.raises(ValueError, match="gallery view has 16 dimensions but the probe view 8"):
        XQDA().fit_views(features[::2], features[1::2, :8], person[::2], person[1::2])
    with pytest.raises(ValueError, match="90 and 90 rows in the two views do not go with 90 and 89"):
        XQDA().fit_views(features[::2], features[1::2], person[::2], person[3::2])


def test_blocks_of_queries_do_not_show(monkeypatch):
    features, person, camera = people(n_people=100)
    fitted = XQDA().fit(features, person, camera)
    in_blocks = fitted.distance(features, features[:50])
    assert len(features) > 2 * xqda.QUERIES_AT_ONCE
    monkeypatch.setattr(xqda, "QUERIES_AT_ONCE", len(features))
    in_one = fitted.distance(features, features[:50])
    np.testing.assert_allclose(in_blocks, in_one, rtol=1e-6, atol=1e-6 * np.abs(in_one).max())


def test_bad_input_is_named():
    features, person, camera = people()
    with pytest.raises(ValueError, match="'svd' .* or 'eigh'"):
        XQDA(solver="qr")
    with pytest.raises(ValueError, match="must be positive"):
        XQDA(regularizer=0)
    with pytest.raises(ValueError, match="180 feature rows, 179 person_id"):
        XQDA().fit(features, person[1:], camera)
    with pytest.raises(ValueError, match="two cameras"):
        XQDA().fit(features, person, np.ones_like(camera))
    with pytest.raises(ValueError, match="dtype int64"):
        XQDA().fit(features.astype(np.int64), person, camera)
    with pytest.raises(ValueError, match=r"features have shape \(180,\)"):
        XQDA().fit(features[:, 0], person, camera)
    with pytest.raises(ValueError, match="two different persons"):
        XQDA().fit(features, np.ones_like(person), camera)
    with pytest.raises(ValueError, match="not been fitted"):
        XQDA().distance(features, features)
    fitted = XQDA().fit(features, person, camera)
    with pytest.raises(ValueError, match="fitted on 16 dimensions"):
        fitted.distance(features[:, :8], features[:, :8])
    with pytest.raises(ValueError, match="Query features have 8 dimensions but gallery features 16"):
        fitted.distance(features[:, :8], features)


def test_without_cameras_the_halves_of_each_person_are_paired():
    features, person, camera = people()
    first, second = official_pairs(person, np.full(len(person), -1))
    assert (person[first] == person[second]).all() and not set(first) & set(second)
    assert (np.bincount(person[first]) == np.bincount(person) // 2).all()
    found, said = XQDA().fit(features, person), XQDA().fit(features, person, np.full(len(person), -1))
    assert found.n_pairs_ == len(first) > XQDA().fit(features, person, camera).n_pairs_
    assert (found.metric_ == said.metric_).all()
    views = XQDA().fit_views(features[first], features[second], person[first], person[second])
    np.testing.assert_array_equal(found.metric_, views.metric_)
    other = XQDA(random_state=1).fit(features, person)
    assert other.metric_.shape != found.metric_.shape or (other.metric_ != found.metric_).any()
