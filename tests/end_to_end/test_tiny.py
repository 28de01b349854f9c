"""Profile tiny through the real notebooks: everything appears, says where it came from, and is made only once."""

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from reid_core import files
from reproduction import claims, experiment, explain, plots, sidecar, tables
from reproduction.runner import notebooks
from reproduction.runner import workflow as reproduce

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())


def test_an_interrupted_job_says_so_and_continues_without_making_again_what_was_finished(kit):
    code, said = kit.interrupted
    assert code == 130 and "The same command continues" in said, said[-2000:]
    assert not kit.had_verdicts
    assert (kit.results / "table1.csv").stat().st_mtime_ns == kit.first_written


def test_every_table_and_figure_is_there_with_its_provenance(kit):
    stems = [
        "table1",
        "table2",
        "table2_people",
        "table3",
        "table3_people",
        "cross_dataset_people",
        "table4",
        "claims",
        "figure3",
        "figure4",
        "figure5",
        "convergence",
        "people",
        "inside_hcn",
        "response_maps",
        "sensitivity",
        "sensitivity_people",
    ]
    for stem in stems:
        record = json.loads((kit.results / f"{stem}.json").read_text())
        assert record["profile"] == "tiny" and {"data_source", "commit", "device", "versions"} <= set(record)
        for name, digest in record["files"].items():
            assert files.digest(kit.results / name) == digest
    drawn = [*(f"table{number}" for number in range(1, 5)), "figure3", "figure4", "figure5", "inside_hcn",
             "response_maps", "sensitivity"]  # fmt: skip
    for stem in drawn:
        assert (kit.results / f"{stem}.png").stat().st_size > 5000
        assert b"<svg" in (kit.results / f"{stem}.svg").read_bytes()[:1000]
    assert (kit.results / "report.html").stat().st_size > 50_000


def test_every_row_says_what_it_was_measured_on(kit):
    names = ("table1", "table2", "table3", "table4", "table4_forms", "claims", "convergence", "convergence_time",
             "loss_levels", "cross_dataset", "inside_hcn",
             "pooling_demonstration")  # fmt: skip
    for name in names:
        table = pd.read_csv(kit.results / f"{name}.csv")
        assert (table["data_source"] == "embedded").all() and (table["profile"] == "tiny").all()
        assert "ap" in table and len(table)


def test_all_of_our_rows_are_measured(kit):
    for number in (2, 3):
        table = pd.read_csv(kit.results / f"table{number}.csv")
        ours = table[table["model"] != "literature"]
        assert (ours["status"] == tables.MEASURED).all()
        assert ours[["ours_rank1", "ours_mAP"]].notna().all(axis=None)
        for score in tables.SCORES:
            assert (ours[f"ours_{score}_low"] <= ours[f"ours_{score}"] + 1e-3).all()
            assert (ours[f"ours_{score}"] <= ours[f"ours_{score}_high"] + 1e-3).all()
    assert pd.read_csv(kit.results / "table4.csv")["ours_hours"].notna().all()


def test_near_duplicates_are_counted_listed_shown_and_their_effect_is_measured(kit):
    counts = pd.read_csv(kit.results / "near_duplicate_counts.csv").set_index(["train_set", "test_set"])
    assert counts.loc[("cuhk03_detected", "cuhk03_labeled"), "images found"] > 0, "the forms share frames"
    assert counts.loc[("market1501", "cuhk03_labeled"), "images found"] == 0
    listed = pd.read_csv(kit.results / "near_duplicates.csv")
    assert listed["train_path"].nunique() == counts.xs("any", level="test_set")["images found"].sum()
    assert (kit.results / "near_duplicates.png").stat().st_size > 5000
    scores = pd.read_csv(kit.results / "near_duplicate_scores.csv")
    assert len(scores) == 9 and scores["queries affected"].le(scores["queries"]).all()
    table = pd.read_csv(kit.results / "table2.csv").query("method == 'HCN' and set == 'cuhk03_labeled'")
    same = scores.query("model == 'hcn' and set == 'cuhk03_labeled'")
    assert same["mAP"].iloc[0] == pytest.approx(table["ours_mAP"].iloc[0], abs=1e-3)


def test_every_output_is_scored_and_r5s_scores_are_the_tables(kit):
    inside = pd.read_csv(kit.results / "inside_hcn.csv")
    assert (inside.groupby("output")["run"].nunique() == pd.Series({"c1": 4, "c2": 4, "r5": 7, "r5+c1+c2": 4})).all()
    scores = pd.concat([pd.read_csv(kit.results / f"table{number}_seeds.csv") for number in (2, 3)])
    scores = scores[scores["model"] != "literature"]
    key = ["set", "model", "seed", "metric", "reranked"]
    both = inside[inside["output"] == "r5"].merge(scores, on=key, suffixes=("", "_table"))
    assert len(both) == 36
    for score in tables.SCORES:
        assert (both[score] - 100 * both[f"{score}_table"]).abs().max() < 0.5, "equal up to rounding"


