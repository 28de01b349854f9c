"""Profiles: one YAML of parameters for all notebooks, checked before anything runs."""

import contextlib
import json
import math
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from reproduction import embedded, experiment, paper, words
from reproduction.runner import notebooks
from reproduction.sidecar import REPOSITORY

FOLDER = REPOSITORY / "profiles"
SOURCES = set(".ci .git benchmarks data docs examples notebooks profiles reid_core reproduction tests".split())
TRAIN_SETS = (*paper.SETS, paper.COMBINED)
GROUPS = {  # parameters that may be given together, by the object that they become
    "data": ("data_root", *experiment.CHOICES, "own_sets", "training_lists"),
    "matching": ("ap", "k1", "k2", "lambda_value", "xqda_solver"),
}
OWN = ("profile", "data_root", "results_root", "render_sizes", "recipe", "schedules", "model", "train_set", "seed")


def names() -> list[str]:
    """The profiles of the kit, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(profile: str | os.PathLike) -> Path:
    """The file of a profile, absolute: one of the kit by its name, or any .yaml or .yml by its path.
    Raises FileNotFoundError naming the profiles there are."""
    own = Path(profile).suffix in {".yaml", ".yml"}
    path = Path(profile).expanduser().absolute() if own else FOLDER / f"{profile}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such profile; there are: {', '.join(names())}.")
    return path


class _Loader(yaml.SafeLoader):
    """YAML without Python objects, in which no key stands twice: the later one would win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        found = set()
        for key, _ in node.value:
            if key.value in found:
                raise yaml.YAMLError(f"{key.value!r} stands twice, the second time in line {key.start_mark.line + 1}")
            found.add(key.value)
        return super().construct_mapping(node, deep)


def load(profile: str | os.PathLike, overrides: Iterable[str] = (), *, recipes: bool = True) -> dict[str, Any]:
    """Read a profile by name (smoke) or path, apply `key=value` overrides, check every key, type and choice.

    A key is a parameter of at least one notebook, or one of GROUPS. What is not given is the notebooks' default, except
    for OWN. Raises FileNotFoundError, ValueError or TypeError naming the file, the key, the value and the remedy.
    Without `recipes` what others take and check (recipes, literature, matching, sensitivity) is taken as it is, for a
    step of a workflow whose profile was checked at its start: the check loads PyTorch, which takes seconds."""
    path = find(profile)
    try:
        settings = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: must map parameter names to values.")
    settings = _ungrouped(settings, path)
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"-p {override}: write it as name=value.")
        try:
            settings |= _ungrouped({name.strip(): yaml.load(text, _Loader)}, path)
        except yaml.YAMLError as error:
            raise ValueError(f"-p {override}: {text!r} is not readable as YAML: {error}") from None
    known = all_parameters()
    for name, value in settings.items():
        if name not in known:
            raise ValueError(f"{path}: " + words.unknown_name(str(name), known, "a parameter of any notebook"))
        notebooks.check_value(name, value, known[name], str(path))
    settings = {name: default for name, default in known.items() if name not in OWN} | settings
    for key in ("results_root", "data_root"):
        if key in settings and not settings[key].strip():
            raise ValueError(f"{path}: {key} is blank; name a folder.")
    if "results_root" in settings:
        check_not_source(settings["results_root"], f"{path}: results_root")
        if os.path.lexists(results := experiment.resolve(settings["results_root"])) and not results.is_dir():
            raise ValueError(f"{path}: results_root {results} is a file, or a link to no folder; name a folder.")
    _check_choices(settings, path)
    if recipes:
        _check_recipes(settings, path)
    return settings


