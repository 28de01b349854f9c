"""Steps elsewhere than one after another on one device: on a cluster by a Snakemake executor, or one a local GPU."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from reid_core import machine, progress
from reproduction import embedded
from reproduction.runner import further, plan, preflight, profiles, steps
from reproduction.sidecar import REPOSITORY

LIGHT = ("06", "07", "report")  # read small files alone: they run where the workflow does
SLACK, LEAST = 3, 60  # a limit of time is so many times the expected one, and so many minutes more
THREADS = 4


@dataclass(frozen=True)
class Elsewhere:
    """Where steps run: by an `executor` of Snakemake's, at most `jobs` at once, with its `more` options; or, without
    one, on the local `gpus`. One training takes `each` GPUs."""

    executor: str | None
    jobs: int
    more: Sequence[str] = ()
    gpus: Sequence[str] = ()
    each: int = 1

    def options(self) -> list[str]:
        """For Snakemake; `profiles/<executor>/` is its own profile where there is one."""
        if not self.executor:
            return ["--resources", f"gpu={len(self.gpus)}"]
        own = profiles.FOLDER / self.executor
        chosen = str(own) if own.is_dir() else "none"
        return ["--executor", self.executor, "--jobs", str(self.jobs), "--workflow-profile", chosen, *self.more]

    def check(self, settings: Mapping[str, object], results: Path) -> None:
        """Raise ValueError, with the remedy, for an executor that is not installed, a partition of Slurm without GPU
        for a profile that is for one, as far as sinfo tells, and results on a disk of this machine alone; and for
        trainings on more GPUs than there are here, or than their batches divide by."""
        if not self.executor and self.each > len(self.gpus):
            raise ValueError(f"--gpus-per-training {self.each}: this machine has {len(self.gpus)} for PyTorch.")
        for name, recipe, folder in plan.jobs(settings):
            if recipe.batch_size % self.each:
                what = f"batch_size {recipe.batch_size} of {folder.name} ({name}) is no multiple of it"
                raise ValueError(f"--gpus-per-training {self.each}: {what}.")
        if self.executor and not _installed(self.executor):
            name = f"snakemake-executor-plugin-{self.executor}"
            remedy = f"-e '{REPOSITORY}[cluster]'" if self.executor == "slurm" else name
            raise ValueError(f"--executor {self.executor}: {name} is not installed: pip install {remedy}.")
        if self.executor == "slurm":
            _check_slurm(settings, self.more)
            _check_shared(results)

    def spread(
        self, planned: list[dict], settings: Mapping[str, object], command: Callable[..., str], results: Path
    ) -> list[dict]:
        """A plan with a step for every training and with what each step may take. `command(verb, word)` is one of
        `reid-core` for this profile. What a step on a cluster says is in `logs/<step>.log` of the results."""
        waits = {step["name"] for step in planned}
        known = further.Trainings(settings)
        added = {further.step_name(run): (run, book) for run, book in known.further.items() if book in waits}
        together = {f"02_train-{run}": command("train", run) for run in known.own} if self.each > 1 else {}
        for step in planned:
            if training := together.get(step["name"]):  # its notebook finds it made
                step["command"] = f"{training} && {step['command']}"
            step["after"] = [*step["after"], *(name for name, (_, book) in added.items() if book == step["name"])]
        before = [steps.DATASETS] if steps.DATASETS in waits else []
        own = [{"name": name, "why": f"{book} reads it", "after": before, "command": command("train", run)}
               for name, (run, book) in added.items()]  # fmt: skip
        first = next((n for n, step in enumerate(planned) if step["name"][:2] > "02"), len(planned))
        every = [*planned[:first], *own, *planned[first:]]
        asked = resources(settings, [step["name"] for step in every])
        for step in every:
            step |= asked[step["name"]]
            alone = not step["name"].startswith(("02_train-", "train-sensitivity-"))  # as the gated network is
            wanted = 1 if alone else self.each
            if self.gpus:
                step["threads"] = max(1, wanted * machine.cores() // len(self.gpus))
                step["resources"] = {} if step["local"] or step["name"] == steps.DATASETS else {"gpu": wanted}
            if wanted > 1:
                step["processes"] = step["resources"]["gpu"] = wanted
            if self.executor and not step["local"]:
                log = results / "logs" / f"{step['name']}.log"
                log.parent.mkdir(exist_ok=True)
                step["command"] = f"({step['command']}) >> {shlex.quote(str(log))} 2>&1"
        return every


def resources(settings: Mapping[str, object], names: Sequence[str]) -> dict[str, dict[str, object]]:
    """{step: "threads"; "resources": mem_mb, runtime in minutes, gpu; "local": it runs where the workflow does}.

    Times are those of `reid-core plan`: of finished runs, or guessed from the arithmetic at the rate of this machine's
    device. Memory is four matrices of float32 between half of all images, the largest re-ranking, and 4 GiB."""
    sizes = settings["render_sizes"]
    images = (embedded.Sizes.full() if sizes == "none" else embedded.Sizes.named(sizes)).images
    seconds = {further.step_name(run): time for run, time in plan.seconds_of_runs(settings).items()}
    longest = max(seconds.values(), default=0.0)
    memory, asked = 4096 + 16 * (images // 2) ** 2 // 2**20, {}
    for name in names:
        time = seconds.get(name.replace("02_train", "train"), longest)  # a notebook is given as long as a training
        each = {"mem_mb": memory, "runtime": LEAST + round(SLACK * time / 60)}
        each |= {"gpu": 1} if wants_gpu(settings) and name != steps.DATASETS else {}
        light = name.startswith(LIGHT)
        asked[name] = {"threads": 1 if light else THREADS, "local": light, "resources": {} if light else each}
    return asked


def wants_gpu(settings: Mapping[str, object]) -> bool:
    """Whether a profile is for a GPU, by the size of its data, as in `preflight.check`."""
    return settings["render_sizes"] in ("none", "full")


def _installed(executor: str) -> bool:
    return importlib.util.find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}") is not None


def _check_slurm(settings: Mapping[str, object], more: Sequence[str]) -> None:
    if shutil.which("sbatch") is None:
        raise ValueError("--executor slurm: there is no sbatch here; run this on a login node of the cluster.")
    partition = re.search(r"slurm_partition=['\"]?([\w.-]+)", " ".join(more))
    command = ["sinfo", "--noheader", "--format=%G", *(["--partition", partition[1]] if partition else [])]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    where = f"partition {partition[1]}" if partition else "this cluster"
    if said.returncode or not said.stdout.strip():
        raise ValueError(f"--executor slurm: sinfo knows no nodes of {where}. {said.stderr.strip()}".rstrip())
    if wants_gpu(settings) and "gpu" not in said.stdout:
        remedy = "Name another: -- --default-resources slurm_partition=NAME; or take a profile for processors (smoke)."
        raise ValueError(f"--executor slurm: {where} has no GPU, for which this profile is. {remedy}")


def _check_shared(results: Path) -> None:
    """Have a job on a node write a token into the results folder, and look for it here."""
    token = results / f".token-{os.getpid()}"
    command = ["srun", "--quiet", "--ntasks=1", "--time=5", "--immediate=60", "--chdir=/", "touch", str(token)]
    said = subprocess.run(command, capture_output=True, text=True)
    os.listdir(results)  # NFS looks again
    if said.returncode and "llocate" in said.stderr:
        progress.say(f"No node is free to try whether it sees {results}: the first job will tell.")
    elif not token.exists():
        why = said.stderr.strip() or "what a job on a node wrote there is not seen here"
        where = "a shared file system (-p data_root=..., -p results_root=..., REID_CORE_CACHE)"
        how = f"Put repository, data, results and cache on {where}."
        raise ValueError(f"{results} is not shared with the nodes of the cluster ({why}). {how}")
    token.unlink(missing_ok=True)


def local_gpus() -> list[str]:
    """This machine's GPUs that PyTorch may use and has kernels for, as CUDA_VISIBLE_DEVICES names them."""
    seen, kernels = range(torch.cuda.device_count()), torch.cuda.get_arch_list()
    old = {n for n in seen if not preflight.covers(kernels, torch.cuda.get_device_capability(n))}
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [name for n, name in enumerate(shown.split(",") if shown else map(str, seen)) if n not in old]
