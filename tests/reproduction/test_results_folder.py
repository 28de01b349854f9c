"""What a results folder holds, said once and the same everywhere."""

import hashlib
import json
import re

import pytest

from reid_core.training import run_folder
from reproduction import explain, results_folder
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
    assert len({stem: None for stem, _ in places}) == len({(one.stem, one.notebook) for one in results_folder.MADE})


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


def test_each_part_of_the_report_is_made_by_one_notebook():
    for one in results_folder.MADE:
        assert {other.notebook for other in results_folder.section(one.section)} == {one.notebook}
        assert results_folder.of(one.stem).notebook == one.notebook


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "No columns"),
        (b"a,b\n1,2\n3\n", "cut short"),
        (b"a,b\n1,2\n3,4,5\n", "Expected 2 fields"),
        (b"a,b\n1,2,3\n4,5,6\n", "too long"),
        (b'a,b\n1,"2\n', "unexpected end"),
        (b"a,b\n1,\xff\n", "utf-8"),
        (b"\x00\x00\x00\x00", "not readable"),
    ],
)
@pytest.mark.parametrize("as_text", [True, False])
def test_a_damaged_table_is_refused_by_its_name(tmp_path, text, why, as_text):
    (tmp_path / "table9.csv").write_bytes(text)
    with pytest.raises(ValueError, match=rf"table9\.csv: (not readable|has no column).*({why}|a, b)"):
        results_folder.read_csv(tmp_path / "table9.csv", ("a", "b"), as_text=as_text)


def test_whole_tables_are_read_as_they_stand(tmp_path):
    (tmp_path / "t.csv").write_text('a,b\n1.50,\n"x, y","two\nlines"\n\n')
    assert results_folder.read_csv(tmp_path / "t.csv", as_text=True).to_numpy().tolist() == [
        ["1.50", ""],
        ["x, y", "two\nlines"],
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1', "not readable as JSON"),
        ("", "not readable as JSON"),
        ("[1]", "holds no JSON object"),
        ('{"a": 1}', "nothing usable under b, c"),
        ('{"a": 1, "b": null, "c": {}}', "nothing usable under b;"),
    ],
)
def test_a_half_written_record_is_refused_by_its_name_and_what_it_lacks(tmp_path, text, why):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=rf"r\.json: .*{why}.*Make it again"):
        results_folder.read_json(tmp_path / "r.json", {"b": str, "c": dict})


OLD_RUN = """{"model": "hcn", "num_classes": 60, "images": 650, "data_digest": "93d0e5", "data_source": "embedded",
 "recipe": {"backbone": "resnet18", "weights": "/home/me/resnet18.pth", "iterations": 240, "seed": 0}, "seed": 0,
 "form": "pooled", "device": "AMD EPYC (2 cores)", "commit": {"id": "6e51394f00", "modified": false},
 "versions": {"python": "3.11.7", "torch": "2.11.0"}, "finished": true, "seconds": 31.5, "weights_digest": "c744f0"}"""
OLD_SIDECAR = {
    "data_source": "embedded", "profile": "smoke", "ap": "trapezoid", "seeds": [0], "runs": ["hcn-market1501-seed0"],
    "notebook": {"name": "04_table3_market1501", "parameters": {"profile": "smoke", "k1": 25}},
    "created": "2025-01-01T00:00:00+00:00", "commit": None, "device": "AMD EPYC (2 cores)",
    "versions": {"python": "3.11.7", "torch": "2.11.0"},
}  # fmt: skip


def test_a_folder_of_the_time_of_one_package_is_read(tmp_path):
    """As commit 6e51394 left it, in which all was reid_core: records name no module, so nothing in them is unknown."""
    (tmp_path / "runs" / "hcn-market1501-seed0").mkdir(parents=True)
    (tmp_path / "runs" / "hcn-market1501-seed0" / "run.json").write_text(OLD_RUN)
    table = tmp_path / "table3.csv"
    table.write_text(
        "set,method,model,metric,reranked,ours_mAP,status,seeds,runs\n"
        "market1501,HCN,hcn,euclidean,False,45.6,measured,0,hcn-market1501-seed0\n"
    )
    files = {"table3.csv": hashlib.sha256(table.read_bytes()).hexdigest()}
    (tmp_path / "table3.json").write_text(json.dumps({"files": files} | OLD_SIDECAR))
    said = " ".join(explain.describe(table).split())
    assert "as it was written" in said and "runs/hcn-market1501-seed0: weights GONE, digest c744f0" in said
    assert "started from weights: /home/me/resnet18.pth, digest not recorded" in said
    assert "reid-core notebook 04_table3_market1501 --profile smoke -p k1=25" in said


def test_where_a_runs_weights_came_from_is_said_by_digest():
    recipe = {"weights": "/elsewhere/init.pth"}
    run = {"recipe": recipe, "initial_weights_digest": "0123456789abcdef"}
    assert results_folder.initial_weights(run) == "/elsewhere/init.pth, digest 0123456789ab"
    assert results_folder.initial_weights({"recipe": {"weights": "random"}}) == "random"
