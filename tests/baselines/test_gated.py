import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from reid_core.baselines import gated
from reid_core.baselines.gated import Gated, GatedNetwork, MatchingGate, PairSampler


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small are faster on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def people(n_people=6, images=4, seed=0, noise=10):
    """Each person a smooth colour field; images are moved sideways and noisy, camera 2 darker."""
    random = np.random.RandomState(seed)
    fields = gaussian_filter(random.rand(n_people, 128, 64, 3), (0, 8, 8, 0))
    fields = (fields - fields.min()) / np.ptp(fields) * 230
    person = np.repeat(np.arange(n_people), images)
    camera = np.tile([1, 2], len(person) // 2)
    pixels = np.stack([np.roll(fields[p], random.randint(-6, 7), axis=1) * (1 if c == 1 else 0.8)
                       for p, c in zip(person, camera, strict=True)])  # fmt: skip
    return np.clip(pixels + noise * random.randn(*pixels.shape), 0, 255).astype(np.uint8), person, camera


def small(**settings):
    return Gated(**{"passes": 2, "people": 4, "width": 4, "device": "cpu"} | settings)


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
                boosted = [
                    x[k, r, c] * (1 + np.exp(-((y[0, k] - y[1, k]) ** 2) / p[k] ** 2)) for k in range(h)
                ]
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
    network, pixels = random_network(), torch.from_numpy(people()[0])
    with torch.inference_mode():
        first, second = network.look(pixels[:5]), network.look(pixels[5:10])
        assert network.compare(first, first).max() < 1e-10
        forth, back = network.compare(first, second), network.compare(second, first)
    assert (forth > 0).all() and (forth <= 4).all()
    np.testing.assert_allclose(forth, back, rtol=1e-5)


def test_a_feature_depends_on_its_partner():
    gate, x = random_network().gate, torch.rand(3, 12, 8, 4)
    y = gate.summarise(x) * 10
    assert not torch.allclose(gate.boost(x[:1], y[:1], y[1:2]), gate.boost(x[:1], y[:1], y[2:]), atol=1e-4)


def test_distance_equals_one_pair_at_a_time():
    pixels, person, camera = people()
    learner = small().fit(pixels, person, camera, progress=False)
    found = learner.distance(pixels[:3], pixels, progress=False)
    with torch.inference_mode():
        looks = [learner.network_.look(torch.from_numpy(p[None])) for p in pixels]
        expected = [
            [learner.network_.compare(looks[q], looks[g]).item() for g in range(len(pixels))]
            for q in range(3)
        ]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_contrastive_loss_by_hand():
    """One person at distance 0.5; two people at 0.5 (0.25 within the margin) and at 2 (not hard)."""
    squared, same = torch.tensor([0.25, 0.25, 4.0]), torch.tensor([True, False, False])
    assert gated.contrastive_loss(squared, same).item() == pytest.approx(0.25 + 0.25)
    assert gated.contrastive_loss(torch.tensor([0.0, 9.0]), torch.tensor([True, False])).item() == 0


def test_training_lowers_the_loss_and_ranks_people():
    pixels, person, camera = people(8, 6)
    learner = small(passes=12, people=8).fit(pixels, person, camera, progress=False)
    assert learner.losses_[-6:].mean() < 0.7 * learner.losses_[:3].mean()
    query = camera == 1
    distance = learner.distance(pixels[query], pixels[~query], progress=False)
    assert np.mean(person[~query][distance.argmin(axis=1)] == person[query]) > 0.6


def test_same_seed_same_bits_whatever_the_global_generator():
    pixels, person, camera = people()
    found = []
    for seed in (0, 0, 1):
        torch.rand(3)
        learner = small(random_state=seed).fit(pixels, person, camera, progress=False)
        found.append(learner.distance(pixels[:2], pixels, progress=False))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_batches_hold_one_person_in_two_cameras():
    person, camera = np.arange(60) % 9, np.arange(60) % 4
    sampler = PairSampler(person, camera, people=5, random_state=3)
    for _ in range(50):
        rows, mirrored = sampler.draw()
        first, second = rows[:5], rows[5:]
        assert (person[first] == person[second]).all() and (camera[first] != camera[second]).all()
        assert len(set(person[first])) == 5 and mirrored.shape == (10,)


def test_bad_input_is_named():
    pixels, person, camera = people()
    with pytest.raises(ValueError, match="one image"):
        small().fit(pixels, np.arange(len(pixels)), camera, progress=False)
    with pytest.raises(ValueError, match="seen by two cameras"):
        small().fit(pixels, person, np.ones(len(pixels), int), progress=False)
    with pytest.raises(ValueError, match="two or more people who were seen by two cameras"):
        small().fit(pixels, person, np.where(person == 0, camera, 1), progress=False)
    with pytest.raises(ValueError, match="24 person|n person"):
        small().fit(pixels[:5], person, camera, progress=False)
    with pytest.raises(ValueError, match="not been fitted"):
        small().distance(pixels, pixels)
    with pytest.raises(ValueError, match="people=1"):
        small(people=1)
