import numpy as np
import pytest
import torch

from reid_core.reranking import neighbours
from reid_core.reranking.neighbours import Neighbours, expand_duplicates, nearest, points


def features(seed, n=300, d=8):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def exact(x):
    x = x.astype(np.float64)
    return ((x[:, None] - x) ** 2).sum(2)


def check(found, x, k):
    distance = exact(x)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    if k < len(x):
        np.testing.assert_array_equal(found.index, order)
    else:  # among all, some lie closer than float32 resolves and come in either order
        np.testing.assert_array_equal(np.sort(found.index, axis=1), np.sort(order, axis=1))
        assert (np.diff(found.distance, axis=1) >= 0).all()
    np.testing.assert_allclose(found.distance, np.take_along_axis(distance, order, 1), atol=1e-4)
    np.testing.assert_allclose(found.farthest, distance.max(1), rtol=1e-5)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(neighbours, "TILE_ROWS", 32)
    monkeypatch.setattr(neighbours, "TILE_COLUMNS", 70)
    monkeypatch.setattr(neighbours, "STRIP", 500)


@pytest.mark.parametrize("k", [1, 2, 21, 300, 400])
def test_equals_a_full_sort(k):
    x = features(0)
    check(nearest(points(x), k), x, min(k, 300))


@pytest.mark.parametrize("order", ["random", "approaching", "leaving"])
def test_equals_a_full_sort_over_many_tiles_in_any_order(small_tiles, order):
    """Images that come ever nearer are the worst case of a running selection: each beats all before it."""
    x = features(1)
    if order != "random":
        x = x[np.argsort(np.linalg.norm(x - x[0], axis=1))[:: 1 if order == "leaving" else -1]].copy()
    check(nearest(points(x), 21), x, 21)


def test_the_number_of_threads_does_not_show(small_tiles, monkeypatch):
    x = np.round(features(7))  # many equal distances, whose order must not depend on who is first
    found = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        corner = np.empty((41, 259), np.float32)
        found.append([*vars(nearest(points(x), 21, corner=corner)).values(), corner])
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))
    order = np.argsort(exact(x), axis=1, kind="stable")[:, :21]
    np.testing.assert_array_equal(found[0][0], order)


@pytest.mark.parametrize("k", [1, 5, 21])
def test_what_lies_at_the_bound_of_the_first_look_is_not_lost(k):
    """One strip of few distinct distances: the bound that it starts with is itself the distance of many."""
    x = np.round(features(8, n=400, d=3))
    x = np.unique(x, axis=0)[np.random.default_rng(0).permutation(len(np.unique(x, axis=0)))]
    order = np.argsort(exact(x), axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(nearest(points(x), k).index, order)


def test_a_panel_meets_itself_as_with_a_metric_that_changes_nothing(small_tiles):
    """There by a symmetric product, here by a general one."""
    x = features(9)
    plain, with_copy = (neighbours.Points(x, right, np.float32((x**2).sum(1)), 0.0) for right in (x, x.copy()))
    for (*place, own), (*other_place, other) in zip(*map(neighbours._tiles, (plain, with_copy)), strict=True):
        assert place == other_place
        np.testing.assert_allclose(own, other, atol=1e-5)
        assert place[0] != place[1] or np.array_equal(own, own.T)


@pytest.mark.parametrize(("asked", "expected"), [("3", 3), ("2,1", 2)])
def test_threads_are_those_of_omp(monkeypatch, asked, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert neighbours.threads() == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert neighbours.threads() >= 1


def test_torch_finds_the_same():
    x = features(2)
    found = nearest(points(torch.from_numpy(x)), 21)
    check(found, x, 21)


def test_corner_holds_the_distances_passed(small_tiles):
    x = features(3)
    for kind in (np.asarray, torch.from_numpy):
        corner = np.full((41, 259), np.nan, np.float32)
        nearest(points(kind(x)), 5, corner=kind(corner))
        np.testing.assert_allclose(corner, exact(x)[:41, 41:], atol=1e-4)


def test_bf16_is_approximate_but_close():
    x = features(4, d=64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found = nearest(points(torch.from_numpy(x)), 10, approximate="bf16")
    right = np.argsort(exact(x), axis=1)[:, :10]
    agreeing = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.index.numpy(), right, strict=True)])
    assert 0.8 < agreeing
    np.testing.assert_allclose(found.farthest, exact(x).max(1), atol=0.05)


def test_float32_holds_under_a_lower_precision_setting():
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        x = features(5)
        found = nearest(points(torch.from_numpy(x)), 21)
        check(found, x, 21)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_keys_sort_by_distance_then_index():
    distance = np.float32([-2.5, -0.0, 0.0, 1e-30, 3, 3, np.inf])
    index = np.array([9, 1, 2, 7, 4, 5, 0])
    keys = neighbours._pack(distance + np.float32(0), index)
    assert (np.diff(keys.astype(object)) > 0).all()
    back = neighbours._unpack(keys)
    assert np.array_equal(back[0], distance) and np.array_equal(back[1], index)


def test_copies_come_in_ascending_order_and_fill_the_list():
    # Groups 0 (images 0, 3, 4), 1 (image 1), 2 (image 2); group 0's nearest are itself, then 2, then 1.
    found = Neighbours(
        torch.tensor([[0, 2, 1], [1, 0, 2], [2, 0, 1]], dtype=torch.int32),
        torch.tensor([[0.0, 1, 2], [0, 2, 2], [0, 1, 2]]),
        torch.tensor([2.0, 2, 2]),
    )
    images = expand_duplicates(found, np.array([0, 1, 2, 0, 0]), 4)
    # image 1 is equally far from group 0 and from image 2, so all of these come by index: 0, 2, 3
    expected = [[0, 3, 4, 2], [1, 0, 2, 3], [2, 0, 3, 4], [0, 3, 4, 2], [0, 3, 4, 2]]
    np.testing.assert_array_equal(images.index, expected)
    np.testing.assert_array_equal(images.distance[1], [0, 2, 2, 2])
