import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController

from reid_core import distance
from reid_core.reranking import neighbours, tf32
from reid_core.reranking.neighbours import Neighbours, expand_duplicates, nearest, points

needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def features(seed, n=300, d=8):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def exact(x):
    x = x.astype(np.float64)
    return np.array([((x - row) ** 2).sum(1) for row in x])


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


def test_products_take_one_thread_of_blas_and_give_the_others_back(small_tiles, monkeypatch):
    x, seen, product = features(7), [], neighbours._product
    blas = lambda: {each["num_threads"] for each in neighbours._blas().info()}  # noqa: E731
    monkeypatch.setattr(neighbours, "_product", lambda *tile: seen.append(blas()) or product(*tile))
    with neighbours._blas().limit(limits=2):
        nearest(points(x), 21)
        assert blas() == {2}
        monkeypatch.setattr(neighbours, "_product", None)
        with pytest.raises(TypeError):
            nearest(points(x), 21)
        assert blas() == {2}
    assert len(seen) > 20 and all(each == {1} for each in seen)


def test_a_blas_that_keeps_its_threads_gives_the_same(small_tiles, monkeypatch):
    x = features(7)
    expected = vars(nearest(points(x), 21)).values()
    monkeypatch.setattr(neighbours, "_blas", lambda: ThreadpoolController().select(prefix="none"))
    assert all(map(np.array_equal, vars(nearest(points(x), 21)).values(), expected))


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
    for start, first in neighbours._tiles(len(x)):
        own, other = (neighbours._product(c, start, first) for c in (plain, with_copy))
        np.testing.assert_allclose(own, other, atol=1e-5)
        assert start != first or np.array_equal(own, own.T)


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


DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_a_gpu])]
KINDS = ("plain", "people", "spectrum", "one direction")


