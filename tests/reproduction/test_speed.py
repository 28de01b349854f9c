"""The steady speed of an iteration: which forms are timed, and that it trains nothing of the caller's."""

from dataclasses import replace

import pytest
import torch
from toy_training import one_thread, quick, thin_backbones, training_cache  # noqa: F401

from reproduction import speed


def test_both_forms_of_the_heads_are_timed_beside_the_baseline(quick):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found = speed.measure(replace(quick, weights="imagenet", batchnorm="frozen"), 6, seconds=0.05, device="cpu")
    assert torch.equal(torch.rand(3), expected), "the global generator is left alone"
    assert list(zip(found["model"], found["form"], strict=True)) == list(speed.CONTENDERS)
    assert (found["iterations"] >= speed.TURNS).all() and (found["precision"] == "fp32").all()
    assert (found["fastest_turn"] <= found["seconds_per_iteration"]).all()
    assert (found["seconds_per_iteration"] <= found["slowest_turn"]).all()
    assert found["over_baseline"].iloc[0] == 1
    ratio = found["seconds_per_iteration"] / found["seconds_per_iteration"].iloc[0]
    assert found["over_baseline"].tolist() == ratio.tolist()


def test_settings_without_a_pooled_form_are_timed_in_the_plain_one_alone(quick):
    found = speed.measure(replace(quick, merge_relu=True), 6, seconds=0.01, device="cpu")
    assert found.loc[found["model"] == "hcn", "form"].tolist() == ["plain"]


@pytest.mark.parametrize(
    ("kind", "capability", "precision", "expected"),
    [
        ("cpu", None, "fp32", "float32"),
        ("cpu", None, "bf16", "bf16"),
        ("cuda", (7, 5), "fp32", "float32"),
        ("cuda", (8, 0), "fp32", "tf32"),
        ("cuda", (9, 0), "fp16", "fp16"),
    ],
)
def test_float32_convolutions_are_tf32_on_gpus_that_have_it(monkeypatch, kind, capability, precision, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert speed.arithmetic(precision, torch.device(kind)) == expected


def test_the_peak_is_that_of_a_product_in_the_convolutions_arithmetic(monkeypatch):
    seen, original = [], torch.mm

    def mm(a, b):
        seen.append((a.dtype, torch.get_float32_matmul_precision()))
        return original(a, b)

    monkeypatch.setattr(torch, "mm", mm)
    cpu = torch.device("cpu")
    assert speed.matrix_rate("fp32", cpu, 64) > 0 and speed.matrix_rate("bf16", cpu, 64) > 0
    monkeypatch.setattr(speed, "arithmetic", lambda precision, device: "tf32")
    speed.matrix_rate("fp32", cpu, 64)
    assert seen[::4] == [(torch.float32, "highest"), (torch.bfloat16, "highest"), (torch.float32, "high")]
    assert torch.get_float32_matmul_precision() == "highest" and len(seen) == 12


def test_no_time_to_measure_is_refused(quick):
    with pytest.raises(ValueError, match="seconds to measure for must be above 0, not 0"):
        speed.measure(quick, 6, seconds=0)
    for seconds in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"above 0, not {seconds}, and finite"):
            speed.measure(quick, 6, seconds=seconds)
