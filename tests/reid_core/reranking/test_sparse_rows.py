import numpy as np
import pytest
import torch

from reid_core.reranking import reciprocal, sparse_rows
from reid_core.reranking.reciprocal import fixed_point
from reid_core.reranking.sparse_rows import SparseRows


def random_rows(seed, n=40, width=30, density=0.15):
    random = np.random.default_rng(seed)
    dense = random.random((n, width), dtype=np.float32) * (random.random((n, width)) < density)
    dense[3] = 0  # an empty row
    row, column = np.nonzero(dense)
    return dense, SparseRows.of(
        torch.from_numpy(row), torch.from_numpy(column), torch.from_numpy(dense[row, column]), dense.shape
    )


def dense_of(matrix):
    dense = np.zeros((len(matrix), matrix.width), np.float32)
    dense[matrix.entry_rows().numpy(), matrix.column.numpy()] = matrix.value.numpy()
    return dense


@pytest.fixture(params=["scipy", "torch"])
def body(request, monkeypatch):
    """Both bodies of products and sums; the torch one is what other devices run."""
    if request.param == "torch":
        monkeypatch.setattr(sparse_rows, "_on_cpu", lambda matrix: False)
        monkeypatch.setattr(sparse_rows, "ROWS_AT_ONCE", 7)


def test_product_and_sum_equal_the_dense_ones(body):
    (a, A), (b, B), (c, C) = random_rows(0), random_rows(1, n=30, width=50), random_rows(2)
    for result, expected in ((A @ B, a @ b), (A + C, a + c)):
        np.testing.assert_allclose(dense_of(result), expected, atol=1e-6)
        assert result.start.dtype == torch.int64 and result.column.dtype == torch.int32
        for row in range(len(result)):
            columns = result.column[result.start[row] : result.start[row + 1]]
            assert (columns.diff() > 0).all()


def test_product_with_nothing_in_many_rows(body):
    a, A = random_rows(7, width=40)
    kept = A.entry_rows() >= 20  # the first blocks of rows are empty
    a[:20] = 0
    np.testing.assert_allclose(dense_of(A.where(kept) @ A.where(kept)), a @ a, atol=1e-6)
    nothing = A.where(torch.zeros_like(kept))
    assert len((nothing @ A).column) == 0 and len(nothing @ A) == 40


def test_transpose_rows_sizes_where():
    a, A = random_rows(3)
    np.testing.assert_array_equal(dense_of(A.transpose()), a.T)
    np.testing.assert_array_equal(dense_of(A.rows(5, 12)), a[5:12])
    np.testing.assert_array_equal(A.sizes(), (a != 0).sum(1))
    np.testing.assert_array_equal(dense_of(A.where(A.value > 0.5)), np.where(a > 0.5, a, 0))


def test_at_looks_up_and_says_what_is_missing():
    (a, A), (b, B) = random_rows(4), random_rows(5)
    value, known = A.at(B)
    row, column = np.nonzero(b)
    np.testing.assert_array_equal(known, a[row, column] != 0)
    np.testing.assert_array_equal(value[known], a[row, column][known.numpy()])
    empty = A.where(torch.zeros_like(A.value, dtype=torch.bool))
    assert not empty.at(B)[1].any()


def test_gather_and_lists():
    a, A = random_rows(6)
    position, entry = A.gather(torch.tensor([4, 3, 4, 39]))
    for k, row in enumerate([4, 3, 4, 39]):
        np.testing.assert_array_equal(A.value[entry[position == k]], a[row][a[row] != 0])
    listed = SparseRows.of_lists(torch.tensor([[2, 0], [1, 2], [0, 1]]), torch.tensor([[1.0, 2], [3, 4], [5, 6]]))
    np.testing.assert_array_equal(dense_of(listed), [[2, 0, 1], [0, 3, 4], [5, 6, 0]])


def test_shared_mass_is_the_sum_of_minima(body):
    (a, A), (b, B) = random_rows(8), random_rows(9, n=25)
    A, inverted = fixed_point(A), fixed_point(B.transpose())
    expected = np.minimum(a[:, None], b).sum(2)
    np.testing.assert_allclose(A.shared_mass(inverted), expected, atol=1e-6)
    assert (A.rows(3, 4).shared_mass(inverted) == 0).all()


def test_sums_of_fixed_point_are_exact_in_any_order():
    random = np.random.default_rng(10)
    value = np.float32(random.random(1000) / 10.0 ** random.integers(0, 14, 1000))
    rows = SparseRows(torch.tensor([0, 1000]), torch.arange(1000, dtype=torch.int32), torch.from_numpy(value), 1000)
    cut = fixed_point(rows).value.numpy()
    assert (np.abs(cut - value) < 2.0**-40).all() and (cut <= value).all()
    assert len({cut[random.permutation(1000)].cumsum()[-1] for _ in range(20)}) == 1
    assert len({np.float64(value)[random.permutation(1000)].cumsum()[-1] for _ in range(20)}) > 1


def test_blocks_of_work_hold_every_row_once(monkeypatch):
    (_, A), (_, B) = random_rows(11), random_rows(12, n=25)
    inverted = B.transpose()
    for most in (1, 60, 400, 1 << 20):
        monkeypatch.setattr(reciprocal, "WORK_AT_ONCE", (most, most))
        blocks = list(reciprocal.blocks_of_work(A, inverted))
        assert [row for start, stop in blocks for row in range(start, stop)] == list(range(40))
        assert len(blocks) > 1 or most == 1 << 20
