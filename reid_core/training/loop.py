"""Train a task - Section 3.1: the baseline or HCN, by identity classification - and survive every interruption."""

import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from reid_core import datasets, files, machine, model
from reid_core.datasets import table as image_table
from reid_core.images import Decoded, decoded
from reid_core.progress import shown
from reid_core.training import checkpoint, distributed, interruption, run_folder
from reid_core.training.batches import Batches
from reid_core.training.recipe import Recipe
from reid_core.training.step import GraphStep, Step, captures, unfit
from reid_core.training.task import Identities, Task

_BLOCK = 50  # iterations between looks at the losses on a GPU, as each look waits for it; on a CPU: 1
_OF_A_CHECKPOINT = ("model", "num_classes", "data_digest")  # what it says of its run, beside the recipe


def train(
    model_name: str | Task,
    table: pd.DataFrame,
    run_dir: str | Path,
    *,
    recipe: Recipe,
    data_root: str | Path,
    device: str | torch.device | None = None,
    progress: bool = True,
    other_recipe: str = "refuse",
) -> Path:
    """Train one network on a labelled image table; return its run folder.

    Killed at any moment and started again with the same arguments, it continues from the last checkpoint to the
    same weights and loss.csv, bit for bit, on the same CPU with the same number of threads (on a GPU with
    `recipe.deterministic`). A finished run of the same recipe and data returns at once. Under `torchrun` it
    trains with all its processes. Baseline and HCN see the same batches under the same seed.

    Parameters
    ----------
    model_name : "baseline" or "hcn", trained as in Section 3.1; or another `reid_core.training.task.Task`
    table : labelled training images, from `datasets.combine`
    run_dir : folder of the run, made here; `reid_core.training.run_folder` says what it will hold
    recipe : every setting
    data_root : the data folder, to which saved paths are relative
    device : "cpu", "cuda", ...; None: a GPU where there is one
    progress : one live line with the time left
    other_recipe : what to do with a folder that holds another run: "refuse", or "set_aside", which renames it

    Raises
    ------
    ValueError for an unknown model, a table without labels, a batch larger than the set, a folder of another
    run (with the differences), a broken image, several processes for a task that takes one; FileNotFoundError for
    a missing image or weights file; OSError for a full disk; RuntimeError when another process trains in the
    folder; FloatingPointError when the loss is no longer finite, with iteration, image files and last checkpoint.
    SIGINT and SIGTERM write a checkpoint and then raise KeyboardInterrupt and SystemExit.
    """
    task = Identities(model_name) if isinstance(model_name, str) else model_name
    table, run_dir = _checked(table, recipe), Path(run_dir)
    with distributed.group(device, recipe) as group:
        if group.processes > 1 and not task.parallel:
            raise ValueError(f"{task.name} trains in one process; start it without torchrun.")
        with contextlib.ExitStack() as stack:
            progress = progress and group.first
            if not group.first:
                group.wait()  # for the first process's decoded images and settled folder
            with shown(progress):
                images = decoded(table, recipe.height, recipe.width, data_root=data_root)
            facts = {
                "model": task.name,
                "num_classes": int(table[image_table.LABEL].max()) + 1,
                "images": len(table),
                "data_digest": images.digest,
                "data_source": datasets.data_source(data_root),
                "recipe": recipe.to_dict(),
                "finished": False,
            }
            if task.settings:
                facts["settings"] = task.settings
            if group.first:
                run_folder.settle(run_dir, facts, recipe, other_recipe)
                if not run_folder.finished(run_dir):
                    stack.enter_context(run_folder.locked(run_dir))
                    if not run_folder.finished(run_dir):  # by the process that held the lock until now
                        run_folder.write_run(run_dir, facts)
                group.wait()
            if not run_folder.finished(run_dir):
                stack.enter_context(generators(recipe, group.device))
                _Run(task, table, images, run_dir, recipe, facts, group, progress).finish()
            group.wait()
    return run_dir


