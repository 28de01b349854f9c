"""What the steps of a plan ask of a cluster, and what is asked of the cluster before they go out."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from reid_core import files, progress
from reproduction import embedded
from reproduction.runner import plan, preflight, profiles
from reproduction.sidecar import REPOSITORY

GPUS = "REID_CORE_GPUS"  # of the steps of a workflow: this machine's, which they share out among themselves
LIGHT = ("05", "06", "07", "09", "report")  # run where the workflow does; 05 and 06 read what trainings noted
SLACK, LEAST = 3, 60  # a limit of time is so many times the expected one, and so many minutes more


def resources(settings: Mapping[str, object], names: Sequence[str]) -> dict[str, dict[str, int]]:
    """{step: threads, mem_mb, runtime in minutes, gpu} of steps; 0 threads: it runs where the workflow does.

    Times are those of `reid-core plan`: of finished runs, or guessed from the arithmetic at the rate of this machine's
    device. Memory is four matrices of float32 between half of all images, the largest re-ranking, and 4 GiB.
    """
    sizes = settings["render_sizes"]
    images = (embedded.Sizes.full() if sizes == "none" else embedded.Sizes.named(sizes)).images
    seconds = {folder.name: time for folder, time in plan.expected(settings).items()}
    longest = max(seconds.values(), default=0.0)
    each = {"threads": 4, "mem_mb": 4096 + 16 * (images // 2) ** 2 // 2**20, "gpu": int(wants_gpu(settings))}
    asked = {}
    for name in names:
        run = next((run for run in seconds if name.endswith(f"-{run}")), None)
        time = seconds[run] if run else longest  # a notebook scores for about as long as a training takes
        light = name.startswith(LIGHT)
        asked[name] = each | {"runtime": LEAST + round(SLACK * time / 60)} | ({"threads": 0} if light else {})
    return asked


def wants_gpu(settings: Mapping[str, object]) -> bool:
    """Whether a profile is for a GPU, by the size of its data, as in `preflight.check`."""
    return settings["render_sizes"] in ("none", "full")


def options(executor: str, jobs: int, further: Sequence[str]) -> list[str]:
    """Snakemake's options for an executor; `profiles/<executor>/` is its Snakemake profile where there is one."""
    own = profiles.FOLDER / executor
    chosen = str(own) if own.is_dir() else "none"
    given = ["--executor", executor, "--jobs", str(jobs), "--workflow-profile", chosen, "--quiet", "progress"]
    return [*given, *further]


def check(executor: str, settings: Mapping[str, object], further: Sequence[str], results: Path) -> None:
    """Raise ValueError, with the remedy, for an executor that is not installed, a partition of Slurm without GPU
    for a profile that is for one, as far as sinfo tells, and results on a disk of this machine alone."""
    if importlib.util.find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}") is None:
        package = f"snakemake-executor-plugin-{executor}"
        remedy = f"pip install -e '{REPOSITORY}[cluster]'" if executor == "slurm" else f"pip install {package}"
        raise ValueError(f"--executor {executor}: Snakemake's plugin for it is not installed; {remedy}.")
    if executor == "slurm":
        _check_slurm(settings, further)
        _check_shared(results)


def _check_slurm(settings: Mapping[str, object], further: Sequence[str]) -> None:
    if shutil.which("sbatch") is None:
        raise ValueError("--executor slurm: there is no sbatch here; run this on a login node of the cluster.")
    partition = re.search(r"slurm_partition=['\"]?([\w.-]+)", " ".join(further))
    command = ["sinfo", "--noheader", "--format=%G", *(["--partition", partition[1]] if partition else [])]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if said.returncode or partition and not said.stdout.strip():
        named = f"no partition {partition[1]}" if partition and not said.returncode else said.stderr.strip()
        raise ValueError(f"--executor slurm: sinfo says: {named}.")
    if wants_gpu(settings) and "gpu" not in said.stdout:
        where = f"partition {partition[1]}" if partition else "this cluster"
        remedy = "Name one: -- --default-resources slurm_partition=NAME, or take a profile for processors (smoke)."
        raise ValueError(f"--executor slurm: {where} has no GPU, for which this profile is. {remedy}")


def _check_shared(results: Path) -> None:
    """Have a job on a node write a token into the results folder, and look for it here."""
    token = results / f".token-{os.getpid()}"
    command = ["srun", "--quiet", "--ntasks=1", "--time=5", "--immediate=60", "--chdir=/", "touch", str(token)]
    said = subprocess.run(command, capture_output=True, text=True)
    if "allocate" in said.stderr:  # no node is free within a minute
        progress.say(f"No node is free to try whether it sees {results}: the first job will tell.")
    elif not token.exists():
        why = said.stderr.strip() or "a job on a node wrote a file there which is not seen here"
        raise ValueError(
            f"{results} is not shared with the nodes of the cluster ({why}). Put repository, data, cache and results on"
            " a shared file system (-p data_root=..., -p results_root=..., REID_CORE_CACHE)."
        )
    token.unlink(missing_ok=True)


def local_gpus() -> list[str]:
    """This machine's GPUs that PyTorch may use, as CUDA_VISIBLE_DEVICES names them; empty where there is one or none."""
    if len(preflight.cards()) < 2:
        return []
    import torch

    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    found = shown.split(",") if shown else [str(number) for number in range(torch.cuda.device_count())]
    return found if len(found) > 1 else []


@contextmanager
def one_gpu(folder: Path) -> Iterator[None]:
    """Show one of `GPUS` that no other step holds to what is started from here; the workflow starts no more steps than
    there are. The lock goes with the process."""
    shown = [gpu for gpu in os.environ.get(GPUS, "").split(",") if gpu]
    with ExitStack() as held:
        for gpu in shown:
            with suppress(BlockingIOError):
                held.enter_context(files.locked(folder / f"gpu-{gpu}", BlockingIOError()))
                os.environ["CUDA_VISIBLE_DEVICES"] = gpu
                break
        else:
            if shown:
                raise RuntimeError(f"all GPUs of {GPUS}={','.join(shown)} are held by other steps")
        yield
