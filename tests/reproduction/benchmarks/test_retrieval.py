"""The retrieval benchmark at size tiny, without peers, and its verdicts on peers made up here."""

import json
import subprocess

import numpy as np
import pandas as pd
import pytest

from reid_core import machine
from reproduction.sidecar import REPOSITORY


@pytest.fixture
def compare(monkeypatch, tmp_path, script):
    module = script("benchmarks/retrieval/compare.py")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(module, "DIMENSIONS", 32)
    return module


def run(compare, monkeypatch, arguments):
    monkeypatch.setattr("sys.argv", ["compare.py", "--sizes", "tiny", "--device", "cpu", *arguments.split()])
    compare.main()


def test_size_tiny_without_peers(compare, monkeypatch, tmp_path):
    left_out = "rerank_fastreid jaccard_fastreid_faiss evaluate_argsort evaluate_torchreid xqda_eigh"
    groups = f"--groups re-ranking evaluation XQDA --without {left_out}"
    run(compare, monkeypatch, f"{groups} --scaling --scaling-sizes 140 --peer-limit 0")
    table = pd.read_csv(tmp_path / "retrieval.csv").set_index("task")
    assert "No package torchreid" in table.note["rerank_torchreid"]
    made = table.drop(index="rerank_torchreid")
    assert list(made.index) == ["product", "rerank_ours", "rerank_compat", "evaluate_ours", "xqda_port", "xqda_svd"]
    assert (made.seconds > 0).all() and (made.device == "cpu").all() and (made.peak_gib < 4).all()
    assert made[["rank1", "mAP"]].loc[["rerank_ours", "evaluate_ours"]].stack().between(0.01, 1).all()
    assert set(made.agrees[["rerank_compat", "xqda_svd"]].astype(str)) == {"True"}
    scaling = pd.read_csv(tmp_path / "retrieval_scaling.csv")
    assert list(scaling.task) == ["product", "rerank_and_score_stream"] and (scaling.n == 140).all()
    assert (tmp_path / "retrieval_scaling.png").stat().st_size > 5000


@pytest.mark.parametrize("off", [0, 9e-6, 1e-4])
def test_what_disagrees_is_said_and_fails(compare, monkeypatch, tmp_path, off):
    def measure(task, n_query, n_gallery, *, save, **_):
        result = np.array([0.5, 0.4]) if "evaluate" in task else np.full((300, 5), 0.5)
        np.save(save, result + (off if task in compare.REFERENCE else 0))
        return {"seconds": 1.0}

    monkeypatch.setattr(compare, "measure", measure)
    if off < 1e-5:
        run(compare, monkeypatch, "")
    else:
        with pytest.raises(SystemExit) as said:
            run(compare, monkeypatch, "")
        assert str(said.value).splitlines() == [
            f"{task} disagrees with {reference} at size tiny: largest difference 0.0001"
            for task, reference in compare.REFERENCE.items()
        ]
    table = pd.read_csv(tmp_path / "retrieval.csv").set_index("task")
    assert set(table.index[table.agrees.notna()]) == set(compare.REFERENCE)
    assert (table.agrees.dropna().astype(bool) == (off < 1e-5)).all()


def test_few_values_may_differ_where_rounding_decides(compare, tmp_path):
    ours = np.full((600, 50), 0.5, np.float32)
    theirs = ours.copy()
    theirs[-1, :2] += 0.1
    for name, values in (("ours", ours), ("theirs", theirs)):
        np.save(tmp_path / f"{name}.npy", values)
    found = compare.agreement(tmp_path / "theirs.npy", tmp_path / "ours.npy")
    assert found["agrees"] and found["largest_difference"] == pytest.approx(0.1)
    theirs[-1, 2:5] += 0.1
    np.save(tmp_path / "theirs.npy", theirs)
    assert not compare.agreement(tmp_path / "theirs.npy", tmp_path / "ours.npy")["agrees"]


def test_what_can_use_a_gpu_gets_it(compare, monkeypatch):
    asked = {}

    def popen(command, **_):
        settings = json.loads(command[-1])
        asked[settings["task"]] = settings["device"]
        return subprocess.CompletedProcess(command, 0, json.dumps({"seconds": 1, "peak_gib": 1}), "")

    monkeypatch.setattr(compare.subprocess, "run", popen)
    monkeypatch.setattr(machine, "free_memory", lambda device: 1 << 50)
    compare.compare("tiny", list(compare.GROUPS), [], None, "cuda")
    compare.scaling(None, 0, [140], "cuda")
    on_gpu = {"product", "rerank_ours", "neighbours_ours", "rerank_and_score_stream"}
    assert {task for task, device in asked.items() if device == "cuda"} == on_gpu
    assert len(asked) == 15 and "xqda_port" in asked


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_half_a_million_is_refused_where_it_does_not_fit(compare, monkeypatch, device):
    monkeypatch.setattr(compare, "DIMENSIONS", 2048)
    monkeypatch.setattr(compare, "measure", lambda *a, **k: pytest.fail("measured nevertheless"))
    monkeypatch.setattr(machine, "free_memory", lambda place: 1 << (32 if place == device else 60))
    table = compare.scaling(None, 0, [523_100], device)
    assert table.note.str.fullmatch(
        rf"refused: 3,368 x 519,732 needs about \d+\.\d GiB on {device}, 4\.0 GiB are free"
    ).all()
    compare.plot(table, compare.RESULTS / "empty.png")


def test_stages_are_parts_of_the_whole_and_leave_the_library_as_it_was(script, monkeypatch, capsys):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks" / "retrieval")
    stages = script("benchmarks/retrieval/stages.py")
    before = [getattr(module, name) for module, name in stages.STAGES.values()]
    found = stages.measure(400, turns=2, dimensions=32)
    assert set(found) == {"general product", "half of it", "k_reciprocal", *stages.STAGES}
    parts = sum(found[stage] for stage in stages.STAGES if not stage.startswith(" "))
    assert 0 < found["  of these, products"] <= found["neighbours"] < parts <= found["k_reciprocal"]
    assert before == [getattr(module, name) for module, name in stages.STAGES.values()]
    monkeypatch.setattr(stages, "measure", lambda *_: dict.fromkeys(found, 0.5))
    monkeypatch.setattr("sys.argv", ["stages.py", "--images", "3000"])
    stages.main()
    assert "N = 3,000" in capsys.readouterr().out