def _checked(table: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    table = image_table.validate(table)
    if image_table.LABEL not in table.columns:
        raise ValueError("The table has no labels; make it with datasets.combine({name: table, ...}).")
    classes = table[image_table.LABEL].nunique()
    if sorted(table[image_table.LABEL].unique()) != list(range(classes)) or classes < 2:
        raise ValueError(
            f"Labels must run from 0 to the number of people - 1, two people at least; there are {classes} labels "
            f"from {table[image_table.LABEL].min()} to {table[image_table.LABEL].max()}. Use datasets.combine."
        )
    if (wrong := table[table[image_table.SUBSET] != image_table.TRAIN]).size:
        raise ValueError(
            f"{wrong[image_table.PATH].iloc[0]} is a test image ({wrong[image_table.SUBSET].iloc[0]})."
        )
    if recipe.batch_size > len(table):
        raise ValueError(
            f"batch_size {recipe.batch_size} is larger than the set of {len(table)} images; make it smaller."
        )
    return table


@contextlib.contextmanager
def generators(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Seed torch for the run and choose its kernels; leave both as they were."""
    backend = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), backend.deterministic, backend.benchmark
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        torch.use_deterministic_algorithms(recipe.deterministic)
        backend.deterministic, backend.benchmark = recipe.deterministic, not recipe.deterministic
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0])
            backend.deterministic, backend.benchmark = before[1:]


class _Run:
    """The state of one training: network, optimiser, generators, iteration, losses and time so far."""

    def __init__(
        self,
        task: Task,
        table: pd.DataFrame,
        images: Decoded,
        run_dir: Path,
        recipe: Recipe,
        facts: dict,
        group: distributed.Group,
        progress: bool,
    ):
        self.task, self.table, self.run_dir, self.recipe, self.facts = task, table, run_dir, recipe, facts
        self.group, self.device, self.progress = group, group.device, progress
        self.network = task.network(facts["num_classes"], recipe)
        self.heads = task.heads(self.network)
        self.iteration = 0
        self.losses = np.zeros((recipe.iterations, len(self.heads)), np.float32)
        self.seconds = np.zeros(recipe.iterations)
        found = checkpoint.latest(self.checkpoints, self.say)
        if found is None:
            task.pretrain(self.network, recipe, progress)
        self.network.to(self.device, memory_format=torch.channels_last)
        self.network.train()
        self.optimizer = task.optimizer(self.network, recipe)
        self.sampler = task.sampler(table, recipe)
        labels = torch.from_numpy(table[image_table.LABEL].to_numpy(np.int64, copy=True))
        runner = group.wrap(self.network)
        if recipe.compile:
            runner = torch.compile(runner)
        batches = Batches(images.pixels, self.device)
        self.graph = captures(recipe, batches, group.processes)
        for sentence in unfit(recipe, batches, group.processes):
            self.say(sentence)
        self.step = (GraphStep if self.graph else Step)(
            runner, self.optimizer, recipe, batches, labels, task.losses
        )
        if found is not None:
            self.restore(*found)
        if group.first:
            size = 3 * sum(x.numel() * x.element_size() for x in self.tensors().values())
            files.require_space(run_dir, size, "two checkpoints and the weights")

    @property
    def checkpoints(self) -> Path:
        return self.run_dir / run_folder.CHECKPOINTS

    def say(self, text: str) -> None:
        if self.group.first:
            tqdm.write(text, file=sys.stderr)

    def finish(self) -> None:
        """Train from the current iteration to the last, then write the run's files."""
        r = self.recipe
        if self.group.first:
            checkpoint.drop_after(self.checkpoints, self.iteration)
        with (
            interruption.received_signals() as received,
            tqdm(
                total=r.iterations,
                initial=self.iteration,
                desc=f"Train {self.facts['model']}",
                unit="it",
                leave=False,
                disable=not self.progress,
            ) as bar,
        ):
            while self.iteration < r.iterations:
                start = self.iteration
                next_checkpoint = (start // r.checkpoint_every + 1) * r.checkpoint_every
                block = 1 if self.device.type == "cpu" else _BLOCK
                self.advance(min(start + block, next_checkpoint, r.iterations))
                bar.update(self.iteration - start)
                last = self.losses[self.iteration - 1, 0]
                bar.set_postfix_str(f"loss_{self.heads[0]}={last:.3f}", refresh=False)
                if stop := self.group.any(bool(received)):
                    self.save()
                    self.interrupt(received)
                elif self.iteration == next_checkpoint and self.iteration < r.iterations and not stop:
                    self.save()
        if self.group.first:
            self.write()

    def advance(self, end: int) -> None:
        """Train up to iteration `end`, then take down losses and time."""
        start, began = self.iteration, time.perf_counter()
        rank, processes = self.group.rank, self.group.processes
        each = [self.step(self.sampler.draw(i).shard(rank, processes), i) for i in range(start, end)]
        self.losses[start:end] = self.group.mean(torch.stack(each)).cpu().numpy()
        before = self.seconds[start - 1] if start else 0.0
        self.seconds[start:end] = before + (time.perf_counter() - began) * np.arange(1, end - start + 1) / (
            end - start
        )
        finite = np.isfinite(self.losses[start:end]).all(1)
        if not finite.all():
            self.diverged(start + int(finite.argmin()))
        self.iteration = end

    def require_finite_weights(self) -> None:
        """Raise FloatingPointError, as `diverged` does, where a weight is not finite."""
        norms = torch._foreach_norm(list(self.network.parameters()))
        if not torch.stack(norms).isfinite().all():
            self.diverged(self.iteration - 1)

    def diverged(self, iteration: int) -> None:
        """Raise FloatingPointError: the losses of iteration 0, 1, ..., its image files, the last good checkpoint."""
        files = self.table[image_table.PATH].iloc[self.sampler.draw(iteration).rows]
        kept = sorted(self.checkpoints.glob("*.json"))
        good = f"{kept[-1].with_suffix('.safetensors')}" if kept else "none yet"
        losses = ", ".join(
            f"{name} {loss}" for name, loss in zip(self.heads, self.losses[iteration], strict=True)
        )
        raise FloatingPointError(
            f"The loss or a weight is not finite at iteration {iteration + 1} ({losses}). Lower base_lr, or look at "
            "the batch. "
            f"Last good checkpoint: {good}. Images of the batch: {', '.join(files)}."
        )

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the state, by name."""
        state = {f"network.{name}": x for name, x in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            for key, own in self.task.memory.items():
                if own in (remembered := self.optimizer.state.get(parameter, {})):
                    state[f"{key}.{name}"] = remembered[own]
        state["generator.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            state["generator.cuda"] = torch.cuda.get_rng_state(self.device)
        state["losses"] = torch.from_numpy(self.losses[: self.iteration])
        state["seconds"] = torch.from_numpy(self.seconds[: self.iteration])
        return state

    def save(self) -> None:
        """Write a checkpoint, unless the weights are no longer finite."""
        if not self.group.first:
            return
        self.require_finite_weights()
        epoch, position = divmod(self.iteration * self.recipe.batch_size, len(self.table))
        facts = {
            "sampler": {"seed": self.recipe.seed, "epoch": epoch, "position": position},
            "learning_rate": self.recipe.learning_rate(self.iteration - 1),
            "scaler": self.step.scaler.state_dict(),
            **{name: self.facts[name] for name in (*_OF_A_CHECKPOINT, "recipe")},
        }
        checkpoint.save(self.checkpoints, self.iteration, self.tensors(), facts)
        run_folder.write_losses(
            self.run_dir,
            self.losses[: self.iteration],
            self.seconds[: self.iteration],
            self.heads,
            self.recipe,
        )

    def restore(self, tensors: dict[str, Tensor], facts: dict) -> None:
        """Continue from a checkpoint. Raises ValueError, with the differences, for one of another run."""
        path = checkpoint.path(self.checkpoints, facts["iteration"])
        remedy = f"Remove {self.checkpoints} to start again, or choose another run folder."
        found = [
            f"{name}: {facts.get(name)!r} there, {self.facts[name]!r} asked for"
            for name in _OF_A_CHECKPOINT
            if facts.get(name) != self.facts[name]
        ]
        if found := found + self.recipe.differences(facts["recipe"]):
            raise ValueError(f"{path} belongs to another run: {'; '.join(found)}. {remedy}")

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}

        expected = f"the {self.facts['model']} of {self.facts['num_classes']} classes"
        model.load_state(self.network, part("network."), str(path), expected, remedy)
        parameters = dict(self.network.named_parameters())
        for key, own in self.task.memory.items():
            for name, x in part(f"{key}.").items():
                # Copied into the buffer there is, whose layout is the parameter's, as the fused update expects.
                self.optimizer.state[parameters[name]][own].copy_(x)
        self.step.scaler.load_state_dict(facts["scaler"])
        torch.set_rng_state(tensors["generator.cpu"])
        if "generator.cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["generator.cuda"], self.device)
        self.iteration = facts["iteration"]
        self.losses[: self.iteration] = tensors["losses"].numpy()
        self.seconds[: self.iteration] = tensors["seconds"].numpy()
        self.say(f"Continuing {self.run_dir} from iteration {self.iteration} of {self.recipe.iterations}.")

    def interrupt(self, received: list[int]) -> None:
        """Say where it stopped; raise SystemExit(143) for SIGTERM, else KeyboardInterrupt.

        `received`: numbers of the signals that came here; none where another process of the group got one.
        """
        signals = [signal.Signals(number).name for number in received] or ["a signal in another process"]
        self.say(
            f"Stopped by {signals[0]} after iteration {self.iteration} of {self.recipe.iterations}; checkpoint "
            f"written in {self.checkpoints}. The same command continues from there."
        )
        if signal.SIGTERM in received:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    def write(self) -> None:
        """The finished run's files, run.json last; then the checkpoints go."""
        self.require_finite_weights()
        files.write_tensors(self.run_dir / run_folder.WEIGHTS, self.network.state_dict())
        run_folder.write_losses(self.run_dir, self.losses, self.seconds, self.heads, self.recipe)
        labels = self.table[[image_table.LABEL, image_table.DATASET, image_table.PERSON]].drop_duplicates()
        run_folder.write_labels(self.run_dir, labels)
        self.facts |= {
            "heads": self.heads,
            "form": self.task.form(self.network, self.recipe),
            "seed": self.recipe.seed,
            "seconds": float(self.seconds[-1]),
            "device": machine.device_name(self.device),
            "threads": torch.get_num_threads(),
            "processes": self.group.processes,
            "precision": self.step.precision,
            "cuda_graph": self.graph,
            "commit": machine.commit(),
            "versions": machine.versions(),
            "weights_digest": files.digest(self.run_dir / run_folder.WEIGHTS),
            "finished": True,
        }
        run_folder.write_run(self.run_dir, self.facts)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
