import tracemalloc
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from reid_core import copies as copies_of
from reid_core import distance, reranking
from reid_core.evaluation import Evaluator, evaluate
from reid_core.reranking import k_reciprocal, k_reciprocal_blocks, neighbours, reciprocal, sparse_rows
from reid_core.xqda import XQDA


def loop_reranking(query, gallery, k1=20, k2=6, lambda_value=0.3, metric=None, half="official", jaccard="weighted"):
    """The released method read aloud, one image at a time, in float64 and with every (N, N) array it names."""
    x = np.concatenate([query, gallery]).astype(np.float64)
    n, n_query = len(x), len(query)
    full = np.eye(x.shape[1]) if metric is None else metric.components_ @ metric.metric_ @ metric.components_.T
    d = np.array([[(a - b) @ full @ (a - b) for b in x] for a in x])
    largest = d.max(axis=1, keepdims=True)
    d = d / np.where(largest > 0, largest, 1)
    order = [sorted(range(n), key=lambda j, row=row: (row[j], j)) for row in d]
    h = int(np.floor((k1 + 1) / 2 + 0.5)) if half == "official" else int(np.around(k1 / 2)) + 1

    @cache
    def reciprocal(i, size):
        return {j for j in order[i][:size] if i in order[j][:size]}

    sets, V = [], np.zeros((n, n))
    for i in range(n):
        R = reciprocal(i, k1 + 1)
        R_star = set(R)
        for candidate in R:
            theirs = reciprocal(candidate, h)
            if len(theirs & R) * 3 > 2 * len(theirs):
                R_star |= theirs
        sets.append(R_star)
        weight = {j: np.exp(-d[i, j]) for j in R_star}
        for j in R_star:
            V[i, j] = weight[j] / sum(weight.values())
    V = np.array([V[order[i][:k2]].mean(axis=0) for i in range(n)])
    final = np.empty((n_query, n - n_query))
    for i in range(n_query):
        for g in range(n_query, n):
            if jaccard == "set":
                union = len(sets[i] | sets[g])
                dissimilar = 1 - len(sets[i] & sets[g]) / union if union else 1.0
            else:
                m = np.minimum(V[i], V[g]).sum()
                dissimilar = 1 - m / (2 - m)
            final[i, g - n_query] = (1 - lambda_value) * dissimilar + lambda_value * d[i, g]
    return final


def clusters(seed, n_query=12, n_gallery=60, n_people=8, d=16, normalise=True):
    random = np.random.default_rng(seed)
    person = random.integers(1, n_people + 1, n_query + n_gallery)
    x = random.normal(size=(n_people + 1, d))[person] + 0.7 * random.normal(size=(len(person), d))
    if normalise:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    x = x.astype(np.float32)
    return x[:n_query], x[n_query:], person


def tables_of(person, n_query):
    camera = np.where(np.arange(len(person)) < n_query, 1, 2)
    table = pd.DataFrame({"person_id": person, "camera_id": camera})
    return table[:n_query], table[n_query:]


TINY = [  # so that 72 images take many of each, the last of them not full
    (distance, "ROWS_AT_ONCE", 11),
    (neighbours, "ROWS_AT_ONCE", 11),
    (neighbours, "TILE_ROWS", 10),
    (neighbours, "TILE_COLUMNS", 17),
    (neighbours, "STRIP", 40),
    (neighbours, "TORCH_CELLS", 300),
    (distance, "CACHED", 80),
    (copies_of, "ROWS_AT_ONCE", 5),
    (neighbours, "PAIRS_AT_ONCE", 7),
    (sparse_rows, "ROWS_AT_ONCE", 13),
    (reciprocal, "WORK_AT_ONCE", (300, 300)),
    (reranking, "ROWS_AT_ONCE", 4),
    (reranking, "BLOCK_CELLS", (250, 250)),
]


