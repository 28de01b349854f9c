"""The steady speed of an iteration: which forms are timed, and that it trains nothing of the caller's."""

from dataclasses import replace

import pytest
import torch

from reid_core.training import speed


def test_both_forms_of_the_heads_are_timed_beside_the_baseline(quick):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    found = speed.measure(
        replace(quick, weights="imagenet", batchnorm="frozen"), 6, seconds=0.05, device="cpu"
    )
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


def test_no_time_to_measure_is_refused(quick):
    with pytest.raises(ValueError, match="seconds to measure for must be above 0, not 0"):
        speed.measure(quick, 6, seconds=0)
