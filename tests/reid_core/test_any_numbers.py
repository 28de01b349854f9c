"""Whatever holds the numbers, they count as what they are, or an error names what is wrong with them."""

import numpy as np
import pandas as pd
import pytest
import torch

from reid_core.distance import squared_euclidean
from reid_core.evaluation import evaluate
from reid_core.reranking import k_reciprocal
from reid_core.xqda import XQDA


def data():
    random = np.random.default_rng(0)
    person, camera = np.repeat(np.arange(1, 11), 6), np.tile([1, 2, 3], 20)
    x = random.normal(size=(11, 8))[person] + 0.4 * random.normal(size=(60, 8))
    return x.astype(np.float32), person, camera


def comparisons():
    x, person, camera = data()
    learned = XQDA().fit(x, person, camera)
    again = {"euclidean": squared_euclidean, "xqda": learned.distance, "reranked": k_reciprocal}
    return again | {"reranked xqda": lambda query, gallery: k_reciprocal(query, gallery, metric=learned)}


every = pytest.mark.parametrize("name", list(comparisons()))
FORMS = {
    "by columns": np.asfortranarray,
    "every second": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[:, ::-1].copy()[:, ::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "tensor": torch.from_numpy,
    "tensor by columns": lambda x: torch.from_numpy(x).T.contiguous().T,
}


@every
@pytest.mark.parametrize("form", list(FORMS))
def test_the_layout_of_features_changes_nothing(name, form):
    x, compare = data()[0], comparisons()[name]
    expected = compare(x[:10], x[10:])
    found = np.asarray(compare(FORMS[form](x[:10]), FORMS[form](x[10:])))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@every
@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_other_types_of_features_are_refused_with_the_remedy(name, dtype):
    x = torch.from_numpy(data()[0]).to(getattr(torch, dtype))
    with pytest.raises(ValueError, match=f"query features have dtype .*{dtype}; convert them to float32"):
        comparisons()[name](x[:10], x[10:])


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_a_distance_of_any_type_and_layout_is_scored_by_its_values(dtype):
    x, person, camera = data()
    query, gallery = (
        pd.DataFrame({"person_id": person[p], "camera_id": camera[p]}) for p in np.split(np.arange(60), [10])
    )
    distance = torch.from_numpy(squared_euclidean(x[:10], x[10:])).to(getattr(torch, dtype))
    expected = evaluate(distance.double().numpy(), query, gallery).per_query
    assert 0 < expected["ap"].mean() < 1
    for form in (
        distance.T.contiguous().T,
        distance.clone().requires_grad_(),
        distance.repeat_interleave(2, 1)[:, ::2],
    ):
        pd.testing.assert_frame_equal(evaluate(form, query, gallery).per_query, expected)
