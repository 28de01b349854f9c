"""What a profile will do, before it does it: its runs, their time and disk, and what is missing."""

import functools
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from reid_core import machine, training
from reid_core.machine import device_name
from reid_core.training import device_fit, run_folder
from reproduction import embedded, experiment, paper, speed
from reproduction.runner import preflight, profiles
from reproduction.words import duration

# Share of a large matrix product's rate that a training step is taken to reach, where nothing was measured: two CPU
# cores reached between half and two thirds. A GPU's tensor cores mostly wait for memory: an H200's reached 4 to 7%.
EFFICIENCY, EFFICIENCY_OF_TENSOR_CORES = 0.35, 0.1
SECOND, REST = 1.0, 2.5  # what a start measures for; a smoke run's time over its trainings', alone on two cores


def describe(settings: Mapping[str, object], measure: float = 0.0) -> str:
    """The plan of a profile as text. Starts nothing.

    Expected times come from `measure` seconds of steady training of each model on noise, if above 0; else from finished
    runs of the same results folder; else from counted floating-point operations and the device's rate for one large
    matrix product in the recipe's precision, which is timed. Raises ValueError where `schedules` lacks a set, and for
    a card that cannot be used (`preflight.check`)."""
    profiles.check_schedules(settings)
    preflight.check(settings)
    lines = [f"Profile {settings['profile']}: results in {settings['results_root']}, device {device_name()}"]
    lines += ["", "Data"] + _data(settings)
    lines += ["", "Trainings"] + _trainings(settings, measure)[0]
    lines += ["", "Disk"] + _disk(settings)
    return "\n".join(lines)


def _data(settings: Mapping) -> list[str]:
    root = experiment.resolve(settings["data_root"])
    if settings["render_sizes"] != "none":
        there = (root / "embedded.json").is_file()
        return [f"  {root}: embedded data, {'there' if there else 'will be rendered'} ({settings['render_sizes']})"]
    missing = experiment.Experiment.of(settings).not_run
    return [f"  {name:<16} {missing.get(name, 'found')}" for name in (*paper.SETS, "cuhk01")]


def jobs(settings: Mapping) -> list[tuple[str, training.Recipe, Path]]:
    """(model, recipe, run folder) of every training: those of the paper for every seed, then 10_sensitivity's."""
    kit = experiment.Experiment.of(settings)
    jobs = [
        (name, _recipe(settings, train_set, seed), kit.run(name, train_set, seed).folder)
        for seed in settings["seeds"]
        for name, train_set in experiment.trainings()
    ]
    known = {folder for *_, folder in jobs}
    study = [run for run in profiles.study(settings).runs if run.folder not in known]
    return jobs + [(run.model, run.recipe, run.folder) for run in study]


def expected(settings: Mapping[str, object]) -> str | None:
    """How long a profile's trainings and the rest will take on this device, in a sentence, at the start of a run.

    Small networks on the CPU are trained for a second each; else as `describe` does without `measure`. None where
    nothing is to be trained."""
    measured = settings["render_sizes"] in ("smoke", "tiny") and machine.choose(None).type == "cpu"
    seconds = sum(_trainings(settings, SECOND if measured else 0.0)[1].values())
    how = "from a second of training of each model" if measured else "a guess, see reid-core plan"
    longest = duration(seconds * REST) if measured else f"{duration(seconds)} for the trainings alone"
    return f"Expected here: about {longest} ({how})." if seconds else None


def seconds_of_runs(settings: Mapping[str, object]) -> dict[str, float]:
    """{run below `runs/`: seconds that it will take}, of those still to train."""
    below = experiment.resolve(settings["results_root"]) / "runs"
    return {folder.relative_to(below).as_posix(): time for folder, time in _trainings(settings, 0.0)[1].items()}


def _trainings(settings: Mapping, measure: float) -> tuple[list[str], dict[Path, float]]:
    """Lines on every training, and the seconds of those still to run, by their folders."""
    every = jobs(settings)
    there = {folder: run_folder.read(folder) for *_, folder in every if (folder / run_folder.RUN).is_file()}
    done = {folder: run for folder, run in there.items() if run.get("finished")}
    own = [run for folder, run in done.items() if folder.parent.name == "runs"]
    speeds, said = _speeds(settings, measure, own) if len(done) < len(every) else ({}, [])
    lines, times, rate = [], {}, None
    for name, recipe, folder in every:
        line = f"  {folder.name:<42} {recipe.iterations:>7} iterations  "
        if folder in done:
            lines.append(line + f"done in {duration(done[folder]['seconds'])}")
            continue
        flops = step_flops(name, replace(recipe, seed=0))
        if name not in speeds and rate is None:
            rate, sentence = _guessed_rate(recipe)
            said.append(("others: " if speeds else "") + sentence)
        if name in speeds:  # a variant's iteration takes as much longer as it has more arithmetic
            each = speeds[name] * flops / step_flops(name, _recipe(settings, paper.COMBINED, 0))
        else:
            each = flops / rate
        times[folder] = seconds = recipe.iterations * each
        lines.append(line + f"about {duration(seconds)}, {recipe.iterations * flops:.1e} flop")
    if len(done) < len(every):
        lines += [f"  still to train: about {duration(sum(times.values()))}", *(f"  {sentence}" for sentence in said)]
    return lines, times


