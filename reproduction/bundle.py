"""Results that travel: a results folder as one file, an RO-Crate, and the trainings of such a file taken as done.

What goes in is named by `results_folder` and not by what lies there, so that no picture of people of the official sets
can. Whoever takes a bundle need not trust it: before anything is placed, every file is what the bundle's list says, and
every run is the one that the profile would make here, by recipe and data.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from reid_core import files
from reid_core.images import decoded
from reid_core.training import Recipe, loop, run_folder
from reid_core.training.step import Objective
from reproduction import embedded, results_folder
from reproduction.embedded import pretraining
from reproduction.intake import archives
from reproduction.runner import further, plan

LIST, ABOUT, INITIAL = "ro-crate-metadata.json", "table1.json", "initial_weights"
LICENSE = "MIT for what the kit makes; the data sets belong to their owners, who permit academic use"
WEIGHTS = ".safetensors"
_MAX_LIST = 64 * 2**20


def pack(results: str | os.PathLike, target: str | os.PathLike, with_features: bool = False) -> str:
    """Write the bundle of a results folder; return a sentence on what is in it.

    Raises FileNotFoundError for a folder without Table 1, ValueError for a run that is not as it was trained, and for
    another suffix than .zip."""
    from rocrate.rocrate import ROCrate

    results, target = Path(results), Path(target)
    if not (results / ABOUT).is_file():
        raise FileNotFoundError(f"{results} is no results folder, without {ABOUT}. Make one: reid-core reproduce.")
    if target.suffix != ".zip":
        raise ValueError(f"The output {target} must end with .zip.")
    about, crate, found = results_folder.read_json(results / ABOUT), ROCrate(), _contents(results, with_features)
    crate.name = f"Results of profile {about['profile']} on {about['data_source']} data"
    crate.description = "Tables, figures and trained networks; beside each, a JSON file on what made it."
    crate.license = LICENSE
    for name, path in found.items():
        crate.add_file(path, name, properties={"sha256": files.digest(path), "contentSize": str(path.stat().st_size)})
    with files.replacing(target) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            archive.writestr(LIST, json.dumps(crate.metadata.generate(), indent=1))
            for name, path in found.items():  # no packing makes weights smaller
                archive.write(path, name, zipfile.ZIP_STORED if path.suffix == WEIGHTS else None)
    runs = sum(Path(name).name == run_folder.RUN for name in found)
    return f"Written: {target}, {target.stat().st_size / 2**20:,.0f} MiB: {len(found)} files, {runs} trainings."


def _contents(results: Path, with_features: bool) -> dict[str, Path]:
    """{name in the bundle: file}."""
    records = {path.parent: run_folder.read(path.parent) for path in sorted((results / "runs").rglob(run_folder.RUN))}
    runs = {run: record for run, record in records.items() if record.get("finished") and ".aside-" not in str(run)}
    known = [*results_folder.Folder(results, "embedded").sidecars.values(), *runs.values()]
    official = any(record.get("data_source") == "official" for record in known)
    made = [one for one in results_folder.MADE if not (official and one.people)]
    found = [path for one in made for path in one.files(results, results) if path.is_file()]
    initial = {}
    for run, record in runs.items():
        recipe = Recipe.from_dict(record["recipe"])
        if lost := run_folder.differences(run, record, recipe):
            raise ValueError(f"{run} is not as it was trained: {'; '.join(lost)}. Train it again, or move it aside.")
        found += [run / name for name in results_folder.RUN_FILES]
        features = results / "features" / run.relative_to(results / "runs")
        found += sorted(features.glob(f"*{WEIGHTS}")) if with_features else []
        start = pretraining.located(recipe)
        if start.is_file() and start.name == Path(recipe.weights).name and start.parent != pretraining.PACKAGED:
            initial[f"{INITIAL}/{start.name}"] = start
    return {path.relative_to(results).as_posix(): path for path in found} | initial


def take(archive: Path, settings: Mapping[str, Any]) -> None:
    """Place a bundle's runs, and features, in the results folder of a profile, where the workflow finds them made.

    Runs that are there already from the same training stay. Embedded data is rendered first, as by notebook 01, since
    the runs' own is compared with it. Raises FileNotFoundError for no such file; ValueError, before anything is placed,
    where the archive, its files, its origin or a run is not as it should be."""
    if not archive.is_file():
        raise FileNotFoundError(f"--from {archive}: there is no such file. What lies elsewhere is to be fetched first.")
    known = further.Trainings(settings)
    results = known.kit.results
    folder = results / ".bundle"
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir(parents=True)
    try:
        archives.unpack(archive, folder, PurePosixPath)
        _check_files(archive, folder)
        runs = _checked_runs(archive, folder, known)
        for place in (f"{kind}/{name}" for name in runs for kind in ("runs", "features")):
            if (folder / place).is_dir() and not (results / place).exists():
                (results / place).parent.mkdir(parents=True, exist_ok=True)
                os.replace(folder / place, results / place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(runs)} trainings are taken from {archive}: of this recipe and this data, as they were packed.")


def _check_files(archive: Path, folder: Path) -> None:
    """Raise ValueError unless the files are those of the list, as they were packed."""
    path = folder / LIST
    try:
        if path.stat().st_size > _MAX_LIST:
            raise ValueError(f"it is larger than {_MAX_LIST >> 20} MiB")
        entities = json.loads(path.read_text(encoding="utf-8"))["@graph"]
        listed = {unquote(one["@id"]): one["sha256"] for one in entities if one["@type"] == "File"}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{archive} is no bundle of `reid-core bundle`: {LIST} cannot be read ({error}).") from None
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {LIST}
    others = (there ^ listed.keys()) | ({ABOUT} - there)
    wrong = {name: "is not in its list" if name in there else "is missing" for name in others}
    altered = (name for name in listed if name not in wrong and files.digest(folder / name) != listed[name])
    wrong |= dict.fromkeys(altered, "was altered (its SHA-256)")
    if wrong:
        name = min(wrong)
        raise ValueError(f"{archive} is not as it was packed: {name} {wrong[name]}. Fetch it again.")


def _checked_runs(archive: Path, folder: Path, known: further.Trainings) -> list[str]:
    """Names of the runs of an unpacked bundle, all as the profile would train them here; else ValueError."""
    settings, kit = known.settings, known.kit
    about = results_folder.read_json(folder / ABOUT, results_folder.FACTS)
    source = "embedded" if settings["render_sizes"] != "none" else kit.source
    for key, asked in (("profile", settings["profile"]), ("data_source", source)):
        if about[key] != asked:
            raise ValueError(f"{archive} is of {key} {about[key]}; {asked} is asked for.")
    paths = sorted((folder / "runs").rglob(run_folder.RUN))
    there = {path.parent.relative_to(folder / "runs").as_posix(): path.parent for path in paths}
    if strange := [name for name in there if name not in known.names]:
        raise ValueError(f"{archive} has runs that profile {about['profile']} does not: {', '.join(strange[:3])}.")
    if lacking := [name for name in known.own if name not in there]:
        remedy = "Give the -p of its making, such as -p seeds=[0]"
        raise ValueError(f"{archive} lacks {len(lacking)} of the profile's runs: {', '.join(lacking[:3])}. {remedy}.")
    recipes = {folder: recipe for _, recipe, folder in plan.jobs(settings)}
    for name, run in there.items():  # at first what needs no data
        record, place = results_folder.read_json(run / run_folder.RUN, results_folder.RUN), kit.results / "runs" / name
        asked = recipes.get(place) or Recipe.from_dict(record["recipe"])
        _same(archive, name, run_folder.unlike(record, record, asked, ()))
        if place.exists() and run_folder.read(place).get("weights_digest") != record["weights_digest"]:
            remedy = "Move it aside, or choose another folder (-p results_root=...)"
            raise ValueError(f"{place} is there already, from another training than that of {archive}. {remedy}.")
    _data(folder, known)
    for name, run in there.items():
        _same(archive, name, run_folder.differences(run, *_asked(name, known)))
    return list(there)


def _same(archive: Path, name: str, differences: list[str]) -> None:
    if differences:
        raise ValueError(f"{archive}: {name} is another run than the profile's: {'; '.join(differences)}.")


def _asked(name: str, known: further.Trainings) -> tuple[dict[str, Any], Recipe]:
    """What run.json would say of a run of the profile before it begins, and its recipe."""
    model, images, recipe = known.asked(name)
    objective = Objective(model) if isinstance(model, str) else model
    pixels = decoded(images, recipe.height, recipe.width, data_root=known.kit.data)
    return loop.identity(objective, images, pixels, known.kit.data, recipe), recipe


def _data(folder: Path, known: further.Trainings) -> None:
    """Render embedded data where it is not there yet, and put initial weights into the cache that are not there."""
    settings = known.settings
    if settings["render_sizes"] != "none":
        sizes = embedded.Sizes.named(settings["render_sizes"])
        embedded.render(known.kit.data, sizes, settings["render_seed"], replace=True)
    place = pretraining.located(Recipe.from_dict(settings["recipe"]))
    given = folder / INITIAL / place.name
    if given.is_file() and not place.is_file():
        print(f"Initial weights that the trainings began with: {place}")
        place.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(place) as temporary:
            shutil.copyfile(given, temporary)
