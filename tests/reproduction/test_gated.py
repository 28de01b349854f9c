import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from reid_core import training
from reid_core.datasets import table as image_table
from reid_core.training import Recipe, checkpoint
from reid_core.training.step import Step
from reproduction import gated
from reproduction.gated import Gated, GatedNetwork, Looks, MatchingGate, PairObjective, PairSampler


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small are faster on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))


def people(folder, n_people=6, images=4, seed=0, noise=10):
    """Each person a smooth colour field; images are moved sideways and noisy, camera 2 darker. An image table."""
    random = np.random.RandomState(seed)
    fields = gaussian_filter(random.rand(n_people, 128, 64, 3), (0, 8, 8, 0))
    fields = (fields - fields.min()) / np.ptp(fields) * 230
    folder.mkdir(exist_ok=True)
    rows = []
    for number in range(n_people * images):
        person, camera = number // images, 1 + number % 2
        image = np.roll(fields[person], random.randint(-6, 7), axis=1) * (1 if camera == 1 else 0.8)
        image += noise * random.randn(*image.shape)
        path = folder / f"{number}.png"
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path)
        rows.append(("market1501", "train", 3 * person + 1, camera, str(path)))
    return pd.DataFrame(rows, columns=list(image_table.COLUMNS))


@pytest.fixture
def table(tmp_path):
    return people(tmp_path / "people")


@pytest.fixture
def fit(tmp_path):
    """fit(table, folder="run", **settings): a small network trained on the table."""

    def fit(table, folder="run", **settings):
        settings = {"passes": 2, "people": 4, "width": 4, "device": "cpu"} | settings
        return Gated(**settings).fit(table, tmp_path / folder, data_root=tmp_path)

    return fit


def random_network(width=4, seed=0):
    torch.manual_seed(seed)
    return GatedNetwork(width).eval()


def oracle_gate(gate, x1, x2):
    """The gate's equations place by place, in float64: maps (h, rows, c) of one pair to the two gated maps."""
    weight, bias = gate.summary.weight.detach().double().numpy(), gate.summary.bias.detach().double().numpy()
    slope, p = gate.activation.weight.item(), gate.spread.detach().double().numpy().ravel()
    h, rows, columns = x1.shape
    out = np.zeros((2, h, rows, columns))
    for r in range(rows):
        y = np.zeros((2, h))
        for image, x in enumerate((x1, x2)):
            for k in range(h):
                y[image, k] = bias[k]
                for i in range(h):
                    for c in range(columns):
                        y[image, k] += weight[k, i, 0, c] * x[i, r, c]
                y[image, k] *= 1 if y[image, k] > 0 else slope
        for image, x in enumerate((x1, x2)):
            for c in range(columns):
                boosted = [x[k, r, c] * (1 + np.exp(-((y[0, k] - y[1, k]) ** 2) / p[k] ** 2)) for k in range(h)]
                out[image, :, r, c] = np.array(boosted) / max(np.linalg.norm(boosted), 1e-12)
    return out


def test_gate_equals_its_equations():
    torch.manual_seed(0)
    gate = MatchingGate(5, 4)
    gate.spread.data = torch.rand(5, 1, 1) + 0.2
    x1, x2 = torch.randn(2, 1, 5, 3, 4)
    y1, y2 = gate.summarise(x1), gate.summarise(x2)
    expected = oracle_gate(gate, x1[0].double().numpy(), x2[0].double().numpy())
    for found, wanted in zip((gate.boost(x1, y1, y2), gate.boost(x2, y2, y1)), expected, strict=True):
        np.testing.assert_allclose(found[0].detach(), wanted, atol=1e-6)


def test_toy_gate_of_one_row_with_two_channels():
    """Summaries agree in channel 0 (gate 1) and are far apart in channel 1 (gate 0): (3, 8) -> (6, 8) / 10."""
    gate = MatchingGate(2, 1, spread=1.0)
    maps, own, other = (torch.tensor(v)[None, :, None, None] for v in ([3.0, 8.0], [0.0, 0.0], [0.0, 100.0]))
    assert gate.boost(maps, own, other).flatten().tolist() == pytest.approx([0.6, 0.8])


