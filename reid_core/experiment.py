"""What an experiment consists of: sets, runs, and the folders they live in.

A *set* is one of `reid_core.paper.SETS` (CUHK03 with its two kinds of boxes counts twice). A *run* is one training,
named model-trainset-seed, with a folder of that name under `<results_root>/runs/`. In a table's rows the model
"combined" means HCN trained on the combined set.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from reid_core import datasets, paper
from reid_core.datasets import duplicates, layout, memory, status
from reid_core.provenance import REPOSITORY

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
    """Folder of a profile's executed notebooks; they show people, so official ones are private."""
    source = "official" if settings["render_sizes"] == "none" else "embedded"
    return shows_people(resolve(settings["results_root"]), {"data_source": source}) / "notebooks"


def load_set(
    data_root: str | os.PathLike, name: str, unreadable: str = "refuse", near_duplicates: str = "keep"
) -> pd.DataFrame:
    """Image table of market1501, cuhk01, cuhk03_labeled or cuhk03_detected under `data_root`, or of an own CSV there.

    Parameters
    ----------
    data_root, name : the data folder, and a set or the name of a CSV file in it.
    unreadable : "refuse" raises a ValueError that names images which do not decode; "drop" leaves them out and warns.
    near_duplicates : "keep", or "leave_out": training images that show the same picture as a query or gallery image
        of any set are left out of the table, so that neither networks nor metrics learn from them.
    """
    if near_duplicates == "keep":
        return _read(data_root, name, unreadable)
    return load_sets(data_root, [name], unreadable, near_duplicates)[name]


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
    if name.endswith(".csv"):
        return datasets.load(name, resolve(data_root), unreadable=unreadable)
    base, _, boxes = name.partition("_")
    options = {"boxes": boxes} if boxes else {}
    return datasets.load(base, resolve(data_root), unreadable=unreadable, **options)


def audit(sets: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`duplicates.find` between the training and the test images of all `sets`, remembered until a file changes."""
    return memory.remembered(
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
) -> pd.DataFrame:
    """Labelled training images of one set, or of Market-1501 + CUHK03 + CUHK01 for `combined` (Sec. 3.3).

    Parameters
    ----------
    combined_boxes : which of CUHK03's two forms the combined set takes. The paper prints the combined training under
        "labeled" in Table 4.
    leaked_people : the splits of CUHK03's two forms differ in two people (1202, 1390). A training person of the
        combined set whom either form tests is left out ("leave_out"), so that the one model may be scored on both
        forms, or kept with a warning ("report"), or refused ("refuse").
    unreadable, near_duplicates : see :func:`load_set`.
    """
    if train_set != paper.COMBINED:
        return datasets.combine({train_set: load_set(data_root, train_set, unreadable, near_duplicates)})
    parts = combined_parts(combined_boxes)
    sets = load_sets(data_root, parts, unreadable, near_duplicates)
    scored = [sets[name] for name in paper.SETS if name in sets]
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
    if model == paper.COMBINED:
        model, train_set = "hcn", paper.COMBINED
    return f"{model}-{train_set}-seed{seed}"


def run_folder(results_root: str | os.PathLike, model: str, train_set: str, seed: int) -> Path:
    """Folder of a run; for the model "combined", that of the one run on the combined set."""
    return resolve(results_root) / "runs" / run_name(model, train_set, seed)


def trainings() -> list[tuple[str, str]]:
    """The paper's seven trainings as (model, train set): both models on each set, HCN on the combined set."""
    return [(model, name) for name in paper.SETS for model in MODELS] + [("hcn", paper.COMBINED)]


def find_runs(
    results_root: str | os.PathLike, sets: Iterable[str], seeds: Iterable[int], not_run: Mapping[str, str]
) -> pd.DataFrame:
    """The finished runs that the tables score, one line per model, set and seed.

    Runs whose train set is in `not_run` are left out. Raises FileNotFoundError naming the first other run that is
    missing, and the command that makes it.
    """
    lines = []
    models = [model for model in (*MODELS, paper.COMBINED) if model not in not_run]
    for name in sets:
        for model in models:
            for seed in seeds:
                folder = run_folder(results_root, model, name, seed)
                describe_run(folder)
                lines.append({"model": model, "set": name, "seed": seed, "run": folder.name})
    return pd.DataFrame(lines, columns=["model", "set", "seed", "run"])


def is_finished(run_dir: Path) -> bool:
    """Whether a run folder holds a training that came to its end."""
    record = run_dir / "run.json"
    return record.is_file() and bool(json.loads(record.read_text(encoding="utf-8"))["finished"])


def describe_run(run_dir: Path) -> dict[str, object]:
    """One line about a finished run: model, train set, seed, hours, iterations, device, form of the heads.

    Raises FileNotFoundError when the run is not finished, with the command that makes it.
    """
    model, _, rest = run_dir.name.partition("-")
    train_set, _, seed = rest.rpartition("-")
    seed = int(seed.removeprefix("seed"))
    if not is_finished(run_dir):
        raise FileNotFoundError(
            f"{run_dir}: this run is not finished. Make it with: reid-core notebook 02_train"
            f" -p model={model} -p train_set={train_set} -p seed={seed}"
        )
    run = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    iterations, seconds = run["recipe"]["iterations"], run["seconds"]
    return {
        "model": model, "train_set": train_set, "seed": seed, "hours": seconds / 3600, "iterations": iterations,
        "seconds_per_iteration": seconds / iterations, "form": run["form"], "device": run["device"],
        "run": run_dir.name,
    }  # fmt: skip


def describe_runs(results_root: str | os.PathLike, seeds: Iterable[int]) -> pd.DataFrame:
    """`describe_run` of every finished training of the paper under `results_root`; unfinished ones are left out."""
    folders = [run_folder(results_root, *training, seed) for training in trainings() for seed in seeds]
    lines = [describe_run(folder) for folder in folders if (folder / "run.json").is_file()]
    if not lines:
        raise FileNotFoundError(
            f"{resolve(results_root) / 'runs'}: there is no finished run. Run 02_train first."
        )
    return pd.DataFrame(lines).assign(folder=[str(f) for f in folders if (f / "run.json").is_file()])


def loss_tables(runs: pd.DataFrame) -> dict[str, dict[str, list[pd.DataFrame]]]:
    """{set: {model: [loss table, one a seed]}} for Figure 3, sets in the paper's order, the baseline first."""
    from reid_core import training  # loads PyTorch, which the other functions here do without

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
