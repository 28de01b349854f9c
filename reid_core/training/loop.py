"""Train to an objective - of Section 3.1: tell the training people apart - and survive every interruption."""

import contextlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from reid_core import datasets, files, machine, weight_files
from reid_core.datasets import table as image_table
from reid_core.images import Decoded, decoded
from reid_core.progress import bar, shown
from reid_core.training import checkpoint, device_fit, distributed, run_folder
from reid_core.training.batches import Batches
from reid_core.training.recipe import Recipe
from reid_core.training.step import GraphStep, Objective, Step

_BLOCK = 50  # iterations between looks at the losses on a GPU, as each look waits for it; on a CPU: 1
_REPEATED = 60.0  # seconds in which further signals are the same request to stop


def train(
    model_name: str | Objective, table: pd.DataFrame, run_dir: str | Path, *, recipe: Recipe, data_root: str | Path,
    device: str | torch.device | None = None, progress: bool = True, other_recipe: str = "refuse",
) -> Path:  # fmt: skip
    """Train one network on a labelled image table; return its run folder.

    Killed at any moment and started again with the same arguments, it continues from the last checkpoint to the
    same weights and loss.csv, bit for bit, on the same CPU with the same number of threads (on a GPU with
    `recipe.deterministic`). A finished run of the same recipe and data returns at once. Under `torchrun` it
    trains with all its processes. Baseline and HCN see the same batches under the same seed.

    Parameters
    ----------
    model_name : "baseline" or "hcn", trained as in Section 3.1; or another `reid_core.training.step.Objective`
    table : labelled training images, from `datasets.combine`
    run_dir : folder of the run, made here; `reid_core.training.run_folder` says what it will hold
    recipe : every setting
    data_root : the data folder, to which saved paths are relative
    device : "cpu", "cuda", ...; None: a GPU where there is one
    progress : one live line with the time left, where somebody sees it
    other_recipe : what to do with a folder that holds another run: "refuse", or "set_aside", which renames it

    Raises ValueError for an unknown model, a table without labels, a batch larger than the set, a folder of another run
    (with the differences), a broken image, several processes for an objective that takes one; FileNotFoundError for a
    missing image or weights file; OSError for a full disk; RuntimeError when another process trains in the folder;
    FloatingPointError when the loss is no longer finite, with iteration, image files and last checkpoint. SIGINT and
    SIGTERM write a checkpoint and then raise KeyboardInterrupt and SystemExit.
    """
    objective = Objective(model_name) if isinstance(model_name, str) else model_name
    table, run_dir = _checked(table, recipe), Path(run_dir)
    with distributed.group(device, recipe) as group, shown(progress and group.first):
        if group.processes > 1 and not objective.parallel:
            raise ValueError(f"{objective.name} trains in one process; start it without torchrun.")
        with contextlib.ExitStack() as stack:
            with group.first_ahead():
                images = decoded(table, recipe.height, recipe.width, data_root=data_root)
                facts = identity(objective, table, images, data_root, recipe)
                if group.first:
                    run_folder.settle(run_dir, facts, recipe, other_recipe)
                    if not run_folder.finished(run_dir):
                        stack.enter_context(run_folder.locked(run_dir))
            if not run_folder.finished(run_dir):  # perhaps by now, by the process that held the lock
                stack.enter_context(device_fit.generators(recipe, group.device))
                _Run(objective, table, images, run_dir, recipe, facts, group).finish()
            group.wait()
    return run_dir


def identity(objective: Objective, table: pd.DataFrame, images: Decoded, data_root: str | Path, recipe: Recipe) -> dict:
    """What run.json says of a run before it begins. Raises ValueError for weights that do not fit its network."""
    classes, initial = int(table[image_table.LABEL].max()) + 1, None
    if recipe.weights != weight_files.RANDOM:
        with torch.random.fork_rng(devices=()):
            initial = weight_files.digest(recipe.weights, objective.network(classes, recipe))
    facts = {"model": objective.name, "num_classes": classes, "images": len(table), "data_digest": images.digest}
    facts |= {"data_source": datasets.data_source(data_root), "recipe": recipe.to_dict()}
    own = {"settings": objective.settings} if objective.settings else {}
    return facts | {run_folder.INITIAL: initial, "finished": False} | own


