"""Notebook 02 makes the first iterations of profile paper from ImageNet files as torchvision publishes them."""

import json

import official_structure
import published_weights
import pytest
import torch
from safetensors.torch import load_file

from reid_core import files, weight_files
from reproduction.runner import notebooks, profiles

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("backbone", published_weights.TENSORS)
def test_profile_papers_recipe_starts_from_the_published_file(tmp_path, own_cache, monkeypatch, backbone):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    path = weight_files.located("imagenet", backbone)
    path.parent.mkdir(parents=True)
    weights = published_weights.state(backbone)
    torch.save(weights, path)
    rows = {"train": [(p, c) for p in range(1, 5) for c in (1, 1, 2, 2)], "query": [(9, 1)], "gallery": [(9, 2)]}
    official_structure.market1501(tmp_path / "data", rows)
    profile = profiles.load("paper")
    recipe = profile["recipe"] | {"backbone": backbone}
    sizes = recipe["height"], recipe["width"], recipe["batch_size"]
    assert (recipe["weights"], recipe["batchnorm"], *sizes) == ("imagenet", "frozen", 224, 224, 16)
    parameters = {
        "profile": "paper", "data_root": str(tmp_path / "data"), "results_root": str(tmp_path / "results"),
        "model": "baseline", "train_set": "market1501", "recipe": recipe,
        "schedules": {"market1501": profile["schedules"]["market1501"] | {"iterations": 2}},
    }  # fmt: skip
    notebooks.run(notebooks.find("02_train"), tmp_path / "02_train.ipynb", parameters)
    (run,) = (tmp_path / "results" / "runs").iterdir()
    record, trained = json.loads((run / "run.json").read_text()), load_file(run / "weights.safetensors")
    assert record["finished"] and record["initial_weights_digest"] == files.digest(path)
    assert torch.equal(trained["backbone.bn1.running_var"], weights["bn1.running_var"]), "frozen statistics"
    change = trained["backbone.conv1.weight"] - weights["conv1.weight"]
    assert 0 < change.abs().max() < 0.05, "it goes on from the file's weights"