def test_like_images_are_boosted_alike_and_pairs_are_symmetric():
    network, pixels = random_network(), torch.rand(10, 3, 128, 64)
    with torch.inference_mode():
        first, second = network.look(pixels[:5]), network.look(pixels[5:])
        assert network.compare(first, first).max() < 1e-10
        forth, back = network.compare(first, second), network.compare(second, first)
    assert (forth > 0).all() and (forth <= 4).all()
    np.testing.assert_allclose(forth, back, rtol=1e-5)


def test_a_feature_depends_on_its_partner():
    gate, x = random_network().gate, torch.rand(3, 8, 8, 4)
    y = gate.summarise(x) * 10
    assert not torch.allclose(gate.boost(x[:1], y[:1], y[1:2]), gate.boost(x[:1], y[:1], y[2:]), atol=1e-4)


def test_a_batch_is_compared_pair_by_pair():
    """forward: all pairs of a first and a second view, as one pair at a time."""
    network, pixels = random_network(), torch.rand(6, 3, 128, 64)
    with torch.inference_mode():
        looks = [network.look(x[None]) for x in pixels]
        expected = [[network.compare(looks[i], looks[3 + j]).item() for j in range(3)] for i in range(3)]
        np.testing.assert_allclose(network(pixels), expected, rtol=1e-3, atol=1e-6)


