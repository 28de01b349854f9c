"""data/README.md: its example of own data runs through every stage, its numbers are the published ones."""

import re
from pathlib import Path

import official_structure
import pytest

from reid_core import datasets
from reid_core.datasets import layout
from reproduction.intake import published

README = (Path(__file__).parents[3] / "data" / "README.md").read_text()


def example_csv():
    block = re.search(r"\n\n((?:    .*\n)*    image_path,.*\n(?:    .*\n)+)", README)[1]
    return "".join(line[4:] + "\n" for line in block.splitlines())


def test_the_csv_example_loads(tmp_path):
    (tmp_path / "shop.csv").write_text(example_csv())
    names = re.findall(r"images/[\w.-]+", example_csv())
    official_structure._write(tmp_path, [], [])
    (tmp_path / "images").mkdir()
    for name, content in zip(names, official_structure.encoded("jpeg", count=len(names)), strict=True):
        (tmp_path / name).write_bytes(content)
    table = datasets.load("shop.csv", tmp_path)
    assert table["subset"].tolist() == ["train", "train", "query", "gallery", "gallery"]
    assert table["person_id"].tolist() == [1, 1, 2, 2, 0]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_python_example_runs_through_every_stage(tmp_path, capsys):
    pictures = official_structure.encoded("jpeg", count=64)
    lines = ["image_path,person_id,camera_id,subset"]
    for person in range(1, 9):
        subset = ("train", "train") if person <= 5 else ("query", "gallery")
        for image in range(4):
            name = f"{person}_{image}.jpg"
            (tmp_path / name).write_bytes(pictures[4 * (person - 1) + image])
            lines.append(f"{name},{person},{1 + image % 2},{subset[image % 2]}")
    (tmp_path / "shop.csv").write_text("\n".join(lines))
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    tiny = 'backbone="resnet18", weights="random", batchnorm="live", height=32, width=32, iterations=2, batch_size=4'
    for old, new in (
        ('weights="imagenet", iterations=20000', tiny),
        ('"data"', repr(str(tmp_path))),
        ('"results/shop/hcn"', repr(str(tmp_path / "run"))),
    ):
        assert old in code
        code = code.replace(old, new)
    exec(code, {})
    assert re.search(r"rank-1 \d+\.\d%, mAP \d+\.\d% \(trapezoid AP\)", capsys.readouterr().out)


def test_the_numbers_and_places_are_the_ones_of_the_code():
    for name, facts in published.SETS.items():
        title = {"market1501": "Market-1501", "cuhk01": "CUHK01"}.get(name, name.replace("cuhk03_", "CUHK03 "))
        line = next(line for line in README.splitlines() if line.startswith(f"| {title} |"))
        for subset in facts.values():
            assert f"{subset.images:,}" in line
    for place in (layout.MARKET1501_FOLDER, layout.CUHK03_MAT, layout.CUHK01_FOLDER, layout.DISTRACTORS_FOLDER):
        assert f"── {place}" in README
