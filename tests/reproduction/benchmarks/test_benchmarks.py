"""What the benchmarks' README files state without a measurement."""

import importlib

from reproduction.sidecar import REPOSITORY


def test_the_operations_of_table_4_are_those_that_are_stated(monkeypatch):
    folder = REPOSITORY / "benchmarks" / "training"
    monkeypatch.syspath_prepend(folder)
    flops = importlib.import_module("flops")
    totals = [f"{sum(flops.table_4(heads).values()):.4g}" for heads in ("plain", "pooled")]
    assert totals == ["2.282e+17", "1.848e+17"]
    assert "| all seven | 475,000 | 2.282e17 | 1.848e17 |" in (folder / "README.md").read_text()


def test_the_minutes_of_a_run_are_those_of_its_own_log(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks" / "reproduce")
    minutes = importlib.import_module("minutes")
    log = """2026-01-01 09:00:00 commit {"id": "of a run before"}
2026-01-01 09:00:01 [1/1] 01_datasets ...
2026-01-01 10:00:00 commit {"id": "x"}
2026-01-01 10:00:00 to run: 01_datasets, since it is not there
2026-01-01 10:00:01 [1/4] 01_datasets ...
2026-01-01 10:00:11 [1/4] 01_datasets: 10.0 s
2026-01-01 10:00:12 [2/4] 02_train (model hcn, train_set combined, seed 0) ...
2026-01-01 10:01:32 [2/4] 02_train (model hcn, train_set combined, seed 0): 1 min 20 s
2026-01-01 10:01:33 [3/4] 03_table2_cuhk03 ...
2026-01-01 10:01:33 [4/4] 06_figure3_loss_curves ...
2026-01-01 10:01:40 [4/4] 06_figure3_loss_curves: 7.0 s
2026-01-01 10:01:43 [3/4] 03_table2_cuhk03: 10.0 s
"""
    (tmp_path / "workflow.log").write_text(log)
    run = tmp_path / "runs" / "hcn-combined-seed0"
    run.mkdir(parents=True)
    (run / "run.json").write_text('{"seconds": 60}')
    found = minutes.minutes(tmp_path)
    assert found["seconds"].to_list() == [10, 80, 10, 7, 107, 103, 103]
    assert found.loc["02_train", ["steps", "training"]].to_list() == [1, 60]
    assert found.index.to_list()[-3:] == ["together", "from start to end", "until Table 2"]
