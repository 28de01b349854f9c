"""The trainings that notebooks 03, 04 and 10 make where they are missing, one by one: variants, controls, Gated [21].

On one device nothing is gained by a step for each, which costs seconds to start: there the notebooks make them, in one
process, one after another. On a cluster or with several GPUs each is a step `train-<run>` before its notebook, which
then finds it. What counts as made is decided by `training.train`, here as there: recipe and data.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_core.matching import split
from reproduction import experiment, literature, sensitivity
from reproduction.gated import Gated
from reproduction.runner import profiles, steps, workflow

GATED = "Gated [21]"


def runs(settings: Mapping[str, Any]) -> dict[str, str]:
    """{run below `runs/`: the notebook that reads it} of a profile, without those that need an absent set."""
    kit, absent = _kit(settings)
    found = {run.name: "10_sensitivity" for run in _study(settings).runs}
    if GATED in {method.name for method in literature.entries(settings["literature"])}:
        found |= {kit.run("gated", name, 0).name: book for name, book in steps.READERS.items() if name not in absent}
    own = {kit.run(*training, seed).name for training in experiment.trainings() for seed in kit.seeds}
    return {name: notebook for name, notebook in found.items() if name not in own}


def train(run: str, profile: str, overrides: Sequence[str] = ()) -> Path:
    """Make one of `runs`, or find it made; return its folder. Raises ValueError for a name that is none of them."""
    settings = profiles.load(profile, overrides, recipes=False)
    kit, folder = _kit(settings)[0], experiment.resolve(settings["results_root"]) / "runs" / run
    if run not in (known := runs(settings)):
        raise ValueError(f"{run!r} is no further training of this profile; there are: {', '.join(known) or 'none'}.")
    with workflow.step(step_name(run), run, kit.results):
        if run.startswith("gated-"):
            name = run.removeprefix("gated-").rpartition("-seed")[0]
            asked = next(method for method in literature.entries(settings["literature"]) if method.name == GATED)
            Gated(**asked.settings).fit(split(kit.images(name)).train, folder, data_root=kit.data)
        else:
            study = _study(settings, as_trained=True)
            one = next(found for found in study.runs if found.name == run)
            images = {one.train_set: kit.training_table(one.train_set)}
            sensitivity.train(kit, study, images, [one])
    return folder


def step_name(run: str) -> str:
    """The step of a run; a name has no slash.

    >>> step_name("sensitivity/relu-cuhk03_labeled-seed0")
    'train-sensitivity-relu-cuhk03_labeled-seed0'
    """
    return f"train-{run.replace('/', '-')}"


def _kit(settings: Mapping[str, Any]) -> tuple[experiment.Experiment, Mapping[str, str]]:
    """The experiment, and what is absent of official data; embedded data will be there."""
    kit = experiment.Experiment.of(settings)
    return kit, kit.not_run if settings["render_sizes"] == "none" else {}


def _study(settings: Mapping[str, Any], as_trained: bool = False):
    return profiles.study(settings, _kit(settings)[1], as_trained=as_trained)
