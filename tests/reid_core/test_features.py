"""Features: what is computed, and when a feature file may be used again."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import toy_pictures

from reid_core import features, images, model, training
from reid_core.datasets import table as image_table
from reproduction import scoring
from reproduction.experiment import Experiment


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small gain nothing from threads, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def cache_and_thin_backbones(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_CORE_CACHE", str(tmp_path_factory.mktemp("features_cache")))
        patch.setattr(model, "_backbone", model._backbone)  # so that it is put back
        toy_pictures.make_backbones_thin()
        yield


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """(data root, table)"""
    root = tmp_path_factory.mktemp("features_root")
    return root, toy_pictures.write(root)


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """A finished run, by the root of its data."""
    root, table = toy
    recipe = training.Recipe(
        backbone="resnet18", weights="random", batchnorm="live", height=64, width=32, batch_size=8, iterations=2
    )
    folder = tmp_path_factory.mktemp("runs") / "hcn"
    return training.train("hcn", table, folder, recipe=recipe, data_root=root, device="cpu", progress=False)


def extract(source, toy, **options):
    root, table = toy
    return features.extract(
        source, options.pop("table", table), data_root=root, device="cpu", progress=False, **options
    )


def test_features_are_the_normalised_pooled_r5_one_row_an_image(run, toy):
    root, table = toy
    found = extract(run, toy, batch_size=7)
    network, _ = training.load_network(run)
    with torch.inference_mode():
        for i in (0, 6, 7, 23):
            array = images.decoded(table.iloc[[i]], 64, 32, data_root=root).pixels
            batch = images.normalise(torch.from_numpy(array))
            expected = network.stages(batch)["r5"].mean((2, 3))[0]
            np.testing.assert_allclose(found.values[i], expected / expected.norm(), atol=1e-5)
    assert found.values.shape == (24, 64) and found.values.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), 1, rtol=1e-5)
    pd.testing.assert_frame_equal(found.table, table)
    assert found.meta["model"] == "hcn" and found.meta["data_source"] == "official"


def test_folders_and_files_whose_names_are_not_utf8_have_features_and_files(tmp_path):
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller"))
    table = toy_pictures.write(root)
    odd = os.fsdecode(os.fsencode(table["image_path"][0]) + b"\xfc.png")
    os.rename(table["image_path"][0], odd)
    table.loc[0, "image_path"] = odd
    torch.manual_seed(0)
    network, file = model.HCN(6, "resnet18"), tmp_path / "f.safetensors"
    made = extract(network, (root, table), height=64, width=32, path=file)
    found = features.load(file, root)
    pd.testing.assert_frame_equal(found.table, table)
    np.testing.assert_array_equal(found.values, made.values)
    moved = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xe4rz"))  # the same file serves where the data has gone
    os.rename(root, moved)
    assert features.load(file, moved).table["image_path"][0].startswith(str(moved))


def test_the_batch_size_changes_nothing_but_rounding(run, toy):
    np.testing.assert_allclose(
        extract(run, toy, batch_size=1).values, extract(run, toy, batch_size=24).values, atol=1e-5
    )


@pytest.mark.parametrize(("output", "width"), [("r5", 64), ("c1", 64), ("c2", 32)])
def test_an_untrained_network_gives_features_of_each_output(toy, output, width):
    torch.manual_seed(0)
    network = model.HCN(6, "resnet18").train()
    found = extract(network, toy, height=64, width=32, output=output)
    assert found.values.shape == (24, width) and found.meta["model"] == "HCN"
    assert network.training  # left as it was


@pytest.mark.parametrize("output", ["r5+c1+c2", "c2+r5"])
def test_a_joined_feature_is_the_separate_ones_side_by_side(run, toy, output):
    joined = extract(run, toy, output=output)
    names = output.split("+")
    alone = {name: extract(run, toy, output=name) for name in names}
    beside = np.concatenate([alone[name].values for name in names], axis=1)
    np.testing.assert_allclose(joined.values, beside / np.sqrt(len(names)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(joined.values, axis=1), 1, rtol=1e-5)
    taken_apart = features.parts(joined)
    assert list(taken_apart) == names
    for name, part in taken_apart.items():
        np.testing.assert_allclose(part.values, alone[name].values, atol=1e-6)
        assert part.meta | {"seconds": 0} == alone[name].meta | {"seconds": 0}
    assert np.array_equal(extract(run, toy, output=output).values, joined.values)


def test_each_output_of_a_set_has_a_file_of_its_own(run, toy, tmp_path):
    root, table = toy
    for output, name in (("r5", "toy"), ("c1", "toy-c1"), ("r5+c1+c2", "toy-r5+c1+c2")):
        found = scoring.extract(Experiment("toy", root, tmp_path), run, table, "toy", output)
        kept = features.load(tmp_path / "features" / run.name / f"{name}.safetensors", root)
        assert kept.meta["output"] == output and np.array_equal(kept.values, found.values)
    assert len(list((tmp_path / "features" / run.name).iterdir())) == 3


def test_a_feature_file_holds_relative_paths_and_comes_back_equal(run, toy, tmp_path):
    path = tmp_path / "features.safetensors"
    written = extract(run, toy, path=path)
    assert str(toy[0]).encode() not in path.read_bytes()
    read = features.load(path, toy[0])
    assert np.array_equal(read.values, written.values) and read.meta == written.meta
    pd.testing.assert_frame_equal(read.table, written.table)
    moved = features.load(path, "/elsewhere")
    assert moved.table[image_table.PATH].iloc[0] == "/elsewhere/toy/0001_0.jpg"


FOUR = features.Features(np.float32([[0], [1], [2], [3]]), pd.DataFrame({"subset": list("aabb")}), {})


@pytest.mark.parametrize(
    "mask, expected",
    [
        (FOUR.table["subset"] == "b", [2, 3]),
        ((FOUR.table["subset"] == "b").iloc[::-1], [2, 3]),
        ((FOUR.table["subset"] == "b").iloc[[2, 0, 3, 1]].astype("boolean"), [2, 3]),
        ([True, False, False, True], [0, 3]),
        (np.array([True, False, True, False], object), [0, 2]),
        (torch.tensor([False, True, False, False]), [1]),
        (np.zeros(4, bool), []),
    ],
)
def test_a_subset_is_what_the_mask_says(mask, expected):
    some = FOUR.subset(mask)
    assert (
        some.values[:, 0].tolist() == expected == some.table.index[: len(expected)].map(expected.__getitem__).tolist()
    )
    assert some.table["subset"].tolist() == [list("aabb")[row] for row in expected]


@pytest.mark.parametrize(
    "mask, message",
    [
        (["True", "False", "True", "False"], "not 4 string values"),
        ([1.0, 0.0, 1.0, 0.0], "not 4 floating values"),
        (np.array([3, 0, 2, 1]), "not 4 integer values; for row numbers there is `take`"),
        (pd.Series([1, 0, 1, 0]), "not 4 integer values"),
        ([True, None, True, False], "not 4 mixed values"),
        (pd.Series([True, pd.NA, True, False], dtype="boolean"), "for each of the 4 rows"),
        ([True, False], "for each of the 4 rows, not 2 boolean values"),
        ([], "for each of the 4 rows, not 0"),
        (slice(0, 2), "for each of the 4 rows, not 1 mixed values; for row numbers there is `take`"),
        (np.ones((4, 1), bool), "for each of the 4 rows"),
        (pd.Series([True] * 4, index=[0, 1, 2, 9]), "another index than the table"),
        (pd.Series([True] * 4, index=[0, 1, 2, 2]), "another index than the table"),
    ],
)
def test_a_subset_of_no_mask_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        FOUR.subset(mask)


def test_rows_are_taken_by_their_numbers_in_that_order():
    some = FOUR.take(np.array([3, 0, 2, 0], "uint8"))
    assert some.values[:, 0].tolist() == [3, 0, 2, 0] and some.table["subset"].tolist() == list("baba")
    assert some.table.index.tolist() == [0, 1, 2, 3] and len(FOUR.take([])) == 0
    for part in (slice(1, 3), slice(None, None, -2), slice(2, 99)):
        assert FOUR.take(part).values[:, 0].tolist() == [0, 1, 2, 3][part]
        assert FOUR.take(part).table["subset"].tolist() == list("aabb")[part]
    message = "Row numbers are integers from 0 to 3; for a mask there is `subset`"
    for wrong in ([0, 4], [-1], [0.0], ["0"], [True], [[0]], 0):
        with pytest.raises(ValueError, match=message):
            FOUR.take(wrong)


@pytest.mark.parametrize("name", ["NA", "None", "007", "1e3", "a, b"])
def test_a_set_s_name_comes_back_as_the_text_it_is(run, toy, tmp_path, name):
    table = toy[1].assign(dataset=name)
    extract(run, (toy[0], table), path=tmp_path / "f.safetensors")
    assert set(features.load(tmp_path / "f.safetensors", toy[0]).table["dataset"]) == {name}


def test_subsets_keep_rows_together(run, toy):
    found = extract(run, toy)
    some = found.subset(found.table[image_table.PERSON] == 2)
    assert len(some) == 4 and set(some.table[image_table.PERSON]) == {2}
    np.testing.assert_array_equal(some.values, found.values[4:8])


@pytest.fixture
def count(monkeypatch):
    """How often images went through a network."""
    calls, original = [], features._values
    monkeypatch.setattr(features, "_values", lambda *a: (calls.append(1), original(*a))[1])
    return calls


def test_a_feature_file_is_used_again_only_for_the_same_weights_rows_and_settings(run, toy, tmp_path, count):
    path = tmp_path / "features.safetensors"
    extract(run, toy, path=path)
    extract(run, toy, path=path, batch_size=5)
    assert len(count) == 1
    extract(run, toy, path=path, output="c1")
    extract(run, toy, path=path, height=32)
    extract(run, toy, path=path, table=toy[1].iloc[:-1])
    torch.manual_seed(0)
    network = model.HCN(6, "resnet18")
    extract(network, toy, path=path, height=64, width=32)
    extract(network, toy, path=path, height=64, width=32)
    assert len(count) == 5
    with torch.no_grad():
        network.backbone.bn1.bias += 1
    extract(network, toy, path=path, height=64, width=32)
    assert len(count) == 6
    path.write_bytes(path.read_bytes()[:-100])
    extract(network, toy, path=path, height=64, width=32)
    assert len(count) == 7


def test_a_feature_file_that_serves_is_read_without_loading_the_network(run, toy, tmp_path, monkeypatch):
    path = tmp_path / "features.safetensors"
    first, load, loaded = extract(run, toy, path=path), features.run_folder.load_network, []
    monkeypatch.setattr(features.run_folder, "load_network", lambda folder: loaded.append(folder) or load(folder))
    again = extract(run, toy, path=path)
    assert not loaded and again.meta == first.meta
    extract(run, toy, path=path, output="c1")
    assert loaded == [run]


def test_a_small_set_is_decoded_once_for_all_networks_and_gives_what_a_large_one_gives(run, toy, tmp_path, monkeypatch):
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))
    decoded, decode, threads = [], images.decode, torch.get_num_threads()
    monkeypatch.setattr(images, "decode", lambda *given: decoded.append(1) or decode(*given))
    small = extract(run, toy, batch_size=5)
    torch.manual_seed(0)
    other = extract(model.HCN(6, "resnet18"), toy, height=64, width=32)
    assert len(decoded) == len(toy[1]) and torch.get_num_threads() == threads
    once = min(found.meta["seconds"] for found in (small, other))
    (record,) = (tmp_path / "cache" / "decoded").glob("*.json")
    assert once > json.loads(record.read_text())["seconds"] > 0  # what decoding took counts for both
    monkeypatch.setattr(features, "KEPT_PIXELS", 0)
    np.testing.assert_allclose(extract(run, toy, batch_size=5).values, small.values, atol=1e-6)
    assert len(decoded) == 2 * len(toy[1])


def test_without_a_cache_a_small_set_is_decoded_as_it_goes(run, toy, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "file"))
    values = extract(run, toy).values
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))
    np.testing.assert_allclose(extract(run, toy).values, values, atol=1e-6)


def test_a_network_that_fails_leaves_the_threads_of_torch_as_they_were(toy, monkeypatch):
    network = model.ResNet50Baseline(num_classes=2, backbone="resnet18")

    def fail(images, output):
        raise RuntimeError("no memory")

    monkeypatch.setattr(network, "features", fail)
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="no memory"):
            extract(network, toy, height=32, width=32)
        with ThreadPoolExecutor(1) as another:
            assert another.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_bad_input_is_named(run, toy, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run folder"):
        extract(tmp_path / "nowhere", toy)
    with pytest.raises(ValueError, match="give height and width"):
        extract(model.HCN(6, "resnet18"), toy)
    with pytest.raises(ValueError, match="outputs r5, c1, c2, not 'c3'"):
        extract(run, toy, output="c3")
    with pytest.raises(ValueError, match=r"outputs r5, c1, c2, not ''"):
        extract(run, toy, output="r5+")
    with pytest.raises(ValueError, match=r"'c1\+c1' names one output twice"):
        extract(run, toy, output="c1+c1")
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        extract(run, toy, batch_size=0)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    table = toy[1].copy()
    table.loc[3, image_table.PATH] = str(broken)
    with pytest.raises(ValueError, match=r"broken\.jpg cannot be decoded"):
        extract(run, toy, table=table, path=tmp_path / "f.safetensors")
    assert not (tmp_path / "f.safetensors").exists()


def test_bad_feature_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no feature file .*none\.safetensors"):
        features.load(tmp_path / "none.safetensors", tmp_path)
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    with pytest.raises(ValueError, match=r"noise\.safetensors is no whole feature file"):
        features.load(tmp_path / "noise.safetensors", tmp_path)


def test_a_run_of_another_class_count_is_refused(run, toy, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("weights.safetensors", "run.json"):
        (copy / name).write_bytes((run / name).read_bytes())
    facts = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(facts | {"num_classes": 9}))
    with pytest.raises(ValueError, match=r"not the weights of the hcn of 9 classes"):
        extract(copy, toy)


def test_recipes_of_runs_are_rebuilt_exactly(run):
    network, facts = training.load_network(run)
    recipe = training.Recipe.from_dict(facts["recipe"])
    assert network.settings == model.Settings(**recipe.network_settings())
    assert replace(recipe, seed=1) != recipe


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    table = image_table.build("toy", "train", [1, 2], [1, 2], ["/data/a.jpg", "/data/b.jpg"])
    good = features.Features(np.eye(2, dtype=np.float32), table, {"seed": np.int64(3), "run": Path("x")})
    assert features.load(features.save(good, tmp_path / "f", "/data"), "/data").meta == {"seed": 3, "run": "x"}
    for bad, message in (
        (replace(good, values=good.values[:1]), "1 rows of features for 2 rows of the table"),
        (replace(good, table=table.drop(columns="image_path")), "lacks the column.s. image_path"),
    ):
        with pytest.raises(ValueError, match=message):
            features.save(bad, tmp_path / "g", "/data")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
