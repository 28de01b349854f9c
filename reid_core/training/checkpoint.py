"""Checkpoints: all that a run needs to continue to the bit, as safetensors + JSON, written whole or not at all.

A checkpoint of iteration i is `checkpoints/<i>.safetensors` (weights, momentum, generator states, losses so far)
and `checkpoints/<i>.json`, written last, with the tensors' digest and whatever is no tensor. The last two are
kept, so a damaged newest one costs `checkpoint_every` iterations, not the run.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from reid_core import files, weight_files

KEPT = 2
# What optimisers remember of a parameter (SGD the first, Adam the others): its name here, and in the optimiser's state.
_MEMORY = {"momentum": "momentum_buffer", "mean": "exp_avg", "square": "exp_avg_sq", "steps": "step"}


@dataclass
class State:
    """What changes from one iteration to the next: weights, what the optimiser remembers, generators, losses, time."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    losses: np.ndarray  # (iterations, heads) float32, each before its update; those from `iteration` on are still 0
    seconds: np.ndarray  # (iterations,) float64, the training time up to each iteration's end
    iteration: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, but for the loss scaling."""
        state = {f"network.{name}": x for name, x in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            remembered = self.optimizer.state.get(parameter, {})
            state |= {f"{key}.{name}": remembered[own] for key, own in _MEMORY.items() if own in remembered}
        state["generator.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            state["generator.cuda"] = torch.cuda.get_rng_state(self.device)
        state["losses"] = torch.from_numpy(self.losses[: self.iteration])
        state["seconds"] = torch.from_numpy(self.seconds[: self.iteration])
        return state

    def take(self, tensors: dict[str, Tensor], facts: dict, where: str, expected: str, remedy: str) -> None:
        """Go back to what `latest` gave; ValueError, with file, expected content and remedy, if another network's."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}

        weight_files.load_state(self.network, part("network."), where, expected, remedy)
        parameters = dict(self.network.named_parameters())
        for key, own in _MEMORY.items():
            for name, x in part(f"{key}.").items():
                # Copied into the buffer there is, whose layout is the parameter's, as the fused update expects.
                self.optimizer.state[parameters[name]][own].copy_(x)
        self.scaler.load_state_dict(facts["scaler"])
        torch.set_rng_state(tensors["generator.cpu"])
        if "generator.cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["generator.cuda"], self.device)
        self.iteration = facts["iteration"]
        self.losses[: self.iteration] = tensors["losses"].numpy()
        self.seconds[: self.iteration] = tensors["seconds"].numpy()


def path(folder: Path, iteration: int) -> Path:
    """The tensors' file of a checkpoint."""
    return folder / f"{iteration:08d}.safetensors"


def save(folder: Path, state: State, facts: dict) -> None:
    """Write the checkpoint of a state, with `facts` in its record, then remove all but it and the one before.

    Those of later iterations go, too: they are damaged, and `latest` passed over them to continue from here.
    Raises OSError, before anything is written, when the disk is too full for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors, target = state.tensors(), path(folder, state.iteration)
    files.require_space(folder, sum(x.nbytes for x in tensors.values()) + 2**20, "a checkpoint")
    files.write_tensors(target, tensors)
    written = {"iteration": state.iteration, "sha256": files.digest(target), "scaler": state.scaler.state_dict()}
    files.write_text(target.with_suffix(".json"), json.dumps(written | facts, indent=1) + "\n")
    kept = sorted(record.stem for record in folder.glob("*.json") if record.stem <= target.stem)[-KEPT:]
    for old in folder.iterdir():
        if old.is_file() and old.stem not in kept:
            old.unlink()


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