def tensors(kind, n=2000, d=48, device="cpu"):
    random = np.random.default_rng(20)
    x = random.normal(size=(n, d))
    if kind == "people":  # who stand together, as in a gallery
        x = 0.3 * x + random.normal(size=(n // 20, d)).repeat(20, 0)
    elif kind == "spectrum":
        x /= np.arange(1, d + 1) ** 0.5
    elif kind == "one direction":
        x = 0.5 * x + 3
    return torch.from_numpy(x.astype(np.float32)).to(device)


@pytest.fixture
def filtered(monkeypatch):
    """The filter of GPUs that have TF32, here on the CPU; what it was asked for, and which rows it gave back."""
    seen = []

    def search(self, rows):
        found = unchanged(self, rows)
        seen.append((rows, found[3]))
        return found

    unchanged = tf32.Filter.search
    monkeypatch.setattr(tf32.Filter, "search", search)
    monkeypatch.setattr(tf32, "computes_tf32", lambda device: True)
    monkeypatch.setattr(neighbours, "TORCH_CELLS", 700 * 2000)
    return seen


def signed(x):
    """A metric's points, whose distances can be negative."""
    signs = torch.where(torch.arange(x.shape[1], device=x.device) % 5 == 0, -1.0, 1.0)
    return neighbours.Points(x * signs, x, (x.double().square() @ signs.double()).float(), -np.inf)


def check_within_rounding(found, x, k):
    """Distances that float32 does not tell apart may come in either order, all others may not."""
    apart, rounding = exact(x.cpu().numpy()), 8 * 2.0**-23 * float(x.double().square().sum(1).max())
    index = found.index.cpu().numpy()
    assert (np.diff(np.sort(index, axis=1), axis=1) > 0).all() and (np.diff(found.distance.cpu(), axis=1) >= 0).all()
    nearest_first = np.sort(apart, axis=1)[:, :k]
    np.testing.assert_allclose(np.take_along_axis(apart, index, 1), nearest_first, atol=rounding)
    np.testing.assert_allclose(found.distance.cpu(), nearest_first, atol=rounding)
    np.testing.assert_allclose(found.farthest.cpu(), apart.max(1), atol=rounding)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "n, m, rows",  # a panel's rows are fewer than the columns; 500 pairs of six points: most come repeatedly
    [(300, 2000, slice(None)), (300, 2000, slice(7, 100)), (6, 500, slice(None)), (50, 0, slice(None))],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR")  # pytest has filters of its own
def test_products_of_pairs_in_any_order_are_float32s(n, m, rows, device):
    random = np.random.default_rng(5)
    left, right = (torch.from_numpy(features(seed, n, 700)).to(device) for seed in (6, 7))
    left = left[rows]
    row, column = (torch.from_numpy(random.integers(0, len(x), m)).to(device) for x in (left, right))
    with distance.matmul_precision("tf32"):  # not asked for here
        found = neighbours.sampled_products(left, right, row, column)
    left, right = left.double(), right.double()
    rounding = 32 * 2.0**-24 * left.norm(dim=1)[row] * right.norm(dim=1)[column]
    assert found.dtype == torch.float32 and found.shape == (m,)
    assert ((found - (left[row] * right[column]).sum(1)).abs() <= rounding).all()


PAIRS = "torch.ones(2, 3), torch.ones(2, 3), torch.tensor([0, 1]), torch.tensor([1, 1])"


def test_products_of_pairs_do_not_tell_that_sparse_rows_may_change():
    """Which PyTorch does once a process, and in this one has done by now, perhaps."""
    code = f"import torch\nfrom reid_core.reranking import neighbours\nneighbours.sampled_products({PAIRS})\n"
    code += "print('CSR', flush=True)\ntorch.set_warn_always(True)\ntorch.eye(2).to_sparse_csr()"  # another's is told
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "CSR\n" and done.stderr.count("Sparse CSR") == 1, done.stderr


def test_threads_that_multiply_pairs_leave_the_filters_of_warnings_as_they_were(monkeypatch):
    """In whichever order they leave, here that in which they came."""
    inside, leave = ([threading.Event(), threading.Event()] for _ in range(2))
    multiply, products = torch.sparse.sampled_addmm, []

    def sampled_addmm(*given, **more):
        number = int(threading.current_thread().name)
        inside[number].set()
        assert leave[number].wait(20)
        return multiply(*given, **more)

    monkeypatch.setattr(torch.sparse, "sampled_addmm", sampled_addmm)
    before = list(warnings.filters)
    task = lambda: products.append(neighbours.sampled_products(*eval(PAIRS)).tolist())  # noqa: E731
    threads = [threading.Thread(target=task, name=str(number)) for number in range(2)]
    for thread, there in zip(threads, inside, strict=True):
        thread.start()
        assert there.wait(20)
    for thread, may in zip(threads, leave, strict=True):
        may.set()
        thread.join(20)
    assert products == [[3.0, 3.0]] * 2 and warnings.filters == before


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 21])
def test_the_filter_finds_what_float32_finds(filtered, kind, k, device):
    x = tensors(kind, device=device)
    corner = torch.full((41, 1959), np.nan, device=device)
    found = nearest(points(x), k, corner=corner)
    check_within_rounding(found, x, k)
    np.testing.assert_allclose(corner.cpu(), exact(x.cpu().numpy())[:41, 41:], rtol=1e-4, atol=1e-4)
    assert [rows.start for rows, _ in filtered] == [41, 41 + 256, 41 + 256 + 640, 41 + 256 + 1280]
    assert sum(int(crowded.sum()) for _, crowded in filtered) == 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [points, signed])
@pytest.mark.parametrize("d", [1, 48, 700])
def test_no_distance_is_farther_from_the_filters_than_its_slack(filtered, kind, form, d, device):
    """And the slack is no more than 200 times what was seen, or it would sift nothing."""
    cloud = form(tensors(kind, n=300, d=d, device=device))
    n, sieve = len(cloud), tf32.Filter(cloud, 21)
    assert (sieve.left.view(torch.int32) & 0x1FFF == 0).all() and (sieve.right.view(torch.int32) & 0x1FFF == 0).all()
    with distance.matmul_precision("tf32"):
        product = torch.addmm(sieve.bias, sieve.left[:n], sieve.right.T)[:, :n].double()
    row_centre, centre = cloud.left.mean(0).double(), cloud.right.mean(0).double()
    shift = cloud.norms.double() - 2 * (cloud.left.double() @ centre - row_centre @ centre)
    pairs = torch.arange(n, device=device).repeat_interleave(n), torch.arange(n, device=device).repeat(n)
    for apart in (cloud.distance(slice(None), slice(None)), cloud.pair_distance(*pairs).view(n, n)):
        used = (apart - (shift[:, None] - 2 * product)).abs().amax(1) / sieve.slack
        assert 1 / 200 < used.max() <= 1


