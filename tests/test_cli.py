"""The command line: plan, data, errors with exit status 1."""

import pytest

from reid_core import cli, plan, profiles, training


def test_errors_are_one_line_and_exit_status_1(capsys, tmp_path):
    assert cli.main(["plan", "--profile", "smok"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("reid-core: ") and "smoke" in error and "Traceback" not in error
    assert cli.main(["notebook", "99", "--profile", "tiny"]) == 1
    assert "01_datasets" in capsys.readouterr().err
    assert cli.main(["report", "--profile", "tiny", "-p", f"results_root={tmp_path}"]) == 1
    assert "claims.csv" in capsys.readouterr().err


def test_data_status_of_an_empty_folder_says_what_to_place_where(capsys, tmp_path):
    assert cli.main(["data", "status", "--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert str(tmp_path) in said and "cuhk03_release/cuhk-03.mat" in said and "reid-core data add" in said


def test_plan_of_the_paper_lists_runs_time_disk_and_what_is_missing(tmp_path):
    places = [f"data_root={tmp_path}", f"results_root={tmp_path / 'results'}"]
    said = plan.describe(profiles.load("paper", places))
    assert said.count("75000 iterations") == 5 and said.count("50000 iterations") == 2
    assert "not run: Market-1501 not found" in said
    assert "GiB free" in said and "about" in said
    assert not (tmp_path / "results").exists(), "a plan starts nothing"


def test_flops_of_a_step_by_hand():
    """A training step of ResNet-50 at 224 px is 3 x 2 x 4.09 G multiply-adds an image, less conv1's input gradient."""
    recipe = training.Recipe(weights="random", batchnorm="live", batch_size=2, iterations=1)
    forward = 2 * 4.09e9
    assert plan.step_flops("baseline", recipe) / 2 == pytest.approx(3 * forward, rel=0.02)
    extra = plan.step_flops("hcn", recipe) / plan.step_flops("baseline", recipe) - 1
    assert 0 < extra < 0.01, "pooled heads cost almost nothing"