def _guessed_rate(recipe: training.Recipe) -> tuple[float, str]:
    """Floating-point operations a second that a training is taken to reach on this device, and a sentence on it."""
    device = machine.choose(None)
    if recipe.precision == "bf16":  # where it is emulated, a product in bf16 might take minutes
        recipe = replace(recipe, precision="auto")
    precision = device_fit.precision(recipe, device)
    peak, arithmetic = speed.matrix_rate(precision, device), speed.arithmetic(precision, device)
    share, trust = EFFICIENCY, "a guess within a factor of two"
    if device.type == "cuda" and arithmetic != "float32":
        share, trust = EFFICIENCY_OF_TENSOR_CORES, "a guess that can be several times off"
    return share * peak, (
        f"taking {share:.0%} of this device's {peak / 1e12:.2f} Tflop/s for a large {arithmetic} product; {trust},"
        " which --measure 60 replaces"
    )


def _recipe(settings: Mapping, train_set: str, seed: int) -> training.Recipe:
    return training.Recipe.from_dict({**settings["recipe"], **settings["schedules"][train_set], "seed": seed})


def _speeds(settings: Mapping, measure: float, done: list[dict]) -> tuple[dict[str, float], list[str]]:
    """{model: seconds an iteration} as far as known, and sentences on how."""
    recipe = _recipe(settings, paper.COMBINED, 0)
    if measure > 0:
        turns = {"turns": 2} if measure <= SECOND else {}
        found = speed.measure(recipe, paper.TABLE1["Combined"][1], seconds=measure, **turns)
        said = [
            f"{line.model}, {line.form} form: {line.seconds_per_iteration:.4g} s an iteration"
            f" ({line.fastest_turn:.4g} to {line.slowest_turn:.4g}), {line.precision},"
            f" {recipe.batch_size / line.seconds_per_iteration:.4g} images/s"
            for line in found.itertuples()
        ]
        said.append(f"projected from {measure:g} s of steady training of each on {device_name()}, images of noise")
        found = found.sort_values("form", key=lambda forms: forms != recipe.heads, kind="stable")
        return found.drop_duplicates("model").set_index("model")["seconds_per_iteration"].to_dict(), said
    each = [run["seconds"] / run["recipe"]["iterations"] for run in done]
    found = pd.Series(each, index=[run["model"] for run in done], dtype=float)
    speeds = found.groupby(level=0).median().to_dict()
    return speeds, [f"{' and '.join(speeds)}: as in the finished runs, the median of each"] if speeds else []


def _disk(settings: Mapping) -> list[str]:
    recipe, named = _recipe(settings, paper.COMBINED, 0), settings["render_sizes"]
    images = (embedded.Sizes.full() if named == "none" else embedded.Sizes.named(named)).images
    runs = len(jobs(settings))
    network = recipe.network("hcn", 2489)
    weights = 4 * sum(parameter.numel() for parameter in network.parameters())
    decoded = 2 * images * recipe.height * recipe.width * 3
    stored = 3 * runs * weights
    seeds = len(settings["seeds"])
    further = runs - len(experiment.trainings()) * seeds  # of 10_sensitivity, each scored on one set of three
    vectors = images * network.widths["r5"] * 4 * (6 * seeds + further / 3)
    need = decoded + stored + vectors
    results = experiment.resolve(settings["results_root"])
    free = shutil.disk_usage(next(path for path in (results, *results.parents) if path.exists())).free
    lacking = f"  NOT ENOUGH: free {_size(need - free)} more, or set data and results elsewhere"
    return [
        f"  decoded images {_size(decoded)}, weights and checkpoints {_size(stored)}, features {_size(vectors)}",
        f"  {_size(need)} in all; {_size(free)} free",
        *([lacking] if need > free else []),
    ]


@functools.cache
def step_flops(name: str, recipe: training.Recipe) -> float:
    """Floating-point operations (a multiply-add is two) of one training iteration, forward and backward."""
    with torch.device("meta"):
        network = recipe.network(name, 1000)
        images = torch.empty(recipe.batch_size, 3, recipe.height, recipe.width)
    with FlopCounterMode(display=False) as counter:
        sum(logits.sum() for logits in network(images).values()).backward()
    return float(counter.get_total_flops())


def _size(number: float) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
