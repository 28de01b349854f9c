"""One step at work: a notebook or the report, in the profile's results folder or, with other settings, in its own."""

import functools
import importlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_core import files
from reproduction import experiment, results_folder
from reproduction.experiment import SINGLE
from reproduction.runner import notebooks, profiles, staleness, steps, workflow
from reproduction.runner.staleness import MARK, Now
from reproduction.runner.steps import DATASETS, EXPLORER, PAGES, REPORT, TRAIN, Step


def notebook(name: str, profile: str, overrides: Sequence[str] = (), output: str | os.PathLike | None = None) -> Path:
    """Run a notebook under a profile; return the folder of its results.

    Alone, with settings that are not the profile's, the results go to a folder of their own below the profile's,
    `single/<settings>/`, which borrows the profile's trainings and tables; or to the `results_root` of `overrides`,
    unless other settings made what lies there. A step that finds nothing changed by the steps before it does nothing.
    Raises what `notebooks.find`, `profiles.load` and `notebooks.run` raise, and WorkflowError where another process
    is at work in the folder."""
    path = notebooks.find(name)
    settings = profiles.load(profile, overrides, recipes=not workflow.is_step())
    step = steps.one(settings, path)
    if not workflow.is_step() and (differing := _differing(step, settings, profile, overrides)):
        settings = _own_place(step, settings, differing)
        step = steps.one(settings, path)
    now = Now(settings)
    output = Path(output).absolute() if output else now.places.executed(step)
    profiles.check_not_source(output, "--output")
    if output.suffix != ".ipynb":
        raise ValueError(f"--output {output}: an executed notebook is a file with the ending .ipynb.")
    given = ", ".join(f"{key} {step.parameters[key]}" for key in steps.OF_A_RUN if step.notebook == TRAIN)
    with workflow.step(step.name, f"{path.stem}{f' ({given})' if given else ''}", now.places.results) as planned:
        if not _settled(now, step, planned):
            left = functools.partial(now.left, now.known(step), time.time() - 1)
            for old in now.places.made(step) if workflow.is_step() and step.notebook != TRAIN else ():
                old.unlink(missing_ok=True)  # so that no part of it can stay behind
            notebooks.run(path, output, step.parameters, now.origin(step), left)
            if workflow.is_step() and step.notebook != TRAIN:
                _renew_report(now)
    return now.places.results


def _renew_report(now: Now) -> None:
    """Show in report.html what there is so far, in this process: it takes less than a second. Its step, the last,
    writes it again; what fails there is said here and stops nothing."""
    from reproduction import report  # trainings, most of the steps, do without

    settings = now.settings
    facts = experiment.Experiment.of(settings).facts(ap=settings.get("ap", "trapezoid"), seeds=settings["seeds"])
    try:
        page = report.write(now.places.results, facts)
        print(f"  so far: {page}", flush=True)
    except (OSError, ValueError) as error:
        print(f"  {results_folder.REPORT} was not renewed: {error}", flush=True)


def write_page(name: str, profile: str, overrides: Sequence[str] = ()) -> None:
    """Write explorer.html or report.html of a profile; before this one that, which is a step of its own in a workflow.
    The last line of each says what it was made from."""
    now = Now(profiles.load(profile, overrides, recipes=False))
    wanted = (EXPLORER, REPORT) if name == REPORT and not workflow.is_step() else (name,)
    for step in (step for step in steps.of(now.settings) if step.name in wanted):
        with workflow.step(step.name, step.name, now.places.results) as planned:
            if not _settled(now, step, planned):
                origin = json.dumps(now.origin(step)).replace("--", "-\\u002d")
                given = step.parameters if step.name == EXPLORER else now.places.results
                page = importlib.import_module(PAGES[step.name]).write(given)  # slow to load
                files.write_text(page, f"{page.read_text(encoding='utf-8').rstrip()}\n{MARK}{origin} -->\n")


def _settled(now: Now, step: Step, planned: Mapping[str, Any]) -> bool:
    """Whether a step that waited for others need not run: what they made is what it was made from."""
    settled = planned.get("why", "").startswith(staleness.AFTER) and now.difference(step) is None
    if settled:
        print(f"  {step.name}: nothing that it reads has changed", flush=True)
    return settled


def _differing(step: Step, settings: dict[str, Any], profile: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The settings by which a single run differs from the profile, or from what lies in the results folder it names."""
    if step.notebook not in notebooks.names():
        return {}
    own = profiles.select(profiles.load(profile, recipes=False), step.notebook) | step.of_a_run
    parameters, own = (staleness.settings_of({"parameters": given}) for given in (step.parameters, own))
    found = {key: value for key, value in parameters.items() if own.get(key) != value}
    if any(override.partition("=")[0].strip() == "results_root" for override in overrides):
        return found if any(known != parameters for known in Now(settings).settings_there(step)) else {}
    return found


def _own_place(step: Step, settings: dict[str, Any], differing: dict[str, Any]) -> dict[str, Any]:
    """The settings with `results_root` in a folder named after what differs, with what the notebook reads in it."""
    text = ",".join(f"{key}={json.dumps(value)}" for key, value in sorted(differing.items()))
    label = re.sub(r"[^\w.=,+-]+", "", text, flags=re.ASCII)
    if label != text or len(label) > 60:
        label = f"{label[:50]}-{staleness.digest(differing)[:8]}"
    places = steps.Places.of(settings)
    folder = places.results / SINGLE / f"{step.notebook}-{label}"
    folder.mkdir(parents=True, exist_ok=True)
    for link, target in ((folder / name, places.results / name) for name in _read(step, places.results)):
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            link.unlink()
        if target.exists() and not link.exists():
            link.symlink_to(os.path.relpath(target, link.parent.resolve()))
    print(f"Not the settings of profile {settings['profile']} ({text}): the results go to {folder}", flush=True)
    moved = {"results_root": str(folder)}
    if step.notebook == DATASETS and settings["render_sizes"] != "none":
        moved["data_root"] = str(folder / "data")  # another rendering
    return settings | moved


def _read(step: Step, results: Path) -> list[str]:
    """What a notebook reads in a results folder: trainings, also on own data, their features, tables with sidecars."""
    runs = [name.partition("-")[2] for name in step.after if name.startswith(f"{TRAIN}-")]
    if runs:
        own = (results / "runs").rglob("*.csv-seed*")  # a CSV may lie in a folder
        runs += [run.relative_to(results / "runs").as_posix() for run in own if run.is_dir()]
    tables = results_folder.NEEDED.get(step.notebook, ()) + (("table1_subsets",) if step.notebook == TRAIN else ())
    found = [f"{kind}/{run}" for run in runs for kind in ("runs", "features")]
    return found + [f"{stem}{suffix}" for stem in tables for suffix in (".csv", ".json")]