def use_code_of_other_devices(monkeypatch):
    """The torch bodies that a GPU runs, here on the CPU."""
    joined = reranking._joined
    monkeypatch.setattr(sparse_rows, "_on_cpu", lambda matrix: False)
    monkeypatch.setattr(reranking, "_joined", lambda q, g, device, as_array: joined(q, g, device, False))


@pytest.fixture(params=["one tile", "tiny tiles", "tiny tiles of other devices"])
def tiles(request, monkeypatch):
    if request.param != "one tile":
        for module, name, value in TINY:
            monkeypatch.setattr(module, name, value)
    if request.param == "tiny tiles of other devices":
        use_code_of_other_devices(monkeypatch)


@pytest.mark.parametrize("jaccard", ["weighted", "set"])
@pytest.mark.parametrize("k1, k2", [(20, 6), (1, 1), (3, 3), (7, 2), (11, 11), (200, 6)])
@pytest.mark.parametrize("half", ["official", "ports"])
def test_equals_the_oracle(tiles, k1, k2, half, jaccard):
    query, gallery, _ = clusters(k1)
    settings = dict(k1=k1, k2=k2, half=half, jaccard=jaccard)
    result = k_reciprocal(query, gallery, **settings)
    assert result.dtype == np.float32 and result.shape == (12, 60)
    np.testing.assert_allclose(result, loop_reranking(query, gallery, **settings), atol=1e-5)


