"""Checkpoints: all that a run needs to continue to the bit, as safetensors + JSON, written whole or not at all.

A checkpoint of iteration i is `checkpoints/<i>.safetensors` (weights, momentum, generator states, losses so far)
and `checkpoints/<i>.json`, written last, with the tensors' digest and whatever is no tensor. The last two are
kept, so a damaged newest one costs `checkpoint_every` iterations, not the run.
"""

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from reid_core import files

KEPT = 2


def path(folder: Path, iteration: int) -> Path:
    """The tensors' file of a checkpoint."""
    return folder / f"{iteration:08d}.safetensors"


def save(folder: Path, iteration: int, tensors: dict[str, Tensor], facts: dict) -> None:
    """Write the checkpoint of an iteration, then remove all but the last two.

    Raises OSError, before anything is written, when the disk is too full for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(x.numel() * x.element_size() for x in tensors.values())
    files.require_space(folder, size + 2**20, "a checkpoint")
    target = path(folder, iteration)
    files.write_tensors(target, tensors)
    record = {"iteration": iteration, "sha256": files.digest(target), **facts}
    files.write_text(target.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    kept = sorted(record.stem for record in folder.glob("*.json"))[-KEPT:]
    for old in folder.iterdir():
        if old.is_file() and old.stem not in kept:
            old.unlink()


def drop_after(folder: Path, iteration: int) -> None:
    """Remove the checkpoints of later iterations: damaged ones, which `latest` passed over to continue from here.

    Otherwise `save`, which keeps the last two, would count them and remove whole ones.
    """
    for file in folder.glob("*.*"):
        if file.stem.isdigit() and int(file.stem) > iteration:
            file.unlink()


def latest(folder: Path, say: Callable[[str], None]) -> tuple[dict[str, Tensor], dict] | None:
    """Tensors and facts of the newest whole checkpoint, or None; `say` hears of each damaged one passed over."""
    records = sorted(folder.glob("*.json"), reverse=True)
    for record in records:
        tensors = record.with_suffix(".safetensors")
        try:
            facts = json.loads(record.read_text())
            if files.digest(tensors) != facts["sha256"]:
                raise ValueError("its digest does not match")
            return load_file(tensors), facts
        except (OSError, ValueError, KeyError) as error:
            say(f"Checkpoint {tensors} is damaged ({error}); falling back to the one before.")
    if records:
        say(f"No whole checkpoint is left in {folder}; starting from the beginning.")
    return None
