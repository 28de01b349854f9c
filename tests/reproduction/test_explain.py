"""reid-core explain: rows by name, the chain behind a cell, changed and missing files, errors with a remedy."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic_results

from reid_core import features, files
from reproduction import cli, explain, paper, sidecar, tables
from reproduction.explain import chain, rows

TABLES = ("table1", "table1_subsets", "table2", "table2_seeds", "table3", "table3_seeds", "table4", "claims",
          "convergence", "cross_dataset", "figure4")  # fmt: skip
PEOPLE = ("table3_people", "cross_dataset_people", "sensitivity", "sensitivity_people")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A results folder of three seeds whose sidecars name a notebook, as `reid-core notebook` leaves them."""
    folder = tmp_path_factory.mktemp("results") / "smoke"
    with pytest.MonkeyPatch.context() as patch:
        given = {"profile": "smoke", "k1": 25, "data_root": "data/embedded/smoke", "literature": ["LOMO"]}
        patch.setenv(sidecar.NOTEBOOK, json.dumps({"name": "03_table2_cuhk03", "parameters": given}))
        return synthetic_results.make(folder, seeds=(0, 1, 2))


@pytest.fixture
def results(made, tmp_path):
    """The folder, to be changed by one test."""
    return shutil.copytree(made, tmp_path / "smoke")


def told(path, *row, **given):
    """What explain says, on one line."""
    return re.sub(r"\s+", " ", explain.describe(path, row, **given))


@pytest.mark.parametrize("stem", TABLES)
def test_every_listed_name_finds_its_row_and_no_other(made, stem):
    table = pd.read_csv(made / f"{stem}.csv", dtype=str, keep_default_na=False)
    columns = rows.name_columns(table)
    assert columns, "the rows have names"
    for row in range(len(table)):
        terms = shlex.split(rows.name(table, columns, row))
        assert rows.choose(table, terms, stem) == row


@pytest.mark.parametrize("stem", (*TABLES, *PEOPLE))
def test_the_commands_that_a_table_lists_are_understood(made, stem, monkeypatch, capsys):
    monkeypatch.chdir(made)
    said = explain.describe(f"{stem}.csv")
    found = re.findall(r"^  (reid-core explain .*)$", said, re.MULTILINE)
    count = len(pd.read_csv(made / f"{stem}.csv"))
    assert len(found) == (count if count <= explain.LISTED else 3)
    assert cli.main(shlex.split(found[-1])[1:]) == 0
    assert "Make it again" in capsys.readouterr().out


def test_a_cell_leads_to_its_seeds_runs_and_commands(made):
    path = made / "table2.csv"
    said = told(path, "HCN+XQDA", "set=cuhk03_labeled")
    line = pd.read_csv(path).query("method == 'HCN+XQDA' and set == 'cuhk03_labeled'").iloc[0]
    assert re.search(rf"ours_rank1 +{line['ours_rank1']:.4f} ", said)
    assert f"mean rank1 {line['ours_rank1']:.2f} per cent: this row's" in said
    for seed in (0, 1, 2):
        assert said.count(f"runs/hcn-cuhk03_labeled-seed{seed}: weights GONE") == 1
        assert (
            f"reid-core notebook 02_train --profile smoke -p model=hcn -p train_set=cuhk03_labeled -p seed={seed}"
            in said
        )
    assert "matching (k1 20, k2 6, lambda_value 0.3)" in said and "as it was written" in said
    assert "reid-core notebook 03_table2_cuhk03 --profile smoke -p k1=25" in said
    assert "reid-core reproduce --profile smoke -p k1=25 -p 'literature=[\"LOMO\"]' --force 03_table2_cuhk03" in said


def test_one_column_shows_the_papers_figure_beside_it(made):
    said = explain.describe(made / "table2.csv", ["HCN+re-rank", "cuhk03_labeled"], "ours_mAP")
    cells = said.split("Cells\n")[1].split("\n\n")[0].split()
    assert cells[:3] == ["paper_mAP", "46.0000", "ours_mAP"] and cells[4::2] == ["ours_mAP_low", "ours_mAP_high"]


def test_a_changed_table_and_a_mean_of_other_seeds_are_said(results):
    table = pd.read_csv(results / "table3.csv")
    table.loc[table["method"] == "HCN+XQDA", "ours_rank1"] += 0.5
    table.to_csv(results / "table3.csv", index=False, float_format="%.4f")
    said = explain.describe(results / "table3.csv", ["HCN+XQDA"])
    assert "CHANGED since it was written" in said
    assert re.search(r"mean rank1 [\d.]+ per cent: NOT this row's", said)
    assert re.search(r"mean mAP [\d.]+ per cent: this row's", said)


