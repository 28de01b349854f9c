"""What every learner of a metric keeps: one list of them, and the same tests over all."""

import inspect
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from reid_core.baselines.kissme import KISSME
from reid_core.baselines.null_space import NullSpace
from reid_core.baselines.scsp import SCSP
from reid_core.xqda import XQDA

D = 12
LEARNERS = {  # settings that fit the toy, shape of one image's features
    XQDA: ({"solver": "eigh"}, (D,)),
    KISSME: ({"n_components": 6}, (D,)),
    NullSpace: ({}, (D,)),
    SCSP: ({"n_distance": 3, "n_bilinear": 4, "iterations": 3, "layer_weights": (1.1, 1, 1)}, (3, D // 3)),
}
each = pytest.mark.parametrize("Learner", LEARNERS, ids=lambda learner: learner.__name__)
that = pytest.mark.parametrize


def people(Learner, seed=0, n_people=12, images=4):
    random = np.random.default_rng(seed)
    person = np.repeat(np.arange(n_people) + 3, images)
    X = random.normal(size=(n_people + 3, D))[person] + 0.4 * random.normal(size=(len(person), D))
    return X.astype(np.float32).reshape(-1, *LEARNERS[Learner][1]), person, np.tile([1, 2], len(person) // 2)


def new(Learner, **settings):
    return Learner(**LEARNERS[Learner][0] | settings)


def settings_of(learner):
    return {name: getattr(learner, name) for name in inspect.signature(type(learner)).parameters}


def learned(learner):
    """What it holds beside its settings, as arrays by name."""
    names = sorted(set(vars(learner)) - set(settings_of(learner)))
    return {name: vars(getattr(learner, name)) if name == "pca_" else getattr(learner, name) for name in names}


def same(one, other):
    one, other = learned(one), learned(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        pairs = [(value[k], other[name][k]) for k in value] if isinstance(value, dict) else [(value, other[name])]
        assert all(np.array_equal(a, b) for a, b in pairs), name
    return True


@each
def test_fit_returns_the_learner_and_what_it_learned_ends_in_an_underscore(Learner):
    learner = new(Learner)
    assert learned(learner) == {} and learner.fit(*people(Learner)) is learner
    assert learned(learner) and all(name.endswith("_") and name[0] != "_" for name in learned(learner))


@each
def test_settings_stay_what_they_were_and_make_the_same_learner_again(Learner):
    learner = new(Learner)
    before = settings_of(learner)
    learner.fit(*people(Learner))
    assert all(settings_of(learner)[name] is value for name, value in before.items())
    assert same(Learner(**before).fit(*people(Learner)), learner)


@each
def test_same_seed_same_bits(Learner):
    first = new(Learner).fit(*people(Learner))
    assert same(new(Learner).fit(*people(Learner)), first)
    assert ("random_state" in settings_of(first)) == (Learner is not NullSpace)  # which draws nothing


@each
def test_another_fit_leaves_nothing_of_the_first(Learner):
    again = new(Learner).fit(*people(Learner, seed=1, n_people=9)).fit(*people(Learner))
    assert same(again, new(Learner).fit(*people(Learner)))


@each
def test_input_is_left_alone(Learner):
    data, query = people(Learner), people(Learner, seed=1)[0]
    copies = [x.copy() for x in (*data, query)]
    learner = new(Learner).fit(*data)
    learner.distance(query, data[0])
    assert all(np.array_equal(a, b) for a, b in zip(copies, (*data, query), strict=True))


@each
def test_distance_is_of_every_query_to_every_gallery_image(Learner):
    data, query = people(Learner), people(Learner, seed=1)[0][:5]
    learner = new(Learner).fit(*data)
    distance = learner.distance(query, data[0])
    assert distance.shape == (5, len(data[0])) and distance.dtype == np.float32 and np.isfinite(distance).all()
    rows = [learner.distance(query[[row]], data[0])[0] for row in range(5)]
    np.testing.assert_allclose(distance, rows, rtol=1e-4, atol=1e-5 * np.abs(distance).max())


@that("Learner", [XQDA, KISSME, NullSpace])
def test_transform_gives_a_row_an_image(Learner):
    X, person, camera = people(Learner)
    projected = new(Learner).fit(X, person, camera).transform(X)
    assert projected.ndim == 2 and len(projected) == len(X) and projected.dtype.kind == "f"


@each
def test_copies_have_equal_distances_and_an_image_none_to_itself(Learner):
    X, person, camera = people(Learner, n_people=11)
    learner = new(Learner).fit(X, person, camera)
    query, gallery = people(Learner, seed=1)[0][:21], X[:37]
    twice = learner.distance(np.concatenate([query, query]), np.concatenate([gallery, gallery]))
    assert np.array_equal(twice[:, :37], twice[:, 37:]) and np.array_equal(twice[:21], twice[21:])
    assert Learner is SCSP or not learner.distance(gallery, gallery).diagonal().any()  # SCSP is no metric


@that("Learner", [XQDA, KISSME, NullSpace])  # SCSP compares directions
def test_a_common_shift_costs_no_digits(Learner):
    X, person, camera = people(Learner)
    Y = people(Learner, seed=1)[0]
    X, Y = (np.round(64 * x) / np.float32(64) for x in (X, Y))  # so that the shifted are exact
    plain = new(Learner).fit(X, person, camera).distance(Y, X)
    shifted = (
        new(Learner).fit(X + np.float32(3000), person, camera).distance(Y + np.float32(3000), X + np.float32(3000))
    )
    np.testing.assert_allclose(shifted, plain, atol=2e-3 * np.abs(plain).max())


KINDS_OF_IDS = {
    "uint8": lambda ids: ids.astype("uint8"),
    "Int64": lambda ids: pd.Series(ids, dtype="Int64"),
    "whole floats": lambda ids: ids.astype(float),
    "categories": lambda ids: pd.Series(ids, dtype="category"),
    "text": lambda ids: [f"id{number:03}" for number in ids],
    "one column": lambda ids: pd.DataFrame({"id": ids}),
    "tensor": torch.from_numpy,
    "counted from 0": lambda ids: ids - ids.min(),
}


@each
@that("kind", KINDS_OF_IDS)
def test_the_type_of_ids_changes_nothing(Learner, kind):
    X, person, camera = people(Learner)
    change = KINDS_OF_IDS[kind]
    assert same(new(Learner).fit(X, change(person), change(camera)), new(Learner).fit(X, person, camera))


@each
def test_without_cameras_any_two_images_of_a_person_are_a_pair(Learner):
    X, person, camera = people(Learner)
    apart = new(Learner).fit(X, person, np.arange(len(X)))  # as if every image had a camera of its own
    for unknown in (None, np.full(len(X), -1)):
        settings = {} if unknown is None else {"camera_id": unknown}
        assert same(new(Learner).fit(X, person, **settings), apart)
    pairs = {XQDA: 12 * 2, KISSME: 12 * 6}  # of four images two halves, or any two
    assert getattr(apart, "n_pairs_", None) == pairs.get(Learner) and (Learner is NullSpace) == (
        np.array_equal(apart.distance(X, X), new(Learner).fit(X, person, camera).distance(X, X))
    )
    if Learner is not NullSpace:  # some are known: a pair of one camera does not count, all others do
        half = np.where(np.arange(len(X)) % 4 < 2, 5, -1)
        known = np.where(half == 5, 5, 10 + np.arange(len(X)))
        assert same(new(Learner).fit(X, person, half), new(Learner).fit(X, person, known))


@each
def test_tensors_short_ones_too_are_their_values(Learner):
    X, person, camera = people(Learner)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        tensor = torch.from_numpy(X).to(dtype)
        assert same(new(Learner).fit(tensor, person, camera), new(Learner).fit(tensor.float().numpy(), person, camera))


def broken(X, row):
    return np.where(np.arange(X.size).reshape(X.shape) == row * D, np.float32(np.nan), X)


BAD = {
    "NaN": (
        lambda X, p, c: (np.where(np.arange(X.size).reshape(X.shape) == 4 * D, np.nan, X), p, c),
        "Row 4 of the .*NaN",
    ),
    "infinity": (lambda X, p, c: (np.where(X == X.max(), np.inf, X), p, c), "holds NaN, infinity"),
    "whole numbers": (lambda X, p, c: (X.astype(int), p, c), "have dtype int64; pass a floating-point type"),
    "one number an image": (lambda X, p, c: (X.reshape(-1), p, c), r"have shape .*; expected \(n, .*d\)"),
    "no image": (lambda X, p, c: (X[:0], p[:0], c[:0]), "have shape .*with n > 0"),
    "all alike": (lambda X, p, c: (np.full_like(X, 0.1), p, c), "All training features are alike"),
    "a gradient": (lambda X, p, c: (torch.from_numpy(X).requires_grad_(), p, c), "require a gradient"),
    "a person too few": (lambda X, p, c: (X, p[1:], c), "48.*47"),
    "a camera too few": (lambda X, p, c: (X, p, c[1:]), "48.*47"),
    "one person": (lambda X, p, c: (X, np.ones_like(p), c), "[Tt]wo or more people|two different persons"),
    "one image a person": (lambda X, p, c: (X, np.arange(len(p)), c), "two or more images|No pair of images"),
    "one camera": (lambda X, p, c: (X, p, np.ones_like(c)), "two cameras"),
    "one image a person, no camera": (lambda X, p, c: (X, np.arange(len(p)), None), "two or more images|No pair of"),
    "a missing person": (lambda X, p, c: (X, np.where(p == 5, np.nan, p), c), "person_id is missing in row 8"),
    "a missing camera": (lambda X, p, c: (X, p, pd.Series(c).where(p != 5)), "camera_id is missing in row 8"),
}


@each
@that("bad", BAD)
def test_what_cannot_be_learned_from_is_refused(Learner, bad):
    make, message = BAD[bad]
    data = make(*people(Learner))
    if bad == "one camera" and Learner is NullSpace:
        assert new(Learner).fit(*data)  # cameras do not count there
        return
    with pytest.raises(ValueError, match=message):
        new(Learner).fit(*data)


@each
def test_what_cannot_be_compared_is_refused(Learner):
    X, person, camera = people(Learner)
    with pytest.raises(ValueError, match=f"This {Learner.__name__} has not been fitted; call fit"):
        new(Learner).distance(X, X)
    learner = new(Learner).fit(X, person, camera)
    for query, gallery, message in (
        (broken(X, 7), X, "Row 7 of the query features"),
        (X, broken(X, 7), "Row 7 of the gallery features"),
        (X[:0], X, "query features (have shape|are empty)"),
        (X[..., 1:], X[..., 1:], "expected|dimensions"),
        (torch.from_numpy(X).requires_grad_(), torch.from_numpy(X), "query features require a gradient"),
    ):
        with pytest.raises(ValueError, match=message):
            learner.distance(query, gallery)


@that("Learner", [KISSME, NullSpace])
@that("scale", [1e-25, 1e25])
def test_scales_that_float32_cannot_square_are_refused(Learner, scale):
    X, person, camera = people(Learner)
    with pytest.raises(ValueError, match="to square in float32. Scale them"):
        new(Learner).fit(X * np.float32(scale), person, camera)


@that("exponent", [-90, -30, 60])
def test_scsp_compares_directions_at_any_scale(exponent):
    X, person, camera = people(SCSP)
    plain, scaled = new(SCSP).fit(X, person, camera), new(SCSP).fit(np.ldexp(X, exponent), person, camera)
    assert same(plain, scaled)
    assert np.array_equal(scaled.distance(np.ldexp(X, exponent), np.ldexp(X, exponent)), plain.distance(X, X))


def test_kissme_of_copies_and_scsp_of_one_direction_say_what_is_wrong():
    X, person, camera = people(KISSME)
    with pytest.raises(ValueError, match="no pair of images of one person differs .copies"):
        new(KISSME).fit(X[::4].repeat(4, axis=0), person, camera)
    length = np.arange(1, 49, dtype=np.float32)[:, None, None]
    with pytest.raises(ValueError, match="All training features have one direction; SCSP"):
        new(SCSP).fit(length * np.ones((48, 3, 4), np.float32), person, camera)


@each
@that("change", ["itself", "1e-12", "offset"])
def test_features_unlike_those_learnt_from_rank_as_they_did_or_are_told(Learner, change):
    X, person, camera = people(Learner)
    learner = new(Learner).fit(X, person, camera)
    given = {"itself": X, "1e-12": X * np.float32(1e-12), "offset": X + np.float32(1000)}[change]
    told = change != "itself" and Learner in (KISSME, NullSpace) and (change, Learner) != ("offset", KISSME)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = learner.distance(given[:9], given[9:])
    assert [told] * told == ["rounding ranks them. Bring them to scale" in str(line.message) for line in said]
    assert told or Learner is SCSP or (found.argmin(1) == learner.distance(X[:9], X[9:]).argmin(1)).all()