def test_the_heads_know_no_places_as_trained_and_some_with_other_settings(kit):
    known = pd.read_csv(kit.results / "pooling_demonstration.csv").set_index("form")
    differences = known[["formula_difference", "shuffle_difference"]]
    assert (differences.loc["pooled"] < 1e-14).all(axis=None) and (differences.loc["plain"] > 1e-4).all(axis=None)
    assert set(known.loc["plain", "setting"]) == {"maximum pooling", "a ReLU after merging", "a 3x3 after merging"}


def test_drawings_keep_the_style(kit):
    """As wide as a printed page or less, letters of 7 points or more in a font that is everywhere, the source said."""
    drawings = sorted(kit.results.glob("*.svg"))
    assert len(drawings) >= 7
    for path in drawings:
        text = path.read_text(encoding="utf-8")
        assert float(re.search(r'<svg[^>]* width="([\d.]+)pt"', text)[1]) <= 72 * (plots.WIDTH + 0.1), path.name
        assert min(map(float, re.findall(r"font-size: ([\d.]+)px", text))) >= plots.SMALL, path.name
        assert all(families.endswith("sans-serif") for families in re.findall(r"font-family: ([^;]+);", text))
        assert "profile tiny" in text, path.name


def test_embedded_data_reproduces_nothing_but_judges_every_claim(kit):
    table = pd.read_csv(kit.results / "claims.csv").set_index("claim")
    assert set(table.index) == {claim.key for claim in claims.CLAIMS}
    assert not table["verdict"].str.contains("reproduced").any()
    assert table.loc["figure4", "verdict"] == "by arithmetic: as printed"
    assert table.loc["table1", "verdict"] == "by arithmetic: the numbers add up"
    missing = set(table.index[table["verdict"] == claims.NOT_MEASURED])
    literature = {"beats_literature_market1501", "best_of_four_market1501", "xqda_best_metric"}
    assert missing - {"converges_sooner"} == literature | {"dropout_reduces_overfitting"}, (
        "profile tiny leaves out five methods of the literature and a variant; it may reach no loss level"
    )
    for words in table["verdict"]:
        assert words in kit.said
    assert f"Tables and figures: {kit.results}\n" in kit.said
    assert f"Report: {kit.results / 'report.html'}" in kit.said


def test_the_executed_notebooks_have_outputs_and_the_sources_none(kit):
    executed = sorted((kit.results / "notebooks").glob("*.ipynb"))
    assert len(executed) == len(notebooks.names()) - 1 + len(experiment.trainings())
    for path in executed:
        cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in cells)
        assert any(cell.outputs for cell in cells)


def test_golden_numbers(kit):
    """`python tests/end_to_end/make_golden.py` writes golden.json anew from a fresh run."""
    from make_golden import measure, versions

    if versions() != GOLDEN["versions"]:
        pytest.skip(f"golden.json was made with {GOLDEN['versions']}, this is {versions()}")
    measured = measure(kit.folder / "data", kit.results)
    assert measured["data_digest"] == GOLDEN["data_digest"], "the renderer's bytes changed without a new VERSION"
    assert measured["table1"] == GOLDEN["table1"]
    for key in ("colour_histogram", "first_loss"):
        assert measured[key] == pytest.approx(GOLDEN[key], abs=1e-3)
    for key in ("lomo_xqda", "last_loss"):
        assert measured[key] == pytest.approx(GOLDEN[key], abs=0.15), "rounding differs between machines; this is more"


def test_a_second_run_does_nothing(kit):
    before = {path: path.stat().st_mtime_ns for path in kit.results.rglob("*") if path.is_file()}
    again = kit.run("reproduce")
    assert again.returncode == 0 and "Nothing to do" in again.stdout
    after = {path: path.stat().st_mtime_ns for path in before if path.name != ".lock"}
    assert after == {path: time for path, time in before.items() if path.name != ".lock"}


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ("smoothing=7", {"06_figure3_loss_curves": 1, "09_claims": 1, "report": 1}),
        ("xqda_solver=eigh", {"03_table2_cuhk03": 1, "04_table3_market1501": 1, "08_figure5_rank_lists": 1,
                              "09_claims": 1, "10_sensitivity": 1, "11_inside_hcn": 1, "explorer": 1, "report": 1}),
        ("sensitivity_variants=[conv1]", {"09_claims": 1, "10_sensitivity": 1, "report": 1}),
        ("combined_boxes=detected", None),
    ],
)  # fmt: skip
def test_a_changed_setting_reruns_what_depends_on_it(kit, monkeypatch, change, steps):
    monkeypatch.setenv("REID_CORE_CACHE", kit.environment["REID_CORE_CACHE"])
    planned = Counter(step.kind for step in reproduce.pending("tiny", kit.overrides(change)))
    if steps is None:
        assert planned["train"] == 7 and planned["datasets"] == 1, "Table 1 counts who trains for the combined model"
    else:
        assert planned == steps


