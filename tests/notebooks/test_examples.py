"""examples/: stored as the kit's notebooks are, and run on embedded pictures, with timm and without."""

import ast
import importlib.util
import re

import matplotlib
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reid_core import datasets
from reproduction.embedded import CUHK01Sizes, CUHK03Sizes, Market1501Sizes, Sizes, render
from reproduction.runner import notebooks
from reproduction.sidecar import REPOSITORY

PATH = REPOSITORY / "examples" / "own_network.ipynb"
HEADINGS = ["Modules", "Parameters", "Paths and checks", "Load", "Compute", "Save", "Check"]
SMALL = Sizes(Market1501Sizes(2, 6, 5, 10, 20, 3, 4), CUHK03Sizes((4, 2, 1, 1, 1), 42, 29, 41, 30), CUHK01Sizes(3))


@pytest.fixture(scope="module")
def book():
    return nbformat.read(PATH, 4)


def test_it_is_stored_as_the_kit_s_notebooks_are_and_is_none_of_them(book):
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells) and "widgets" not in book.metadata
    texts = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    assert re.findall(r"^## (.*)", texts, re.MULTILINE) == HEADINGS
    assert [cell.metadata.get("tags") for cell in cells].count(["parameters"]) == 1 and "assert " in cells[-1].source
    code = "\n".join(cell.source for cell in cells)
    kinds = {type(node) for node in ast.walk(ast.parse(code))}
    assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.Lambda} and len(code.splitlines()) <= 60
    assert "reproduction" not in code
    steps = "\n".join(cell.source for cell in cells[3:5])  # from the network to the rank list
    assert len([line for line in steps.splitlines() if line.strip()]) <= 20
    assert (
        PATH.stem not in notebooks.names() and "(examples/own_network.ipynb)" in (REPOSITORY / "README.md").read_text()
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of embedded people's pictures, without junk and distractors, as a table."""
    root = render(tmp_path_factory.mktemp("example") / "data", SMALL, seed=3, workers=1, progress=False)
    table = datasets.load("market1501", root)
    return table[(table["subset"] != "train") & (table["person_id"] > 0)].drop(columns="dataset")


@pytest.mark.parametrize("with_timm, cameras", [(True, True), (False, False)])
def test_pictures_become_a_reranked_rank_list(with_timm, cameras, book, pictures, tmp_path, monkeypatch, capsys):
    if with_timm:
        pytest.importorskip("timm", reason="timm is not installed")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: (name != "timm" or with_timm) and found(name))
    monkeypatch.setenv("REID_CORE_CACHE", str(tmp_path / "cache"))
    matplotlib.use("Agg")
    csv, output = tmp_path / "pictures.csv", tmp_path / "out"
    pictures.assign(**({} if cameras else {"camera_id": ""})).to_csv(csv, index=False)
    given = {"data_root": str(tmp_path), "pictures": csv.name, "output": str(output), "name": "resnet18",
             "pretrained": False, "size": [64, 32], "k1": 5, "k2": 2, "row": 3}  # fmt: skip
    assert given.keys() <= notebooks.declared(PATH).keys()
    space = {}
    for cell in book.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, str(PATH), "exec"), space)
            space.update(given if cell.metadata.get("tags") else {})
    matplotlib.pyplot.close(space["figure"])
    assert type(space["network"]).__module__.startswith("timm." if with_timm else "torchvision.")
    assert ("timm is not installed" in capsys.readouterr().out) is not with_timm
    ranking = pd.read_csv(output / "ranklist.csv")
    counted = ranking["rank"].dropna().to_numpy()
    np.testing.assert_array_equal(counted, np.arange(1, len(counted) + 1))
    person = pictures.set_index("image_path")["person_id"]
    asked = space["query"].table.iloc[3]["person_id"]
    assert (ranking["is_match"] == (ranking["image_path"].map(person) == asked))[ranking["rank"].notna()].all()
    assert 0 < space["result"].mAP <= 1 and space["result"].protocol == ("market" if cameras else "no_cameras")
    assert space["vectors"].values.shape == (len(pictures), 512)
    assert Image.open(output / "ranklist.png").width > 500