def test_feature_files_and_weights_are_checked_against_the_run(results):
    run = "hcn-market1501-seed0"
    weights = results / "runs" / run / "weights.safetensors"
    weights.write_bytes(b"weights")
    record = json.loads((weights.parent / "run.json").read_text())
    (weights.parent / "run.json").write_text(json.dumps(record | {"weights_digest": files.digest(weights)}))
    images = pd.DataFrame({"dataset": "market1501", "subset": "query", "person_id": [1], "camera_id": [1],
                           "image_path": [str(results / "a.jpg")]})  # fmt: skip
    meta = {"weights_digest": files.digest(weights), "output": "r5", "height": 64, "width": 32}
    kept = features.Features(np.ones((1, 4), np.float32), images, meta)
    features.save(kept, results / "features" / run / "market1501.safetensors", results)
    said = told(results / "table3.csv", "HCN")
    assert f"runs/{run}: weights as trained" in said
    assert re.search(r"market1501.safetensors: of these weights, r5, 1 images at 64x32", said)
    weights.write_bytes(b"others")
    assert f"runs/{run}: weights CHANGED since training" in told(results / "table3.csv", "HCN")
    features.save(features.Features(kept.values, images, meta | {"weights_digest": "0"}),
                  results / "features" / run / "market1501.safetensors", results)  # fmt: skip
    assert "of OTHER weights" in told(results / "table3.csv", "HCN")
    shutil.rmtree(weights.parent)
    assert f"runs/{run}: gone" in told(results / "table3.csv", "HCN")


def test_times_and_losses_have_no_feature_files(made):
    for stem, row in (("table4", ["Our", "combined"]), ("convergence", ["market1501", "seed=1"])):
        path = made / f"{stem}.csv"
        result = chain.read(path)
        record = result.record | {"ap": "none"}  # as notebooks 05 and 06 say
        line = result.table.iloc[rows.choose(result.table, row, stem)].to_dict()
        names = chain.runs(result, line)
        assert names and chain.features(chain.Result(path, record, result.table), line, names[0]) == []
    assert chain.features(result, line, names[0]), "with retrieval there would be some"


def test_a_total_and_a_pair_of_models_name_their_own_runs(made):
    total = explain.describe(made / "table4.csv", ["Zhong [13]", "total"])
    assert total.count("runs/baseline-") == 9 and "runs/hcn-" not in total
    pair = explain.describe(made / "convergence.csv", ["market1501", "seed=2"])
    assert pair.count("runs/baseline-market1501-seed2:") == pair.count("runs/hcn-market1501-seed2:") == 1
    assert len(re.findall(r"runs/[\w-]+:", pair)) == 2


def test_a_published_method_names_its_function_and_settings(results, monkeypatch):
    given = {"profile": "smoke", "literature": [{"Gated [21]": {"passes": 3}}, "DNS [20]"]}
    monkeypatch.setenv(sidecar.NOTEBOOK, json.dumps({"name": "04_table3_market1501", "parameters": given}))
    facts = {"data_source": "embedded", "profile": "smoke", "ap": "trapezoid"}
    scores = pd.DataFrame([{"model": "literature", "method": method, "set": paper.MARKET1501, "seed": 0, "rank1": 0.5,
                            "mAP": 0.4, "metric": None, "reranked": None, "run": None, "queries": 9,
                            "queries_without_match": 0}
                           for method in ("Gated [21]", "DNS [20]")])  # fmt: skip
    scores["people"] = synthetic_results.people_of(np.random.default_rng(0), scores[["rank1", "mAP"]])
    tables.save(tables.compare(paper.rows(3), (paper.MARKET1501,), scores, facts), results / "table3.csv", **facts)
    gated = told(results / "table3.csv", "Gated [21]")
    assert "reproduction.literature.gated(passes=3)" in gated and "Trainings" not in gated
    assert "learnt anew in the notebook" in gated
    assert "reproduction.literature.dns(its defaults)" in explain.describe(results / "table3.csv", ["DNS [20]"])
    missing = explain.describe(results / "table3.csv", ["LOMO"])
    assert "Not measured\n  not measured yet" in missing and "reid-core notebook 04_table3_market1501" in missing


def test_a_published_method_trained_on_the_kits_loop_names_its_run(results, monkeypatch):
    given = {"profile": "smoke", "literature": ["Gated [21]"]}
    monkeypatch.setenv(sidecar.NOTEBOOK, json.dumps({"name": "04_table3_market1501", "parameters": given}))
    facts = {"data_source": "embedded", "profile": "smoke", "ap": "trapezoid"}
    scores = pd.DataFrame([{"model": "literature", "method": "Gated [21]", "set": paper.MARKET1501, "seed": 0,
                            "rank1": 0.5, "mAP": 0.4, "metric": None, "reranked": None, "queries": 9,
                            "queries_without_match": 0, "run": "gated-market1501-seed0"}])  # fmt: skip
    scores["people"] = synthetic_results.people_of(np.random.default_rng(0), scores[["rank1", "mAP"]])
    tables.save(tables.compare(paper.rows(3), (paper.MARKET1501,), scores, facts), results / "table3.csv", **facts)
    said = told(results / "table3.csv", "Gated [21]")
    assert "trained on the kit's loop" in said and "runs/gated-market1501-seed0: gone" in said
    assert "Features" not in said and "02_train" not in said and "reid-core notebook 04_table3_market1501" in said


