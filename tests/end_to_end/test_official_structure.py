"""Profile paper rehearsed on files of the official structure with pictures of a few pixels.

Each rehearsal takes minutes, so they run on demand: REID_REHEARSAL=small for a few people of every set and for one
set alone, REID_REHEARSAL=full also for the official counts (68,113 pictures), where the official arrays are
(REID_PROTOCOLS or ../shared/protocols).
"""

import os
import subprocess
import sys
from pathlib import Path

import official_structure
import pandas as pd
import pytest

from reid_core import paper, tables
from reid_core.provenance import REPOSITORY

WANTED = os.environ.get("REID_REHEARSAL")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(WANTED not in ("small", "full"), reason="runs with REID_REHEARSAL=small or full"),
]

RECIPE = {
    "recipe": "{backbone: resnet18, weights: random, batchnorm: live, height: 32, width: 32, batch_size: 8}",
    "schedules": "{"
    + ", ".join(f"{name}: {{iterations: 2}}" for name in (*paper.SETS, paper.COMBINED))
    + "}",
    "literature": "[Colour histogram]",
}


def rehearse(root: Path, folder: Path, monkeypatch) -> tuple[Path, Path]:
    """Run profile paper on `root` with two steps a training; return its public and private results."""
    monkeypatch.setenv("REID_CORE_CACHE", str(folder / "cache"))
    results = folder / "results" / "paper"
    changes = RECIPE | {"data_root": str(root), "results_root": str(results)}
    given = [word for name, value in changes.items() for word in ("-p", f"{name}={value}")]
    command = [sys.executable, "-m", "reid_core.cli", "reproduce", "--profile", "paper", *given]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Verdicts on official data" in done.stdout
    return results, folder / "results" / "private" / "paper"


def test_a_few_people_of_every_set(tmp_path, monkeypatch):
    root = official_structure.small(tmp_path / "data")
    results, private = rehearse(root, tmp_path, monkeypatch)
    for number in (2, 3):
        table = pd.read_csv(results / f"table{number}.csv")
        assert (table["data_source"] == "official").all()
        assert (table[table["model"] != "literature"]["status"] == tables.MEASURED).all()
    assert not list(results.glob("figure5.[ps][nv]g")) and not list(results.glob("people.*"))
    assert not list(results.rglob("*.ipynb")), "executed notebooks show people"
    assert (private / "figure5.png").exists() and list((private / "notebooks").glob("*.ipynb"))


def test_market1501_alone_gives_its_rows_and_says_why_the_others_are_not_run(tmp_path, monkeypatch):
    root = tmp_path / "data"
    official_structure.market1501(root, official_structure.small_market1501_rows())
    results, _ = rehearse(root, tmp_path, monkeypatch)
    third = pd.read_csv(results / "table3.csv").set_index("method")
    assert third.loc["HCN+re-rank", "status"] == tables.MEASURED
    assert "CUHK03 not found (see reid-core data status)" in third.loc["Ours+re-rank", "status"]
    second = pd.read_csv(results / "table2.csv")
    assert second["status"].str.startswith("not run: CUHK03 not found").all()
    verdicts = pd.read_csv(results / "claims.csv").set_index("claim")["verdict"]
    assert verdicts["hcn_beats_baseline_market1501"] != "not measured"
    assert verdicts["hcn_beats_baseline_cuhk03_labeled"] == "not measured"


def test_the_official_counts(tmp_path, monkeypatch):
    if WANTED != "full":
        pytest.skip("runs with REID_REHEARSAL=full only")
    arrays = official_structure.protocols()
    if arrays is None:
        pytest.skip("the official arrays are not there (REID_PROTOCOLS or ../shared/protocols)")
    root = official_structure.full(tmp_path / "data", arrays)
    monkeypatch.setitem(RECIPE, "literature", "[]")
    results, _ = rehearse(root, tmp_path, monkeypatch)
    first = pd.read_csv(results / "table1.csv")
    assert (first.filter(like="difference").fillna(0) == 0).all(axis=None)
    assert pd.read_csv(results / "table3.csv")["queries"].dropna().unique().tolist() == [3368]
    assert pd.read_csv(results / "table2.csv")["queries"].dropna().unique().tolist() == [1400]
    assert (pd.read_csv(results / "table2.csv")["queries_without_match"].dropna() == 0).all()
