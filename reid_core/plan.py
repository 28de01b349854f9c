"""What a profile will do, before it does it: its runs, their time and disk, and what is missing."""

import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from reid_core import experiment, model, paper, training
from reid_core.datasets import embedded
from reid_core.provenance import device_name
from reid_core.reproduce import duration
from reid_core.training import run_folder

EFFICIENCY = (
    0.35  # share of a large matrix product's rate that a training step reaches, where nothing was measured
)


def describe(settings: Mapping[str, object]) -> str:
    """The plan of a profile as text. Starts nothing; on a device without earlier runs it times one matrix product.

    Expected times come from finished runs of the same results folder where there are some, else from counted
    floating-point operations and the device's rate for a large matrix product.
    """
    lines = [f"Profile {settings['profile']}: results in {settings['results_root']}, device {device_name()}"]
    lines += ["", "Data"] + _data(settings)
    lines += ["", "Trainings"] + _trainings(settings)
    lines += ["", "Disk"] + _disk(settings)
    return "\n".join(lines)


def _data(settings: Mapping) -> list[str]:
    root = experiment.resolve(settings["data_root"])
    if settings["render_sizes"] != "none":
        there = (root / "embedded.json").is_file()
        return [
            f"  {root}: embedded data, {'there' if there else 'will be rendered'} ({settings['render_sizes']})"
        ]
    missing = experiment.not_run(root)
    return [f"  {name:<16} {missing.get(name, 'found')}" for name in (*paper.SETS, "cuhk01")]


def _trainings(settings: Mapping) -> list[str]:
    lines, total = [], 0.0
    rate = None
    for seed in settings["seeds"]:
        for name, train_set in experiment.trainings():
            folder = experiment.run_folder(settings["results_root"], name, train_set, seed)
            schedule = settings["schedules"][train_set]
            recipe = training.Recipe.from_dict({**settings["recipe"], **schedule, "seed": seed})
            if (folder / run_folder.RUN).is_file() and run_folder.read(folder)["finished"]:
                run = run_folder.read(folder)
                lines.append(
                    f"  {folder.name:<34} {recipe.iterations:>7} iterations  done in {duration(run['seconds'])}"
                )
                continue
            rate = rate or matrix_rate()
            flops = step_flops(name, recipe) * recipe.iterations
            seconds = flops / (EFFICIENCY * rate)
            total += seconds
            lines.append(
                f"  {folder.name:<34} {recipe.iterations:>7} iterations  about {duration(seconds)}, {flops:.1e} flop"
            )
    if rate:
        lines.append(
            f"  still to train: about {duration(total)}, taking {EFFICIENCY:.0%} of this device's {rate / 1e12:.2f}"
            " Tflop/s for a large float32 product; a guess within a factor of two"
        )
    return lines


def _disk(settings: Mapping) -> list[str]:
    recipe = training.Recipe.from_dict({**settings["recipe"], **settings["schedules"][paper.COMBINED]})
    sizes = (
        embedded.Sizes.full()
        if settings["render_sizes"] == "none"
        else embedded.Sizes.named(settings["render_sizes"])
    )
    images = sizes.images
    runs = len(experiment.trainings()) * len(settings["seeds"])
    network = model.HCN(2489, recipe.backbone, **recipe.network_settings())
    weights = 4 * sum(parameter.numel() for parameter in network.parameters())
    decoded = 2 * images * recipe.height * recipe.width * 3
    stored = 3 * runs * weights
    vectors = 2 * images * network.widths["r5"] * 4 * len(settings["seeds"]) * 3
    need = decoded + stored + vectors
    free = shutil.disk_usage(_existing(experiment.resolve(settings["results_root"]))).free
    lines = [
        f"  decoded images {_size(decoded)}, weights and checkpoints {_size(stored)}, features {_size(vectors)}",
        f"  {_size(need)} in all; {_size(free)} free",
    ]
    return lines + (
        [f"  NOT ENOUGH: free {_size(need - free)} more, or set data and results elsewhere"]
        if need > free
        else []
    )


def step_flops(name: str, recipe: training.Recipe) -> float:
    """Floating-point operations (a multiply-add is two) of one training iteration, forward and backward."""
    with torch.device("meta"):
        network = model.MODELS[name](1000, recipe.backbone, **recipe.network_settings())
        images = torch.empty(recipe.batch_size, 3, recipe.height, recipe.width)
    with FlopCounterMode(display=False) as counter:
        sum(logits.sum() for logits in network(images).values()).backward()
    return float(counter.get_total_flops())


def matrix_rate(size: int = 2048) -> float:
    """Floating-point operations a second of a float32 matrix product on the training device, best of three."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(size, size, device=device)
    best = math.inf
    for _ in range(4):
        started = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _size(number: float) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