def test_a_failing_notebook_fails_the_command_and_leaves_nothing_half_written(kit):
    failed = kit.run("reproduce", changes=["rank_list_set=shop.csv"])
    assert failed.returncode == 1
    assert "08_figure5_rank_lists.ipynb: cell" in failed.stderr and "shop.csv" in failed.stderr
    assert (kit.results / "notebooks" / "failed" / "08_figure5_rank_lists.ipynb").exists()
    assert not (kit.results / "figure5.csv").exists()
    mended = kit.run("reproduce")
    assert mended.returncode == 0, mended.stderr[-2000:]
    assert (kit.results / "figure5.csv").exists()
    assert not (kit.results / "notebooks" / "failed" / "08_figure5_rank_lists.ipynb").exists()


def test_a_bad_profile_stops_before_anything_runs(kit):
    refused = kit.run("reproduce", changes=["lambda_valu=0.5"])
    assert refused.returncode == 1 and "Did you mean 'lambda_value'" in refused.stderr


def test_missing_data_names_the_folder_and_the_remedy(kit, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    changes = [f"data_root={data}", "render_sizes=none"]
    refused = kit.run("notebook", "01_datasets", "--output", str(tmp_path / "a.ipynb"), changes=changes)
    assert refused.returncode == 1
    assert f"no data set found: the data folder {data} is empty" in refused.stderr
    assert "reid-core data add PATH" in refused.stderr


def test_the_readmes_example_runs(kit, monkeypatch, capsys):
    monkeypatch.setenv("REID_CORE_CACHE", kit.environment["REID_CORE_CACHE"])
    text = (sidecar.REPOSITORY / "README.md").read_text(encoding="utf-8")
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "results/paper" in code)
    for path, here in (("results/paper", kit.results), ('"data"', repr(str(kit.folder / "data")))):
        assert path in code
        code = code.replace(path, str(here))
    exec(code, {})
    rank1, mean_ap = (float(number) for number in capsys.readouterr().out.split())
    assert 0 <= rank1 <= 1 and 0 <= mean_ap <= 1


def test_every_cell_leads_to_its_trainings_features_method_and_commands(kit, monkeypatch):
    monkeypatch.setenv("REID_CORE_CACHE", kit.environment["REID_CORE_CACHE"])
    for path in sorted(kit.results.glob("*.csv")):
        said = explain.describe(path)
        assert "as it was written" in said and "Rows" in said and "ANOTHER run" not in said, path
        assert "none recorded" not in said and str(kit.results / "notebooks") in said, path
    said = " ".join(explain.describe(kit.results / "table2.csv", ["HCN+re-rank", "cuhk03_labeled"]).split())
    run = "hcn-cuhk03_labeled-seed0"
    assert f"{kit.results / 'runs' / run}: weights as trained" in said and "mean mAP" in said
    assert f"{run}/cuhk03_labeled.safetensors: of these weights, r5" in said and "NOT" not in said
    assert f"-p results_root={kit.results} -p model=hcn -p train_set=cuhk03_labeled -p seed=0" in said
    method = " ".join(explain.describe(kit.results / "table2.csv", ["LOMO+XQDA", "cuhk03_labeled"]).split())
    assert "lomo_xqda(" in method and method.count(", there") == 3 and "gone" not in method
    embedded = json.loads((kit.folder / "data" / "embedded.json").read_text())
    assert f"digest {embedded['digest']}" in method


def test_the_printed_command_makes_the_file_again(kit):
    path = kit.results / "figure4.csv"
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    said = explain.describe(path, ["(c)"])
    assert "CHANGED since it was written" in said
    words = shlex.split(re.search(r"this file.*\n(.*)", said)[1])
    assert words[0] == "reid-core"
    subprocess.run([sys.executable, "-m", "reproduction.cli", *words[1:]], check=True, env=kit.environment,
                   cwd=sidecar.REPOSITORY, capture_output=True)  # fmt: skip
    assert path.read_bytes() == before
    assert "as it was written" in explain.describe(path)
