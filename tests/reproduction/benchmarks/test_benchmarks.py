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
