"""Controls: what HCN's gain is due to. Each is trained as the profile's own runs beside it, with as many seeds.

HCN differs from the baseline in the cross maps and in the two further losses; the controls take these apart, and ask
whether the baseline was trained long and fast enough. Runs: `runs/sensitivity/<control>-<set>-seed<n>/`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from reid_core.training import Recipe
from reproduction import paper
from reproduction.experiment import Experiment, training_of
from reproduction.sensitivity.variants import DEFAULT, WORDS, Maker, Study
from reproduction.words import unknown_name

MODELS = {"hcn": "HCN", "baseline": "baseline", paper.COMBINED: "HCN, combined set"}


@dataclass(frozen=True)
class Control:
    """A model of the tables with other settings: `changes(own, single)` of its own recipe and of the tested set's."""

    model: str
    changes: Callable[[Recipe, Recipe], dict[str, object]]


def _schedule(recipe: Recipe, times: int = 1) -> dict[str, object]:
    """Iterations, so many times, at every learning rate but the warm-up's; half a cosine stretches itself."""
    names = ("iterations", "lr_step") if recipe.lr_schedule == "step" else ("iterations",)
    return {name: times * getattr(recipe, name) for name in names}


CONTROLS = {
    "heads_alone": Control("hcn", lambda own, single: {"merging": "none"}),
    "third_losses": Control("hcn", lambda own, single: {"loss_weights": [1 / 3] * 3}),
    "baseline_twice": Control("baseline", lambda own, single: _schedule(own, 2)),
    "baseline_rate2": Control("baseline", lambda own, single: {"base_lr": 2 * own.base_lr}),
    "baseline_rate3": Control("baseline", lambda own, single: {"base_lr": 3 * own.base_lr}),
    "combined_equal_updates": Control(paper.COMBINED, lambda own, single: _schedule(single)),
}


def with_controls(
    study: Study, kit: Experiment, chosen: Mapping[str, Sequence[str]], not_run: Mapping[str, str] | None = None
) -> Study:
    """The study of the variants with every control compared with the profile's own runs, with all its seeds; one not
    chosen says so.

    `chosen`: {name of CONTROLS: sets of `reproduction.paper.SETS` to test it on}; `not_run`: {train set: reason} for
    sets that are not there. Raises ValueError, naming what is wrong, for an unknown control or set, or one named twice.
    """
    _check(chosen)
    absent, made = dict(not_run or {}), []
    for name, control in CONTROLS.items():
        for tested in chosen.get(name) or (study.train_set,):
            trained = training_of(control.model, tested)[1]
            reason = absent.get(tested) or absent.get(trained, "")
            if tested not in chosen.get(name, ()):
                reason = "not run: not among this profile's sensitivity_controls"
            maker = Maker(kit, tested, dict(study.recipes[trained]), control.model)
            default = maker.runs(DEFAULT, {}, kit.seeds)
            changes = control.changes(default[0].recipe, Recipe.from_dict(dict(study.recipes[tested])))
            one = maker.comparison(name, changes, default, kit.seeds, reason)
            choice = f"{one.choice} ({MODELS[control.model]})"
            made.append(replace(one, kind="control", choice=choice, note=WORDS["controls"][name]))
    return replace(study, comparisons=(*study.comparisons, *made))


def _check(chosen: Mapping[str, Sequence[str]]) -> None:
    if not isinstance(chosen, Mapping):
        raise ValueError(f"sensitivity_controls is {chosen!r}; write it as {{heads_alone: [cuhk03_labeled]}}.")
    for name, sets in chosen.items():
        if name not in CONTROLS:
            what = unknown_name(str(name), CONTROLS, "a control of reproduction.sensitivity")
            raise ValueError(f"sensitivity_controls: {what}")
        if not isinstance(sets, (list, tuple)) or len(set(sets)) < len(sets) or set(sets) - set(paper.SETS):
            known = ", ".join(paper.SETS)
            raise ValueError(f"sensitivity_controls: {name} is {sets!r}; it is a list of different sets of {known}.")
