import runpy
import shutil
import zipfile
from collections import Counter

import pandas as pd
import pytest
import synthetic_results
import yaml

from reproduction import cli, compare, results_folder
from reproduction.runner import workflow
from reproduction.sidecar import REPOSITORY

ROW = {"set": "market1501", "ours_rank1": "33.3333", "ours_rank1_low": "27.0", "ours_rank1_high": "39.0",
       "status": "measured", "rank1_std": "", "seconds_train": "9.1", "runs": "", "data_source": "embedded",
       "profile": "smoke"}  # fmt: skip


@pytest.fixture
def results(tmp_path):
    """Two folders with one table: a row that trains and one that does not."""
    rows = [ROW | {"method": "HCN", "runs": "hcn-market1501-seed0"}, ROW | {"method": "LOMO"}]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pd.DataFrame(rows).to_csv(tmp_path / name / "table3.csv", index=False)
    return tmp_path / "a", tmp_path / "b"


def change(folder, method, **cells):
    table = pd.read_csv(folder / "table3.csv", dtype=str, keep_default_na=False)
    table.loc[table["method"] == method, list(cells)] = list(cells.values())
    table.to_csv(folder / "table3.csv", index=False)


def status(*words):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", *map(str, words)])
    return stopped.value.code


def test_equal_results_are_equal_and_times_are_no_difference(results, capsys):
    change(results[1], "LOMO", seconds_train="100.0")
    assert status(*results) == 0
    assert {cell.verdict for cell in compare.compare(*results)} == {compare.EQUAL}
    assert "LOMO" not in capsys.readouterr().out
    assert status(*results, "--all") == 0
    assert "table3: market1501, LOMO: ours_rank1: 33.3333 | 33.3333: equal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "cells", "code"),
    [
        ("HCN", {"ours_rank1": "38.0"}, 0),  # its interval and the other's overlap
        ("HCN", {"ours_rank1": "50.0", "ours_rank1_low": "45.0", "ours_rank1_high": "55.0"}, 1),
        ("HCN", {"ours_rank1": "38.0", "ours_rank1_low": "", "ours_rank1_high": ""}, 1),  # no interval to be within
        ("HCN", {"status": "not run"}, 1),  # no measurement
        ("LOMO", {"ours_rank1": "33.3334"}, 1),  # trains nothing: equal to the digit
        ("HCN", {"rank1_std": "1.5"}, 0),
        ("LOMO", {"rank1_std": "1.5"}, 1),
        ("LOMO", {"ours_rank1_high": "39.5"}, 1),
    ],
)
def test_what_trains_may_lie_within_the_intervals_all_else_is_equal(results, capsys, method, cells, code):
    change(results[1], method, **cells)
    assert status(*results) == code
    found = [cell for cell in compare.compare(*results) if cell.verdict != compare.EQUAL]
    assert {cell.verdict for cell in found} == {compare.DIFFERS if code else compare.WITHIN}
    assert set(cells) == {cell.column for cell in found} and (method in capsys.readouterr().out) == bool(code)


def test_a_row_that_is_not_there_differs(results, capsys):
    table = pd.read_csv(results[1] / "table3.csv")
    table[table["method"] != "LOMO"].to_csv(results[1] / "table3.csv", index=False)
    assert status(*results) == 1 and "market1501, LOMO: row: there | -: differs" in capsys.readouterr().out


def test_an_archive_compares_like_its_folder(results, tmp_path):
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", results[0].parent, "a")
    assert status(packed, results[1]) == 0
    change(results[1], "LOMO", ours_rank1="5")
    assert status(packed, results[1]) == 1


def test_what_cannot_be_compared_says_why(results, tmp_path, capsys):
    def refused(first, second, *words):
        assert status(first, second) == 2
        said = capsys.readouterr().err
        assert all(word in said for word in words), said

    (tmp_path / "empty").mkdir()
    refused(results[0], tmp_path / "empty", "in common", str(tmp_path / "empty"))
    refused(results[0], tmp_path / "gone", "gone", "no such")
    (tmp_path / "cut.zip").write_bytes(b"PK")
    refused(tmp_path / "cut.zip", results[1], "cut.zip", "not a whole ZIP")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        for folder in "xy":
            archive.write(results[0] / "table3.csv", f"{folder}/table3.csv")
    refused(tmp_path / "twice.zip", results[1], "twice")
    with zipfile.ZipFile(tmp_path / "outside.zip", "w") as archive:
        archive.write(results[0] / "table3.csv", "../table3.csv")
    refused(tmp_path / "outside.zip", results[1], "outside")
    for column, value in (("data_source", "official"), ("profile", "tiny")):
        for method in ("LOMO", "HCN"):
            change(results[1], method, **{column: value})
        refused(*results, column, value, ROW[column], "--across")
        assert status(*results, "--across") == 0
        for method in ("LOMO", "HCN"):
            change(results[1], method, **{column: ROW[column]})


