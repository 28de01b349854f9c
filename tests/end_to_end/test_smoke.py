"""Profile smoke as a user runs it, and what its data must be hard enough for."""

import subprocess
import sys

import pandas as pd
import pytest

from reid_core import experiment, paper, profiles, scoring
from reid_core.provenance import REPOSITORY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke():
    """results/smoke of this checkout, made or brought up to date by the main job."""
    done = subprocess.run(
        [sys.executable, "-m", "reid_core.cli", "reproduce", "--profile", "smoke"],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return experiment.resolve(profiles.load("smoke")["results_root"])


def test_every_claim_but_those_of_the_sensitivity_notebook_has_a_verdict(smoke):
    claims = pd.read_csv(smoke / "claims.csv").set_index("claim")
    open_claims = set(claims.index[claims["verdict"] == "not measured"])
    assert open_claims <= {"conv1_does_not_help", "skipping_beats_adjacent"}


@pytest.mark.parametrize("name", paper.SETS)
def test_training_gains_ten_points_of_rank1_and_does_not_saturate(smoke, name):
    settings = profiles.load("smoke")
    images = experiment.load_set(settings["data_root"], name)
    matching = scoring.Matching(ap=settings["ap"])
    run_dir = experiment.run_folder(smoke, "hcn", name, settings["seeds"][0])
    plain = {"metrics": ["euclidean"], "reranked": [False]}
    before = scoring.score(
        scoring.extract_untrained(run_dir, images, settings["data_root"]), matching, **plain
    )
    trained = scoring.extract(run_dir, images, name, settings["data_root"], settings["results_root"])
    after = scoring.score(trained, matching, **plain)
    assert after["queries"].iloc[0] >= 100
    assert after["rank1"].iloc[0] >= before["rank1"].iloc[0] + 0.10
    assert after["rank1"].iloc[0] < 0.95
