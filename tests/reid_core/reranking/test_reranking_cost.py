import numpy as np
import pytest
import torch

from reid_core import reranking
from reid_core.reranking import cost
from reid_core.reranking.cost import estimate


def test_memory_is_linear_in_the_images():
    one, two, four = (estimate(3368, n, 2048, holds_result=False).memory for n in (10**5, 2 * 10**5, 4 * 10**5))
    assert four - two == pytest.approx(2 * (two - one), rel=1e-2)
    assert estimate(3368, 519_732, 2048, holds_result=False).memory < 12 << 30


def test_the_result_counts_when_it_is_held():
    held, streamed = (estimate(3368, 519_732, 2048, holds_result=held) for held in (True, False))
    assert held.memory - streamed.memory == 4 * 3368 * 519_732
    assert streamed.flops > held.flops  # the streamed one computes those distances again


def test_the_cpu_uses_the_symmetry():
    assert estimate(100, 900, 16).pairs == 1000 * 1001 // 2
    assert estimate(100, 900, 16, device="cuda").pairs == 1000**2


@pytest.mark.parametrize(("projected", "values"), [(None, 2048), (300, 600)])
def test_a_gpu_holds_the_factors_of_its_filter_too(projected, values):
    cpu, cuda = (estimate(100, 900, 2048, projected=projected, device=device) for device in ("cpu", "cuda"))
    assert cuda.memory - cost.WORKSPACE["cuda"] == cpu.memory - cost.WORKSPACE["cpu"] + 4 * 1000 * values


def test_seconds_are_positive_and_grow():
    small, large = estimate(10, 90, 64).seconds(), estimate(1000, 99_000, 2048).seconds()
    assert 0 < small < large


def test_what_does_not_fit_is_refused_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(reranking, "free_memory", lambda device: 1 << 20)
    monkeypatch.setattr(reranking, "nearest", lambda *a, **k: pytest.fail("computed nevertheless"))
    x = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    with pytest.raises(MemoryError, match=r"10 queries against 40 .* only 0.0 GiB are free; pass a memory map"):
        reranking.k_reciprocal(x[:10], x[10:])
    with pytest.raises(MemoryError, match=r"are free; use a machine"):
        reranking.k_reciprocal_blocks(x[:10], x[10:])


def test_a_long_run_is_announced(monkeypatch, capsys):
    monkeypatch.setattr(reranking, "ANNOUNCED_FLOPS", 0)
    x = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    reranking.k_reciprocal(x[:10], x[10:])
    assert "10 queries against 40 gallery images: about 0.0 min and 0." in capsys.readouterr().err
    reranking.k_reciprocal(x[:10], x[10:], progress=False)
    assert capsys.readouterr().err == ""


def test_the_result_counts_where_it_lies(monkeypatch):
    """Arrays come back in the host's memory whatever device computes."""
    gpu, host = torch.device("cuda:0"), torch.device("cpu")
    settings = reranking.Settings(device="cuda:0")
    query, gallery = (np.broadcast_to(np.float32(1), (n, 8)) for n in (40_000, 400_000))  # a result of 60 GiB
    free = {gpu: 20 << 30, host: 100 << 30}
    monkeypatch.setattr(reranking, "free_memory", lambda device: free[device])
    settings.announce(query, gallery, kept_on=host)
    with pytest.raises(MemoryError, match="more memory on device cuda:0, .* pass a memory map"):
        settings.announce(query, gallery, kept_on=gpu)
    free[host] = 10 << 30
    settings.announce(query, gallery, kept_on=None)
    with pytest.raises(MemoryError, match="59.6 GiB more memory on device cpu, .* pass a memory map"):
        settings.announce(query, gallery, kept_on=host)


def test_a_device_has_its_number(monkeypatch):
    """Or "cuda" would never be the device that a tensor made there says."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    x = np.zeros((2, 2), np.float32)
    devices = {None: "cpu", "cpu:0": "cpu", "cuda": "cuda:2", "cuda:0": "cuda:0"}
    for asked, expected in devices.items():
        assert reranking.Settings(device=asked).device_for(x) == torch.device(expected)


@pytest.mark.parametrize("fits", [True, False])
def test_a_gpu_is_taken_where_the_work_fits(monkeypatch, fits):
    asked = []

    def k_reciprocal(query, gallery, **settings):
        asked.append(settings)
        if settings.get("device") == "cuda" and not fits:
            raise MemoryError

    monkeypatch.setattr(reranking, "k_reciprocal", k_reciprocal)
    reranking.k_reciprocal_where_it_fits(None, None, k1=5)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    reranking.k_reciprocal_where_it_fits(None, None, k1=5)
    assert asked == [{"k1": 5}, {"device": "cuda", "k1": 5}, {"k1": 5}][: 2 if fits else 3]
