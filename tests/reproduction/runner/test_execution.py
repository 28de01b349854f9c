"""Where a single notebook's results go, and that a step whose inputs came out the same is passed over."""

import json
import os
import shutil

import pytest
from test_staleness import places, write, write_data

from reproduction import report
from reproduction.runner import execution, notebooks, profiles, staleness, steps, workflow


@pytest.fixture
def ran(monkeypatch):
    """The notebooks that were run: (output, parameters); they write nothing."""
    calls = []

    def run(notebook, output, parameters, origin, left):
        calls.append((output, dict(parameters)))

    monkeypatch.setattr(execution.notebooks, "run", run)
    return calls


@pytest.fixture
def done(tmp_path, monkeypatch):
    """Finished results of a profile of the user's own, tiny with its places in `tmp_path`."""
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))
    write_data(tmp_path / "data")
    text = (profiles.FOLDER / "tiny.yaml").read_text()
    for key in ("data", "results"):
        text = text.replace(
            f"{key}_root: {'data/embedded' if key == 'data' else 'results'}/tiny", f"{key}_root: {tmp_path / key}"
        )
    (tmp_path / "mine.yaml").write_text(text)
    settings = profiles.load(tmp_path / "mine.yaml", recipes=False)
    for step in steps.of(settings):
        write(staleness.Now(settings), step)
    return tmp_path


