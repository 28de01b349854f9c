"""The main job: every notebook of a profile in order, resumable, one at a time, with a word on what it is doing."""

import contextlib
import functools
import json
import multiprocessing
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from reid_core import files, machine
from reproduction import experiment, results_folder, words
from reproduction.runner import notebooks, preflight, profiles, staleness, stopping
from reproduction.runner.steps import PAGES, Step
from reproduction.runner.stopping import PLAN
from reproduction.sidecar import REPOSITORY

LOG = "workflow.log"
GPUS = "REID_CORE_GPUS"  # for steps: of which each takes one


class WorkflowError(RuntimeError):
    """The workflow stopped; the failing step has said why."""


def run(
    profile: str, overrides: Sequence[str] = (), force: Sequence[str] = (), where: tuple = (None, 1, (), 1),
    given: str | None = None,
) -> Path:  # fmt: skip
    """Make everything of a profile that is missing or out of date; return the results folder.

    `overrides` are "key=value" on top of the profile; `force` names notebooks to run again; `where` is an executor of
    Snakemake's or None, how many jobs at once, options for Snakemake, and GPUs for one training; the trainings of a
    bundle `given` are taken. Raises what `profiles.load`, `preflight.check`, `notebooks.find`, `bundle.take` and
    `cluster.Elsewhere.check` raise, before anything runs, and WorkflowError when a step fails."""
    settings = profiles.load(profile, overrides)
    profiles.check_schedules(settings)
    preflight.check(settings)
    elsewhere = _elsewhere(*where)
    results, forced = experiment.resolve(settings["results_root"]), [notebooks.find(name).stem for name in force]
    with only_one(results) as lock:
        if given:
            from reproduction import bundle  # which loads PyTorch

            bundle.take(Path(given), settings)
        if pending := staleness.pending(settings, forced):
            plan = _plan(pending, profiles.find(profile), overrides)
            if elsewhere:
                elsewhere.check(settings, results)
                command = functools.partial(_command, profile=profiles.find(profile), overrides=overrides)
                plan = elsewhere.spread(plan, settings, command, results)
            else:
                _say_what_will_happen(settings, pending)
            _execute(plan, results, lock, elsewhere)
        else:
            print(f"Nothing to do: {results} is up to date.")
    return results


def _elsewhere(executor: str | None, jobs: int, more: Sequence[str], each: int = 1):
    """A `cluster.Elsewhere`, or None; that loads PyTorch, which a machine without a second card is spared."""
    if not executor and more:
        raise ValueError(f"{' '.join(more)}: options of Snakemake's are for an executor, such as --executor slurm.")
    if not executor and each == 1 and len(preflight.cards()) < 2:
        return None
    from reproduction.runner import cluster

    gpus = [] if executor else cluster.local_gpus()
    os.environ |= {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}  # without those that are too old
    return cluster.Elsewhere(executor, jobs, more, gpus, each) if executor or max(len(gpus), each) > 1 else None


def _say_what_will_happen(settings: Mapping, pending: Mapping[Step, str]) -> None:
    """How long it takes here, measured in a process of its own, which leaves no memory taken; and what to look at."""
    kinds = {step.kind for step in pending}
    if settings["profile"] != "tiny" and kinds & {"train", "10_sensitivity"}:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            print(pool.submit(_expected, settings).result() or "All is trained.", flush=True)
    if "report" in kinds:
        print(f"Tables appear one by one; {results_folder.REPORT} shows them from the first one on.", flush=True)


def _expected(settings: Mapping) -> str | None:
    from reproduction.runner import plan  # which loads PyTorch

    return plan.expected(settings)


def reasons(profile: str, overrides: Sequence[str] = ()) -> list[str]:
    """What `run` would do now: how often each kind of step, and why, as lines of text; none when all is up to date."""
    counts = Counter((step.kind, why) for step, why in pending(profile, overrides).items())
    return [f"{count:>3} x {kind}: {why}" for (kind, why), count in counts.items()]


