"""What an experiment consists of: sets, runs, and the folders they live in.

A *set* is one of `reproduction.paper.SETS` (CUHK03 with its two kinds of boxes counts twice). A *run* is one training,
named model-trainset-seed, with a folder of that name under `<results_root>/runs/`. In a table's rows the model
"combined" means HCN trained on the combined set.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from reid_core import datasets
from reid_core.datasets import cache, layout
from reproduction import paper
from reproduction.intake import near_duplicates as duplicates
from reproduction.intake import status
from reproduction.sidecar import REPOSITORY

MODELS = ("baseline", "hcn")
ALL_SETS = (paper.MARKET1501, paper.CUHK03_LABELED, paper.CUHK03_DETECTED, "cuhk01")
NEAR_DUPLICATES = ("keep", "leave_out")


def resolve(path: str | os.PathLike) -> Path:
    """A path of a profile: absolute, or relative to the repository (so a notebook runs from any folder)."""
    return Path(path) if Path(path).is_absolute() else REPOSITORY / path


def facts(data_root: str | os.PathLike, profile: str, **settings) -> dict[str, object]:
    """What every row and sidecar says: data_source (embedded or official), profile, and the settings given.

    A list (of seeds, say) becomes text, so that each fact fits a cell of a table.
    """
    settings = {
        name: " ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in settings.items()
    }
    return {"data_source": datasets.data_source(resolve(data_root)), "profile": profile, **settings}


def shows_people(results: Path, facts: Mapping[str, object]) -> Path:
    """Folder for figures that show people: `results`, but `results/private/<profile>` for official data.

    People in the official sets have not agreed to be published; `results/private/` is ignored by git.
    """
    return results if facts["data_source"] == "embedded" else results.parent / "private" / results.name


def executed_notebooks(settings: Mapping[str, object]) -> Path:
    """Folder of a profile's executed notebooks; they show people, so those of official data are private.

    The data folder tells; an absent or empty one that the profile renders into will be embedded.
    """
    root = resolve(settings["data_root"])
    awaited = settings["render_sizes"] != "none" and not (root.is_dir() and any(root.iterdir()))
    source = "embedded" if awaited else datasets.data_source(root)
    return shows_people(resolve(settings["results_root"]), {"data_source": source}) / "notebooks"


def load_set(
    data_root: str | os.PathLike,
    name: str,
    unreadable: str = "refuse",
    near_duplicates: str = "keep",
    own_sets: Iterable[str] = (),
) -> pd.DataFrame:
    """Image table of market1501, cuhk01, cuhk03_labeled or cuhk03_detected under `data_root`, or of an own CSV there.

    Parameters
    ----------
    data_root, name : the data folder, and a set or the name of a CSV file in it.
    unreadable : "refuse" raises a ValueError that names images which do not decode; "drop" leaves them out and warns.
    near_duplicates : "keep", or "leave_out": training images that show the same picture as a query or gallery image
        of any set, of `own_sets` too, are left out of the table, so that neither networks nor metrics learn from them.
    own_sets : the own data of the experiment, CSV files under `data_root`.

    Raises ValueError for own data under a folder of embedded data: the two are not mixed.
    """
    if near_duplicates == "keep":
        return _read(data_root, name, unreadable)
    return load_sets(data_root, [name, *own_sets], unreadable, near_duplicates)[name]


def load_sets(
    data_root: str | os.PathLike,
    own_sets: Iterable[str] = (),
    unreadable: str = "refuse",
    near_duplicates: str = "keep",
) -> dict[str, pd.DataFrame]:
    """{name: image table} of every set of the paper that is under `data_root`, and of the CSV files `own_sets`.

    `unreadable`, `near_duplicates`: see :func:`load_set`. Raises FileNotFoundError where there is none.
    """
    if near_duplicates not in NEAR_DUPLICATES:
        raise ValueError(
            f"near_duplicates is {near_duplicates!r}; it is one of {', '.join(NEAR_DUPLICATES)}."
        )
    absent = not_run(data_root)
    names = dict.fromkeys([*(name for name in ALL_SETS if name not in absent), *own_sets])
    if not names:
        raise layout.nothing(resolve(data_root))
    sets = {name: _read(data_root, name, unreadable) for name in names}
    if near_duplicates == "keep":
        return sets
    pairs = audit(sets)
    return {name: duplicates.leave_out(table, pairs) for name, table in sets.items()}


def _read(data_root: str | os.PathLike, name: str, unreadable: str) -> pd.DataFrame:
    root = resolve(data_root)
    if name.endswith(".csv") and datasets.data_source(root) == "embedded":
        raise ValueError(
            f"{name}: own data is not mixed with the embedded data of {root}. Put it into a data folder without that "
            "(-p data_root=data), with results of its own (-p results_root=results/own)."
        )
    base = source_set(name)
    options = {"boxes": name.removeprefix(f"{base}_")} if base != name else {}
    return datasets.load(base, root, unreadable=unreadable, **options)


def source_set(name: str) -> str:
    """The data set that a set shows people of: both forms of CUHK03 are one, an own CSV is its own.

    >>> source_set("cuhk03_labeled"), source_set("cuhk01"), source_set("my_shop.csv")
    ('cuhk03', 'cuhk01', 'my_shop.csv')
    """
    return name.partition("_")[0] if name in ALL_SETS else name


def audit(sets: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`duplicates.find` between the training and the test images of all `sets`, remembered until a file changes."""
    return cache.remembered(
        sets.values(), [list(sets), "defaults"], duplicates.__file__, lambda: duplicates.find(sets)
    )


