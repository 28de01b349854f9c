import numpy as np
import pandas as pd
import pytest

from reproduction import claims, paper, results_folder


def seeds_table(gaps: dict, seeds=(0,), noise=0.0):
    """Scores in which model m has rank-1 and mAP of 0.5 + gaps[m], the noise alternating over the seeds."""
    return pd.DataFrame([
        {"model": model, "method": np.nan, "set": name, "metric": metric, "reranked": reranked, "seed": seed,
         "rank1": 0.5 + gap + noise * (-1) ** seed * (model == "hcn"), "mAP": 0.5 + gap}
        for model, gap in gaps.items() for name in paper.SETS for metric in ("euclidean", "xqda")
        for reranked in (False, True) for seed in seeds
    ])  # fmt: skip


def write_scores(folder, gaps, **options):
    table = seeds_table(gaps, **options)
    for number in (2, 3):
        table.to_csv(folder / f"table{number}_seeds.csv", index=False)


def verdict(folder, key, source="embedded"):
    return claims.judge(folder, source).set_index("claim").loc[key, "verdict"]


def test_without_results_nothing_is_measured(tmp_path):
    table = claims.judge(tmp_path, "embedded")
    assert set(table["claim"]) == {claim.key for claim in paper.CLAIMS}
    assert (table["verdict"] == claims.NOT_MEASURED).all()
    assert table["ours"].str.startswith("needs ").all()


def test_claims_read_what_the_workflow_makes_before_them(tmp_path):
    """Every table that a verdict asks for, and no other, is one that notebook 09 needs or makes itself."""
    needed = {f"{stem}.csv" for stem in results_folder.NEEDED["09_claims"]}
    asked = {name for names in claims.judge(tmp_path, "embedded")["files"] for name in names.split()}
    (tmp_path / "table4.csv").write_text("train_set,method,ours_hours,iterations\n")
    later = claims.judge(tmp_path, "embedded").set_index("claim").loc["half_training_time", "files"].split()
    assert asked | set(later) == needed | {"cross_dataset.csv"}


def test_a_damaged_table_is_named_and_is_not_taken_for_an_absent_one(tmp_path):
    write_scores(tmp_path, {"baseline": 0.0, "hcn": 0.05, "combined": 0.1})
    path = tmp_path / "table3_seeds.csv"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"table3_seeds\.csv: not readable as CSV \(a row is cut short"):
        claims.judge(tmp_path, "embedded")


@pytest.mark.parametrize(("gap", "words"), [(0.05, "holds"), (-0.05, "does not hold"), (0.0, "does not hold")])
def test_hcn_against_baseline(tmp_path, gap, words):
    write_scores(tmp_path, {"baseline": 0.0, "hcn": gap, "combined": 0.0})
    for name in paper.SETS:
        assert verdict(tmp_path, f"hcn_beats_baseline_{name}").startswith(words)


def test_only_official_data_can_reproduce(tmp_path):
    write_scores(tmp_path, {"baseline": 0.0, "hcn": 0.05, "combined": 0.1})
    key = "hcn_beats_baseline_market1501"
    assert verdict(tmp_path, key, "official").startswith("reproduced")
    assert "reproduced" not in " ".join(claims.judge(tmp_path, "embedded")["verdict"])


def test_a_difference_within_the_spread_is_undecided(tmp_path):
    gaps = {"baseline": 0.0, "hcn": 0.005, "combined": 0.0}
    write_scores(tmp_path, gaps, seeds=(0, 1, 2), noise=0.03)
    assert verdict(tmp_path, "hcn_beats_baseline_market1501") == claims.UNDECIDED
    write_scores(tmp_path, gaps, seeds=(0, 1, 2), noise=0.0)
    assert verdict(tmp_path, "hcn_beats_baseline_market1501") == "holds"


@pytest.mark.parametrize(("short", "words"), [(0.01, "holds"), (0.06, "does not hold"), (-0.01, "does not hold")])
def test_slightly_lower_has_a_threshold(tmp_path, short, words):
    write_scores(tmp_path, {"baseline": 0.0, "hcn": 0.1, "combined": 0.1 - short})
    assert verdict(tmp_path, "combined_below_hcn_market1501").startswith(words)