def test_distance_equals_one_pair_at_a_time(table, fit):
    learner = fit(table)
    found = learner.distance(table[:3], table)
    seen = learner.look(table)
    with torch.inference_mode():
        one = [Looks(seen.maps[i : i + 1], seen.rows[i : i + 1]) for i in range(len(table))]
        expected = [[learner.network_.compare(one[q], g).item() for g in one] for q in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_contrastive_loss_by_hand():
    """One person at distance 0.5; two people at 0.5 (0.25 within the margin) and at 2 (not hard)."""
    squared, same = torch.tensor([0.25, 0.25, 4.0]), torch.tensor([True, False, False])
    assert gated.contrastive_loss(squared, same).item() == pytest.approx(0.25 + 0.25)
    assert gated.contrastive_loss(torch.tensor([0.0, 9.0]), torch.tensor([True, False])).item() == 0


def test_the_task_takes_first_and_second_views_of_one_person_as_its_pairs():
    squared = torch.tensor([[0.04, 9.0], [9.0, 0.16]])
    loss = PairObjective(4).losses(squared, torch.tensor([7, 8, 7, 8]))
    assert loss.tolist() == pytest.approx([0.1])


def test_training_lowers_the_loss_and_ranks_people(tmp_path, fit):
    table = people(tmp_path / "more", 8, 6)
    learner = fit(table, passes=16, people=8)
    losses = training.loss_curve(tmp_path / "run")["loss_contrastive"]
    assert losses.tail(6).mean() < 0.7 * losses.head(3).mean()
    query = table["camera_id"] == 1
    person = table["person_id"].to_numpy()
    distance = learner.distance(table[query], table[~query])
    assert np.mean(person[~query][distance.argmin(axis=1)] == person[query]) > 0.6


def test_same_seed_same_bits_whatever_the_global_generator(table, fit):
    found = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(3)
        found.append(fit(table, folder, random_state=seed).distance(table[:2], table))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_a_finished_run_is_found_again_and_a_changed_setting_trains_anew(table, fit, tmp_path, monkeypatch):
    first = fit(table)
    calls = []
    step = Step.__call__
    monkeypatch.setattr(Step, "__call__", lambda *a: calls.append(1) or step(*a))
    again = fit(table)
    assert not calls and again.seconds_ == first.seconds_ > 0
    np.testing.assert_array_equal(*(x.distance(table[:2], table[2:]) for x in (first, again)))
    fit(table, width=5)
    assert len(calls) == 6 and len(list(tmp_path.glob("run.aside-*"))) == 1
    Image.open(table["image_path"][0]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(table["image_path"][0])
    fit(table, width=5)
    assert len(calls) == 12


def test_an_interrupted_training_continues_to_the_same_bits(table, fit, tmp_path, monkeypatch):
    """Stopped at its eighth iteration, with a checkpoint every three, it goes on from the sixth."""
    recipe = Gated.recipe
    monkeypatch.setattr(Gated, "recipe", lambda *a: Recipe.from_dict(recipe(*a).to_dict() | {"checkpoint_every": 3}))
    whole = fit(table, "whole", passes=4)
    step, seen = Step.__call__, []

    def call(self, draw, iteration):
        seen.append(iteration)
        if len(seen) == 8:
            raise RuntimeError("killed")
        return step(self, draw, iteration)

    monkeypatch.setattr(Step, "__call__", call)
    with pytest.raises(RuntimeError, match="killed"):
        fit(table, "broken", passes=4)
    tensors, facts = checkpoint.latest(tmp_path / "broken" / "checkpoints", print)
    assert {name.split(".")[0] for name in tensors} >= {"mean", "square", "steps"} and facts["iteration"] == 6
    continued = fit(table, "broken", passes=4)
    assert seen[8:] == list(range(6, 12))
    for name, x in whole.network_.state_dict().items():
        assert torch.equal(x, continued.network_.state_dict()[name]), name


def test_the_run_folder_explains_itself(table, fit, tmp_path):
    fit(table)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["model"] == "gated" and run["form"] == "pairs" and run["settings"]["width"] == 4
    assert run["recipe"]["batch_size"] == 8 and run["num_classes"] == 6 and run["finished"]


def test_pairs_are_not_shared_out_over_processes(table, fit, monkeypatch):
    group = SimpleNamespace(processes=2, first=True, device=torch.device("cpu"))
    monkeypatch.setattr(training.loop.distributed, "group", lambda *_: training.loop.contextlib.nullcontext(group))
    with pytest.raises(ValueError, match="gated trains in one process"):
        fit(table)


def test_batches_hold_one_person_in_two_cameras():
    person, camera = np.arange(60) % 9, np.arange(60) % 4
    sampler = PairSampler(person, camera, Recipe(batch_size=10, seed=3))
    for iteration in range(50):
        draw = sampler.draw(iteration)
        first, second = draw.rows[:5], draw.rows[5:]
        assert (person[first] == person[second]).all() and (camera[first] != camera[second]).all()
        assert len(set(person[first])) == 5 and draw.mirror.shape == (10,) and not draw.shift.any()
    np.testing.assert_array_equal(sampler.draw(7).rows, PairSampler(person, camera, sampler.recipe).draw(7).rows)


def test_bad_input_is_named(table, fit):
    with pytest.raises(ValueError, match="one image"):
        fit(table.assign(person_id=range(1, len(table) + 1)))
    with pytest.raises(ValueError, match="seen by two cameras"):
        fit(table.assign(camera_id=1))
    with pytest.raises(ValueError, match="two or more people who were seen by two cameras"):
        fit(table.assign(camera_id=table["camera_id"].where(table["person_id"] == 1, 1)))
    with pytest.raises(ValueError, match="not been fitted"):
        Gated().distance(table, table)
    with pytest.raises(ValueError, match="people=1"):
        Gated(people=1)


def test_several_threads_give_the_same_gradient_every_time():
    """A gradient that adds up in the order of the threads made two runs of one seed part at their fourth iteration."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(0)
        network, pixels = GatedNetwork(8), torch.randn(24, 3, gated.HEIGHT, gated.WIDTH)
        found = []
        for _ in range(6):
            network.zero_grad()
            gated.contrastive_loss(network(pixels), torch.eye(12, dtype=torch.bool)).backward()
            found.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])