def not_run(data_root: str | os.PathLike, combined_boxes: str = "labeled") -> dict[str, str]:
    """{train set: why its runs and rows are not run} for the sets that are not under `data_root`.

    The combined set (key "combined") needs Market-1501, CUHK03 with `combined_boxes`, and CUHK01.
    """
    absent = status.missing(resolve(data_root))
    parts = [reason for name in combined_parts(combined_boxes) if (reason := absent.get(name))]
    return absent | ({paper.COMBINED: parts[0]} if parts else {})


def combined_parts(combined_boxes: str = "labeled") -> tuple[str, str, str]:
    """The sets that the combined set is made of (Sec. 3.3)."""
    return (paper.MARKET1501, f"cuhk03_{combined_boxes}", "cuhk01")


def training_table(
    data_root: str | os.PathLike,
    train_set: str,
    combined_boxes: str = "labeled",
    leaked_people: str = "leave_out",
    unreadable: str = "refuse",
    near_duplicates: str = "keep",
    own_sets: Iterable[str] = (),
) -> pd.DataFrame:
    """Labelled training images of one set, or of Market-1501 + CUHK03 + CUHK01 for `combined` (Sec. 3.3).

    No training person is a test person of a set that the model is scored on: those of the set itself (for the combined
    one: of the paper's sets) and of `own_sets`. Only people of one data set can be the same; the two forms of CUHK03
    are one, and an own CSV with the name of an official set is part of that.

    Parameters
    ----------
    combined_boxes : which of CUHK03's two forms the combined set takes. The paper prints the combined training under
        "labeled" in Table 4.
    leaked_people : a training person who is tested is left out ("leave_out"), or kept with a warning ("report"), or
        refused ("refuse"). The splits of CUHK03's two forms differ in two people (1202, 1390), so without it the one
        combined model could not be scored on both.
    unreadable, near_duplicates, own_sets : see :func:`load_set`.
    """
    combined = train_set == paper.COMBINED
    parts = combined_parts(combined_boxes) if combined else (train_set,)
    needed = dict.fromkeys((*parts, *own_sets))
    if combined or near_duplicates != "keep":
        sets = load_sets(data_root, needed, unreadable, near_duplicates)
    else:
        sets = {name: _read(data_root, name, unreadable) for name in needed}
    tested = dict.fromkeys((*(paper.SETS if combined else parts), *own_sets))
    scored = [sets[name] for name in tested if name in sets]
    return datasets.combine({name: sets[name] for name in parts}, scored=scored, leaked=leaked_people)


def check_trainings(
    results_root: str | os.PathLike, recipe: Mapping, schedules: Mapping, train_set: str
) -> None:
    """Raise ValueError where any training of a profile cannot run, before the first one takes hours.

    `schedules` must have `train_set`, and no batch may be larger than its set. The sets' sizes are those that notebook
    01 left in `table1_subsets.csv`; what is not there is not checked. Of the combined set the largest part counts.
    """
    if train_set not in schedules:
        raise ValueError(
            f"schedules has no {train_set}, only {', '.join(schedules)}; add it, such as"
            f" {train_set}: {{iterations: 20000}}."
        )
    path = resolve(results_root) / "table1_subsets.csv"
    if not path.is_file():
        return
    table = pd.read_csv(path).query("subset == 'train'").set_index("name")["images found"]
    for name, schedule in schedules.items():
        batch = (recipe | schedule).get("batch_size", 0)
        images = table.max() if name == paper.COMBINED else table.get(name, batch)
        if batch > images:
            raise ValueError(
                f"batch_size {batch} of {name} is larger than its {images} training images (counted in {path});"
                " lower it in the profile's recipe or in this set's schedule."
            )


def run_name(model: str, train_set: str, seed: int) -> str:
    """Name of a run's folder.

    >>> run_name("hcn", "combined", 0), run_name("combined", "market1501", 0)
    ('hcn-combined-seed0', 'hcn-combined-seed0')
    """
    model, train_set = training_of(model, train_set)
    return f"{model}-{train_set}-seed{seed}"