def _ungrouped(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Settings with those of GROUPS beside the others. Raises ValueError for what stands twice or in a wrong group."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inside = value if name in GROUPS else {name: value}
        if not isinstance(inside, Mapping):
            raise ValueError(f"{path}: {name} is {value!r}; write it as {{name: value}}.")
        for key in inside:
            if key not in GROUPS.get(name, inside):
                what = words.unknown_name(str(key), GROUPS[name], "among its parameters")
                raise ValueError(f"{path}: {name}: {what}")
            if key in flat:
                raise ValueError(f"{path}: {key} is given twice, alone and in {name}; say it once.")
        flat |= inside
    return flat


def all_parameters() -> dict[str, Any]:
    """Every parameter that some notebook declares, with its default."""
    every = (notebooks.declared(notebooks.find(name)) for name in notebooks.names())
    return {name: default for declared in every for name, default in declared.items()}


def select(settings: dict[str, Any], notebook: str | os.PathLike) -> dict[str, Any]:
    """The part of a profile that one notebook declares."""
    known = notebooks.declared(notebooks.find(notebook))
    return {name: value for name, value in settings.items() if name in known}


def arguments(profile: str, parameters: Mapping[str, Any], *, run: bool = True) -> str:
    """What follows `reid-core notebook NAME` to give a notebook these parameters again: the profile, then `-p`s.

    Only what differs from the profile is given; what a file of the user's own says is not known here, it is named by
    its name alone. Without `run`, model, train_set and seed are left out, as for a whole profile.

    >>> arguments("smoke", {"profile": "smoke", "k1": 25, "k2": 6, "model": "hcn", "seed": 0})
    '--profile smoke -p k1=25 -p model=hcn -p seed=0'
    >>> arguments("mine", {"profile": "mine", "k1": 25, "model": "hcn"})
    '--profile mine.yaml -p model=hcn'
    """
    of_a_run = ("model", "train_set", "seed")
    known = load(profile, recipes=False) if profile in names() else None
    words = ["--profile", profile if known is not None else f"{profile}.yaml"]
    for key, value in parameters.items():
        differs = known is not None and key != "profile" and known.get(key) != value
        if key in of_a_run and run or key not in of_a_run and differs:
            words += ["-p", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def command(notebook: str, profile: str, parameters: Mapping[str, Any]) -> str:
    """The command that runs a notebook again with what it was given on top of the profile."""
    return f"reid-core notebook {notebook} {arguments(profile, parameters)}"


def check_schedules(settings: dict[str, Any]) -> None:
    """Raise ValueError unless `schedules` has every set that the paper trains on, as the main job needs; a single
    notebook does with less: `reid-core notebook 02 -p 'schedules={shop.csv: ...}'`. Likewise for one folder as both of
    data and of results, which are no data."""
    data, results = (experiment.resolve(settings[key]).resolve() for key in ("data_root", "results_root"))
    if data == results:
        raise ValueError(f"Profile {settings.get('profile')}: {data} is data_root and results_root; name two folders.")
    for name in TRAIN_SETS:
        if name not in settings.get("schedules", {}):
            remedy = f"every training needs its entry, such as {name}: {{iterations: 50000}}."
            raise ValueError(f"Profile {settings.get('profile')}: schedules has no {name}; {remedy}")


def check_trainings(results: Path, recipe: Mapping[str, Any], schedules: Mapping[str, Mapping], train_set: str) -> None:
    """Raise ValueError where any training of a profile cannot run, before the first one takes hours.

    `schedules` must have `train_set`, and no batch may be larger than its set (of the combined: the largest part), as
    notebook 01 counted it in `table1_subsets.csv`; what is not there is not checked."""
    for name, given in (("recipe", recipe), ("schedules", schedules)):
        if not isinstance(given, Mapping):
            raise ValueError(f"{name} is {given!r}; it maps settings to values, as in profiles/smoke.yaml.")
    if train_set not in schedules:
        remedy = f"add it, such as {train_set}: {{iterations: 20000}}."
        raise ValueError(f"schedules has no {train_set}, only {', '.join(schedules)}; {remedy}")
    path = results / "table1_subsets.csv"
    if not path.is_file():
        return
    table = pd.read_csv(path).query("subset == 'train'").set_index("name")["images found"]
    for name, schedule in schedules.items():
        batch = (recipe | schedule).get("batch_size", 0)
        images = table.max() if name == paper.COMBINED else table.get(name, batch)
        if batch > images:
            larger = f"batch_size {batch} of {name} is larger than its {images} training images (counted in {path})"
            raise ValueError(f"{larger}; lower it in the profile's recipe or in this set's schedule.")


def check_not_source(path: str | os.PathLike, what: str) -> None:
    """Raise ValueError for a place where writing would harm the repository: itself, around it, or in its sources."""
    found = experiment.resolve(path).resolve()
    inside = found.relative_to(REPOSITORY).parts[:1] if found.is_relative_to(REPOSITORY) else ()
    if REPOSITORY.is_relative_to(found) or found == REPOSITORY / "results" or inside and inside[0] in SOURCES:
        harm = "where results would overwrite or mix with the repository's own files; name a folder for them alone"
        raise ValueError(f"{what} {str(path)!r} is {found}, {harm}, such as results/mine.")


def _check_choices(settings: dict[str, Any], path: Path) -> None:
    choices = {"model": experiment.MODELS, "other_recipe": ("refuse", "set_aside")} | experiment.CHOICES
    for name, known in choices.items():
        if name in settings and settings[name] not in known:
            raise ValueError(f"{path}: {name} is {settings[name]!r}; it is one of {', '.join(known)}.")
    for key, known in {"rank_list_set": paper.SETS, "train_set": TRAIN_SETS, "schedules": TRAIN_SETS}.items():
        given = settings.get(key, ())
        for name in [given] if isinstance(given, str) else given:
            if name not in known and not str(name).endswith(".csv"):
                what = words.unknown_name(str(name), known, "a set or a CSV file of your own")
                raise ValueError(f"{path}: {key}: {what}")
    limits = {"smoothing": 1, "sensitivity_pairings": 0, "render_seed": 0, "form_seconds": sys.float_info.min}
    for name, least in limits.items():
        if not least <= settings.get(name, least) < math.inf:
            what = "above 0" if name == "form_seconds" else f"at least {least}"
            raise ValueError(f"{path}: {name} is {settings[name]}; it is {what} and finite.")
    if (size := settings.get("render_sizes", "none")) != "none":
        with _named(path):
            embedded.Sizes.named(size)


@contextlib.contextmanager
def _named(what: object) -> Iterator[None]:
    """Have the errors about a value begin with the file, or the part of it, that gives it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None


def _check_recipes(settings: dict[str, Any], path: Path) -> None:
    """Check what others take: recipes, the literature's methods, matching and notebook 10's study."""
    from reid_core import training
    from reid_core.matching import Matching
    from reproduction import literature, sensitivity

    for train_set, schedule in settings.get("schedules", {}).items() if "recipe" in settings else ():
        with _named(f"{path}: recipe of {train_set}"):
            training.Recipe.from_dict({**settings["recipe"], **schedule})
    with _named(f"{path}: literature"):
        literature.entries(settings.get("literature", []))
    given = notebooks.declared(notebooks.find("10_sensitivity")) | settings
    with _named(path):
        how = Matching(**{key: given[key] for key in GROUPS["matching"]})
        study(settings)
        sensitivity.options(how, given["sensitivity_matching"])


def study(settings: Mapping[str, Any], not_run: Mapping[str, str] | None = None, *, as_trained: bool = False):
    """The trainings of 10_sensitivity under a profile, a `sensitivity.variants.Study`; what it does not give is
    the notebook's default. `not_run`: {absent train set: reason}. With `as_trained`, the backbones that the recipes
    name are made. Raises what `sensitivity.design` raises."""
    from reproduction import sensitivity

    given = notebooks.declared(notebooks.find("10_sensitivity")) | settings
    kit, schedules = experiment.Experiment.of(given), given.get("schedules", {})
    recipes = {name: given.get("recipe", {}) | schedules.get(name, {}) for name in TRAIN_SETS}
    if as_trained:
        from reproduction.embedded import pretraining

        recipes = {name: pretraining.recipe(recipe).to_dict() for name, recipe in recipes.items()}
    keys = {"default_seeds": "seeds", "variant_seeds": "variant_seeds", "schedule": "schedule", "variants": "variants"}
    options = {name: given[f"sensitivity_{key}"] for name, key in keys.items()}
    made = sensitivity.design(kit, recipes, given["sensitivity_set"], **options, not_run=not_run)
    return sensitivity.with_controls(made, kit, given["sensitivity_controls"], not_run)
