import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.signal import lfilter

from reproduction import convergence
from reproduction.convergence import smooth

CLASSES = 60
GUESSING = np.log(CLASSES)


def curve(values, seconds_each=1.0, seed=0):
    values = np.asarray(values, float)
    steps = np.arange(1, len(values) + 1)
    return pd.DataFrame(
        {"iteration": steps, "loss_r5": values, "seconds": seconds_each * steps, "seed": seed, "classes": CLASSES}
    )


def test_hand_worked_curves():
    losses = {"market1501": {"baseline": [curve([4, 3, 2, 1], 1.0)], "hcn": [curve([4, 2, 1, 0.5], 2.0)]}}
    line = convergence.measure(losses, 1).iloc[0]
    assert line["baseline_final"] == 1 and line["hcn_final"] == 0.5
    assert line["baseline_log_loss"] == pytest.approx(np.log(24) / 4)
    assert line["hcn_log_loss"] == pytest.approx(np.log(4) / 4)
    assert (line["baseline_seconds"], line["hcn_seconds"]) == (4, 8)
    assert convergence.lower(convergence.measure(losses, 1)).value == pytest.approx(100 * (1 - 6**-0.25))


def test_iterations_to_given_shares_of_the_loss_of_guessing():
    baseline, hcn = curve(GUESSING * np.array([1, 0.7, 0.5, 0.3])), curve(GUESSING * np.array([1, 0.5, 0.2, 0.05]))
    found = convergence.levels({"market1501": {"baseline": [baseline], "hcn": [hcn]}}, 1)
    assert found["loss"].tolist() == pytest.approx([share * GUESSING for share in convergence.SHARES])
    assert found["baseline_iterations"].fillna(0).tolist() == [2, 3, 0, 0]
    assert found["hcn_iterations"].tolist() == [2, 2, 3, 4]
    assert found["saved"].iloc[:2].tolist() == [0, pytest.approx(1 / 3)]
    assert found["saved"].iloc[2:].isna().all(), "a loss never reached is missing, not zero"


def test_sooner_is_the_mean_over_the_losses_that_all_reach():
    pairs = [([1, 0.7, 0.5, 0.3], [1, 0.5, 0.2, 0.05]), ([0.9, 0.7, 0.6, 0.05], [0.7, 0.4, 0.2, 0.05])]
    losses = {"market1501": {
        model: [curve(GUESSING * np.array(pair[i]), seed=seed) for seed, pair in enumerate(pairs)]
        for i, model in enumerate(("baseline", "hcn"))
    }}  # fmt: skip
    saved = convergence.sooner(convergence.levels(losses, 1))
    baseline, hcn = [np.log([2, 3]).mean(), np.log([2, 4]).mean()], [np.log([2, 2]).mean(), np.log([1, 2]).mean()]
    assert saved.value == pytest.approx(100 * (1 - np.exp(np.mean(hcn) - np.mean(baseline))))
    ends = stats.ttest_ind(baseline, hcn, equal_var=False).confidence_interval()
    assert (saved.low, saved.high) == pytest.approx(tuple(100 * (1 - np.exp([-ends.low, -ends.high]))))
    assert (saved.seeds, saved.people) == (2, 0)
    far = {"market1501": {model: [curve([9, 9])] for model in ("baseline", "hcn")}}
    assert convergence.sooner(convergence.levels(far, 1)) is None


def test_the_comparison_for_reading_says_what_was_reached_and_what_it_costs_in_time():
    losses = {
        "market1501": {"baseline": [curve(GUESSING * np.array([1, 0.7, 0.7, 0.4]))],
                       "hcn": [curve(GUESSING * np.array([0.7, 0.4, 0.1, 0.1]))]},
        "cuhk03_labeled": {model: [curve([9, 8])] for model in ("baseline", "hcn")},
    }  # fmt: skip
    forms = pd.DataFrame(
        {"model": ["baseline", "hcn", "hcn"], "form": ["pooled", "pooled", "plain"], "over_baseline": [1, 1.0, 1.4]}
    )
    found = convergence.compared(convergence.measure(losses, 1), convergence.levels(losses, 1), forms).set_index("set")
    line = found.loc["market1501"]
    assert line["reached"] == "0.75 0.5" and line["saved"] == pytest.approx(50)
    assert line[["pooled", "plain"]].tolist() == pytest.approx([0.5, 0.7])
    assert pd.isna(line["saved_low"]) and pd.isna(line["lower_high"]), "one seed knows no interval"
    assert found.loc["cuhk03_labeled", ["saved", "pooled", "plain"]].isna().all()
    assert found.loc["cuhk03_labeled", "lower"] == pytest.approx(0)


def test_seeds_are_paired_one_line_each():
    losses = {"market1501": {m: [curve([2, 1], 1.0, s) for s in (0, 1)] for m in ("baseline", "hcn")}}
    assert convergence.measure(losses, 1)["seed"].tolist() == [0, 1]