def test_a_persons_share_of_a_score_leads_to_its_training(made):
    said = told(made / "table3_people.csv", "hcn", "xqda", "reranked=True", "seed=1", "person_id=7")
    assert re.search(r"person_id 7 queries 2 rank1 \S+ mAP \S+ Made", said)
    assert "runs/hcn-market1501-seed1: weights GONE" in said and "runs/hcn-market1501-seed0" not in said
    across = ["train_set=combined", "test_set=market1501", "seed=1", "person_id=7"]
    assert "runs/hcn-combined-seed1: weights GONE" in told(made / "cross_dataset_people.csv", *across)
    across[0] = "train_set=untrained"
    assert "Trainings" not in told(made / "cross_dataset_people.csv", *across)


def test_a_persons_share_of_a_control_leads_to_the_controls_own_training(made):
    row = ("heads_alone", "side=other", "seed=0", "person_id=7")
    said = told(made / "sensitivity_people.csv", *row)
    assert "runs/sensitivity/heads_alone-cuhk03_labeled-seed0: gone" in said and "runs/hcn-" not in said
    said = told(made / "sensitivity_people.csv", "heads_alone", "side=default", "seed=0", "person_id=7")
    assert "runs/hcn-cuhk03_labeled-seed0" in said and "runs/sensitivity" not in said
    assert "heads_alone" in told(made / "sensitivity.csv", "control")


def test_a_score_has_its_interval_beside_it_and_names_the_people_behind_it(made):
    row = ["HCN+re-rank", paper.MARKET1501]
    said = told(made / "table3.csv", *row, column="ours_mAP")
    assert re.search(r"paper_mAP 74\.2800 ours_mAP [\d.]+ ours_mAP_low [\d.]+ ours_mAP_high [\d.]+ Made", said)
    assert re.search(r"Read from reid-core explain \S*table3_people\.csv", said)
    assert "ours_rank1_low" in told(made / "table3.csv", *row)
    assert "people.csv" not in told(made / "table3_seeds.csv", "baseline", "xqda", "reranked=True", "seed=1")


def test_a_verdict_names_the_files_it_was_read_from(made):
    said = explain.describe(made / "claims.csv", ["r5_loss_lower"])
    part = said.split("Read from\n")[1].split("\n\n")[0]
    assert re.fullmatch(r"  reid-core explain \S*convergence\.csv", part)
    said = explain.describe(made / "claims.csv", ["conv1_does_not_help"])
    assert re.search(r"Read from\n  reid-core explain \S*sensitivity_people\.csv", said)
    kept = (made / "sensitivity_people.csv").rename(made / "elsewhere.csv")
    said = explain.describe(made / "claims.csv", ["conv1_does_not_help"])
    kept.rename(made / "sensitivity_people.csv")
    assert "Read from\n  sensitivity_people.csv: gone" in said


def test_a_table_of_any_shape_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/kit/notebooks/10_anything.ipynb")
    table = pd.DataFrame({"choice": ["k1=30", "step AP", "k1=30"], "set": ["a", "a", "b"], "mAP": [0.5, 0.25, 0.125]})
    facts = {"data_source": "embedded", "profile": "mine", "ap": "step", "seeds": [0], "runs": ["hcn-a-seed0"]}
    path = tables.save(table, tmp_path / "anything.csv", **facts, pool="maximum")
    said = explain.describe(path)
    assert "Rows: 3" in said and "choice=k1=30" in said and "pool maximum" in said
    said = explain.describe(path, ["k1=30", "b"])
    assert "runs/hcn-a-seed0: gone" in said and re.search(r"mAP +0\.1250", said)
    assert "10_anything, run in JupyterLab" in said
    assert "reid-core notebook 10_anything --profile mine.yaml" in said


@pytest.mark.parametrize("name", ["my-shop.csv", "sub/shop.csv"])
def test_a_training_on_own_data_has_its_command(name):
    record = {"profile": "paper", "notebook": {"name": "09_claims", "parameters": {"data_root": "data"}}}
    result = chain.Result(Path("cross_dataset.csv"), record, None)
    made = dict(chain.commands(result, [f"hcn-{name}-seed2", "sensitivity/relu-market1501-seed0"]))
    assert made.pop(f"reid-core notebook 02_train --profile paper -p model=hcn -p train_set={name} -p seed=2")
    assert not any("02_train" in command for command in made)