def state(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_the_profiles_own_settings_run_in_its_folder(done, ran):
    execution.notebook("03", str(done / "mine.yaml"))
    execution.notebook("02", str(done / "mine.yaml"), ["model=baseline", "train_set=combined", "seed=7"])
    copies = done / "results" / "notebooks"
    assert [output for output, _ in ran] == [
        copies / "03_table2_cuhk03.ipynb", copies / "02_train-baseline-combined-seed7.ipynb",
    ]  # fmt: skip
    assert ran[1][1]["seed"] == 7 and ran[1][1]["model"] == "baseline"


def test_other_settings_run_in_a_folder_of_their_own_which_is_said(done, ran, capsys):
    before = state(done / "results")
    folder = execution.notebook("03", str(done / "mine.yaml"), ["k1=10"])
    assert folder == done / "results" / "single" / "03_table2_cuhk03-k1=10"
    ((output, parameters),) = ran
    assert output == folder / "notebooks" / "03_table2_cuhk03.ipynb"
    assert parameters["results_root"] == str(folder) and parameters["k1"] == 10
    assert f"Not the settings of profile tiny (k1=10): the results go to {folder}" in capsys.readouterr().out
    assert (folder / "runs" / "hcn-combined-seed0" / "run.json").is_file()
    assert (folder / "table1.csv").read_bytes() == (done / "results" / "table1.csv").read_bytes()
    assert {path: time for path, time in state(done / "results").items() if "single" not in path.parts} == before
    assert staleness.pending(profiles.load(done / "mine.yaml", recipes=False)) == {}
    moved = done.parent / f"{done.name}-moved"
    shutil.move(done, moved)
    assert (moved / "results" / "single" / folder.name / "runs" / "hcn-combined-seed0" / "run.json").is_file()


@pytest.mark.parametrize(
    ("name", "change", "label"),
    [
        ("09", "ap=step", '09_claims-ap=step-'),
        ("10", "sensitivity_schedule={iterations: 9}", "10_sensitivity-sensitivity_schedule=iterations9-"),
        ("02", "recipe={height: 32, backbone: resnet18}", "02_train-recipe="),
    ],
)  # fmt: skip
def test_odd_settings_have_a_short_folder_name_that_tells_them_apart(done, ran, name, change, label):
    first = execution.notebook(name, str(done / "mine.yaml"), [change])
    other = execution.notebook(
        name, str(done / "mine.yaml"), [change.replace("9", "8").replace("32", "48").replace("ap=step", "k1=9")]
    )
    assert first.name.startswith(label) and first != other and len(first.name) < 90


def test_a_training_with_another_recipe_leaves_the_profiles_run_alone(done, ran):
    folder = execution.notebook("02", str(done / "mine.yaml"), ["recipe={height: 32}", "model=hcn"])
    assert not (folder / "runs").exists() and ran[0][1]["results_root"] == str(folder)


def test_another_rendering_goes_beside_its_results(done, ran):
    folder = execution.notebook("01", str(done / "mine.yaml"), ["render_seed=1"])
    assert ran[0][1]["data_root"] == str(folder / "data")


def test_a_folder_that_was_named_is_taken_unless_other_settings_made_what_is_there(done, ran):
    new = execution.notebook("03", "tiny", ["k1=10", f"results_root={done / 'new'}"])
    assert new == done / "new"
    there = execution.notebook("03", "tiny", ["k1=10", *places(done)])
    assert there.parent == done / "results" / "single"
    sidecar = done / "results" / "table2.json"
    for path in (
        sidecar,
        done / "results" / "table2_seeds.json",
        done / "results" / "table2_people.json",
        done / "results" / "notebooks" / "03_table2_cuhk03.ipynb",
    ):
        path.write_text(path.read_text().replace('"k1": 20', '"k1": 10'))
    assert execution.notebook("03", "tiny", ["k1=10", *places(done)]) == done / "results", "explain's command"


def test_ones_own_notebook_runs_with_the_profiles_parameters(done, ran, tmp_path):
    own = tmp_path / "own.ipynb"
    shutil.copy(notebooks.find("07"), own)
    execution.notebook(str(own), str(done / "mine.yaml"))
    assert ran[0][0] == done / "results" / "notebooks" / "own.ipynb"


@pytest.mark.parametrize(
    "output", ["notebooks/03_table2_cuhk03.ipynb", "reid_core/a.ipynb", "link.ipynb", "README.md", "/tmp", "out"]
)
def test_an_executed_copy_over_a_source_is_refused(done, ran, monkeypatch, output):
    monkeypatch.chdir(notebooks.FOLDER.parent)
    if output == "link.ipynb":
        output = done / "link.ipynb"
        output.symlink_to(notebooks.find("03"))
    with pytest.raises(ValueError, match="--output"):
        execution.notebook("03", str(done / "mine.yaml"), output=output)
    assert not ran


def as_step(done, monkeypatch, name, why):
    plan = done / "plan.json"
    plan.write_text(json.dumps([{"name": name, "why": why}]))
    monkeypatch.setenv(workflow.PLAN, str(plan))


def test_a_step_that_waited_for_others_is_passed_over_when_nothing_differs(done, ran, monkeypatch, capsys):
    as_step(done, monkeypatch, "03_table2_cuhk03", "after 01_datasets")
    before = state(done / "results")
    execution.notebook("03", str(done / "mine.yaml"))
    assert not ran and "nothing that it reads has changed" in capsys.readouterr().out
    log = done / "results" / workflow.LOG
    assert {path: time for path, time in state(done / "results").items() if path != log} == before
    (done / "results" / "table1.csv").write_text("other rows")
    execution.notebook("03", str(done / "mine.yaml"))
    assert len(ran) == 1


def test_a_step_with_a_reason_runs_and_its_old_results_are_gone_first(done, ran, monkeypatch):
    as_step(done, monkeypatch, "03_table2_cuhk03", "k1 is 20, was 10")
    execution.notebook("03", str(done / "mine.yaml"))
    assert len(ran) == 1
    assert not any((done / "results" / name).exists() for name in ("table2.csv", "table2.json", "table2_seeds.csv"))
    assert (done / "results" / "table3.csv").exists() and os.path.exists(done / "results" / "runs")


@pytest.mark.parametrize("name, shown", [("03_table2_cuhk03", True), ("02_train-hcn-combined-seed0", False)])
def test_a_step_of_the_workflow_renews_the_report_and_a_page_that_fails_stops_nothing(
    done, ran, monkeypatch, capsys, name, shown
):
    pages = []

    def write(results, facts):
        pages.append((results, facts["data_source"], facts["seeds"]))
        raise ValueError("table1.csv is damaged")

    monkeypatch.setattr(report, "write", write)
    (done / "plan.json").write_text(json.dumps([{"name": name, "why": "asked for"}]))
    monkeypatch.setenv(workflow.PLAN, str(done / "plan.json"))
    given = ["model=hcn", "train_set=combined", "seed=0"] if name.startswith("02") else []
    execution.notebook(name.partition("-")[0], str(done / "mine.yaml"), given)
    assert len(ran) == 1 and pages == [(done / "results", "embedded", "0")] * shown
    assert ("was not renewed: table1.csv is damaged" in capsys.readouterr().out) == shown
