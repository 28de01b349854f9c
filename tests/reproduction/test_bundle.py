"""Results that travel: what a bundle holds, who can read it, and what is refused before anything is placed."""

import functools
import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rocrate.rocrate import ROCrate
from safetensors.numpy import save_file

from reproduction import bundle, cli, compare, embedded, results_folder
from reproduction.runner import further, profiles, staleness

QUICK = ["sensitivity_variants=[]", "sensitivity_controls={}", "sensitivity_seeds=[0]", "literature=[]"]


def settings_of(folder, *changes):
    places = [f"data_root={folder / 'data'}", f"results_root={folder / 'results'}"]
    return profiles.load("tiny", [*places, *QUICK, *changes])


def lay_run(folder, record):
    """A run folder as a training leaves it, but for its weights, which are anything."""
    folder.mkdir(parents=True)
    weights = folder / "weights.safetensors"
    save_file({"x": np.frombuffer(folder.name.encode(), np.uint8)}, weights)
    for name in ("loss.csv", "timing.csv", "labels.csv"):
        (folder / name).write_text("iteration\n1\n")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    facts = {"finished": True, "seconds": 1.0, "device": "a device", "seed": 0, "weights_digest": digest}
    (folder / "run.json").write_text(json.dumps(record | facts))


def lay_table(folder, stem, **facts):
    pd.DataFrame([{"dataset": "market1501", "identities": 1} | facts]).to_csv(folder / f"{stem}.csv", index=False)
    record = facts | {"files": {}, "created": "now", "device": "a device", "versions": {}, "ap": "none"}
    (folder / f"{stem}.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """A folder with data and results of profile tiny, runs without training, and their bundle."""
    folder = tmp_path_factory.mktemp("sent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_CORE_CACHE", str(folder / "cache"))
        settings = settings_of(folder)
        embedded.render(folder / "data", embedded.Sizes.named("tiny"), 0)
        known = further.Trainings(settings)
        for name in (*known.own, *known.further):
            lay_run(folder / "results" / "runs" / name, bundle._asked(name, known)[0])
        lay_table(folder / "results", "table1", data_source="embedded", profile="tiny")
        features = folder / "results" / "features" / "hcn-market1501-seed0"
        features.mkdir(parents=True)
        save_file({"x": np.zeros(3, np.float32)}, features / "market1501.safetensors")
        (folder / "results" / "people.png").write_bytes(b"rendered people")
        (folder / "results" / "notes of mine.txt").write_text("not a result")
        unfinished = folder / "results" / "runs" / "baseline-market1501-seed5"
        unfinished.mkdir()
        (unfinished / "run.json").write_text('{"finished": false}')
        (folder / "all.zip").write_bytes(b"")
        bundle.pack(folder / "results", folder / "sent.zip")
        bundle.pack(folder / "results", folder / "all.zip", True)
        yield folder


@pytest.fixture
def there(sent, tmp_path):
    """take(FILE, *changes) into a new results folder beside the sender's data; gives that folder."""

    def take(archive=sent / "sent.zip", *changes):
        bundle.take(archive, settings_of(sent, f"results_root={tmp_path / 'there'}", *changes))

    take.results = tmp_path / "there"
    return take


def changed(archive, target, change):
    """A copy of a ZIP; `change(name, content)` gives the content of a member anew, None leaves it out."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if (content := change(name, old.read(name))) is not None:
                new.writestr(name, content)
    return target


def test_any_tool_for_research_objects_reads_what_is_in_a_bundle(sent, tmp_path):
    with zipfile.ZipFile(sent / "sent.zip") as archive:
        names = set(archive.namelist())
        crate = ROCrate(sent / "sent.zip")
        listed = {entity.id: entity for entity in crate.data_entities}
        assert set(listed) == names - {"ro-crate-metadata.json"}
        for name, entity in listed.items():
            content = archive.read(name)
            assert entity["sha256"] == hashlib.sha256(content).hexdigest()
            assert entity["contentSize"] == str(len(content))
    assert crate.name == "Results of profile tiny on embedded data" and crate.license
    runs = {name.split("/")[1] for name in names if name.startswith("runs/") and name.endswith("run.json")}
    assert len(runs) == 8 and "baseline-market1501-seed5" not in runs
    assert {"table1.csv", "table1.json", "people.png", "runs/hcn-combined-seed0/weights.safetensors"} <= names
    assert not any("notes" in name or "features" in name for name in names)
    with zipfile.ZipFile(sent / "all.zip") as archive:
        assert set(archive.namelist()) - names == {"features/hcn-market1501-seed0/market1501.safetensors"}


def test_a_bundle_compares_like_its_folder(sent):
    assert {cell.verdict for cell in compare.compare(sent / "results", sent / "sent.zip")} == {compare.EQUAL}


def test_the_trainings_of_a_bundle_are_the_profiles_own_where_they_are_taken(sent, there, capsys):
    there(sent / "all.zip")
    assert "8 trainings are taken" in capsys.readouterr().out
    for path in (sent / "results" / "runs").glob("*-seed0/*"):
        assert (there.results / path.relative_to(sent / "results")).read_bytes() == path.read_bytes()
    assert (there.results / "features" / "hcn-market1501-seed0" / "market1501.safetensors").is_file()
    assert not (there.results / ".bundle").exists() and not (there.results / "table1.csv").exists()
    known = further.Trainings(settings_of(sent, f"results_root={there.results}"))
    for name in known.own:
        assert bundle.run_folder.differences(there.results / "runs" / name, *bundle._asked(name, known)) == []
    there(sent / "all.zip")  # again: what is there is the same


def test_the_workflow_is_given_the_runs_before_it_plans(sent, tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(staleness, "pending", lambda settings, force: seen.append(Path(settings["results_root"])) or {})
    monkeypatch.setattr("reproduction.runner.workflow.verdicts", lambda results: "")
    places = [f"data_root={sent / 'data'}", f"results_root={tmp_path}", *QUICK]
    given = [word for place in places for word in ("-p", place)]
    assert cli.main(["reproduce", "--profile", "tiny", "--from", str(sent / "sent.zip"), *given]) == 0
    assert seen == [tmp_path] and (tmp_path / "runs" / "hcn-combined-seed0" / "run.json").is_file()
    assert cli.main(["reproduce", "--profile", "tiny", "--from", "https://x.org/a.zip", *given]) == 1
    assert "a.zip: there is no such file" in capsys.readouterr().err


def leave_out(left, name, content):
    return None if name == left else content


def alter(altered, name, content):
    return content[:-1] + b"?" if name == altered else content


def relist(changes, name, content):
    """Change files and their digests in the list with them, as somebody would who means it."""
    if name != bundle.LIST:
        return changes.get(name, content)
    crate = json.loads(content)
    for entity in crate["@graph"]:
        if entity["@id"] in changes:
            entity["sha256"] = hashlib.sha256(changes[entity["@id"]]).hexdigest()
    return json.dumps(crate).encode()


def unlist_about(name, content):
    """Leave out the table that says what a bundle is of, in the list, too."""
    if name != bundle.LIST:
        return leave_out(bundle.ABOUT, name, content)
    crate = json.loads(content)
    crate["@graph"] = [entity for entity in crate["@graph"] if entity["@id"] != bundle.ABOUT]
    return json.dumps(crate).encode()


RUN = "runs/hcn-combined-seed0"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (functools.partial(alter, "table1.csv"), "table1.csv was altered"),
        (functools.partial(alter, f"{RUN}/weights.safetensors"), "weights.safetensors was altered"),
        (functools.partial(leave_out, f"{RUN}/loss.csv"), f"{RUN}/loss.csv is missing"),
        (unlist_about, "table1.json is missing"),
        (functools.partial(leave_out, bundle.LIST), "is no bundle"),
        (lambda name, content: b"[]" if name == bundle.LIST else content, "is no bundle"),
        (lambda name, content: b"[" * 200_000 if name == bundle.LIST else content, "is no bundle"),
        (functools.partial(relist, {"table1.json": b'{"profile": "tiny"}'}), "says nothing usable under data_source"),
        (functools.partial(relist, {f"{RUN}/run.json": b"{}"}), "run.json: says nothing usable under model"),
        (functools.partial(relist, {f"{RUN}/weights.safetensors": b"?"}), "is not what the run wrote"),
    ],
)
def test_what_is_not_as_it_was_packed_is_refused_before_anything_is_placed(sent, there, tmp_path, change, words):
    archive = changed(sent / "sent.zip", tmp_path / "changed.zip", change)
    with pytest.raises(ValueError, match=words):
        there(archive)
    assert list(there.results.iterdir()) == []


def test_what_a_bundle_holds_besides_its_list_is_refused(sent, there, tmp_path):
    archive = Path(shutil.copy(sent / "sent.zip", tmp_path))
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("runs/x/evil.pt", b"")
    with pytest.raises(ValueError, match="runs/x/evil.pt is not in its list"):
        there(archive)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../evil.pt", b"")
    with pytest.raises(ValueError, match="would be written outside"):
        there(archive)
    assert list(there.results.iterdir()) == [] and not (there.results.parent / "evil.pt").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("profile=mine", "is of profile tiny; mine is asked for"),
        ("seeds=[1]", "has runs that profile tiny does not: .*-seed0"),
        ("seeds=[0, 1]", "lacks 7 of the profile's runs: .*-seed1.* -p seeds="),
        ("schedules={combined: {iterations: 21}, market1501: {iterations: 20}, cuhk03_labeled: {iterations: 20},"
         " cuhk03_detected: {iterations: 20}}", "another run than the profile's: .*(iterations|lr_step)"),
        ("combined_boxes=detected", "hcn-combined-seed0 is another run than the profile's: .*data_digest"),
        ("render_sizes=none", "is of data_source embedded; official is asked for"),
    ],
)  # fmt: skip
def test_a_bundle_of_something_else_is_refused_before_anything_is_placed(sent, there, tmp_path, change, words):
    changes = (change, f"data_root={tmp_path / 'none'}") if "none" in change else (change,)
    with pytest.raises(ValueError, match=words):
        there(sent / "sent.zip", *changes)
    assert list(there.results.iterdir()) == []


def test_a_run_that_is_there_from_another_training_stays_and_is_named(sent, there):
    place = there.results / RUN
    place.mkdir(parents=True)
    record = json.loads((sent / "results" / RUN / "run.json").read_text())
    (place / "run.json").write_text(json.dumps(record | {"weights_digest": "0"}))
    with pytest.raises(ValueError, match=f"{RUN} is there already, from another training"):
        there()
    assert [path.name for path in place.iterdir()] == ["run.json"] == [p.name for p in place.parent.glob("*/*")]


def test_no_picture_of_people_of_the_official_sets_goes_in(tmp_path):
    """Wherever they lie: in results/private, as links, or left in the results folder by somebody."""
    results, private = tmp_path / "results" / "paper", tmp_path / "results" / "private" / "paper"
    for folder in (results, private / "notebooks"):
        folder.mkdir(parents=True)
    lay_table(results, "table1", data_source="official", profile="paper")
    lay_table(results, "figure5", data_source="official", profile="paper")
    (results / "figure3.png").write_bytes(b"a drawing")
    for made in results_folder.MADE:
        for path in made.files(results, private) if made.people else ():
            path.write_bytes(b"people")
            if path.suffix != ".json" and path.name != "figure5.csv":
                (results / path.name).symlink_to(path)
    (private / "notebooks" / "08_figure5_rank_lists.ipynb").write_bytes(b"people")
    (results / "explorer.html").write_bytes(b"people")
    bundle.pack(results, tmp_path / "sent.zip", True)
    with zipfile.ZipFile(tmp_path / "sent.zip") as archive:
        assert set(archive.namelist()) == {
            bundle.LIST, "table1.csv", "table1.json", "figure5.csv", "figure5.json", "figure3.png"}  # fmt: skip
        assert b"people" not in {archive.read(name) for name in archive.namelist()}


def test_a_bundle_goes_over_no_file_of_another_kind(sent, tmp_path):
    (tmp_path / "model.py").write_text("a source")
    with pytest.raises(ValueError, match="model.py must end with .zip"):
        bundle.pack(sent / "results", tmp_path / "model.py")
    assert (tmp_path / "model.py").read_text() == "a source"


def test_a_folder_that_is_none_and_a_run_that_changed_are_not_packed(sent, tmp_path, capsys):
    assert cli.main(["bundle", str(tmp_path), "-o", str(tmp_path / "a.zip")]) == 1
    assert f"{tmp_path} is no results folder" in capsys.readouterr().err
    results = Path(shutil.copytree(sent / "results", tmp_path / "results"))
    (results / RUN / "weights.safetensors").write_bytes(b"others")
    assert cli.main(["bundle", str(results), "-o", str(tmp_path / "a.zip")]) == 1
    assert "seed0 is not as it was trained: weights.safetensors is not what" in capsys.readouterr().err
    assert not (tmp_path / "a.zip").exists()
