"""The backbone that `weights: embedded` starts from: trained on thousands of rendered people whom no set shows.

On real photographs a network begins with ImageNet's weights. Embedded data has none, so its networks begin with a
baseline (`reid_core.model`) that has learnt to tell apart people of other render seeds than the sets': other people,
other cameras. The file for profile smoke's network comes with the package; for another backbone
or image size it is trained once, in the cache. `python -m reproduction.embedded.pretraining FILE` makes it again.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reid_core import datasets, files, machine, training, weight_files
from reid_core.datasets.layout import EMBEDDED_MARK
from reid_core.datasets.table import DATASET, DISTRACTOR, LABEL, PERSON, SUBSET, TRAIN, cache_root
from reid_core.training import run_folder
from reproduction.embedded.rendering import VERSION, render
from reproduction.embedded.sizes import CUHK01Sizes, Market1501Sizes, Sizes, cuhk03_share
from reproduction.embedded.strengths import Strengths
from reproduction.sidecar import REPOSITORY

EMBEDDED = "embedded"
SEEDS = tuple(range(1001, 1009))  # of rendering; the sets' own are below 1000
SIZES = Sizes(Market1501Sizes(200, 1300, 2, 4, 8, 0, 0), cuhk03_share(150), CUHK01Sizes(100))
STRENGTHS = Strengths(drawn=1 / 3)
RECIPE = {
    "weights": "random", "batchnorm": "live", "dropout": 0.2, "batch_size": 64, "iterations": 3400, "base_lr": 0.05,
    "lr_schedule": "cosine", "lr_warmup": 100, "crop_padding": 4, "checkpoint_every": 200, "seed": 1000,
}  # fmt: skip
NETWORK = ("backbone", "height", "width")  # what a file is for
PACKAGED = Path(__file__).parent


@dataclass(frozen=True)
class Data:
    """What to pretrain on: a rendering a seed, all of its people in all of its sets, whichever subset they are in."""

    seeds: tuple[int, ...] = SEEDS
    sizes: Sizes = SIZES

    def table(self, root: Path) -> pd.DataFrame:
        """Labelled training images below `root`, rendered there where they are not yet."""
        parts = []
        for seed in self.seeds:
            place = render(root / str(seed), self.sizes, seed, strengths=STRENGTHS)
            boxes = [("cuhk03", {"boxes": "labeled"}), ("cuhk03", {"boxes": "detected"})]
            for name, options in [("market1501", {}), *boxes, ("cuhk01", {})]:
                parts.append(datasets.load(name, place, **options).assign(**{DATASET: f"{name}-{seed}"}))
        mark = {"pretraining": True, "seeds": self.seeds, "sizes": self.sizes.as_dict()}
        files.write_text(root / EMBEDDED_MARK, json.dumps(mark))
        found = pd.concat(parts, ignore_index=True)
        found = found[found[PERSON] > DISTRACTOR].assign(**{SUBSET: TRAIN}).reset_index(drop=True)
        return found.assign(**{LABEL: found.groupby([DATASET, PERSON]).ngroup()})


def located(network: training.Recipe) -> Path:
    """Where the file for a recipe's backbone and image size lies, or will: in the package, or in the cache."""
    name = f"rendered-people-{network.backbone}-{network.height}x{network.width}.safetensors"
    own = PACKAGED / name
    return own if own.is_file() else cache_root() / "pretraining" / f"v{VERSION}" / name


def recipe(settings: Mapping[str, object]) -> training.Recipe:
    """The recipe of a profile's settings; of `weights: embedded` the file takes the place, made where it is not yet.

    Raises what `training.Recipe.from_dict` raises."""
    asked = training.Recipe.from_dict(dict(settings))
    if asked.weights != EMBEDDED:
        return asked
    path = located(asked)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(path.with_suffix(".lock")):  # trainings may begin at once: the others wait for the first
            if not path.is_file():
                pretrain(path, asked)
    packaged = path.is_relative_to(REPOSITORY)  # by its place in the package, wherever that is installed
    return dataclasses.replace(asked, weights=str(path.relative_to(REPOSITORY) if packaged else path))


def pretrain(path: Path, network: training.Recipe, data: Data | None = None, **changes) -> Path:
    """Train a backbone and write it as 16-bit floats, with what it was made from; return the file.

    Parameters
    ----------
    path : the file, .safetensors. The run and the rendering lie beside the cache's other derived files.
    network : a recipe whose backbone, height, width, precision and CUDA graph are taken.
    data : people and images; None for those of the packaged file.
    changes : settings of the recipe other than RECIPE's.
    """
    data = data or Data()
    place = cache_root() / "pretraining" / f"v{VERSION}"
    of_network = {key: getattr(network, key) for key in (*NETWORK, "precision", "cuda_graph")}
    settings = training.Recipe.from_dict(RECIPE | of_network | changes)
    images = data.table(place / "data")
    run = training.train("baseline", images, place / path.stem, recipe=settings, data_root=place / "data",
                         other_recipe="set_aside")  # fmt: skip
    record, prefix = run_folder.read(run), "backbone."
    state = weight_files.read(run / run_folder.WEIGHTS)
    backbone = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
    backbone = {name: x.half() if x.is_floating_point() else x for name, x in backbone.items()}
    facts = {
        "about": "pretrained on rendered people", "renderer_version": VERSION, "seeds": data.seeds,
        "strengths": dataclasses.asdict(STRENGTHS), "people": record["num_classes"], "images": record["images"],
        "sizes": data.sizes.as_dict(), "recipe": record["recipe"], "commit": machine.commit(),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_tensors(path, backbone, {key: json.dumps(value) for key, value in facts.items()})
    return path


if __name__ == "__main__":
    pretrain(Path(sys.argv[1]), training.Recipe(backbone="resnet18", height=64, width=32))