def test_the_executed_copy_is_named_and_said_to_be_of_another_run(results):
    book = results / "notebooks" / "03_table2_cuhk03.ipynb"
    record = json.loads(book.read_text())
    written = json.loads((results / "table3.json").read_text())["created"]
    for start, end, other in (("2000", "2999", False), ("2000", "2001", True)):
        record["metadata"]["papermill"] |= {"start_time": f"{start}-01-01T00", "end_time": f"{end}-01-01T00"}
        book.write_text(json.dumps(record))
        said = told(results / "table3.csv")
        assert f"executed copy {book}" in said and written[:10] in said
        assert ("ANOTHER run" in said) == other
    book.unlink()
    assert "03_table2_cuhk03, no executed copy" in told(results / "table3.csv")


def test_a_figure_has_an_origin_too(made):
    said = explain.describe(made / "figure3.png")
    assert "figure3.png" in said and "reid-core notebook" in said and "Cells" not in said


def test_names_lead_from_the_repository_as_well(made, monkeypatch):
    monkeypatch.setattr(chain.experiment, "REPOSITORY", made.parent)
    assert "Rows" in explain.describe("smoke/table2.csv")


@pytest.mark.parametrize(
    ("path", "given", "message"),
    [
        ("tabel2.csv", {}, r"tabel2\.csv: there is no such file\. There are: .*table2\.csv"),
        ("lonely.csv", {}, r"no lonely\.json beside it"),
        ("table2.json", {}, r"is itself a sidecar"),
        ("table2.csv", {"row": ["HCN+rerank"]}, r"no row has 'HCN\+rerank'\. Nearest: HCN\+re-rank"),
        ("table2.csv", {"row": ["set=cuhk03"]}, r"no row has 'set=cuhk03'\. Nearest: cuhk03_"),
        ("table2.csv", {"row": ["HCN+re-rank"]}, r"2 rows have HCN\+re-rank; say which:\n  --row cuhk03_detected"),
        ("table3.csv", {"row": ["HCN", "euclidean", "reranked=True"]}, r"no row has all of HCN euclidean"),
        ("table2.csv", {"row": ["HCN"], "column": "our_mAP"}, r"is not a column of it\. Did you mean 'ours_mAP'"),
        ("table2.csv", {"column": "ours_mAP"}, r"say which row"),
        ("figure3.png", {"row": ["HCN"]}, r"figure3\.png is no table"),
    ],
)  # fmt: skip
def test_errors_say_what_there_is(results, path, given, message):
    (results / "lonely.csv").write_text("a\n1\n")
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        explain.describe(results / path, **given)


def test_broken_sidecars_are_refused(results):
    (results / "table2.json").write_text("{")
    with pytest.raises(ValueError, match=r"table2\.json: not readable as JSON"):
        explain.describe(results / "table2.csv")
    (results / "table3.json").write_text('{"files": {}}')
    with pytest.raises(ValueError, match=r"table3\.json does not describe table3\.csv"):
        explain.describe(results / "table3.csv")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("table2.csv", "set,method\ncuhk03_labeled\n", "not readable as CSV"),
        ("table2_seeds.csv", "", "not readable as CSV"),
        ("table2.json", '{"files": {"table2.csv": "0"}}', "nothing usable under created, device, versions"),
        ("table2.json", '["files"]', "holds no JSON object"),
        ("runs/hcn-cuhk03_labeled-seed1/run.json", '{"model": ', "not readable as JSON"),
        ("runs/hcn-cuhk03_labeled-seed1/run.json", '{"finished": true}', "nothing usable under model, recipe"),
        ("notebooks/03_table2_cuhk03.ipynb", '{"metadata": 1}', "nothing usable under metadata"),
    ],
)
def test_what_is_damaged_is_named(results, name, text, message):
    (results / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name.split('/')[-1]}: .*{message}"):
        explain.describe(results / "table2.csv", ["HCN+XQDA", "cuhk03_labeled"])


def test_a_damaged_record_of_the_data_is_named(results, tmp_path):
    (tmp_path / "embedded.json").write_text('{"seed": 3')
    sidecar_ = results / "table2.json"
    record = json.loads(sidecar_.read_text())
    record["notebook"]["parameters"]["data_root"] = str(tmp_path)
    sidecar_.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"embedded\.json: not readable as JSON"):
        explain.describe(results / "table2.csv")


def test_what_weights_a_run_started_from_is_said(results):
    path = results / "runs" / "hcn-market1501-seed0" / "run.json"
    record = json.loads(path.read_text())
    recipe = record["recipe"] | {"weights": "imagenet"}
    path.write_text(json.dumps(record | {"recipe": recipe, "initial_weights_digest": "0676ba61b6795bbe"}))
    assert "started from weights: imagenet, digest 0676ba61b679" in told(results / "table3.csv", "HCN")
