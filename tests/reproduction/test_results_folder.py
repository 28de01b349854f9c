"""What a results folder holds, said once and the same everywhere."""

import json
import re

import pytest

from reid_core.training import run_folder
from reproduction import results_folder
from reproduction.runner import notebooks


def saved(name):
    """Stems of a notebook's Save cell, as (stem, in the folder of people)."""
    source = notebooks.find(name).read_text(encoding="utf-8")
    cells = ["".join(cell["source"]) for cell in json.loads(source)["cells"] if cell["cell_type"] == "code"]
    text = "\n".join(cell for cell in cells if "tables.save(" in cell or "plots.save(" in cell)
    return set(re.findall(r"(results|people|private|facts\)) / \"(\w+)", text))


@pytest.mark.parametrize("name", [name for name in notebooks.names() if name != "02_train"])
def test_made_names_what_the_notebooks_cells_save(name):
    found = {(stem, folder != "results") for folder, stem in saved(name)}
    said = {(one.stem, one.people) for one in results_folder.made(name)}
    assert found == said


def test_every_result_is_made_by_one_notebook_of_the_kit_and_each_file_once():
    assert {one.notebook for one in results_folder.MADE} | {"02_train"} == set(notebooks.names())
    places = [(one.stem, one.people) for one in results_folder.MADE]
    assert len(places) == len(set(places))
    assert len({stem: None for stem, _ in places}) == len(
        {(one.stem, one.notebook) for one in results_folder.MADE}
    )


def test_what_a_notebook_needs_is_made_by_an_earlier_one():
    made = {one.stem: one.notebook for one in results_folder.MADE}
    for name, needed in results_folder.NEEDED.items():
        assert name in notebooks.names()
        for stem in needed:  # 09 judges what 10 finds, too
            assert made[stem] < name or (name, made[stem]) == ("09_claims", "10_sensitivity")


def test_files_of_people_lie_apart_and_nothing_that_needs_a_second_run_is_expected(tmp_path):
    results, private = tmp_path / "paper", tmp_path / "private"
    found = results_folder.files("08_figure5_rank_lists", results, private)
    assert found == [results / "figure5.csv", results / "figure5.json",
                     *(private / f"figure5{suffix}" for suffix in (".png", ".svg", ".json"))]  # fmt: skip
    assert results / "near_duplicate_retrained.csv" not in results_folder.files("09_claims", results, private)


def test_files_of_a_run_are_those_that_the_training_writes():
    written = (run_folder.RUN, run_folder.WEIGHTS, run_folder.LOSS, run_folder.TIMING, run_folder.LABELS)
    assert results_folder.RUN_FILES == written
