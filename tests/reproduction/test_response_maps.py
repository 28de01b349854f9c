"""Response maps: a hot cell by hand, loops over places, the mean that is the feature, and whole runs."""

import numpy as np
import pandas as pd
import pytest
import torch
import toy_pictures

from reid_core import features, model, training
from reid_core.datasets import table as image_table
from reid_core.matching import Matched, Matching, match
from reproduction import response_maps, scoring
from reproduction.experiment import MODELS, Experiment

NAMES = ("r5", "c1", "c2")


# The toy network is shown the people it has learnt from.
pytestmark = pytest.mark.filterwarnings("ignore:.*has learnt from")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small gain nothing from threads, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """(data root, table with a query, a match and two training images a person, results root with two runs)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_CORE_CACHE", str(tmp_path_factory.mktemp("response_cache")))
        patch.setattr(model, "_backbone", model._backbone)  # so that it is put back
        toy_pictures.make_backbones_thin()
        root, results = (tmp_path_factory.mktemp(name) for name in ("response_root", "response_results"))
        images = toy_pictures.write(root)
        recipe = training.Recipe(
            backbone="resnet18", weights="random", batchnorm="live", height=64, width=32, batch_size=8, iterations=2,
        )  # fmt: skip
        for name in ("hcn", "baseline"):
            folder = Experiment("toy", root, results).run(name, "market1501", 0).folder
            training.train(name, images, folder, recipe=recipe, data_root=root, device="cpu", progress=False)
        place = images.groupby(image_table.PERSON).cumcount()
        subset = place.map({0: image_table.QUERY, 1: image_table.GALLERY, 2: image_table.TRAIN, 3: image_table.TRAIN})
        yield root, images.assign(subset=subset).drop(columns=image_table.LABEL), results


def random_maps(n=3, channels=5, height=4, width=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, channels, height, width)).astype(np.float32)


def test_one_hot_cell_by_hand():
    maps = np.zeros((2, 3, 4, 2), np.float32)
    maps[0, :, 1, 0] = (2, 3, 6)  # length 7
    maps[1, 0, 2, 1] = 4
    response = response_maps.response(maps)
    assert response[0, 1, 0] == 7 and response[1, 2, 1] == 4 and response.sum() == 11
    similarity = response_maps.similarity(maps[0], maps)
    assert similarity[0, 1, 0] == pytest.approx(8), "all of the cosine, 1, comes from one place in eight"
    assert similarity[1, 2, 1] == pytest.approx(8 * 2 / 7)
    assert np.count_nonzero(similarity) == 2


def test_maps_equal_loops_over_places():
    maps, query = random_maps(), random_maps(1, seed=1)[0]
    n, channels, height, width = maps.shape
    response, similarity = np.zeros((2, n, height, width))
    q = np.array([query[c].mean() for c in range(channels)])
    q /= np.sqrt(sum(q**2))
    for i in range(n):
        mean = np.array([maps[i, c].mean() for c in range(channels)])
        for y in range(height):
            for x in range(width):
                response[i, y, x] = np.sqrt(sum(maps[i, c, y, x] ** 2 for c in range(channels)))
                similarity[i, y, x] = sum(q[c] * maps[i, c, y, x] for c in range(channels))
        similarity[i] /= np.sqrt(sum(mean**2))
    np.testing.assert_allclose(response_maps.response(maps), response, rtol=1e-5)
    np.testing.assert_allclose(response_maps.similarity(query, maps), similarity, rtol=1e-4, atol=1e-6)


def test_the_mean_similarity_is_the_cosine_of_the_pooled_features():
    maps, query = random_maps(), random_maps(1, seed=1)[0]
    pooled, direction = maps.mean((2, 3)), query.mean((1, 2))
    cosine = pooled @ direction / np.linalg.norm(pooled, axis=1) / np.linalg.norm(direction)
    np.testing.assert_allclose(response_maps.similarity(query, maps).mean((1, 2)), cosine, rtol=1e-4)


def test_a_map_of_nothing_resembles_nothing():
    assert not response_maps.similarity(random_maps()[0], np.zeros((1, 5, 4, 2), np.float32)).any()


def test_upsampling_keeps_a_constant_and_the_mean():
    maps = random_maps()[:, 0]
    large = response_maps.upsampled(maps, 16, 8)
    assert large.shape == (3, 16, 8)
    np.testing.assert_allclose(large.mean((1, 2)), maps.mean((1, 2)), rtol=1e-4, atol=1e-6)
    assert (response_maps.upsampled(np.full((1, 2, 1), 3.0), 128, 64) == 3).all()


def test_the_mean_of_a_merged_map_is_the_pooled_forms_vector(toy):
    root, table, results = toy
    run = Experiment("toy", root, results).run("hcn", "market1501", 0).folder
    network, _ = training.load_network(run)
    assert network.form(64, 32) == "pooled", "training never merged the maps"
    maps = response_maps.extract(run, list(table[image_table.PATH]), device="cpu")
    assert {name: x.shape for name, x in maps.items()} == {
        "r5": (24, 64, 2, 1), "c1": (24, 64, 8, 4), "c2": (24, 32, 16, 8),
    }  # fmt: skip
    joined = features.extract(run, table, data_root=root, output="r5+c1+c2", device="cpu", progress=False)
    for name, part in features.parts(joined).items():
        mean = maps[name].mean((2, 3))
        np.testing.assert_allclose(mean / np.linalg.norm(mean, axis=1, keepdims=True), part.values, atol=1e-5)


def test_same_run_same_bits(toy):
    root, table, results = toy
    run = Experiment("toy", root, results).run("hcn", "market1501", 0).folder
    paths = list(table[image_table.PATH][:3])
    first, second = (response_maps.extract(run, paths, device="cpu") for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in NAMES)


def test_companions_are_the_query_its_nearest_matches_and_the_nearest_other():
    query = pd.DataFrame({"person_id": [1], "camera_id": [1], "image_path": ["q"]})
    gallery = pd.DataFrame({
        "person_id": [2, 1, 1, -1, 1, 1, 3], "camera_id": [2, 1, 2, 2, 2, 3, 1], "image_path": list("abcdefg"),
    })  # fmt: skip
    matched = Matched(np.float32([[4, 0, 3, 1, 2, 5, 6]]), query, gallery, 0.0)
    found = response_maps.companions(matched, 0)
    assert list(found["image_path"]) == ["q", "e", "c", "a"], "neither junk nor the query's own camera"
    assert list(found["kind"]) == ["query", "match", "match", "other"]
    assert list(found["rank"]) == [0, 1, 2, 3]
    alone = response_maps.companions(Matched(np.ones((1, 1)), query, gallery.head(1), 0.0), 0)
    assert list(alone["kind"]) == ["query", "other"]


def test_an_example_has_a_map_of_each_output_for_each_picture(toy):
    root, table, results = toy
    run = Experiment("toy", root, results).run("hcn", "market1501", 0).folder
    found = scoring.extract(Experiment("toy", root, results), run, table, "market1501")
    matched = match(found, "euclidean", False, Matching())
    shown = response_maps.example("why", 1, matched, run)
    count = len(shown["pictures"])
    assert shown["title"] == "query 1: why" and count > 1
    for kind in ("response", "similarity"):
        assert {name: len(maps) for name, maps in shown[kind].items()} == dict.fromkeys(NAMES, count)
    rows = [list(found.table[image_table.PATH]).index(path) for path in shown["pictures"][image_table.PATH]]
    cosine = found.values[rows] @ found.values[rows[0]]
    np.testing.assert_allclose(shown["similarity"]["r5"].mean((1, 2)), cosine, atol=1e-5)


@pytest.mark.parametrize("name", ["hcn", "baseline"])
def test_one_pass_through_a_network_gives_its_feature_and_all_outputs_joined(toy, monkeypatch, name):
    root, table, results = toy
    kit, passes, own = Experiment("toy", root, results), [], features._values
    monkeypatch.setattr(features, "_values", lambda *given: passes.append(1) or own(*given))
    run = kit.run(name, "market1501", 0).folder
    r5, again = (scoring.extract(kit, run, table, "cuhk03_detected") for _ in range(2))
    heads = "r5+c1+c2" if name == "hcn" else "r5"
    joined = scoring.extract(kit, run, table, "cuhk03_detected", heads)
    assert len(passes) == 1 and np.array_equal(r5.values, again.values) and r5.meta == again.meta
    assert (joined.meta["output"], joined.values.shape[1]) == (heads, sum(joined.meta["widths"]))
    alone = features.extract(run, table, data_root=root, progress=False)
    np.testing.assert_allclose(r5.values, alone.values, atol=1e-6)
    assert r5.meta | {"seconds": 0} == alone.meta | {"seconds": 0}


def test_outputs_are_scored_alone_and_joined_as_features_of_their_own(toy, monkeypatch):
    root, table, results = toy
    kit = Experiment("toy", root, results)
    monkeypatch.setattr(Experiment, "runs", lambda kit, sets: runs)
    runs = [kit.run(name, "market1501", 0) for name in MODELS]  # none on the combined set
    how = Matching(k1=4, k2=2)
    found = scoring.score_outputs(kit, {"market1501": table}, how)
    assert len(found) == 2 * 2 * (1 + 4)
    assert found.groupby("model")["output"].unique().map(list).to_dict() == {
        "baseline": ["r5"], "hcn": ["r5", "c1", "c2", "r5+c1+c2"],
    }  # fmt: skip
    run = Experiment("toy", root, results).run("hcn", "market1501", 0).folder
    for output, width in (("c2", 32), ("r5+c1+c2", 160)):
        alone = features.extract(run, table, data_root=root, output=output, progress=False)
        expected = scoring.score(alone, how)
        lines = found[(found["model"] == "hcn") & (found["output"] == output)]
        np.testing.assert_allclose(lines["mAP"], 100 * expected["mAP"], atol=1e-3)
        np.testing.assert_allclose(lines["rank1"], 100 * expected["rank1"], atol=1e-3)
        assert set(lines["width"]) == {width}