def training_of(model: str, train_set: str) -> tuple[str, str]:
    """The model and train set behind a row's model and set: of "combined", HCN and the combined set."""
    return ("hcn", paper.COMBINED) if model == paper.COMBINED else (model, train_set)


def run_folder(results_root: str | os.PathLike, model: str, train_set: str, seed: int) -> Path:
    """Folder of a run; for the model "combined", that of the one run on the combined set."""
    return resolve(results_root) / "runs" / run_name(model, train_set, seed)


def trainings() -> list[tuple[str, str]]:
    """The paper's seven trainings as (model, train set): both models on each set, HCN on the combined set."""
    return [(model, name) for name in paper.SETS for model in MODELS] + [("hcn", paper.COMBINED)]


def find_runs(
    data_root: str | os.PathLike,
    results_root: str | os.PathLike,
    sets: Iterable[str],
    seeds: Iterable[int],
    not_run: Mapping[str, str],
) -> pd.DataFrame:
    """The finished runs that the tables score, one line per model, set and seed.

    Runs whose train set is in `not_run` are left out. Of the others, raises what :func:`describe_run` raises.
    """
    lines = []
    models = [model for model in (*MODELS, paper.COMBINED) if model not in not_run]
    for name in sets:
        for model in models:
            for seed in seeds:
                run = describe_run(data_root, results_root, model, name, seed)["run"]
                lines.append({"model": model, "set": name, "seed": seed, "run": run})
    return pd.DataFrame(lines, columns=["model", "set", "seed", "run"])


def is_finished(run_dir: Path) -> bool:
    """Whether a run folder holds a training that came to its end."""
    record = run_dir / "run.json"
    return record.is_file() and bool(json.loads(record.read_text(encoding="utf-8"))["finished"])


def check_source(run_dir: Path, data_root: str | os.PathLike) -> None:
    """Raise ValueError where a run was trained on embedded data and `data_root` is official (or own), or vice versa."""
    trained = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["data_source"]
    root = resolve(data_root)
    if trained != (here := datasets.data_source(root)):
        raise ValueError(
            f"{run_dir} was trained on {trained} data, but the data in {root} is {here}: the two are never mixed. "
            "Choose another results folder for this data (results_root), or the data of these results (data_root)."
        )


def describe_run(
    data_root: str | os.PathLike, results_root: str | os.PathLike, model: str, train_set: str, seed: int
) -> dict[str, object]:
    """One line about a finished run: model, train set, seed, hours, iterations, device, form of the heads.

    Raises FileNotFoundError when the run is not finished, with the command that makes it, and ValueError when it was
    trained on embedded data and `data_root` is official, or the other way round.
    """
    model, train_set = training_of(model, train_set)
    run_dir = run_folder(results_root, model, train_set, seed)
    if not is_finished(run_dir):
        raise FileNotFoundError(
            f"{run_dir}: this run is not finished. Make it with: reid-core notebook 02_train"
            f" -p model={model} -p train_set={train_set} -p seed={seed}"
        )
    check_source(run_dir, data_root)
    run = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    iterations, seconds = run["recipe"]["iterations"], run["seconds"]
    return {
        "model": model, "train_set": train_set, "seed": seed, "hours": seconds / 3600, "iterations": iterations,
        "seconds_per_iteration": seconds / iterations, "form": run["form"], "device": run["device"],
        "run": run_name(model, train_set, seed),
    }  # fmt: skip


def describe_runs(
    data_root: str | os.PathLike, results_root: str | os.PathLike, seeds: Iterable[int]
) -> pd.DataFrame:
    """`describe_run` and `folder` of every training of the paper under `results_root`; absent ones are left out."""
    lines = []
    for training in trainings():
        for seed in seeds:
            folder = run_folder(results_root, *training, seed)
            if (folder / "run.json").is_file():
                line = describe_run(data_root, results_root, *training, seed)
                lines.append(line | {"folder": str(folder)})
    if not lines:
        raise FileNotFoundError(
            f"{resolve(results_root) / 'runs'}: there is no finished run. Run 02_train first."
        )
    return pd.DataFrame(lines)


def loss_tables(runs: pd.DataFrame) -> dict[str, dict[str, list[pd.DataFrame]]]:
    """{set: {model: [loss table, one a seed]}} for Figure 3, sets in the paper's order, the baseline first."""
    from reid_core import training

    found: dict = {}
    for name in paper.SETS:
        for model in MODELS:
            chosen = runs[(runs["train_set"] == name) & (runs["model"] == model)].sort_values("seed")
            if len(chosen):
                losses = [
                    training.loss_curve(line.folder).assign(seed=line.seed) for line in chosen.itertuples()
                ]
                found.setdefault(name, {})[model] = losses
    return found