def test_a_seed_that_only_one_model_has_counts_for_that_model():
    """The trainings of both are independent samples: none is paired with another."""
    share = GUESSING * np.array([0.7, 0.4, 0.05])
    baseline = [curve(share * factor, 1.0, seed) for seed, factor in enumerate((1.0, 1.1, 1.2))]
    losses = {"market1501": {"baseline": baseline, "hcn": [curve(share / 2, 1.0, seed) for seed in (1, 3)]}}
    found, reached = convergence.measure(losses, 1), convergence.levels(losses, 1)
    assert found["seed"].tolist() == [0, 1, 2, 3] and found["hcn_final"].notna().tolist() == [False, True, False, True]
    assert found["runs"].iloc[0] == "baseline-market1501-seed0" and "hcn-market1501-seed1" in found["runs"].iloc[1]
    factor = np.exp(np.log([1.0, 1.1, 1.2]).mean())
    assert convergence.lower(found).value == pytest.approx(100 * (1 - 0.5 / factor))
    saved = convergence.sooner(reached)
    counts = np.log([[1, 2, 3, 3], [2, 2, 3, 3], [2, 2, 3, 3]]).mean(), np.log([1, 1, 2, 3]).mean()
    assert saved.value == pytest.approx(100 * (1 - np.exp(counts[1] - counts[0]))) and saved.seeds == 2
    assert convergence.measure({"market1501": {"baseline": baseline}} | losses, 1)["set"].nunique() == 1


def test_a_training_that_reaches_no_loss_is_not_taken_for_one_that_is_not_there():
    high = GUESSING * np.array([1.2, 1.1])
    losses = {"market1501": {"baseline": [curve(high, seed=0), curve(high / 3, seed=1)],
                             "hcn": [curve(high / 3, seed=seed) for seed in (0, 1)]}}  # fmt: skip
    assert convergence.sooner(convergence.levels(losses, 1)) is None


def test_a_loss_of_zero_counts_as_the_least_that_float32_tells():
    losses = {"market1501": {"baseline": [curve([1, 1])], "hcn": [curve([1, 0])]}}
    line = convergence.measure(losses, 1).iloc[0]
    assert line["hcn_log_loss"] == pytest.approx(np.log(2.0**-23) / 2) and line["hcn_final"] == 0


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
    """Of 40 iterations 4 are left out, of 39 three; of the longer curve what the shorter one has is compared."""
    values = np.where(np.arange(40) < 4, 3.0, 1.0)
    losses = {"market1501": {"baseline": [curve(values)], "hcn": [curve(values[:39])]}}
    line = convergence.measure(losses, 1).iloc[0]
    assert line["baseline_log_loss"] == line["hcn_log_loss"] == pytest.approx(np.log(3) / 36)
    losses["market1501"]["hcn"] = [curve(np.append(values, np.full(400, 0.01)))]
    line = convergence.measure(losses, 1).iloc[0]
    assert line["baseline_log_loss"] == line["hcn_log_loss"] == 0, "a longer training is no lower for it"


RATES = {
    "constant": np.ones_like,
    "cosine": lambda part: 0.5 * (1 + np.cos(np.pi * part)),
    "step": lambda part: np.select([part < 0.4, part < 0.8], [1, 0.1], 0.01),
}


def simulated(rng, schedule, speed=1.0, steps=240):
    """A training: the loss decays by the rates so far, towards a floor that a higher rate raises; batches add noise."""
    rates = RATES[schedule](np.arange(steps) / steps)
    progress = 6 * np.cumsum(rates) / steps * speed * np.exp(rng.normal(0, 0.08))
    level = 1.2 * GUESSING * np.exp(-progress) + 0.3 + 0.5 * rates * np.exp(rng.normal(0, 0.05))
    return level * np.exp(0.3 * lfilter([1], [1, -0.5], rng.normal(0, 0.25, steps)))


@pytest.fixture(scope="module", params=RATES)
def decided(request):
    """{speed: share of simulated comparisons, three seeds a side, that are called sooner, lower}."""
    rng, times, shares = np.random.default_rng(2), 250, {}
    for speed in (1.0, 1.5):
        found = []
        for _ in range(times):
            losses = {"market1501": {
                model: [curve(simulated(rng, request.param, fast), seed=seed) for seed in range(3)]
                for model, fast in (("baseline", 1.0), ("hcn", speed))
            }}  # fmt: skip
            sooner = convergence.sooner(convergence.levels(losses, 15))
            lower = convergence.lower(convergence.measure(losses, 15))
            found.append([one.above() is not None for one in (sooner, lower)])
        shares[speed] = np.mean(found, axis=0)
    return shares


def test_two_curves_of_one_law_are_told_apart_in_one_case_of_twenty(decided):
    assert (decided[1.0] <= 0.05 + 2 * (0.05 * 0.95 / 250) ** 0.5).all(), decided


def test_half_as_fast_again_is_found(decided):
    assert (decided[1.5] >= 0.8).all(), decided


def test_the_numbers_to_figure_3_need_no_drawing():
    code = "import sys, reproduction.convergence; print({'seaborn', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
