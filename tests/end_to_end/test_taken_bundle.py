"""Profile tiny's results as a bundle, taken elsewhere: no network is trained, the tables are the sender's."""

import json

import pytest
from tiny_kit import Kit

from reproduction import cli, compare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def taken(kit, tmp_path_factory):
    """A new folder with nothing in it, and the main job there from the bundle."""
    folder = tmp_path_factory.mktemp("taken")
    assert cli.main(["bundle", str(kit.results), "-o", str(folder / "sent.zip")]) == 0
    there = Kit(folder)
    done = there.run("reproduce", "--from", str(folder / "sent.zip"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    there.said = done.stdout
    return there


def test_the_tables_are_those_of_the_sender_and_nothing_is_trained(kit, taken):
    assert "trainings are taken from" in taken.said
    for run in kit.results.glob("runs/**/run.json"):
        here = taken.results / run.relative_to(kit.results)
        assert here.read_bytes() == run.read_bytes(), "seconds and commit are the sender's"
    assert not list(taken.results.glob("runs/*.aside-*"))
    cells = compare.compare(kit.results, taken.results)
    assert len(cells) > 100 and {cell.verdict for cell in cells} == {compare.EQUAL}
    assert {path.name for path in kit.results.glob("*.csv")} == {path.name for path in taken.results.glob("*.csv")}


def test_a_run_of_another_recipe_is_refused_before_any_job(taken):
    folder = taken.folder / "again"
    changes = [f"results_root={folder}", "sensitivity_schedule={iterations: 4}"]
    refused = taken.run("reproduce", "--from", str(taken.folder / "sent.zip"), changes=changes)
    assert refused.returncode == 1 and "is another run than the profile's" in refused.stderr, refused.stderr
    assert "iterations" in refused.stderr and not (folder / "runs").exists()


def test_a_second_run_finds_nothing_to_do(taken):
    again = taken.run("reproduce", "--from", str(taken.folder / "sent.zip"))
    assert again.returncode == 0 and "Nothing to do" in again.stdout, again.stdout[-2000:]
    assert json.loads((taken.results / "table1.json").read_text())["profile"] == "tiny"
