"""Whatever holds the numbers, they count as what they are, or an error names what is wrong with them."""

import tempfile
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from reid_core import features
from reid_core.baselines.kissme import KISSME
from reid_core.baselines.null_space import NullSpace
from reid_core.baselines.scsp import SCSP
from reid_core.compat import re_ranking
from reid_core.distance import squared_euclidean
from reid_core.evaluation import evaluate, ranked
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


def sides(x, compare):
    return compare(x[:10], x[10:])


def learned(learner):
    """Fitted on the same numbers that it compares, all of them at once."""

    def call(x):
        _, person, camera = data()
        with warnings.catch_warnings(record=True):  # XQDA's, of features too small to learn from
            return sides(x, learner().fit(x, person, camera).distance)

    return call


def scsp(x):
    """Which takes (n, layers, d)."""
    _, person, camera = data()
    return sides(x.reshape(60, 2, 4), SCSP(None, 3, 3, iterations=3).fit(x.reshape(60, 2, 4), person, camera).distance)


def saved(x):
    """Written and read again, each image beside each."""
    _, person, camera = data()
    columns = {"dataset": "toy", "subset": ["query"] * 10 + ["gallery"] * 50, "person_id": person, "camera_id": camera}
    table = pd.DataFrame(columns | {"image_path": [f"/data/{row}.jpg" for row in range(60)]})
    with tempfile.TemporaryDirectory() as folder:
        file = features.save(features.Features(x, table, {}), f"{folder}/f.safetensors", "/data")
        return sides(features.load(file, "/data").values, squared_euclidean)


def of_a_tool(x):
    """The same through another tool's file."""
    _, person, camera = data()
    held = {"feat": x, "pid": person, "cam": camera, "query_idx": np.arange(10), "gallery_idx": np.arange(10, 60)}
    with tempfile.TemporaryDirectory() as folder:
        if torch.is_tensor(x):
            torch.save(held, f"{folder}/f.pt")
        else:
            np.savez(f"{folder}/f.npz", **held)
        return sides(features.read(f"{folder}/f.{'pt' if torch.is_tensor(x) else 'npz'}").values, squared_euclidean)


FUNCTIONS = {
    "squared_euclidean": lambda x: sides(x, squared_euclidean),
    "k_reciprocal": lambda x: sides(x, k_reciprocal),
    "XQDA": learned(XQDA),
    "KISSME": learned(lambda: KISSME(6)),
    "NullSpace": learned(NullSpace),
    "SCSP": scsp,
    "features.save": saved,
    "features.read": of_a_tool,
}


def mapped(x):
    with tempfile.TemporaryFile() as file:
        array = np.memmap(file, x.dtype, "w+", shape=x.shape)
    array[:] = x
    return array


def tensor(x):
    return torch.from_numpy(np.array(x))


