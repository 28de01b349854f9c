"""Choices of network and training: the variants, the trainings that they need, and these trainings done.

Each variant changes one thing of the profile's recipe for HCN. Its runs, and those of the default beside it, lie in
`<results_root>/runs/sensitivity/<variant>-<set>-seed<n>/`; where the profile gives the study no schedule of its own,
the default is the profile's own HCN run. Both sides of a comparison have equally many seeds. Everything goes through
`reid_core.training.train`: a finished run of the same recipe and data is kept, an interrupted one continues.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from reid_core import training
from reid_core.training import run_folder
from reproduction import paper
from reproduction.experiment import Experiment, check_seeds, training_of
from reproduction.words import unknown_name

DEFAULT = "default"
BATCHNORM = "batchnorm"
NO_STATISTICS = "not run: random weights have no statistics to freeze"
WORDS = yaml.safe_load(Path(__file__).with_name("variants.yaml").read_text(encoding="utf-8"))
VARIANTS: dict[str, dict[str, object]] = WORDS["variants"]
NOTES, TITLES = WORDS["notes"], WORDS["titles"]


@dataclass(frozen=True)
class Run:
    """One training of the study."""

    folder: Path
    recipe: training.Recipe
    model: str
    train_set: str

    name = property(lambda self: self.folder.as_posix().rpartition("/runs/")[2], doc="Its folder below `runs/`.")


@dataclass(frozen=True)
class Comparison:
    """A variant's runs beside equally many that it is compared with, or the reason why there are none.

    kind: "training", or "control" (`reproduction.sensitivity.controls`), whose default is the profile's own. set: the
    one that is tested. model: "baseline", "hcn" or "combined", of both sides."""

    kind: str
    set: str
    model: str
    variant: str
    choice: str
    default: str
    other: str
    note: str
    default_runs: tuple[Run, ...]
    other_runs: tuple[Run, ...]
    not_run: str


@dataclass(frozen=True)
class Study:
    """The trainings on one set: the default's, one a seed (none where the set is absent), and the comparisons.

    recipes: {train set: settings of the profile's runs on it}."""

    train_set: str
    recipes: Mapping[str, Mapping[str, object]]
    default_runs: tuple[Run, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def runs(self) -> list[Run]:
        """Every training once, the default's first; what a control is compared with is trained by notebook 02."""
        sides = [(one.default_runs if one.kind == "training" else (), one.other_runs) for one in self.comparisons]
        return list(dict.fromkeys((*self.default_runs, *(run for both in sides for side in both for run in side))))


def own_recipes(kit: Experiment) -> dict[str, dict[str, object]]:
    """{train set: the recipe of the profile's HCN run on it}; where a set is absent, the run on another.
    Raises FileNotFoundError for a run that is not there, with the notebook that makes it."""
    absent, names = kit.not_run, (*paper.SETS, paper.COMBINED)
    there = {name: next((other for other in (name, *paper.SETS) if other not in absent), name) for name in names}
    return {name: run_folder.read(kit.run("hcn", there[name], kit.seeds[0]).folder)["recipe"] for name in names}


def design(
    kit: Experiment, recipes: Mapping[str, Mapping[str, object]], train_set: str, default_seeds: Sequence[int],
    variant_seeds: Sequence[int], schedule: Mapping[str, object], variants: Iterable[str | Mapping[str, Mapping]],
    not_run: Mapping[str, str] | None = None,
) -> Study:  # fmt: skip
    """What to train for the variants on `train_set`, one of `reproduction.paper.SETS`, checked before it is trained.

    recipes : {train set: settings of the profile's runs on it}
    variant_seeds : of each variant; where one side has fewer seeds, the other takes as many, the first ones
    schedule : settings on top of the recipe, for the default and all variants alike; empty: the profile's own, whose
        HCN run of a seed is then the default's
    variants : names of VARIANTS, or {name: {setting of the recipe: value}} for one of your own
    not_run : {train set: reason} for sets that are not there, from `Experiment.not_run`

    Raises ValueError or TypeError, naming what is wrong, for an unknown set, variant or setting, an empty or repeated
    list of seeds, or a value out of range."""
    if train_set not in paper.SETS:
        raise ValueError(f"sensitivity_set is {train_set!r}; it is one of {', '.join(paper.SETS)}.")
    check_seeds("sensitivity_seeds", default_seeds)
    check_seeds("sensitivity_variant_seeds", variant_seeds)
    if isinstance(schedule, str) or isinstance(variants, (str, Mapping)):
        given = f"sensitivity_schedule is {schedule!r} and sensitivity_variants {variants!r}"
        raise ValueError(f"{given}; write them as {{iterations: 100}} and [relu, conv1].")
    settings = dict(recipes[train_set]) | dict(schedule)
    maker = Maker(kit, train_set, settings, shortened=bool(schedule))
    default = maker.runs(DEFAULT, {}, default_seeds)
    named = [_named(variant) for variant in variants]
    chosen = dict(named)
    names = [name for name, _ in named]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"sensitivity_variants names {twice!r} twice; a variant is trained once a seed.")
    absent = dict(not_run or {})
    comparisons = []
    for name, changes in {**VARIANTS, **chosen}.items():
        reason = absent.get(train_set, "")
        if name not in chosen:
            reason = "not run: not among this profile's sensitivity_variants"
        if name == BATCHNORM:
            changes = {"batchnorm": "frozen" if default[0].recipe.batchnorm == "live" else "live"}
            if default[0].recipe.weights == "random":
                changes, reason = {"batchnorm": "live"}, reason or NO_STATISTICS
        comparisons.append(maker.comparison(name, changes, default, variant_seeds, reason))
    return Study(train_set, recipes, () if train_set in absent else default, tuple(comparisons))


@dataclass(frozen=True)
class Maker:
    """Makes runs and comparisons from the default's settings; `shortened`: these are not the profile's own.

    name: the set that is tested. model: as of a row, "combined" for HCN trained on the combined set."""

    kit: Experiment
    name: str
    settings: dict[str, object]
    model: str = "hcn"
    shortened: bool = False

    def runs(self, name: str, changes: Mapping, seeds: Sequence[int]) -> tuple[Run, ...]:
        """One run a seed of the default's recipe with `changes`. Raises what Recipe does, naming the variant."""
        made = []
        for seed in seeds:
            folder = self.kit.results / "runs" / "sensitivity" / f"{name}-{self.name}-seed{seed}"
            if name == DEFAULT and not self.shortened:
                folder = self.kit.run(self.model, self.name, seed).folder
            try:
                recipe = training.Recipe.from_dict(self.settings | dict(changes) | {"seed": seed})
            except (TypeError, ValueError) as error:
                raise type(error)(f"sensitivity, {name}: {error}") from None
            made.append(Run(folder, recipe, *training_of(self.model, self.name)))
        return tuple(made)

    def comparison(
        self, name: str, changes: Mapping, default: tuple[Run, ...], seeds: Sequence[int], reason: str
    ) -> Comparison:
        """A variant of one recipe setting, or of several."""
        others = self.runs(name, changes, seeds[: len(default)])
        there, here = default[0].recipe.to_dict(), others[0].recipe.to_dict()
        if not reason and all(there[key] == here[key] for key in changes):
            reason = "not run: the profile's own recipe is like this"
        titles = ", ".join(TITLES.get(key, key) for key in changes)
        was, becomes = (", ".join(words(side[key]) for key in changes) for side in (there, here))
        pair = ((), ()) if reason else (default[: len(others)], others)
        note = NOTES.get(name, "own variant of this profile")
        return Comparison("training", self.name, self.model, name, titles, was, becomes, note, *pair, reason)


def _named(variant: str | Mapping[str, Mapping]) -> tuple[str, Mapping]:
    """Name and changes of an entry of `sensitivity_variants`."""
    if isinstance(variant, str):
        if variant not in VARIANTS:
            what = unknown_name(variant, VARIANTS, "a variant of reproduction.sensitivity")
            raise ValueError(f"sensitivity_variants: {what}")
        return variant, VARIANTS[variant]
    if not isinstance(variant, Mapping) or len(variant) != 1:
        raise ValueError(f"sensitivity_variants: {variant!r} is neither a name nor {{name: {{setting: value}}}}.")
    ((name, changes),) = variant.items()
    if name in VARIANTS or name == DEFAULT or not re.fullmatch(r"[a-z][a-z0-9_]*", str(name)):
        rule = f"small letters, digits and _ only, and none of {', '.join((DEFAULT, *VARIANTS))}"
        raise ValueError(f"sensitivity_variants: {name!r} cannot name a variant of your own: {rule}.")
    if not isinstance(changes, Mapping) or not changes or "seed" in changes:
        raise ValueError(f"sensitivity_variants: {name} must map settings of the recipe, but not seed, to values.")
    return name, changes


def words(value: object) -> str:
    """A setting's value in a table.

    >>> words(True), words([1.0, 0.5]), words("skip"), words(0.5)
    ('yes', '1, 0.5', 'skip', '0.5')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(words, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def train(
    kit: Experiment, study: Study, images: Mapping[str, pd.DataFrame], runs: Iterable[Run] | None = None
) -> pd.DataFrame:
    """Train what is not finished; one line a run: folder, iterations, seconds, and the failure of one that diverged.

    `images`: {train set: its labelled training images, as for the profile's own runs}, without those that are absent.
    `runs`: some of the study's; None for all.
    A variant whose loss does not stay finite is an outcome and does not stop the others; the default's must.
    Raises what `training.train` raises otherwise."""
    lines = []
    for run in study.runs if runs is None else runs:
        failure, seconds = "", None
        try:
            how = {"recipe": run.recipe, "data_root": kit.data, "other_recipe": "set_aside"}
            training.train(run.model, images[run.train_set], run.folder, **how)
            seconds = run_folder.read(run.folder)["seconds"]
        except FloatingPointError as error:
            if run in study.default_runs:
                raise
            failure = f"diverged: {str(error).partition(' (')[0]}"
        lines.append({"run": run.name, "iterations": run.recipe.iterations, "seconds": seconds, "failure": failure})
    return pd.DataFrame(lines, columns=["run", "iterations", "seconds", "failure"])
