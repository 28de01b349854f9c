"""The run folder, which explains itself: run.json, weights.safetensors, loss.csv, timing.csv, labels.csv.

While a run is under way run.json says `"finished": false` and checkpoints/ holds the last two checkpoints. At the
end the weights and tables are written, then run.json with `"finished": true`, then the checkpoints are removed.
loss.csv holds nothing but losses, so an interrupted and an uninterrupted run write the same bytes; the seconds
that each iteration ended at are in timing.csv.
"""

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from reid_core import files, model, weight_files
from reid_core.training.checkpoint import State
from reid_core.training.recipe import Recipe

RUN, WEIGHTS, CHECKPOINTS = "run.json", "weights.safetensors", "checkpoints"
LOSS, TIMING, LABELS = "loss.csv", "timing.csv", "labels.csv"
INITIAL, *_ = STARTED_FROM = ("initial_weights_digest", "initial_weights_note", "initial_weights_about")
OF_A_CHECKPOINT = ("model", "num_classes", "data_digest", *STARTED_FROM)  # said of its run, beside the recipe
_IDENTITY = ("model", "num_classes", "images", "data_digest", "settings")


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the folder's lock, at the longest until the process ends; RuntimeError when another process holds it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    busy = RuntimeError(f"Another process is training in {run_dir}; wait for it, or choose another folder.")
    with files.locked(run_dir / ".lock", busy) as alone:
        for folder in (run_dir, run_dir / CHECKPOINTS):
            files.remove_dead(folder, alone=alone)
        yield


def read(run_dir: str | Path) -> dict[str, Any]:
    """What run.json says. Raises FileNotFoundError or ValueError where it is missing or broken."""
    path = Path(run_dir) / RUN
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir} is no run folder, without {RUN}. Train first (notebook 02_train).")
    try:
        if not isinstance(found := json.loads(path.read_text()), dict):
            raise ValueError(f"it holds {found!r:.40}")
        return found
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); move the folder aside and train again.") from error


def finished(run_dir: Path) -> bool:
    return (run_dir / RUN).exists() and bool(read(run_dir).get("finished"))


def differences(run_dir: Path, identity: dict[str, Any], recipe: Recipe) -> list[str]:
    """How the run in a folder differs from the one asked for; empty for the same run, or where there is none."""
    if not (run_dir / RUN).exists():
        strangers = [p.name for p in run_dir.glob("*") if not p.name.startswith(".")]
        return [f"it holds {strangers[0]} and no {RUN}"] if strangers else []
    there = read(run_dir)
    if not (done := finished(run_dir)) and not any((run_dir / CHECKPOINTS).glob("*.json")):
        return []  # it stopped before its first checkpoint: nothing would be lost
    lost = []
    if done:
        lost = [f"{name} is not there" for name in (WEIGHTS, LOSS, TIMING, LABELS) if not (run_dir / name).is_file()]
        if (known := there.get("weights_digest")) and not lost and files.digest(run_dir / WEIGHTS) != known:
            lost = [f"{WEIGHTS} is not what the run wrote"]
    return unlike(there, identity, recipe, _IDENTITY) + lost


def unlike(there: dict[str, Any], asked: dict[str, Any], recipe: Recipe, names: tuple[str, ...]) -> list[str]:
    """How the facts `there` (run.json's or a checkpoint's) differ from those asked for in `names` and recipe, each.

    Initial weights are the same where their content is, wherever the file lies now; by name only where one of the two
    digests is not known: in a run of an older version of the kit, or without the file.
    """
    names = [name for name in names if there.get(name) != asked.get(name) and name not in STARTED_FROM]
    found = [f"{name}: {there.get(name)!r} there, {asked.get(name)!r} asked for" for name in names]
    settings, weights = dict(there.get("recipe", {})), [record.get(INITIAL) for record in (there, asked)]
    if all(weights):
        settings["weights"] = recipe.weights
        if weights[0] != weights[1]:
            found += [f"initial weights: SHA-256 {weights[0][:16]}... there, {weights[1][:16]}... asked for"]
    return found + recipe.differences(settings)