SMALL, BEYOND = "too small to square in float32", "(beyond|too large to square in) float32"
META = {"": "on device meta, which holds no values", "features.read": "cannot be read, at field feat"}
ROUNDED = "of which rounding to float32 takes up to"
INPUTS = {  # what becomes of features, by a function; errors by function, or of every function
    "float16": (lambda x: x.astype(np.float16), {}),
    "bfloat16": (lambda x: tensor(x).bfloat16(), {}),
    "float64": (lambda x: x.astype(float), {}),
    "a memory map": (mapped, {}),
    "a memory map of float64": (lambda x: mapped(x.astype(float)), {}),
    "a memory map by columns": (lambda x: mapped(x.T).T, {}),
    "every second of a tensor": (lambda x: tensor(np.repeat(x, 2, axis=1))[:, ::2], {}),
    "with a gradient": (lambda x: tensor(x).requires_grad_(), {"": "require a gradient", "features.read": ""}),
    "on device meta": (lambda x: tensor(x).to("meta"), META),
    "whole numbers": (lambda x: np.round(x).astype(int), {"": "have dtype int64"}),
    "NaN": (lambda x: np.where(np.arange(60)[:, None] == 3, np.float32(np.nan), x), {"": "Row 3 of the .* holds NaN"}),
    "a common offset": (lambda x: x + np.float32(3000), {"SCSP": None}),  # which compares directions
    "a common offset in float64": (lambda x: x.astype(float) + 1e6, {"": ROUNDED}),
    "tiny": (lambda x: x * np.float32(2.0**-90), {"": SMALL, "k_reciprocal": "", "SCSP": ""}),
    "huge": (lambda x: x * np.float32(2.0**90), {"": BEYOND, "SCSP": ""}),
    "tiny in float64": (lambda x: x.astype(float) * 2.0**-600, {"": ROUNDED}),
    "huge in float64": (lambda x: x.astype(float) * 2.0**600, {"": BEYOND}),
}
FLOAT32_ALONE = ("squared_euclidean", "k_reciprocal", "XQDA")  # and no other type; XQDA.fit takes all


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("kind", INPUTS)
def test_features_of_any_kind_give_the_right_value_or_a_named_error(name, kind):
    x = (np.round(data()[0] * 64) / 64).astype(np.float32)  # so that an offset is exact
    change, errors = INPUTS[kind]
    given, call = change(x), FUNCTIONS[name]
    error = errors.get(name, errors.get("", ""))
    if name in FLOAT32_ALONE and not str(given.dtype).endswith("float32") and "meta" not in kind:
        error = "convert them to float32 first|at this scale|have dtype int64"
    if error:
        with pytest.raises(ValueError, match=error):
            call(given)
    elif error == "":
        plain = given.float().numpy(force=True) if torch.is_tensor(given) else np.asarray(given)
        apart = "offset" in kind or "tiny" in kind or "huge" in kind  # which change nothing, or only the scale
        expected, found = call(x if apart else plain.astype(np.float32)), np.asarray(call(given))
        if name in ("squared_euclidean", "features.save") and kind == "tiny":
            expected = expected * 2.0**-180
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_copies_bit_by_bit_are_at_one_distance_and_at_none_to_each_other(name):
    x = data()[0]
    x[[8, 10, 11]] = x[7]  # of one person
    distance = np.asarray(FUNCTIONS[name](x))
    assert np.array_equal(distance[7], distance[8]) and np.array_equal(distance[:, 0], distance[:, 1])
    if name not in ("k_reciprocal", "SCSP"):  # with the part of neighbours; a similarity, whose zero says nothing
        assert distance[7, 0] == distance[8, 1] == 0 < distance[0, 0]


MATRICES = INPUTS | {
    "a common offset": (lambda x: x + np.float32(3000), {"re_ranking": None}),
    "a common offset in float64": (lambda x: x.astype(float) + 1e6, {"re_ranking": None}),
    "with a gradient": (lambda x: tensor(x).requires_grad_(), {"re_ranking": "require a gradient"}),
    "whole numbers": (lambda x: np.round(x).astype(int), {"": "dtype int64"}),
    "NaN": (lambda x: np.where(np.arange(len(x))[:, None] == 3, np.nan, x), {"": "NaN"}),
    **{name: (INPUTS[name][0], {}) for name in ("tiny", "huge", "tiny in float64", "huge in float64")},
}


@pytest.mark.parametrize("name", ["evaluate", "ranked", "re_ranking"])
@pytest.mark.parametrize("kind", MATRICES)
def test_distances_of_any_kind_give_the_right_value_or_a_named_error(name, kind):
    x, person, camera = data()
    query, gallery = (
        pd.DataFrame({"person_id": person[p], "camera_id": camera[p]}) for p in (range(10), range(10, 60))
    )
    pairs = (x[:10], x[10:]), (x[:10], x[:10]), (x[10:], x[10:])
    given = [np.round(64 * np.sqrt(squared_euclidean(*pair))) / np.float32(64) for pair in pairs]
    calls = {
        "evaluate": lambda first, *_: evaluate(first, query, gallery).per_query["ap"],
        "ranked": lambda first, *_: ranked(first[3], query.iloc[3], gallery, 60)["gallery_index"],
        "re_ranking": re_ranking,
    }
    change, errors = MATRICES[kind]
    changed, error = [change(part) for part in given], errors.get(name, errors.get("", ""))
    if error:
        with pytest.raises(ValueError, match=error):
            calls[name](*changed)
    elif error == "":
        short = "16" in kind
        plain = [part.float().numpy() if torch.is_tensor(part) else part for part in changed] if short else given
        np.testing.assert_allclose(calls[name](*changed), calls[name](*plain), atol=1e-6)