def test_a_column_that_one_side_alone_has_is_not_compared_and_named(results, capsys):
    table = pd.read_csv(results[1] / "table3.csv", dtype=str, keep_default_na=False)
    table.assign(protocol="market").to_csv(results[1] / "table3.csv", index=False)
    assert status(*results) == 0
    assert "table3: every row: protocol: - | there: not compared" in capsys.readouterr().out


def test_a_run_of_smoke_is_set_beside_the_tables_that_the_repository_ships(tmp_path, capsys):
    script = runpy.run_path(str(REPOSITORY / "docs" / "reference.py"))
    shipped = script["REFERENCE"] / "smoke"
    script["take"](shipped, tmp_path / "smoke")
    assert {path.stem for path in (tmp_path / "smoke").iterdir()} == set(compare.TABLES)
    assert status(tmp_path / "smoke", shipped) == 0
    table = pd.read_csv(tmp_path / "smoke" / "table3.csv", dtype=str, keep_default_na=False)
    table.loc[table["method"] == "LOMO", "ours_rank1"] = "99.0000"
    table.to_csv(tmp_path / "smoke" / "table3.csv", index=False)
    assert status(tmp_path / "smoke", shipped) == 1
    said = capsys.readouterr().out
    assert "LOMO" in said and {"embedded"} == set(pd.read_csv(shipped / "table2.csv")["data_source"])


def test_tables_to_compare_with_are_taken_from_a_finished_run_or_nothing_is_made(tmp_path, capsys):
    script = runpy.run_path(str(REPOSITORY / "docs" / "reference.py"))
    globals_of = script["main"].__globals__
    globals_of["REFERENCE"], shipped = tmp_path / "reference", script["REFERENCE"] / "smoke"
    for words, ends, said in [(["--help"], 0, "usage"), ([str(tmp_path)], 2, "table2.csv"), (["no"], 2, "no has no")]:
        with pytest.raises(SystemExit) as ended:
            script["main"](words)
        assert ended.value.code == ends and said in "".join(capsys.readouterr())
        assert not (tmp_path / "reference").exists()
    script["main"]([str(shipped)])
    assert {path.stem for path in (tmp_path / "reference" / "smoke").iterdir()} == set(compare.TABLES)


def test_the_main_job_of_smoke_ends_with_what_is_equal_and_never_fails_for_it(tmp_path):
    results = synthetic_results.make(tmp_path / "smoke")
    shipped = REPOSITORY / "results" / "reference" / "smoke"
    said = workflow.verdicts(results)
    n = Counter(cell.verdict for cell in compare.compare(results, shipped))
    counted = f"{n['equal']} cells equal, {n['within the intervals']} within the intervals, {n['differs']} differ"
    assert f"\nBeside {shipped}: {counted} (" in said and n["equal"] and n["differs"]
    (results / "table2.csv").write_text("cut,short\n1\n")
    assert f"Beside {shipped}: not compared: {results / 'table2.csv'}: not readable" in workflow.verdicts(results)
    assert list(compare.beside_reference(results, "tiny")) == []


def test_all_that_a_reviewer_checks_is_made_by_smoke_or_shipped():
    listed = yaml.safe_load((REPOSITORY / "codecheck.yml").read_text(encoding="utf-8"))
    smoke = REPOSITORY / "results" / "smoke"
    made = [path for one in results_folder.made() for path in one.files(smoke, smoke)] + [smoke / results_folder.REPORT]
    files = [REPOSITORY / entry["file"] for entry in listed["manifest"]]
    assert [path for path in files if path not in made and not path.is_file()] == []
    assert {"version", "paper", "manifest", "codechecker", "report"} <= set(listed)
    assert all(entry["comment"] for entry in listed["manifest"])
    assert {"title", "authors", "reference"} == {*listed["paper"]}
