"""Profile smoke as a user runs it, and what its data must be hard enough for."""

import subprocess
import sys

import pandas as pd
import pytest

from reid_core.matching import Matching
from reproduction import claims, experiment, paper, scoring, sensitivity, tables
from reproduction.claims import effects
from reproduction.runner import profiles
from reproduction.sidecar import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke():
    """results/smoke of this checkout, made or brought up to date by the main job."""
    done = subprocess.run(
        [sys.executable, "-m", "reproduction.cli", "reproduce", "--profile", "smoke"],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return experiment.resolve(profiles.load("smoke")["results_root"])


def test_every_claim_has_a_verdict(smoke):
    verdicts = pd.read_csv(smoke / "claims.csv").set_index("claim")["verdict"]
    missing = set(verdicts.index[verdicts == claims.NOT_MEASURED])
    assert not missing


def test_every_choice_that_the_paper_leaves_open_is_measured_beside_the_spread_of_the_seeds(smoke):
    table = pd.read_csv(smoke / "sensitivity.csv")
    chosen = profiles.load("smoke")["sensitivity_variants"]
    training = table[table["kind"] == "training"]
    assert (training["status"] == tables.MEASURED).eq(training["variant"].isin(chosen)).all()
    assert set(sensitivity.VARIANTS) - set(chosen) == {"half_losses"}
    others = table[~table["kind"].isin(["training", "control"]) & ~table["status"].str.contains("no junk")]
    assert (others["status"] == tables.MEASURED).all()
    controls = table[table["kind"] == "control"]
    pairs = {(name, tested) for name, sets in profiles.load("smoke")["sensitivity_controls"].items() for tested in sets}
    assert set(zip(controls["variant"], controls["set"], strict=True)) == pairs
    assert (controls["status"].isin([tables.MEASURED, "not run: the profile's own recipe is like this"])).all()
    assert (table.loc[table["kind"] == "seed", "mAP_spread"] > 0).all()


def test_the_data_shows_the_effects_that_official_data_is_known_for(smoke):
    """In the run of record four are there and none is refuted; no method is at its end or at chance."""
    found = effects.effects(smoke)
    assert len(found) == 7
    assert not any(part.fails(0.95) for part in found), [str(part) for part in found]
    assert sum(part.holds for part in found) >= 3, [str(part) for part in found]
    for stem in ("table2", "table3"):
        scores = pd.read_csv(smoke / f"{stem}.csv").set_index("method")["ours_rank1"]
        assert scores.max() < 95 and scores[scores.index.str.contains("13|HCN|Ours")].min() > 20


@pytest.mark.parametrize("name", paper.SETS)
def test_training_gains_ten_points_of_rank1_and_does_not_saturate(smoke, name):
    settings = profiles.load("smoke")
    kit = experiment.Experiment.of(settings)
    images, how = kit.images(name), Matching(ap=settings["ap"])
    run_dir = kit.run("hcn", name, settings["seeds"][0]).folder
    plain = {"metrics": ["euclidean"], "reranked": [False]}
    before = scoring.score(scoring.extract_untrained(kit, run_dir, images), how, **plain)
    after = scoring.score(scoring.extract(kit, run_dir, images, name), how, **plain)
    assert after["queries"].iloc[0] >= 100
    assert after["rank1"].iloc[0] >= before["rank1"].iloc[0] + 0.10
    assert after["rank1"].iloc[0] < 0.95