@pytest.mark.parametrize("lambda_value", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("normalise", [True, False])
def test_equals_the_oracle_at_the_ends_of_lambda(tiles, lambda_value, normalise):
    query, gallery, _ = clusters(5, normalise=normalise)
    expected = loop_reranking(query, gallery, lambda_value=lambda_value)
    np.testing.assert_allclose(k_reciprocal(query, gallery, lambda_value=lambda_value), expected, atol=1e-5)


@pytest.mark.parametrize("n_query, n_gallery", [(1, 40), (30, 1), (1, 1), (3, 5)])
def test_equals_the_oracle_with_few_images(tiles, n_query, n_gallery):
    query, gallery, _ = clusters(1, n_query, n_gallery)
    np.testing.assert_allclose(k_reciprocal(query, gallery), loop_reranking(query, gallery), atol=1e-5)


@pytest.mark.parametrize("jaccard", ["weighted", "set"])
@pytest.mark.parametrize("copies", [1, 4, 30])
def test_exact_duplicates_keep_ascending_index(tiles, copies, jaccard):
    """Also more copies than k1 + 1, so that an image can be missing from its own neighbourhood."""
    query, gallery, _ = clusters(2)
    gallery[5 : 5 + copies] = query[3]
    gallery[50] = gallery[40]
    query[7] = query[3]
    settings = dict(k1=6, k2=3, jaccard=jaccard)
    result = k_reciprocal(query, gallery, **settings)
    np.testing.assert_allclose(result, loop_reranking(query, gallery, **settings), atol=1e-5)


def test_zero_vectors_and_nothing_but_zero_vectors(tiles):
    query, gallery, _ = clusters(3, normalise=False)  # all unit vectors would be equally far from zero
    query[0], gallery[10:20] = 0, 0
    gallery[12] = -0.0
    np.testing.assert_allclose(k_reciprocal(query, gallery), loop_reranking(query, gallery), atol=1e-5)
    zeros = np.zeros((40, 4), np.float32)
    expected = loop_reranking(zeros[:10], zeros[10:], k1=5, k2=2)
    np.testing.assert_allclose(k_reciprocal(zeros[:10], zeros[10:], k1=5, k2=2), expected, atol=1e-6)


def swapped_at_the_edge(seed, k1, towards):
    """The first query's last neighbour, and right behind it the same with two coordinates swapped that are equal in
    the query; then one coordinate moved by its last bit, so that it lies nearer than the other, or farther."""
    query, gallery, _ = clusters(seed)
    query[0, 1] = query[0, 0]
    order = np.argsort(((gallery.astype(np.float64) - query[0]) ** 2).sum(1))
    last, beyond = order[k1 - 1], order[k1]
    gallery[beyond] = gallery[last]
    gallery[beyond, :2] = gallery[last, [1, 0]]
    side = query[0, 2] > gallery[beyond, 2]
    gallery[beyond, 2] = np.nextafter(gallery[beyond, 2], np.float32(np.inf if side == towards else -np.inf))
    others = ((query[1:].astype(np.float64) - query[0]) ** 2).sum(1)
    distance = ((gallery[[last, beyond]].astype(np.float64) - query[0]) ** 2).sum(1)
    assert 0 < (distance[0] - distance[1] if towards else distance[1] - distance[0]) < 2.0**-24
    return query, gallery, k1 + int((others < distance.min()).sum())


@pytest.mark.parametrize("seed", [0, 5, 7])
@pytest.mark.parametrize("jaccard", ["weighted", "set"])
@pytest.mark.parametrize("half", ["official", "ports"])
def test_closer_than_float32_resolves_equals_the_oracle_for_one_of_the_two_orders(tiles, half, jaccard, seed):
    found, expected = [], []
    for towards in (True, False):
        query, gallery, k1 = swapped_at_the_edge(seed, 7, towards)
        settings = dict(k1=k1, k2=3, half=half, jaccard=jaccard)
        found.append(k_reciprocal(query, gallery, **settings))
        expected.append(loop_reranking(query, gallery, **settings))
    assert np.abs(expected[0] - expected[1]).max() > 0.01, "the order decides nothing here"
    for result in found:
        assert min(np.abs(result - one).max() for one in expected) <= 1e-5


@pytest.mark.parametrize("solver", ["svd", "eigh"])
def test_equals_the_oracle_with_a_fitted_metric(tiles, solver):
    query, gallery, person = clusters(4, n_query=40, n_gallery=100, n_people=20, d=12)
    x, camera = np.concatenate([query, gallery]), np.arange(140) % 3
    metric = XQDA(solver=solver).fit(x[70:], person[70:], camera[70:])
    gallery[3] = query[5]
    for jaccard in ("weighted", "set"):
        settings = dict(k1=8, k2=3, metric=metric, jaccard=jaccard)
        result = k_reciprocal(query, gallery, **settings)
        np.testing.assert_allclose(result, loop_reranking(query, gallery, **settings), atol=1e-5)


def test_lambda_one_is_the_normalised_distance_and_zero_lies_in_the_unit_interval():
    query, gallery, _ = clusters(6)
    jaccard = k_reciprocal(query, gallery, lambda_value=0)
    assert jaccard.min() >= -1e-6 and jaccard.max() <= 1 + 1e-6
    order = np.argsort(((query[:, None] - gallery) ** 2).sum(2), axis=1)
    assert np.array_equal(np.argsort(k_reciprocal(query, gallery, lambda_value=1), axis=1), order)


def test_scale_and_rotation_do_not_matter():
    query, gallery, _ = clusters(7)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0]
    moved = [(5 * x @ rotation).astype(np.float32) for x in (query, gallery)]
    np.testing.assert_allclose(k_reciprocal(*moved), k_reciprocal(query, gallery), atol=2e-5)


def of_a_metric(query, gallery, person):
    x, camera = np.concatenate([query, gallery]), np.arange(len(person)) % 3
    return XQDA(solver="eigh").fit(x, person, camera)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("shift", [30, 3000])
def test_a_common_shift_does_not_matter(tiles, shift, learned):
    query, gallery, person = clusters(17, n_query=20, n_gallery=100, n_people=12, normalise=False)
    query, gallery = (np.round(64 * x) / np.float32(64) for x in (query, gallery))  # so that the shifted are exact
    gallery[3] = gallery[60] = query[5]
    settings = {"k1": 7, "k2": 3, "metric": of_a_metric(query, gallery, person) if learned else None}
    shifted = k_reciprocal(query + np.float32(shift), gallery + np.float32(shift), **settings)
    np.testing.assert_allclose(shifted, loop_reranking(query, gallery, **settings), atol=2e-5)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("exponent", [-110, -70, 50])