@pytest.mark.parametrize(("gain", "words"), [(0.095, "holds"), (0.085, "does not hold")])
def test_the_gain_of_nine_points(tmp_path, gain, words):
    write_scores(tmp_path, {"baseline": 0.0, "hcn": 0.0, "combined": gain})
    assert verdict(tmp_path, "gain_rank1_cuhk03_detected").startswith(words)


def convergence(share, reached):
    return pd.DataFrame([
        {"set": name, "seed": 0, "share_lower": share, "baseline_iterations": 100,
         "hcn_iterations_to_baseline_final": reached} for name in paper.SETS
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("share", "reached", "lower", "sooner"),
    [(0.95, 80, "holds", "holds"), (0.5, 97, "does not hold", "does not hold"), (1, None, "holds", "does not hold")],
)
def test_loss_claims(tmp_path, share, reached, lower, sooner):
    convergence(share, reached).to_csv(tmp_path / "convergence.csv", index=False)
    assert verdict(tmp_path, "r5_loss_lower").startswith(lower)
    assert verdict(tmp_path, "converges_sooner").startswith(sooner)


def test_a_loss_claim_needs_every_set(tmp_path):
    convergence(1, 10).iloc[:2].to_csv(tmp_path / "convergence.csv", index=False)
    assert verdict(tmp_path, "r5_loss_lower") == claims.NOT_MEASURED


@pytest.mark.parametrize(("steady", "words"), [(0.4, "holds"), (0.6, "does not hold")])
def test_half_the_time_goes_by_the_steady_speed_and_says_what_the_iterations_imply(tmp_path, steady, words):
    table = {"method": ["Our", "Our", "Zhong [13]"], "train_set": [paper.COMBINED, "total", "total"],
             "form": ["pooled", None, None], "iterations": [90, 90, 200], "ours_hours": [1.4, 1.4, 3.0]}  # fmt: skip
    pd.DataFrame(table).to_csv(tmp_path / "table4.csv", index=False)
    assert verdict(tmp_path, "half_training_time") == claims.NOT_MEASURED
    forms = {"method": "Our", "form": ["pooled", "plain"], "share_of_baselines": [steady, 0.7]}
    pd.DataFrame(forms).to_csv(tmp_path / "table4_forms.csv", index=False)
    assert verdict(tmp_path, "half_training_time").startswith(words)
    ours = claims.judge(tmp_path, "embedded").set_index("claim").loc["half_training_time", "ours"]
    assert "(47%) by the runs' clocks" in ours and "70% (plain heads)" in ours and "imply 45%" in ours


def test_literature_must_be_measured_on_the_same_images(tmp_path):
    table = seeds_table({"combined": 0.1})
    table.to_csv(tmp_path / "table3_seeds.csv", index=False)
    assert verdict(tmp_path, "beats_literature_market1501") == claims.NOT_MEASURED
    methods = [{"model": "literature", "method": name, "set": paper.MARKET1501, "metric": "", "reranked": False,
                "seed": 0, "rank1": 0.4, "mAP": 0.3} for name in ("SCSP [3]", "DNS [20]", "Gated [21]")]  # fmt: skip
    pd.concat([table, pd.DataFrame(methods)]).to_csv(tmp_path / "table3_seeds.csv", index=False)
    assert verdict(tmp_path, "beats_literature_market1501").startswith("holds")


def test_models_across_sets(tmp_path):
    lines = [{"train_set": train, "test_set": name, "seed": 0, "rank1": 50, "mAP": value}
             for name in paper.SETS
             for train, value in ((name, 50), (paper.COMBINED, 48), ("untrained", 5))]  # fmt: skip
    pd.DataFrame(lines).to_csv(tmp_path / "cross_dataset.csv", index=False)
    assert verdict(tmp_path, "cross_dataset").startswith("holds")
    lines[1]["mAP"] = 40
    pd.DataFrame(lines).to_csv(tmp_path / "cross_dataset.csv", index=False)
    assert verdict(tmp_path, "cross_dataset").startswith("does not hold")


@pytest.mark.parametrize(
    ("combined", "words"), [((48, 49), "holds"), ((44, 52), "undecided"), ((40, 41), "does not hold")]
)
def test_models_across_sets_heed_the_spread_over_seeds(tmp_path, combined, words):
    lines = [{"train_set": train, "test_set": name, "seed": seed, "rank1": 50, "mAP": value}
             for name in paper.SETS for seed in (0, 1)
             for train, value in ((name, 50), (paper.COMBINED, combined[seed]))]  # fmt: skip
    pd.DataFrame(lines).to_csv(tmp_path / "cross_dataset.csv", index=False)
    assert verdict(tmp_path, "cross_dataset").startswith(words)


@pytest.mark.parametrize(("dns", "words"), [(0.3, "holds"), (0.52, "undecided"), (0.9, "does not hold")])
def test_the_literature_heeds_the_spread_over_seeds(tmp_path, dns, words):
    ours = [{"model": "combined", "method": None, "set": paper.MARKET1501, "metric": "euclidean", "reranked": True,
             "seed": seed, "rank1": value, "mAP": value} for seed, value in enumerate((0.5, 0.6))]  # fmt: skip
    theirs = [{"model": "literature", "method": name, "set": paper.MARKET1501, "metric": "", "reranked": False,
               "seed": 0, "rank1": value, "mAP": value}
              for name, value in (("SCSP [3]", 0.56), ("DNS [20]", dns), ("Gated [21]", 0.2))]  # fmt: skip
    if words == "holds":
        theirs[0] |= {"rank1": 0.3, "mAP": 0.3}
    pd.DataFrame(ours + theirs).to_csv(tmp_path / "table3_seeds.csv", index=False)
    assert verdict(tmp_path, "beats_literature_market1501").startswith(words)


def sensitivity_table(difference, spread, status="measured"):
    lines = [{"kind": "training", "variant": name, "set": paper.CUHK03_LABELED, "reranked": reranked, "status": status,
              "default_mAP": 40.0, "other_mAP": 40.0 + difference * (1 if reranked else -1), "mAP_spread": spread,
              "mAP_difference": difference * (1 if reranked else -1), "seeds": "0 1 2" if spread else "0"}
             for name in ("conv1", "adjacent") for reranked in (False, True)]  # fmt: skip
    return pd.DataFrame(lines)


@pytest.mark.parametrize("key", ["conv1_does_not_help", "skipping_beats_adjacent"])
@pytest.mark.parametrize(
    ("difference", "spread", "words"),
    [
        (-3.0, 1.0, "holds"),
        (3.0, 1.0, "does not hold"),
        (0.5, 1.0, claims.UNDECIDED),
        (-0.5, 1.0, claims.UNDECIDED),
        (-3.0, None, "holds (one seed: spread not known)"),
        (0.0, None, "holds (one seed: spread not known)"),
    ],
)
def test_claims_on_the_architecture_are_judged_re_ranked_and_against_the_seeds(
    tmp_path, key, difference, spread, words
):
    sensitivity_table(difference, spread).to_csv(tmp_path / "sensitivity.csv", index=False)
    assert verdict(tmp_path, key) == words
    ours = claims.judge(tmp_path, "embedded").set_index("claim").loc[key, "ours"]
    assert f"({difference:+.1f}; {'seeds alone: ±1.0' if spread else 'one seed'})" in ours


def test_a_variant_that_was_not_run_says_why(tmp_path):
    reason = "not run: CUHK03 not found"
    sensitivity_table(np.nan, None, reason).to_csv(tmp_path / "sensitivity.csv", index=False)
    line = claims.judge(tmp_path, "embedded").set_index("claim").loc["conv1_does_not_help"]
    assert (line["verdict"], line["ours"]) == (claims.NOT_MEASURED, reason)