def _checked(table: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    table = image_table.validate(table)
    if image_table.LABEL not in table.columns:
        raise ValueError("The table has no labels; make it with datasets.combine({name: table, ...}).")
    classes = table[image_table.LABEL].nunique()
    if sorted(table[image_table.LABEL].unique()) != list(range(classes)) or classes < 2:
        found = f"{classes} labels from {table[image_table.LABEL].min()} to {table[image_table.LABEL].max()}"
        rule = "Labels must run from 0 to the number of people - 1, two people at least"
        raise ValueError(f"{rule}; there are {found}. Use datasets.combine.")
    if (wrong := table[table[image_table.SUBSET] != image_table.TRAIN]).size:
        first = wrong.iloc[0]
        raise ValueError(f"{first[image_table.PATH]} is a test image ({first[image_table.SUBSET]}).")
    if recipe.batch_size > len(table):
        raise ValueError(f"batch_size {recipe.batch_size} is larger than the set of {len(table)} images; lower it.")
    return table


@contextlib.contextmanager
def received_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in a list instead of stopping at once, also where SIGINT was ignored.

    A job system or a workflow sends one request to stop several times, to the group and to each process: what comes
    within a minute of the first is that request; what comes later stops at once.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] == signal.SIG_IGN:  # nohup
        del before[signal.SIGHUP]
    first: list[float] = []

    def note(number, frame):
        received.append(number)
        first.append(time.monotonic())
        if first[-1] - first[0] > _REPEATED:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: one that Python did not set