def test_a_power_of_two_changes_no_bit(tiles, exponent, learned):
    """Down to where squares are no float32 numbers any more."""
    query, gallery, person = clusters(18, n_query=20, n_gallery=100, n_people=12)
    settings = {"metric": of_a_metric(query, gallery, person) if learned else None}
    scaled = [np.ldexp(x, exponent) for x in (query, gallery)]
    assert np.array_equal(k_reciprocal(*scaled, **settings), k_reciprocal(query, gallery, **settings))


@pytest.mark.parametrize("learned", [False, True])
def test_copies_in_the_gallery_have_one_distance_and_keep_their_order(tiles, learned):
    query, gallery, person = clusters(19, n_query=21, n_gallery=53, n_people=12, d=40)
    gallery[9] = query[2]
    settings = {"metric": of_a_metric(query, gallery, person) if learned else None}
    twice = np.concatenate([gallery, gallery])
    distance = k_reciprocal(query, twice, lambda_value=1, **settings)
    assert np.array_equal(distance[:, :53], distance[:, 53:]) and distance[2, 9] == distance[2, 62] == 0
    distance = k_reciprocal(query, twice, k1=7, k2=3, **settings)
    assert (distance[:, :53] <= distance[:, 53:]).all()


def test_tensors_that_require_a_gradient_are_refused():
    query, gallery, _ = (torch.as_tensor(x) for x in clusters(0))
    with pytest.raises(ValueError, match="query features require a gradient"):
        k_reciprocal(query.requires_grad_(), gallery)
    with torch.no_grad():
        assert k_reciprocal(query, gallery).shape == (12, 60)


def test_hand_worked_two_pairs():
    # Two people far apart, a query and a gallery image each: k1 = 1 makes each pair its own reciprocal set, with
    # weights exp(-0), exp(-1/101) over their sum. lambda 0: distance 0 within the pair would need equal weights.
    query, gallery = np.float32([[0, 0], [10, 0]]), np.float32([[0, 1], [10, 1]])
    near, far = np.exp(-1 / 101), 1.0
    m = 2 * min(near, far) / (near + far)
    result = k_reciprocal(query, gallery, k1=1, k2=1, lambda_value=0)
    np.testing.assert_allclose(result, [[1 - m / (2 - m), 1], [1, 1 - m / (2 - m)]], atol=1e-6)
    result = k_reciprocal(query, gallery, k1=1, k2=1, lambda_value=0.3, jaccard="set")
    np.testing.assert_allclose(result, [[0.3 / 101, 1], [1, 0.3 / 101]], atol=1e-6)


def test_same_input_same_bits_and_input_left_alone():
    query, gallery, _ = clusters(8)
    before = query.copy(), gallery.copy()
    assert np.array_equal(k_reciprocal(query, gallery), k_reciprocal(query, gallery))
    assert np.array_equal(query, before[0]) and np.array_equal(gallery, before[1])


def test_lengths_of_arrays_are_taken_once(monkeypatch):
    query, gallery, _ = clusters(8)
    expected = k_reciprocal(query, gallery)
    monkeypatch.setattr(reranking, "squared_norms", lambda features: pytest.fail("taken again"))
    assert np.array_equal(k_reciprocal(query, gallery), expected)


def test_sparse_steps_take_one_thread_of_torch_and_give_the_others_back(monkeypatch):
    query, gallery, _ = clusters(8)
    seen, make = [], reranking.reciprocal_vectors
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    k_reciprocal(query, gallery)
    monkeypatch.setattr(reranking, "reciprocal_vectors", lambda *_: make(None, None, None))
    with pytest.raises(AttributeError):
        k_reciprocal(query, gallery)
    assert seen == [1, 5, 1, 5]