def settle(run_dir: Path, identity: dict[str, Any], recipe: Recipe, other_recipe: str) -> None:
    """Make sure the folder holds this run or none: refuse another run, or move its folder aside and say so.

    Raises ValueError with the differences, or for an `other_recipe` other than "refuse" and "set_aside"."""
    if other_recipe not in ("refuse", "set_aside"):
        raise ValueError(f'other_recipe must be "refuse" or "set_aside", not {other_recipe!r}.')
    if not (found := differences(run_dir, identity, recipe)):
        return
    if other_recipe == "refuse":
        remedy = 'Choose another folder, or have this one moved aside with other_recipe="set_aside"'
        raise ValueError(f"{run_dir} holds another run: {'; '.join(found)}. {remedy}.")
    with locked(run_dir):
        first = aside = run_dir.with_name(f"{run_dir.name}.aside-{time.strftime('%Y%m%d-%H%M%S')}")
        numbers = itertools.count(1)
        while aside.exists():
            aside = first.with_name(f"{first.name}-{next(numbers)}")
        os.rename(run_dir, aside)
    print(f"{run_dir} held another run ({'; '.join(found)}); it is now {aside}.", file=sys.stderr)


def write_run(run_dir: Path, facts: dict[str, Any]) -> None:
    files.write_text(run_dir / RUN, json.dumps(facts, indent=2) + "\n")


def write_losses(run_dir: Path, state: State, heads: list[str], recipe: Recipe) -> None:
    """loss.csv and timing.csv of the iterations so far."""
    losses, seconds = state.losses[: state.iteration], state.seconds[: state.iteration]
    weights = np.array([recipe.loss_weight(i) for i in range(len(heads))], np.float32)
    iterations = np.arange(1, len(losses) + 1)
    table = pd.DataFrame({"iteration": iterations, "loss": losses @ weights})
    for name in dict.fromkeys((*model.HEADS, *heads)):
        table[f"loss_{name}"] = losses[:, heads.index(name)] if name in heads else np.nan
    _write_table(run_dir / LOSS, table)
    _write_table(run_dir / TIMING, pd.DataFrame({"iteration": iterations, "seconds": seconds.round(6)}))


def write_labels(run_dir: Path, labels: pd.DataFrame) -> None:
    """labels.csv: label, dataset, person_id, one row a class."""
    _write_table(run_dir / LABELS, labels.sort_values("label"))


def _write_table(path: Path, table: pd.DataFrame) -> None:
    with files.replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def loss_curve(run_dir: str | Path) -> pd.DataFrame:
    """Losses by iteration, as Figure 3 draws them, one row an iteration.

    Columns: iteration (1, 2, ...), loss (the weighted sum), loss_r5, loss_c1, loss_c2 (of that iteration's batch,
    before its update; NaN for the baseline's missing heads) and seconds, the training time up to its end.
    """
    read(run_dir)
    loss, timing = (pd.read_csv(Path(run_dir) / name) for name in (LOSS, TIMING))
    return loss.merge(timing, on="iteration")


def load_network(run_dir: str | Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The trained network, in evaluation mode on the CPU, and what run.json says.

    Raises FileNotFoundError for no run, ValueError for an unfinished one or other weights (model, number of classes).
    """
    run_dir, facts = Path(run_dir), read(run_dir)
    if not facts.get("finished"):
        raise ValueError(f"The run in {run_dir} is not finished; start it again: the same command continues.")
    with torch.device("meta"):  # to draw initial weights takes longer than to read those that were trained
        network = Recipe.from_dict(facts["recipe"]).network(facts["model"], facts["num_classes"])
    network.to_empty(device="cpu")
    state, sha = weight_files.read(run_dir / WEIGHTS), files.digest(run_dir / WEIGHTS)
    expected = f"the {facts['model']} of {facts['num_classes']} classes that {RUN} describes"
    remedy = f"Put back the {WEIGHTS} that this run wrote, or move {run_dir} aside and train again."
    weight_files.load_state(network, state, str(run_dir / WEIGHTS), expected, remedy)
    if sha != facts.get("weights_digest", sha):
        raise ValueError(f"{run_dir / WEIGHTS} is not the file that the run wrote (its SHA-256 is {sha}). {remedy}")
    return network.eval(), facts
