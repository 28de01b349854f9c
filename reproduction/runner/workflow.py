"""The main job: every notebook of a profile in order, resumable, one at a time, with a word on what it is doing."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from reid_core import files
from reproduction import claims, experiment, words
from reproduction.runner import notebooks, profiles
from reproduction.sidecar import REPOSITORY

STEPS, TOTAL = "REID_CORE_STEPS", "REID_CORE_STEPS_TOTAL"


class WorkflowError(RuntimeError):
    """The workflow stopped; the failing step has said why."""


def run(profile: str, overrides: Sequence[str] = (), force: Sequence[str] = ()) -> Path:
    """Make everything of a profile that is missing or out of date; return the results folder.

    `overrides` are "key=value" on top of the profile; `force` names notebooks to run again, as `notebooks.find` takes
    them. Raises what `runner.profiles.load` and `notebooks.find` raise, before anything runs, and WorkflowError
    when a step fails.
    """
    settings = profiles.load(profile, overrides)
    profiles.check_schedules(settings)
    results = experiment.resolve(settings["results_root"])
    with _only_one(results):
        total = sum(steps(profile, overrides, force).values())
        if total == 0:
            print(f"Nothing to do: {results} is up to date.")
        else:
            _execute(_command(profile, overrides, force), results, total)
    return results


def steps(profile: str, overrides: Sequence[str] = (), force: Sequence[str] = ()) -> dict[str, int]:
    """What `run` would do now: {step: how often}; trainings count once a run. Empty when all is up to date.

    Raises WorkflowError when the workflow itself is at fault.
    """
    command = [*_command(profile, overrides, force), "--dry-run", "--quiet", "rules"]
    planned = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if planned.returncode:
        raise WorkflowError(f"The plan of the workflow failed:\n{planned.stdout}{planned.stderr}")
    counts = re.findall(r"^(\w+) +(\d+)$", planned.stdout + planned.stderr, re.MULTILINE)
    return {name: int(count) for name, count in counts if name not in ("total", "all")}


def _command(profile: str, overrides: Sequence[str], force: Sequence[str]) -> list[str]:
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
    command += [
        "--cores",
        "all",
        "--nolock",
        "--rerun-incomplete",
        "--rerun-triggers",
        "mtime",
        "params",
        "input",
    ]
    command += ["--config", f"profile={profile}", f"overrides={json.dumps(list(overrides))}"]
    rules = {"01_datasets": "datasets", "02_train": "train"}  # the others are named after their notebook
    stems = [notebooks.find(name).stem for name in force]
    return command + (["--forcerun", *(rules.get(stem, stem) for stem in stems)] if force else [])


def _execute(base: list[str], results: Path, total: int) -> None:
    steps, log = results / ".steps", results / "workflow.log"
    steps.write_text("")
    environment = os.environ | {STEPS: str(steps), TOTAL: str(total)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    started = time.monotonic()
    print(f"{total} steps; log: {log}", flush=True)
    process = subprocess.Popen([*base, "--quiet", "all"], cwd=REPOSITORY, env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    finally:
        steps.unlink(missing_ok=True)
    if code:
        raise WorkflowError(
            "A step failed; what it said is above. The same command continues from there once it is mended."
        )
    print(f"Done in {words.duration(time.monotonic() - started)}.")


def is_step() -> bool:
    """Whether this process is a step of a workflow, whose profile was checked at its start."""
    return STEPS in os.environ


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step of the workflow, "[3/17] title", and what it took. Alone, without a number."""
    count = ""
    if log := os.environ.get(STEPS):
        with open(log, "a") as file:
            file.write(title + "\n")
        count = f"[{len(Path(log).read_text().splitlines())}/{os.environ[TOTAL]}] "
    started = time.monotonic()
    print(f"{count}{title} ...", flush=True)
    yield
    print(f"{count}{title}: {words.duration(time.monotonic() - started)}", flush=True)


@contextlib.contextmanager
def _only_one(results: Path) -> Iterator[None]:
    """Hold a lock on a results folder; it goes with the process, however that ends."""
    results.mkdir(parents=True, exist_ok=True)
    busy = WorkflowError(f"{results}: another `make reproduce` is at work here; wait for it.")
    with files.locked(results / ".lock", busy):
        yield


def verdicts(results: Path) -> str:
    """The claims and their verdicts as lines of text, and where the results are."""
    table = pd.read_csv(results / "claims.csv")
    source = table["data_source"].iloc[0]
    lines = [f"Verdicts on {source} data, profile {table['profile'].iloc[0]}:"]
    lines += [f"  {row.verdict:<42} {row.text}  [{row.section}]" for row in table.itertuples()]
    lines.append(f"  = {claims.summary(table['verdict'])}")
    if source == "embedded":
        lines.append(
            "Embedded data is rendered: it can show that the kit works, not what the paper's numbers are."
        )
    lines.append(f"Tables and figures: {results}")
    lines.append(f"Report: {results / 'report.html'}")
    return "\n".join(lines)