def test_scores_equal_the_oracles():
    query, gallery, person = clusters(9, n_query=30, n_gallery=120)
    tables = tables_of(person, 30)
    ours = evaluate(k_reciprocal(query, gallery), *tables)
    oracle = evaluate(loop_reranking(query, gallery), *tables)
    assert (round(ours.rank1, 4), round(ours.mAP, 4)) == (round(oracle.rank1, 4), round(oracle.mAP, 4))


def test_tensors_blocks_and_out(tiles, tmp_path):
    query, gallery, _ = clusters(10)
    expected = k_reciprocal(query, gallery)
    tensor = k_reciprocal(torch.from_numpy(query), torch.from_numpy(gallery))
    assert isinstance(tensor, torch.Tensor) and np.array_equal(tensor.numpy(), expected)
    gathered, seen = np.full_like(expected, np.nan), 0
    for rows, block in k_reciprocal_blocks(query, gallery):
        assert rows.start == seen and len(block) == rows.stop - rows.start
        gathered[rows], seen = block.numpy(), rows.stop
    np.testing.assert_allclose(gathered, expected, atol=1e-6)
    mapped = np.lib.format.open_memmap(tmp_path / "d.npy", "w+", np.float32, expected.shape)
    assert k_reciprocal(query, gallery, out=mapped) is mapped
    np.testing.assert_allclose(mapped, expected, atol=1e-6)


def test_scores_without_ever_storing_the_result(tiles):
    query, gallery, person = clusters(11, n_query=30, n_gallery=120)
    tables = tables_of(person, 30)
    evaluator = Evaluator(*tables)
    for _, block in k_reciprocal_blocks(query, gallery, progress=False):
        evaluator.update(block)
    assert evaluator.result().mAP == pytest.approx(evaluate(k_reciprocal(query, gallery), *tables).mAP, abs=1e-9)


def test_other_devices_code_gives_the_same(monkeypatch):
    """With duplicates and with a metric."""
    query, gallery, person = clusters(12, n_query=40, n_gallery=100, n_people=20, d=12)
    gallery[3], gallery[50] = query[5], gallery[40]
    x, camera = np.concatenate([query, gallery]), np.arange(140) % 3
    metric = XQDA().fit(x[70:], person[70:], camera[70:])
    choices = {}, {"jaccard": "set"}, {"metric": metric}
    expected = [k_reciprocal(query, gallery, **settings) for settings in choices]
    use_code_of_other_devices(monkeypatch)
    for settings, right in zip(choices, expected, strict=True):
        np.testing.assert_allclose(k_reciprocal(query, gallery, **settings), right, atol=1e-5)


def test_memory_mapped_features_give_the_same(tiles, tmp_path, recwarn):
    query, gallery, _ = clusters(15)
    gallery[7] = query[2]
    expected = k_reciprocal(query, gallery)
    mapped = []
    for name, x in (("query", query), ("gallery", gallery)):
        np.save(tmp_path / f"{name}.npy", x)
        mapped.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    assert np.array_equal(k_reciprocal(*mapped), expected)
    blocks = [block.numpy() for _, block in k_reciprocal_blocks(*mapped)]
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-6)
    assert np.array_equal(mapped[1], gallery) and not recwarn.list


class LargestTensor(TorchDispatchMode):
    """Bytes of the largest tensor that any operation within gives."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for part in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(part, torch.Tensor):
                self.bytes = max(self.bytes, part.nbytes)
        return result


@pytest.mark.parametrize("of_other_devices", [False, True])
def test_no_array_of_all_pairs(of_other_devices, monkeypatch):
    """An (N, N) float32 array would take twice what all arrays of NumPy's together and any tensor may."""
    query, gallery, _ = clusters(16, n_query=200, n_gallery=5800, n_people=400)
    gallery[30] = gallery[20]  # this path, too
    bound = 4 * 6000**2 // 2
    monkeypatch.setattr(neighbours, "STRIP", 1 << 16)  # work space that does not grow with N, but is larger than this
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # of each thread
    if of_other_devices:
        use_code_of_other_devices(monkeypatch)
        monkeypatch.setattr(neighbours, "TORCH_CELLS", 1 << 22)
        monkeypatch.setattr(reciprocal, "WORK_AT_ONCE", (1 << 20, 1 << 20))
    with LargestTensor():  # what PyTorch imports for it is none of ours
        k_reciprocal(query[:5], gallery[:60])
    tracemalloc.start()
    with LargestTensor() as largest:
        k_reciprocal(query, gallery)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 4 * 6000 * 16 < peak < bound and 4 * 6000 * 16 < largest.bytes < bound


