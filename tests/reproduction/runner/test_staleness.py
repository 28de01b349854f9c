"""Content decides what is up to date: on a results folder that was written as the steps would, without running them."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from reproduction import embedded
from reproduction.embedded import rendering
from reproduction.runner import notebooks, profiles, sources, staleness, steps, workflow
from reproduction.sidecar import REPOSITORY

LATER = ("03_table2_cuhk03", "04_table3_market1501", "08_figure5_rank_lists", "09_claims", "10_sensitivity",
         "11_inside_hcn", "explorer", "report")  # fmt: skip


def places(folder: Path):
    return [f"data_root={folder / 'data'}", f"results_root={folder / 'results'}"]


def pending(folder, *changes):
    return staleness.pending(profiles.load("tiny", [*places(folder), *changes], recipes=False))


def kinds(folder, *changes):
    return {step.kind for step in pending(folder, *changes)}


def write_data(root):
    order = rendering.ordered(embedded.Sizes.tiny(), 0)
    (root / "query").mkdir(parents=True)
    (root / "embedded.json").write_text(json.dumps(order))
    for name in ("0001_c1.jpg", "0002_c1.jpg"):
        (root / "query" / name).write_text(f"image {name}")


def write(now, step):
    """What a step leaves, with the origin that it has now."""
    made, origin = now.places.made(step), now.origin(step)
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{step.name} {path.name}")
    if step.notebook in steps.PAGES:
        made[-1].write_text(f"<html>\n{staleness.MARK}{json.dumps(origin)} -->\n")
        return
    sidecars = [path for path in made if path.suffix == ".json"] if step.notebook != steps.TRAIN else []
    for path in sidecars:
        digests = {other.name: staleness._digest(other) for other in made if other.stem == path.stem and other != path}
        digests.pop(f"{step.name}.ipynb", None)
        known = {key: value for key, value in origin.items() if key != "sources"}
        path.write_text(json.dumps({"files": digests, "notebook": known}))
    if step.notebook.startswith("03"):
        feature = now.places.results / "features" / "hcn-market1501-seed0" / "market1501.safetensors"
        feature.parent.mkdir(parents=True)
        feature.write_text("feature")
        origin |= {"left": {str(feature.relative_to(now.places.results)): None}}
    if step.notebook == steps.TRAIN:
        run = made[0]
        run.write_text(json.dumps({"finished": True, "weights_digest": staleness._digest(made[1])}))
        origin |= {"left": {str(run.relative_to(now.places.results)): staleness._digest(run)}}
    origin |= {"data": now.data}
    made[-1].write_text(json.dumps({"cells": [], "metadata": {notebooks.ORIGIN: origin}}))


@pytest.fixture
def done(tmp_path, monkeypatch):
    """A folder with data and the finished results of profile tiny."""
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))
    write_data(tmp_path / "data")
    settings = profiles.load("tiny", places(tmp_path), recipes=False)
    for step in steps.of(settings):
        write(staleness.Now(settings), step)
    assert pending(tmp_path) == {}
    return tmp_path


def test_nothing_is_there_at_first(tmp_path):
    found = pending(tmp_path)
    assert [step.notebook for step in found][:2] == ["01_datasets", "02_train"]
    assert list(found.values())[0] == "table1.csv is not there"
    assert {step.kind for step in found} == {"datasets", "train", *notebooks.names()[2:], "explorer", "report"}
    order = [step.name for step in found]
    assert all(order.index(before) < order.index(step.name) for step in found for before in step.after)


def test_moved_copied_and_touched_is_up_to_date(done, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "a folder, moved"
    shutil.copytree(done, moved)
    for path in moved.rglob("*"):
        os.utime(path, (1e9, 1e9))
    assert pending(moved) == {}
    assert kinds(moved, "k1=10") == set(LATER)
    shutil.rmtree(done / "cache", ignore_errors=True)
    assert pending(done) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("smoothing=7", {"06_figure3_loss_curves", "09_claims", "report"}),
        ("xqda_solver=eigh", set(LATER)),
        (
            "combined_boxes=detected",
            {"datasets", "train", *notebooks.names()[2:], "explorer", "report"} - {"07_figure4_ap_and_cmc"},
        ),
        (
            "render_seed=1",
            {"datasets", "train", *notebooks.names()[2:], "explorer", "report"} - {"07_figure4_ap_and_cmc"},
        ),
        ("form_seconds=9.0", {"05_table4_training_time", "06_figure3_loss_curves", "09_claims", "report"}),
    ],
)
def test_a_changed_setting_runs_what_depends_on_it(done, change, expected):
    found = pending(done, change)
    assert {step.kind for step in found} == expected
    key, _, value = change.partition("=")
    assert any(why.startswith(f"{key} is ") and value in why and ", was " in why for why in found.values())


def test_a_schedule_concerns_the_trainings_of_its_set(done):
    schedules = profiles.load("tiny", recipes=False)["schedules"] | {"combined": {"iterations": 21, "lr_step": 15}}
    found = pending(done, f"schedules={json.dumps(schedules)}")
    assert [step.name for step in found if step.kind == "train"] == ["02_train-hcn-combined-seed0"]


def test_every_file_that_is_deleted_comes_back(done):
    settings = profiles.load("tiny", places(done), recipes=False)
    now = staleness.Now(settings)
    owners = {path: step for step in steps.of(settings) for path in now.places.made(step)}
    everything = [path for path in (done / "results").rglob("*") if path.is_file()]
    assert len(everything) > 80 and set(owners) <= set(everything)
    reader = next(step for step in steps.of(settings) if step.notebook.startswith("03"))  # left the features
    for path in everything:
        kept = path.read_bytes()
        path.unlink()
        name = str(path.relative_to(done / "results"))
        assert staleness.Now(settings).difference(owners.get(path, reader)) == f"{name} is not there"
        path.write_bytes(kept)
    assert pending(done) == {}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("table2.csv", "table2.csv was changed since it was written"),
        ("figure3.png", "figure3.png was changed since it was written"),
        ("claims.json", "claims.json: it was made outside of reid-core"),
        ("runs/hcn-combined-seed0/run.json", "runs/hcn-combined-seed0/run.json is another one"),
        ("notebooks/05_table4_training_time.ipynb",
         "notebooks/05_table4_training_time.ipynb does not say what it was made from"),
        ("report.html", "report.html does not say what it was made from"),
    ],
)  # fmt: skip
def test_what_was_changed_afterwards_is_made_again(done, path, reason):
    (done / "results" / path).write_text("<html>" if path.endswith("html") else "{}")
    assert reason in pending(done).values()


@pytest.mark.parametrize("run", ["hcn-combined-seed0", "sensitivity/conv1-market1501-seed0"])
def test_weights_count_by_their_content_which_is_read_once(done, monkeypatch, run):
    folder = done / "results" / "runs" / run
    weights = folder / "weights.safetensors"
    if "/" in run:  # one that notebook 10 left
        folder.mkdir(parents=True)
        weights.write_text("weights")
        (folder / "run.json").write_text(json.dumps({"weights_digest": staleness._digest(weights)}))
        executed = done / "results" / "notebooks" / "10_sensitivity.ipynb"
        book = json.loads(executed.read_text())
        left = {f"runs/{run}/run.json": staleness._digest(folder / "run.json")}
        book["metadata"][notebooks.ORIGIN] |= {"left": left}
        executed.write_text(json.dumps(book))
    assert pending(done) == {}
    digest = staleness.cache.files.digest
    never = {weights: lambda path: pytest.fail("read again")}
    monkeypatch.setattr(staleness.cache.files, "digest", lambda path: never.get(Path(path), digest)(path))
    assert pending(done) == {}
    monkeypatch.undo()
    monkeypatch.setenv("REID_CORE_CACHE", str(done / "cache"))
    kept = weights.read_bytes()
    weights.write_bytes(kept[::-1])
    os.utime(weights, (1e9, 1e9))
    assert f"runs/{run}/weights.safetensors is not what the training wrote" in pending(done).values()
    weights.write_bytes(kept)
    assert pending(done) == {}


def test_a_table_from_jupyterlab_or_other_settings_is_not_the_profiles(done):
    sidecar = done / "results" / "table2.json"
    record = json.loads(sidecar.read_text())
    for parameters, reason in ((None, "it was made outside of reid-core"), ({"k1": 10}, "k1 is 20, was 10")):
        known = record["notebook"]
        told = known | {"parameters": parameters and known["parameters"] | parameters}
        sidecar.write_text(json.dumps(record | {"notebook": told}))
        assert f"table2.json: {reason}" in pending(done).values()


def test_changed_code_runs_what_imports_it_and_no_training(done, monkeypatch):
    digest = sources.files.digest

    def changed(name):
        monkeypatch.setattr(
            sources.files, "digest", lambda path: digest(path)[::-1] if str(path).endswith(name) else digest(path)
        )
        found = pending(done)
        monkeypatch.setattr(sources.files, "digest", digest)
        return found

    found = changed("/reid_core/evaluation.py")
    assert {step.kind for step in found} >= set(LATER) and not {"datasets", "train"} & {s.kind for s in found}
    assert "the code changed: reid_core/evaluation.py" in found.values()
    assert [step.kind for step in changed("/reproduction/report/report.css")] == ["explorer", "report"]
    assert {step.kind for step in changed("/reproduction/intake/near_duplicates.py")} >= {"datasets", *LATER}
    assert "train" not in {step.kind for step in changed("/reproduction/intake/near_duplicates.py")}
    pages = [step.kind for step in changed("/reproduction/runner/profiles.py")]
    assert pages == ["explorer", "report"], "of which the report prints commands"
    assert [step.kind for step in changed("/reproduction/report/explorer_page.py")] == ["explorer", "report"]
    assert not changed("/reproduction/runner/workflow.py")


def test_the_report_which_links_into_the_explorer_comes_again_with_it(done):
    (done / "results" / "explorer.html").write_text("another one")
    reasons = {step.kind: why for step, why in pending(done).items()}
    assert reasons.pop("report") == "explorer.html changed"
    assert reasons == {"explorer": "explorer.html does not say what it was made from"}


def test_a_changed_notebook_runs_again_and_its_outputs_do_not_count(done, tmp_path, monkeypatch):
    folder = tmp_path / "notebooks"
    shutil.copytree(notebooks.FOLDER, folder)
    monkeypatch.setattr(notebooks, "FOLDER", folder)
    monkeypatch.setattr(steps.notebooks, "FOLDER", folder)
    book = json.loads((folder / "02_train.ipynb").read_text())
    book["metadata"]["widgets"] = {}
    (folder / "02_train.ipynb").write_text(json.dumps(book))
    assert pending(done) == {}
    book["cells"][-1]["source"] = "assert True"
    (folder / "02_train.ipynb").write_text(json.dumps(book))
    found = pending(done)
    assert sum(step.kind == "train" for step in found) == 7 and "datasets" not in {s.kind for s in found}
    assert "the code changed: 02_train.ipynb" in found.values()


def test_the_datas_content_counts_not_its_dates(done):
    image = done / "data" / "query" / "0001_c1.jpg"
    os.utime(image, (1e9, 1e9))
    assert pending(done) == {}
    image.write_text("another one")
    assert {"datasets", "train"} <= kinds(done)
    image.write_text("image 0001_c1.jpg")
    (done / "data" / "Thumbs.db").write_text("clutter")
    (done / "data" / "README.md").write_text("of the kit")
    (done / "data" / "embedded").mkdir()
    (done / "data" / "embedded" / "embedded.json").write_text("the data of another profile")
    assert pending(done) == {}
    image.rename(image.with_name("0003_c1.jpg"))
    assert {"datasets", "train"} <= kinds(done)


def test_a_link_that_leads_up_ends_and_a_linked_set_counts(done, tmp_path):
    before = staleness.data_digest(done / "data", done / "results")
    (done / "data" / "up").symlink_to(done / "data")
    assert staleness.data_digest(done / "data", done / "results") == before
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "0001.png").write_text("image")
    (done / "data" / "CUHK01").symlink_to(tmp_path / "set")
    assert staleness.data_digest(done / "data", done / "results") != before


def test_data_is_read_once_while_nothing_changes(done, monkeypatch):
    monkeypatch.setattr(staleness, "_RACY", -1.0)
    (done / "data" / "new.jpg").write_text("image")
    first = staleness.data_digest(done / "data", done / "results")
    monkeypatch.setattr(staleness.files, "digest", lambda path: pytest.fail("read again"))
    assert staleness.data_digest(done / "data", done / "results") == first


def test_forced_and_waiting_steps_say_so(done):
    settings = profiles.load("tiny", places(done), recipes=False)
    found = {step.name: why for step, why in staleness.pending(settings, ["05_table4_training_time"]).items()}
    assert found["05_table4_training_time"] == "asked for"
    assert found["06_figure3_loss_curves"] == "after 05_table4_training_time"
    assert found["report"] == "after 05_table4_training_time and others"


def test_plan_counts_the_steps_and_gives_the_reasons(done):
    lines = workflow.reasons("tiny", [*places(done), "smoothing=7"])
    assert lines[0] == "  1 x 06_figure3_loss_curves: smoothing is 7, was 5"
    assert Counter(step.kind for step in workflow.pending("tiny", [*places(done), "smoothing=7"])) == {
        "06_figure3_loss_curves": 1, "09_claims": 1, "report": 1,
    }  # fmt: skip


def test_code_is_found_at_any_depth_and_in_functions(tmp_path, monkeypatch):
    for name, text in {
        "reid_core/__init__.py": "", "reid_core/deep.py": "import reid_core.deeper", "reid_core/deeper.py": "",
        "reid_core/other.py": "", "reproduction/__init__.py": "", "reproduction/page/__init__.py": "",
        "reproduction/page/page.css": "", "reproduction/a.py": "def f():\n    from reid_core import deep",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sources, "REPOSITORY", tmp_path)
    found = sources.code_of_module("reproduction.a")
    assert list(found) == ["reid_core/__init__.py", "reid_core/deep.py", "reid_core/deeper.py",
                           "reproduction/__init__.py", "reproduction/a.py"]  # fmt: skip
    assert "reproduction/page/page.css" in sources.code_of_module("reproduction.page")


@pytest.mark.parametrize("name", notebooks.names())
def test_a_notebooks_code_is_the_libraries_and_not_the_runners(name):
    found = sources.code(notebooks.find(name))
    assert f"{name}.ipynb" in found and all((REPOSITORY / path).is_file() for path in list(found)[1:])
    assert any(path.startswith("reid_core/") for path in found)
    assert not any(path.startswith(("reproduction/report", "reproduction/runner/staleness")) for path in found)


def test_a_trainings_step_reads_no_code_but_the_notebooks(done, monkeypatch):
    now = staleness.Now(profiles.load("tiny", places(done), recipes=False))
    train = next(step for step in steps.of(now.settings) if step.notebook == steps.TRAIN)
    known = now.origin(train)
    monkeypatch.setattr(sources, "_closure", lambda modules: pytest.fail("a tenth of a second a training"))
    assert now.origin(train) == known and list(known["sources"]) == ["02_train.ipynb"]


def test_a_step_starts_without_what_only_kernels_need():
    code = "import sys, reproduction.runner.execution; print({'scipy', 'torch', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
