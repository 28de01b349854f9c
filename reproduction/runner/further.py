"""The trainings of a profile, each as `training.train` takes it: the paper's, variants and controls, Gated [21].

On one device nothing is gained by a step for each of the further ones, which notebooks 03, 04 and 10 make where they
are missing; a step costs seconds to start. On a cluster or with several GPUs each is a step `train-<run>` before its
notebook, which then finds it. What counts as made is decided by `training.train`, here as there: recipe and data.
"""

import functools
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import pandas as pd

from reid_core import training
from reid_core.matching import split
from reid_core.training.step import Objective
from reproduction import experiment, literature
from reproduction.embedded import pretraining
from reproduction.gated import Gated
from reproduction.runner import profiles, steps, stopping, workflow
from reproduction.sensitivity.variants import DEFAULT

GATED = "Gated [21]"


class Trainings:
    """Every training of a profile by its name below `runs/`, without those that need an absent set.

    `own`: {name: (model, train set, seed)} of the paper's seven; `further`: {name: the notebook that reads it}."""

    def __init__(self, settings: Mapping[str, Any]):
        self.settings, self.kit = settings, experiment.Experiment.of(settings)
        self._absent = self.kit.not_run if settings["render_sizes"] == "none" else {}  # embedded data will be there
        each = [(*one, seed) for one in experiment.trainings() for seed in self.kit.seeds]
        self.own = {self.kit.run(*one).name: one for one in each if one[1] not in self._absent}
        found = {run.name: "10_sensitivity" for run in profiles.study(settings, self._absent).runs}
        if self._gated:
            found |= {f"gated-{name}-seed0": book for name, book in steps.READERS.items() if name not in self._absent}
        self.further = {name: notebook for name, notebook in found.items() if name not in self.own}
        self.names = (*self.further, *self.own)
        self._table = functools.cache(self.kit.training_table)

    @functools.cached_property
    def _gated(self) -> Mapping[str, Any] | None:
        methods = literature.entries(self.settings["literature"])
        return next((method.settings for method in methods if method.name == GATED), None)

    @functools.cached_property
    def _study(self):
        return profiles.study(self.settings, self._absent, as_trained=True)

    def asked(self, run: str) -> tuple[str | Objective, pd.DataFrame, training.Recipe]:
        """Model, labelled images and recipe of one; a backbone that the recipe names is made where it is not yet."""
        if run in self.own:
            model, train_set, seed = self.own[run]
            given = self.settings["recipe"] | self.settings["schedules"][train_set] | {"seed": seed}
            return model, self._table(train_set), pretraining.recipe(given)
        if run.startswith("gated-"):
            name = run.removeprefix("gated-").removesuffix("-seed0")
            return Gated(**self._gated).asked(split(self.kit.images(name)).train)
        one = next(found for found in self._study.runs if found.name == run)
        return one.model, self._table(one.train_set), one.recipe


def train(run: str, profile: str, overrides: Sequence[str] = ()) -> None:
    """Make one training of a profile, or find it made, by several processes of torchrun's where the plan says so.

    A variant whose loss does not stay finite is an outcome, which notebook 10 notes; of the others it is an error.
    Raises ValueError for a name that is none of the profile's trainings, and what `training.train` raises."""
    settings = profiles.load(profile, overrides, recipes=False)
    known = Trainings(settings)
    if run not in known.names:
        raise ValueError(f"{run!r} is no training of this profile; there are: {', '.join(known.names)}.")
    if "TORCHELASTIC_RUN_ID" in os.environ:  # one of several processes; the step is the one that started them
        return _train(run, known)
    name = f"02_train-{run}" if run in known.own else step_name(run)
    with workflow.step(name, run, known.kit.results) as planned:
        if (processes := planned.get("processes", 1)) > 1:
            _together(processes, run, profile, overrides)
        else:
            _train(run, known)


def _train(run: str, known: Trainings) -> None:
    with mock.patch.dict(os.environ):  # a backbone is pretrained by the process that comes first, the others wait
        os.environ.pop("WORLD_SIZE", None)
        model, images, recipe = known.asked(run)
    folder = known.kit.results / "runs" / run
    other = known.settings["other_recipe"] if run in known.own else "set_aside"
    try:
        training.train(model, images, folder, recipe=recipe, data_root=known.kit.data, other_recipe=other)
    except FloatingPointError as error:
        if run in known.own or run.startswith(("gated-", f"sensitivity/{DEFAULT}-")):
            raise
        print(f"  {run}: diverged: {error}", flush=True)


def _together(processes: int, run: str, profile: str, overrides: Sequence[str]) -> None:
    given = [word for override in overrides for word in ("-p", override)]
    how = ["--standalone", f"--nproc-per-node={processes}", "-m", "reproduction.cli"]
    command = [sys.executable, "-m", "torch.distributed.run", *how, "train", run, "--profile", str(profile), *given]
    if code := stopping.waited(subprocess.Popen(command)):
        raise workflow.WorkflowError(f"{run}: torchrun ended with {code}; what its processes said stands above.")


def step_name(run: str) -> str:
    """The step of a further run; a name has no slash.

    >>> step_name("sensitivity/relu-cuhk03_labeled-seed0")
    'train-sensitivity-relu-cuhk03_labeled-seed0'
    """
    return f"train-{run.replace('/', '-')}"
