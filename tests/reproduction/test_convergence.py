import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from reproduction import convergence
from reproduction.convergence import smooth


def curve(values, seconds_each, seed=0):
    values = np.asarray(values, float)
    seconds = seconds_each * np.arange(1, len(values) + 1)
    return pd.DataFrame(
        {"iteration": np.arange(1, len(values) + 1), "loss_r5": values, "seconds": seconds, "seed": seed}
    )


def test_hand_worked_curves():
    losses = {"market1501": {"baseline": [curve([4, 3, 2, 1], 1.0)], "hcn": [curve([4, 2, 1, 0.5], 2.0)]}}
    line = convergence.measure(losses, 1).iloc[0]
    assert line["share_lower"] == 3 / 4
    assert line["baseline_final"] == 1 and line["hcn_final"] == 0.5
    assert line["hcn_iterations_to_baseline_final"] == 3
    assert line["hcn_seconds_to_baseline_final"] == 6
    assert line["baseline_seconds"] == 4


def test_a_loss_never_reached_is_missing_not_zero():
    losses = {"market1501": {"baseline": [curve([4, 1], 1.0)], "hcn": [curve([4, 2], 1.0)]}}
    assert pd.isna(convergence.measure(losses, 1)["hcn_iterations_to_baseline_final"].iloc[0])


def test_seeds_are_paired_one_line_each():
    losses = {"market1501": {m: [curve([2, 1], 1.0, s) for s in (0, 1)] for m in ("baseline", "hcn")}}
    assert convergence.measure(losses, 1)["seed"].tolist() == [0, 1]


def test_a_seed_that_only_one_model_has_is_left_out():
    losses = {"market1501": {"baseline": [curve([2, 1], 1.0, s) for s in (0, 1)], "hcn": [curve([3, 0], 1.0, 1)]}}
    found = convergence.measure(losses, 1)
    assert found["seed"].tolist() == [1] and found["hcn_final"].tolist() == [0]


def test_iterations_to_given_losses():
    losses = {"market1501": {"baseline": [curve([4, 3, 2, 1.5], 1.0)], "hcn": [curve([4, 2, 1, 0.5], 1.0)]}}
    found = convergence.levels(losses, 1, (0.75, 0.5, 0.25))
    assert found["loss"].tolist() == [3, 2, 1]
    assert found["baseline_iterations"].fillna(0).tolist() == [2, 3, 0]
    assert found["hcn_iterations"].tolist() == [2, 2, 3]
    assert found["saved"].iloc[:2].tolist() == [0, pytest.approx(1 / 3)] and pd.isna(found["saved"].iloc[2])


def test_time_to_the_baselines_loss_in_either_form():
    reached = convergence.measure(
        {
            "market1501": {"baseline": [curve([4, 3, 2, 1], 1.0)], "hcn": [curve([4, 2, 1, 0.5], 2.0)]},
            "cuhk03_labeled": {"baseline": [curve([4, 1], 1.0)], "hcn": [curve([4, 2], 1.0)]},
        },
        1,
    )
    forms = pd.DataFrame(
        {"model": ["baseline", "hcn", "hcn"], "form": ["pooled", "pooled", "plain"], "over_baseline": [1, 1.0, 1.4]}
    )
    times = convergence.in_time(reached, forms)
    assert times.loc["market1501"].tolist() == pytest.approx([0.75, 1.5, 0.75, 1.05])
    assert times.loc["cuhk03_labeled"].isna().all()
    words = convergence.who_wins(times)
    assert "75% (pooled form, HCN wins), 105% (plain form, HCN loses)" in words
    assert "CUHK03 labeled: HCN does not reach" in words


def test_smoothing_is_a_centred_mean_and_keeps_constants():
    values = np.array([1.0, 2.0, 6.0, 3.0])
    oracle = [np.mean(values[max(0, i - 1) : i + 2]) for i in range(4)]
    assert np.allclose(smooth(values, 3), oracle)
    assert np.allclose(smooth(np.full(7, 2.5), 5), 2.5)
    assert np.array_equal(smooth(values, 1), values)


@pytest.mark.parametrize("window", [1, 2, 5, 6, 500])
def test_smoothing_agrees_with_the_sum_over_each_window(window):
    values = np.random.default_rng(0).normal(size=40)
    width = min(window, 40)
    parts = [values[max(0, i - width // 2) : i + (width + 1) // 2] for i in range(40)]
    assert np.allclose(smooth(pd.Series(values, index=range(7, 47)), window), [part.mean() for part in parts])


def test_smoothing_over_nothing_is_refused():
    with pytest.raises(ValueError, match="smoothing is 0; a moving average takes at least 1"):
        smooth([1.0, 2.0], 0)


def test_the_first_tenth_of_the_iterations_does_not_count():
    """Of 40 iterations 4 are left out, of 39 three; the longer curve's further ones are not compared."""
    theirs = np.full(40, 2.0)
    ours = np.where(np.arange(50) < 4, 3.0, 1.0)
    losses = {"market1501": {"baseline": [curve(theirs, 1.0)], "hcn": [curve(ours, 1.0)]}}
    assert convergence.measure(losses, 1)["share_lower"].tolist() == [1]
    losses["market1501"]["baseline"] = [curve(theirs[:39], 1.0)]
    assert convergence.measure(losses, 1)["share_lower"].tolist() == [pytest.approx(35 / 36)]
    ours[4:6] = 2.0  # as low is not lower
    losses["market1501"] = {"baseline": [curve(theirs, 1.0)], "hcn": [curve(ours, 1.0)]}
    assert convergence.measure(losses, 1)["share_lower"].tolist() == [pytest.approx(34 / 36)]


def test_the_numbers_to_figure_3_need_no_drawing():
    code = "import sys, reproduction.convergence; print({'seaborn', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