class _Run:
    """One training: its state, the step that changes it, and the folder that keeps it."""

    def __init__(self, objective: Objective, table, images: Decoded, run_dir: Path, recipe: Recipe, facts, group):
        self.objective, self.table, self.recipe, self.facts = objective, table, recipe, facts
        self.run_dir, self.checkpoints = run_dir, run_dir / run_folder.CHECKPOINTS
        self.group, self.device = group, group.device
        found = checkpoint.latest(self.checkpoints, self.say)
        network = objective.network(facts["num_classes"], recipe)
        if found is None and recipe.weights != weight_files.RANDOM:
            with group.first_ahead():  # it downloads
                initial = weight_files.load_backbone(network, recipe.weights)
            self.facts |= zip(run_folder.STARTED_FROM, initial, strict=True)  # which, and what was left out of them
            if initial.note:
                self.say(f"Initial weights {initial.note}.")
        network.to(self.device, memory_format=torch.channels_last)
        network.train()
        self.heads, self.sampler = objective.heads(network), objective.sampler(table, recipe)
        batches, processes = Batches(images.pixels, self.device), group.processes
        for sentence in device_fit.unfit(recipe, batches, processes):
            self.say(sentence)
        optimizer, runner = objective.optimizer(network, recipe), group.wrap(network)
        if recipe.compile:
            runner = torch.compile(runner)
        kind = GraphStep if device_fit.captures(recipe, batches, processes) else Step
        labels = torch.from_numpy(table[image_table.LABEL].to_numpy(np.int64, copy=True))
        self.step = kind(objective, runner, optimizer, recipe, batches, labels)
        losses, seconds = np.zeros((recipe.iterations, len(self.heads)), np.float32), np.zeros(recipe.iterations)
        self.state = checkpoint.State(network, optimizer, self.step.scaler, self.device, losses, seconds)
        if found is not None:
            self.restore(*found)
        if group.first:
            size = sum(x.nbytes for x in self.state.tensors().values())
            files.require_space(run_dir, 3 * size, "two checkpoints and the weights")

    def say(self, text: str) -> None:
        if self.group.first:
            tqdm.write(text, file=sys.stderr)

    def finish(self) -> None:
        """Train from the current iteration to the last, then write the run's files."""
        r, s = self.recipe, self.state
        if self.group.first:
            run_folder.write_run(self.run_dir, self.facts)
        shown_as = {"total": r.iterations, "initial": s.iteration, "desc": f"Train {self.objective.name}"}
        with received_signals() as received, bar(**shown_as, unit="it") as line:
            while s.iteration < r.iterations:
                start = s.iteration
                next_checkpoint = (start // r.checkpoint_every + 1) * r.checkpoint_every
                block = 1 if self.device.type == "cpu" else _BLOCK
                self.advance(min(start + block, next_checkpoint, r.iterations))
                line.update(s.iteration - start)
                line.set_postfix_str(f"loss_{self.heads[0]}={s.losses[s.iteration - 1, 0]:.3f}", refresh=False)
                if self.group.any(bool(received)):
                    self.save()
                    self.interrupt(received)
                if s.iteration == next_checkpoint < r.iterations:
                    self.save()
            if self.group.first:
                self.write()
        if received:
            self.interrupt(received)

    def advance(self, end: int) -> None:
        """Train up to iteration `end`, then take down losses and time."""
        s, start, began = self.state, self.state.iteration, time.perf_counter()
        shard = self.group.rank, self.group.processes
        each = [self.step(self.sampler.draw(i).shard(*shard), i) for i in range(start, end)]
        s.losses[start:end] = self.group.mean(torch.stack(each)).cpu().numpy()
        before, spent = s.seconds[start - 1] if start else 0.0, time.perf_counter() - began
        s.seconds[start:end] = before + spent * np.arange(1, end - start + 1) / (end - start)
        finite = np.isfinite(s.losses[start:end]).all(1)
        if not finite.all():
            self.diverged(start + int(finite.argmin()))
        s.iteration = end

    def require_finite_weights(self) -> None:
        """Raise FloatingPointError, as `diverged` does, where a weight is not finite."""
        if not torch.stack(torch._foreach_norm(list(self.state.network.parameters()))).isfinite().all():
            self.diverged(self.state.iteration - 1)

    def diverged(self, iteration: int) -> None:
        """Raise FloatingPointError: the losses of iteration 0, 1, ..., its image files, the last good checkpoint."""
        paths = self.table[image_table.PATH].iloc[self.sampler.draw(iteration).rows]
        kept = sorted(x for x in self.checkpoints.glob("*.json") if int(x.stem) <= self.state.iteration)  # not damaged
        good = kept[-1].with_suffix(".safetensors") if kept else "none yet"
        losses = ", ".join(f"{name} {x}" for name, x in zip(self.heads, self.state.losses[iteration], strict=True))
        found = f"The loss or a weight is not finite at iteration {iteration + 1} ({losses})"
        where = f"Last good checkpoint: {good}. Images of the batch: {', '.join(paths)}"
        raise FloatingPointError(f"{found}. Lower base_lr, or look at the batch. {where}.")

    def save(self) -> None:
        """Write a checkpoint, unless the weights are no longer finite."""
        if not self.group.first:
            return
        self.require_finite_weights()
        iteration = self.state.iteration
        epoch, position = divmod(iteration * self.recipe.batch_size, len(self.table))
        facts = {"sampler": {"seed": self.recipe.seed, "epoch": epoch, "position": position}}
        facts["learning_rate"] = self.recipe.learning_rate(iteration - 1)
        facts |= {name: self.facts.get(name) for name in (*run_folder.OF_A_CHECKPOINT, "recipe")}
        checkpoint.save(self.checkpoints, self.state, facts)
        run_folder.write_losses(self.run_dir, self.state, self.heads, self.recipe)

    def restore(self, tensors: dict[str, torch.Tensor], facts: dict) -> None:
        """Continue from a checkpoint. Raises ValueError, with the differences, for one of another run."""
        path = checkpoint.path(self.checkpoints, facts["iteration"])
        remedy = f"Move {self.checkpoints} aside to start again, or choose another run folder."
        if found := run_folder.unlike(facts, self.facts, self.recipe, run_folder.OF_A_CHECKPOINT):
            raise ValueError(f"{path} belongs to another run: {'; '.join(found)}. {remedy}")
        expected = f"the {self.facts['model']} of {self.facts['num_classes']} classes"
        self.state.take(tensors, facts, str(path), expected, remedy)
        self.facts |= {name: facts[name] for name in run_folder.STARTED_FROM if facts.get(name)}
        self.say(f"Continuing {self.run_dir} from iteration {self.state.iteration} of {self.recipe.iterations}.")

    def interrupt(self, received: list[int]) -> None:
        """Say where it stopped; raise KeyboardInterrupt for SIGINT, SystemExit(128 + number) for another signal.

        received: numbers of the signals that came here; none where another process of the group got one."""
        signals = [signal.Signals(number).name for number in received] or ["a signal in another process"]
        kept = f"checkpoint written in {self.checkpoints}. The same command continues from there"
        kept = "the run is finished" if self.facts["finished"] else kept
        self.say(f"Stopped by {signals[0]} after iteration {self.state.iteration} of {self.recipe.iterations}; {kept}.")
        for number in received:
            if number != signal.SIGINT:
                raise SystemExit(128 + number)
        raise KeyboardInterrupt

    def write(self) -> None:
        """The finished run's files, run.json last; then the checkpoints go."""
        self.require_finite_weights()
        network = self.state.network
        files.write_tensors(self.run_dir / run_folder.WEIGHTS, network.state_dict())
        run_folder.write_losses(self.run_dir, self.state, self.heads, self.recipe)
        labels = self.table[[image_table.LABEL, image_table.DATASET, image_table.PERSON]].drop_duplicates()
        run_folder.write_labels(self.run_dir, labels)
        form = self.objective.form(network, self.recipe)
        self.facts |= {"heads": self.heads, "form": form, "seed": self.recipe.seed}
        self.facts |= {"seconds": float(self.state.seconds[-1]), "device": machine.device_name(self.device)}
        self.facts |= {"threads": torch.get_num_threads(), "processes": self.group.processes}
        self.facts |= {"precision": self.step.precision, "cuda_graph": isinstance(self.step, GraphStep)}
        self.facts |= {"commit": machine.commit(), "versions": machine.versions()}
        self.facts |= {"weights_digest": files.digest(self.run_dir / run_folder.WEIGHTS), "finished": True}
        run_folder.write_run(self.run_dir, self.facts)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