def test_copies_are_dropped_within_the_same_memory(tiles):
    rows = np.array([0, 2, 3, 7, 8, 20, 21, 40, 71])
    x = np.arange(144, dtype=np.float32).reshape(72, 2)
    for features in (x.copy(), torch.from_numpy(x.copy())):
        kept = reranking._kept(features, rows)
        assert np.array_equal(kept, x[rows])
        assert np.shares_memory(np.asarray(kept), np.asarray(features))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("settings", [{}, {"jaccard": "set"}, {"k1": 7, "k2": 3, "half": "ports"}])
def test_cuda_equals_the_cpu_and_repeats_its_bits(settings):
    query, gallery, _ = clusters(14, n_query=300, n_gallery=2000, n_people=80, d=64)
    gallery[5] = query[3]
    on_gpu = [torch.from_numpy(x).cuda() for x in (query, gallery)]
    torch.set_float32_matmul_precision("high")
    result = k_reciprocal(*on_gpu, **settings)
    assert result.is_cuda and torch.equal(result, k_reciprocal(*on_gpu, **settings))
    torch.set_float32_matmul_precision("highest")
    np.testing.assert_allclose(result.cpu(), k_reciprocal(query, gallery, **settings), atol=1e-4)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(k1=5, k2=6), "k2=6 exceeds k1=5"),
        (dict(k1=0), "k1=0 must be a whole number"),
        (dict(k2=2.5), "k2=2.5 must be a whole number"),
        (dict(lambda_value=1.2), r"lambda_value=1.2 must lie in \[0, 1\]"),
        (dict(lambda_value=float("nan")), "lambda_value=nan must lie in"),
        (dict(half="matlab"), "half='matlab' is unknown; choose one of 'official', 'ports'"),
        (dict(jaccard="min"), "jaccard='min' is unknown"),
        (dict(out=np.empty((60, 12), np.float32).T), "out must be C-contiguous and writable"),
        (dict(out=torch.empty(12, 120)[:, ::2]), "out must be C-contiguous and writable"),
        (dict(out=np.broadcast_to(np.float32(0), (12, 60))), "out must be C-contiguous and writable"),
        (dict(metric=XQDA()), "has not been fitted; call fit"),
        (dict(out=np.empty((2, 2), np.float32)), r"out has shape \(2, 2\) .* expected \(12, 60\)"),
    ],
)
def test_bad_settings_are_named(settings, message):
    query, gallery, _ = clusters(0)
    with pytest.raises(ValueError, match=message):
        k_reciprocal(query, gallery, **settings)


def test_bad_features_are_named():
    query, gallery, _ = clusters(0)
    with pytest.raises(ValueError, match="Query features have 8 dimensions but gallery features 16"):
        k_reciprocal(query[:, :8], gallery)
    with pytest.raises(ValueError, match="gallery features are empty"):
        k_reciprocal(query, gallery[:0])
    with pytest.raises(ValueError, match="dtype float64; convert"):
        k_reciprocal(query.astype(np.float64), gallery)
    metric = XQDA().fit(np.random.default_rng(0).normal(size=(40, 8)), np.arange(40) // 4, np.arange(40) % 4)
    with pytest.raises(ValueError, match="metric was fitted on 8 dimensions but the features have 16"):
        k_reciprocal(query, gallery, metric=metric)
    gallery[7, 2] = np.nan
    with pytest.raises(ValueError, match="Row 7 of the gallery features"):
        k_reciprocal(query, gallery)
