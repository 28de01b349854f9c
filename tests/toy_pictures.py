"""Small pictures of made-up people and a thin network to match, for tests of training and features."""

from pathlib import Path

import numpy as np
import pandas as pd
import torchvision
from PIL import Image

from reid_core import datasets, model
from reid_core.datasets import table as image_table


class ThinResNet(torchvision.models.ResNet):
    """ResNet-18's structure at an eighth of its channels (8, 16, 32, 64) with one block a stage."""

    def __init__(self):
        super().__init__(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])

    def _make_layer(self, block, planes, *arguments, **options):
        return super()._make_layer(block, planes // 8, *arguments, **options)


def make_backbones_thin() -> None:
    """Every backbone made from now on is thin, whatever its name."""

    def backbone(name: str) -> ThinResNet:
        network = ThinResNet()
        del network.fc, network.avgpool
        return network

    model._backbone = backbone


def write(root: Path, people: int = 6, images: int = 4) -> pd.DataFrame:
    """Write JPEGs of 64x32 pixels, a colour pattern a person under noise; return the labelled training table."""
    rng = np.random.default_rng(7)
    rows = []
    (root / "toy").mkdir(parents=True)
    for person in range(1, people + 1):
        pattern = rng.integers(0, 255, (4, 2, 3))
        for i in range(images):
            path = root / "toy" / f"{person:04d}_{i}.jpg"
            pixels = np.kron(pattern, np.ones((16, 16, 1))) + rng.normal(0, 25, (64, 32, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            rows.append(("market1501", image_table.TRAIN, person, 1 + i % 2, str(path)))
    return datasets.combine({"market1501": pd.DataFrame(rows, columns=list(image_table.COLUMNS))})
