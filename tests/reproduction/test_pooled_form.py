"""What the heads know of places: loops by hand, shuffles, and what each setting does to a trained network."""

import itertools

import numpy as np
import pytest
import torch
import toy_pictures

from reid_core import model, training
from reid_core.datasets import table as image_table
from reproduction import pooled_form

SPATIAL = ["maximum pooling", "a ReLU after merging", "a 3x3 after merging"]


@pytest.fixture(scope="module", autouse=True)
def thin_networks_on_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_backbone", model._backbone)  # so that it is put back
        toy_pictures.make_backbones_thin()
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of an HCN of two iterations, paths of the pictures)."""
    root, folder = (tmp_path_factory.mktemp(name) for name in ("pooled_root", "pooled_run"))
    images = toy_pictures.write(root)
    recipe = training.Recipe(
        backbone="resnet18", weights="random", batchnorm="live", height=64, width=32, batch_size=8, iterations=2,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_CORE_CACHE", str(tmp_path_factory.mktemp("pooled_cache")))
        training.train("hcn", images, folder, recipe=recipe, data_root=root, device="cpu", progress=False)
    return folder, list(images[image_table.PATH][:8])


@pytest.fixture(scope="module")
def shown(trained):
    return pooled_form.demonstrate(*trained)


def network_and_maps(**options):
    torch.manual_seed(1)
    network = model.HCN(5, "resnet18", **options).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():  # so that no bias is zero
            parameter.add_(0.1 * torch.randn_like(parameter))
        return network, network.stages(torch.randn(2, 3, 64, 32, dtype=torch.double))


@torch.no_grad()
def test_the_formula_is_the_sum_over_places_person_by_person():
    network, maps = network_and_maps()
    lower, upper = maps["r3"].numpy(), maps["r5"].numpy()
    weight, bias = (x.detach().numpy() for x in network.classifiers["c1"].parameters())
    lateral, shift = (x.detach().numpy() for x in network.laterals["c1"].parameters())
    height, width = lower.shape[2:]
    scale = height // upper.shape[2]
    expected = np.zeros((2, 5))
    for y, x in itertools.product(range(height), range(width)):
        place = lower[:, :, y, x] @ lateral[:, :, 0, 0].T + shift + upper[:, :, y // scale, x // scale]
        expected += (place @ weight.T + bias) / (height * width)
    np.testing.assert_allclose(pooled_form.formula(network, maps)["c1"], expected, rtol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize(
    "options", [{}, {"merging": "adjacent"}, {"merging": "none"}, {"conv1_level": True, "upsample": "bilinear"}]
)
def test_the_formula_gives_the_logits_of_the_merged_maps(options):
    network, maps = network_and_maps(**options, heads="plain")
    network.stages = lambda images: images
    logits, by_formula = network(maps), pooled_form.formula(network, maps)
    assert list(by_formula) == list(network.merges)
    for name, found in by_formula.items():
        np.testing.assert_allclose(found, logits[name], rtol=1e-12, atol=1e-14)


def test_as_trained_the_formula_holds_and_no_place_is_known(shown):
    rows = shown[shown["setting"].isin(["as trained", "bilinear upsampling"])]
    assert list(rows["head"]) == ["c1", "c2"] * 2 and (rows["form"] == "pooled").all()
    assert (rows[["formula_difference", "shuffle_difference"]] < 1e-14).all(axis=None)
    assert (rows["people_changed"] == 0).all()


@pytest.mark.parametrize("setting", SPATIAL)
def test_what_makes_the_maps_spatial(shown, setting):
    rows = shown[shown["setting"] == setting]
    assert list(rows["head"]) == ["c1", "c2"] and (rows["form"] == "plain").all()
    assert (rows[["formula_difference", "shuffle_difference"]] > 1e-4).all(axis=None)


def test_same_seed_same_numbers_another_seed_another_order(trained, shown):
    assert pooled_form.demonstrate(*trained).equals(shown)
    other = pooled_form.demonstrate(*trained, seed=1)
    assert (other["shuffle_difference"] != shown["shuffle_difference"])[shown["form"] == "plain"].any()


def test_the_logits_shown_are_those_of_the_trained_network(trained):
    network, _ = training.load_network(trained[0])
    pictures = torch.randn(2, 3, 64, 32, dtype=torch.double)
    with torch.inference_mode():
        logits = network.double()(pictures)
        found = pooled_form._changed(network, {}, 0)(network.stages(pictures))
    assert all(torch.equal(found[name], logits[name]) for name in ("r5", "c1", "c2"))


def test_a_shuffle_moves_whole_places_and_every_image_in_its_own_order():
    x = torch.arange(2 * 3 * 4 * 2, dtype=torch.double).view(2, 3, 4, 2)
    moved = pooled_form._shuffled(x, torch.Generator().manual_seed(0))
    assert moved.shape == x.shape and not torch.equal(moved, x)
    orders = [[x[i, 0].flatten().tolist().index(value) for value in moved[i, 0].flatten()] for i in range(2)]
    assert orders[0] != orders[1]
    for i, order in enumerate(orders):
        assert sorted(order) == list(range(8))
        assert torch.equal(moved[i].flatten(1), x[i].flatten(1)[:, order])


@torch.no_grad()
def test_r5s_head_knows_no_places_under_either_pooling_and_a_3x3_alone_knows_only_the_border():
    network, maps = network_and_maps()
    draw = torch.Generator().manual_seed(0)
    moved = {name: pooled_form._shuffled(x, draw) for name, x in maps.items()}
    largest = pooled_form._changed(network, {"pooling": "maximum"}, 0)
    np.testing.assert_allclose(largest(moved)["r5"], largest(maps)["r5"], rtol=1e-12)
    convolved = pooled_form._changed(network, {"merge_conv3x3": True}, 0)
    inner = {name: x.clone() for name, x in maps.items()}
    inside = inner["r3"][:, :, 1:-1, 1:-1]
    inner["r3"][:, :, 1:-1, 1:-1] = pooled_form._shuffled(inside, draw)
    assert not torch.equal(inner["r3"], maps["r3"])
    np.testing.assert_allclose(convolved(inner)["c1"], convolved(maps)["c1"], rtol=1e-12)
    assert (convolved(moved)["c1"] - convolved(maps)["c1"]).abs().max() > 1e-6
