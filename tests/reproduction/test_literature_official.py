"""Profile paper's literature, unchanged, on files of the official structure: a few people, pictures of noise."""

import json

import numpy as np
import official_structure
import pytest
import torch

from reid_core.matching import Matching
from reproduction import paper, scoring, tables
from reproduction.experiment import Experiment
from reproduction.runner import profiles

torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "names"), [(2, (paper.CUHK03_DETECTED, paper.CUHK03_LABELED)), (3, (paper.MARKET1501,))]
)
def test_every_method_of_profile_paper_runs_on_official_files_unchanged(tmp_path, monkeypatch, number, names):
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))  # no pretrained weights here
    root = official_structure.small(tmp_path / "data")
    literature, results = profiles.load("paper")["literature"], tmp_path / "results"
    kit = Experiment("paper", root, results)
    scores = scoring.score_literature(number, kit, kit.sets(*names), Matching(), literature)
    not_run = scoring.not_run(kit, literature)
    assert list(not_run) == ["ImageNet ResNet-50"]
    facts = kit.facts(ap="trapezoid")
    table = tables.compare(paper.rows(number), names, scores, facts, not_run).query("model == 'literature'")
    assert (table["data_source"] == "official").all()
    for line in table.to_dict("records"):
        if line["method"] == "ImageNet ResNet-50":
            assert line["status"] == "not run: its pretrained weights are not here"
            continue
        assert line["status"] == tables.MEASURED and line["faithful"] in tables.FAITHFUL, line["method"]
        assert np.isfinite([line["ours_rank1"], *(line[f"seconds_{part}"] for part in tables.TIMES)]).all()
    if number == 3:
        run = json.loads((results / "runs" / "gated-market1501-seed0" / "run.json").read_text())
        assert run["data_source"] == "official" and run["finished"]