def pending(profile: str, overrides: Sequence[str] = (), force: Sequence[str] = ()) -> dict[Step, str]:
    """The same, each step with its reason."""
    forced = [notebooks.find(name).stem for name in force]
    return staleness.pending(profiles.load(profile, overrides, recipes=False), forced)


def _plan(pending: Mapping[Step, str], profile: Path, overrides: Sequence[str]) -> list[dict]:
    """The steps as Snakefile and :func:`step` read them: each with its command and those of the others it waits for."""
    names = {step.name for step in pending}
    beside = {} if preflight.cards() else {"threads": max(1, machine.cores() // 2)}
    plan, alone = [], []
    for step, why in pending.items():
        verb = [step.notebook] if step.notebook in PAGES else ["notebook", step.notebook]
        given = (*overrides, *(f"{key}={value}" for key, value in step.of_a_run.items()))
        shared = beside if step.shares else {}  # but none that begins before what takes every core, and has it wait
        after = [name for name in step.after if name in names] + (alone if shared else [])
        alone = alone if shared else [step.name]
        command = _command(*verb, profile=profile, overrides=given)
        if step.small:  # threads that spin while they wait make a fit of XQDA on 700 features nine times as dear
            command = f"OPENBLAS_NUM_THREADS=1 {command}"
        each = {"name": step.name, "why": why, "after": after, "command": command}
        plan.append(each | shared)
    return plan


def _command(*verb: str, profile: Path, overrides: Sequence[str]) -> str:
    given = [word for override in overrides for word in ("-p", override)]
    return shlex.join(["python", "-m", "reproduction.cli", *verb, "--profile", str(profile), *given])


def _execute(plan: list[dict], results: Path, lock: int | None, where=None) -> None:
    started, log = time.monotonic(), results / LOG
    _note(log, f"commit {json.dumps(machine.commit())}")
    for step in plan:
        _note(log, f"to run: {step['name']}, since {step['why']}")
    print(f"{len(plan)} steps; log: {log}", flush=True)
    folder = results / ".steps"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir()
    code, keep = 0, False
    try:
        files.write_text(folder / "plan.json", json.dumps(plan))
        for step in plan:  # in files, since Snakemake would fill in braces in a command
            files.write_text(folder / f"{step['name']}.sh", step["command"])
        code, keep = _snakemake(folder, lock, where), bool(where and where.executor)
    finally:
        if not (code and keep):  # a scheduler's own logs lie there
            shutil.rmtree(folder, ignore_errors=True)
    if code:
        print(f"Ended after {words.duration(time.monotonic() - started)}.", flush=True)  # raises where nobody reads it
        place = f"in {results / 'logs'}, or in the log that is named above" if where and where.executor else "above"
        why = f"A step failed; what it said is {place}" if code > 0 else f"Signal {-code} ended Snakemake"
        said = f"{why}. The same command continues from there once it is mended."
        _note(log, said)
        raise WorkflowError(said)
    _note(log, said := f"Done in {words.duration(time.monotonic() - started)}.")
    print(said)


def _snakemake(folder: Path, lock: int | None, where=None) -> int:
    """Run the steps of `folder`/plan.json; the exit status. What Snakemake keeps for itself stays in that folder. Where
    this process is stopped, the steps are, in good order, and only then it ends."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--nolock"]
    alone = ["--cores", str(machine.cores()), "--workflow-profile", "none", "--quiet", "all"]
    command += [*([] if where and where.executor else alone), *(where.options() if where else [])]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SNAKEMAKE")}
    environment |= {PLAN: str(folder / "plan.json"), "XDG_CACHE_HOME": str(folder / "cache")}
    environment |= {GPUS: ",".join(where.gpus)} if where else {}
    for key, first in (("PATH", Path(sys.executable).parent), ("PYTHONPATH", REPOSITORY)):
        environment[key] = os.pathsep.join(filter(None, [str(first), environment.get(key)]))
    kept = () if lock is None else (lock,)  # a main process that is killed leaves the lock with the workflow
    workflow = subprocess.Popen(command, cwd=folder, env=environment, pass_fds=kept)
    return stopping.waited(workflow, folder / "plan.json")


def is_step() -> bool:
    """Whether this process is a step of a workflow, whose profile was checked at its start."""
    return PLAN in os.environ


@contextlib.contextmanager
def step(name: str, title: str, results: Path) -> Iterator[Mapping[str, Any]]:
    """Announce a step of the workflow, "[3/17] title", and what it took; gives what is planned for it. Alone: nothing,
    no number, and the lock of the results folder, which in a workflow the main process holds."""
    if not is_step():
        with only_one(results), _announced(title):
            yield {}
        return
    plan = json.loads(Path(os.environ[PLAN]).read_text(encoding="utf-8"))
    number, planned = next((n, planned) for n, planned in enumerate(plan, 1) if planned["name"] == name)
    with _announced(f"[{number}/{len(plan)}] {title}", results / LOG), _own_gpus(planned, results / ".steps"):
        yield planned


@contextlib.contextmanager
def _own_gpus(planned: Mapping, folder: Path) -> Iterator[None]:
    """Show as many of `GPUS` as a step asks for, held by no other, to what is started from here. Snakemake starts no
    more steps than there are GPUs for; the locks go with the process."""
    shown, own = os.environ.get(GPUS), []
    with contextlib.ExitStack() as held:
        for gpu in shown.split(",") if shown else ():
            with contextlib.suppress(BlockingIOError):
                if len(own) < planned.get("resources", {}).get("gpu", 0):
                    held.enter_context(files.locked(folder / f"gpu-{gpu}", BlockingIOError(f"GPU {gpu} is in use")))
                    own.append(gpu)
        os.environ |= {"CUDA_VISIBLE_DEVICES": ",".join(own)} if own else {}
        yield


@contextlib.contextmanager
def _announced(title: str, log: Path | None = None) -> Iterator[None]:
    started = time.monotonic()
    _note(log, f"{title} ...")
    print(f"{title} ...", flush=True)
    try:
        yield
    except BaseException as error:
        _note(log, f"{title}: {type(error).__name__}: {error}")
        raise
    took = f"{title}: {words.duration(time.monotonic() - started)}"
    _note(log, took)
    print(took, flush=True)


def _note(log: Path | None, text: str) -> None:
    if log is not None:
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%F %T')} {text}\n")


@contextlib.contextmanager
def only_one(results: Path) -> Iterator[int | None]:
    """Hold the lock of a results folder; it goes with the process, however that ends. Gives its handle."""
    results.mkdir(parents=True, exist_ok=True)
    busy = WorkflowError(f"{results}: another `make reproduce` is at work here, or a notebook; wait for it.")
    with files.locked(results / ".lock", busy) as lock:
        if left := stopping.at_work(results / ".steps" / "plan.json"):
            what = f"what a killed `make reproduce` began is still at work: process {[each.pid for each in left]}"
            raise WorkflowError(f"{results}: {what}; end it, or wait.")
        yield lock


def verdicts(results: Path) -> str:
    """The claims and their verdicts as lines of text, and where the results are."""
    import pandas as pd

    from reproduction import claims, compare
    from reproduction.claims import effects  # a step does without

    table = pd.read_csv(results / "claims.csv")
    source = table["data_source"].iloc[0]
    lines = [f"Verdicts on {source} data, profile {table['profile'].iloc[0]}:"]
    lines += [f"  {row.verdict:<42} {row.text}  [{row.section}]" for row in table.itertuples()]
    lines.append(f"  = {claims.summary(table['verdict'])}")
    lines += ["Effects that official data is known for, here (the network is the baseline):", *effects.told(results)]
    if source == "embedded":
        lines.append("Embedded data is rendered: it can show that the kit works, not what the paper's numbers are.")
    lines += compare.beside_reference(results, table["profile"].iloc[0])
    return "\n".join([*lines, f"Tables and figures: {results}", f"Report: {results / 'report.html'}"])