def test_the_filter_orders_equal_distances_by_index(filtered):
    """Small whole numbers, whose float32 distances are exact."""
    x = np.unique(np.random.default_rng(3).integers(-9, 10, (2000, 4)), axis=0).astype(np.float32)
    x = x[np.random.default_rng(4).permutation(len(x))]
    found = nearest(points(torch.from_numpy(x)), 5)
    crowded = torch.cat([rows for _, rows in filtered])
    assert 0.5 < (~crowded).float().mean()
    order = np.argsort(exact(x), axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(found.index[~crowded], order[~crowded])
    np.testing.assert_array_equal(found.distance, np.take_along_axis(exact(x), order, 1))
    np.testing.assert_array_equal(found.farthest, exact(x).max(1))


@pytest.mark.parametrize("k", [1, 21])
def test_the_filter_holds_with_a_metric(filtered, k):
    cloud = signed(tensors("people"))
    found, full = nearest(cloud, k), cloud.distance(slice(None), slice(None)).fill_diagonal_(0)
    nearest_first = full.sort(dim=1).values[:, :k]
    np.testing.assert_allclose(full.gather(1, found.index.long()), nearest_first, atol=1e-4)
    np.testing.assert_allclose(found.distance, nearest_first, atol=1e-4)
    np.testing.assert_allclose(found.farthest, full.amax(1), rtol=1e-5)
    assert full.min() < 0 and not any(crowded.any() for _, crowded in filtered)


def test_rows_that_the_filter_does_not_tell_apart_are_left_to_float32(filtered):
    """90 images closer to each other than its rounding, among people: their rows alone are multiplied again."""
    x = tensors("people")
    x[1000:1090] = x[1000] + 1e-5 * x[1000:1090]
    found, full = nearest(points(x), 21), points(x).distance(slice(None), slice(None)).fill_diagonal_(0)
    crowded = torch.cat([rows for _, rows in filtered])
    assert crowded[1000:1090].all() and crowded.sum() < 200
    np.testing.assert_allclose(found.distance, full.topk(21, largest=False).values, atol=1e-4)
    np.testing.assert_allclose(found.farthest, full.amax(1), rtol=1e-5)
    plain = (~crowded).numpy()
    np.testing.assert_array_equal(found.index[plain], full.sort(dim=1, stable=True).indices[plain, :21])


def test_features_of_unequal_length_are_filtered_no_further_than_the_first_rows(filtered, monkeypatch):
    """The longest makes the bound of all."""
    x = tensors("plain")
    x *= torch.logspace(0, 4, 2000)[torch.randperm(2000, generator=torch.Generator().manual_seed(0)), None]
    found = nearest(points(x), 21)
    assert [rows for rows, _ in filtered] == [slice(0, neighbours.PROBED)]
    monkeypatch.setattr(tf32, "computes_tf32", lambda device: False)
    for one, other in zip(vars(found).values(), vars(nearest(points(x), 21)).values(), strict=True):
        assert torch.equal(one[neighbours.PROBED :], other[neighbours.PROBED :])


@pytest.mark.parametrize("n", [1, 2, 30, 120])
def test_few_points_are_not_filtered(filtered, n):
    x = tensors("plain", n=n)
    check(nearest(points(x), 21), x.numpy(), min(21, n))
    assert not filtered and not tf32.Filter(points(x), min(21, n)).pays


def test_only_a_gpu_that_has_tf32_filters(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not tf32.computes_tf32(torch.device("cuda:0"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert tf32.computes_tf32(torch.device("cuda:0"))
    assert not any(tf32.computes_tf32(torch.device(kind)) for kind in ("cpu", "mps"))


@pytest.mark.gpu
@needs_a_gpu
def test_what_the_filter_finds_on_a_gpu_repeats_its_bits():
    x = tensors("people", n=6000, d=512, device="cuda")
    first, again = (nearest(points(x), 21) for _ in range(2))
    for one, other in zip(vars(first).values(), vars(again).values(), strict=True):
        assert torch.equal(one, other)
    row, _, crowded = tf32.Filter(points(x), 21).candidates(slice(0, 6000))
    assert not crowded.any() and len(row) < 30 * 6000
    check_within_rounding(first, x, 21)


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
