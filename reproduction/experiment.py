"""What an experiment consists of: one profile's data, sets, seeds, runs, and the folders they live in.

A *set* is one of `reproduction.paper.SETS` (CUHK03 with its two kinds of boxes counts twice). A *run* is one training,
named model-trainset-seed, with a folder of that name under `<results_root>/runs/`. In a table's rows the model
"combined" means HCN trained on the combined set.
"""

import functools
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import pandas as pd

from reid_core import datasets
from reid_core.datasets import combined, layout
from reproduction import paper, training_lists
from reproduction.intake import status
from reproduction.intake.near_duplicates import audit, leave_out
from reproduction.sidecar import REPOSITORY

MODELS = ("baseline", "hcn")
SINGLE = "single"  # folder of a profile's results for one notebook with other settings
ALL_SETS = (paper.MARKET1501, paper.CUHK03_LABELED, paper.CUHK03_DETECTED, "cuhk01")
CHOICES = {"combined_boxes": ("labeled", "detected"), "leaked_people": combined.LEAKED,
           "unreadable": ("refuse", "drop"), "near_duplicates": ("keep", "leave_out")}  # fmt: skip


def resolve(path: str | os.PathLike) -> Path:
    """A path of a profile: absolute, or relative to the repository (so a notebook runs from any folder); ~ is home."""
    return REPOSITORY / Path(path).expanduser()


def shows_people(results: Path, facts: Mapping[str, object]) -> Path:
    """Folder for figures that show people: `results`, but `results/private/<profile>`, which git ignores, for official
    data: people in the official sets have not agreed to be published.

    >>> shows_people(Path("results/paper/single/08"), {"data_source": "official"}).as_posix()
    'results/private/paper/single/08'
    """
    if facts["data_source"] == "embedded":
        return results
    below = results.relative_to(results.parents[1]) if results.parent.name == SINGLE else ""
    profile = results.parents[1] if below else results
    return profile.parent / "private" / profile.name / below


def executed_notebooks(settings: Mapping[str, object]) -> Path:
    """Folder of a profile's executed notebooks; they show people, so those of official data are private. The data
    folder tells; an absent or empty one that the profile renders into will be embedded."""
    root = resolve(settings["data_root"])
    awaited = settings["render_sizes"] != "none" and not (root.is_dir() and any(root.iterdir()))
    source = "embedded" if awaited else datasets.data_source(root)
    return shows_people(resolve(settings["results_root"]), {"data_source": source}) / "notebooks"


def source_set(name: str) -> str:
    """The data set that a set shows people of: both forms of CUHK03 are one, an own CSV is its own.

    >>> source_set("cuhk03_labeled"), source_set("cuhk01"), source_set("my_shop.csv")
    ('cuhk03', 'cuhk01', 'my_shop.csv')
    """
    return name.partition("_")[0] if name in ALL_SETS else name


def trainings() -> list[tuple[str, str]]:
    """The paper's seven trainings as (model, train set): both models on each set, HCN on the combined set."""
    return [(model, name) for name in paper.SETS for model in MODELS] + [("hcn", paper.COMBINED)]


def training_of(model: str, train_set: str) -> tuple[str, str]:
    """The model and train set behind a row's model and set: of "combined", HCN and the combined set."""
    return ("hcn", paper.COMBINED) if model == paper.COMBINED else (model, train_set)


def run_name(model: str, train_set: str, seed: int) -> str:
    """Name of a run's folder.

    >>> run_name("hcn", "combined", 0), run_name("combined", "market1501", 0)
    ('hcn-combined-seed0', 'hcn-combined-seed0')
    """
    model, train_set = training_of(model, train_set)
    return f"{model}-{train_set}-seed{seed}"


def check_seeds(name: str, seeds: Sequence[int]) -> None:
    """Raise ValueError, naming the parameter, unless it is a list of different whole numbers from 0: plain papermill
    hands on what it is given, a lone number or the letters of a word."""
    if isinstance(seeds, (str, int)) or not seeds or len(set(seeds)) != len(seeds):
        given = seeds if isinstance(seeds, (str, int)) else list(seeds)
        remedy = f"Write {name}: [0]; plain papermill takes it as -y '{{{name}: [0]}}'."
        raise ValueError(f"{name} must be a list of different seeds, at least one, not {given!r}. {remedy}")
    if not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ValueError(f"{name}: a seed is a whole number from 0, not as in {list(seeds)}.")


@dataclass(frozen=True)
class Experiment:
    """One profile: its data, sets, seeds, runs and folders.

    Parameters
    ----------
    data_root, results_root : folders, absolute or relative to the repository.
    seeds : of the trainings that the tables average over.
    combined_boxes : which of CUHK03's two forms the combined set takes: "labeled", as in Table 4, or "detected".
    unreadable : "refuse" raises a ValueError that names images which do not decode; "drop" leaves them out and warns.
    near_duplicates : "keep", or "leave_out": no network or metric learns from training images that show the same
        picture as a test image of any set, of `own_sets` too.
    own_sets : CSV files of own data under `data_root`.
    leaked_people : a training person who is tested is left out ("leave_out"), kept with a warning ("report"), or
        refused ("refuse"). The splits of CUHK03's two forms differ in two people (1202, 1390), so without it the one
        combined model could not be scored on both.
    training_lists : {set: .txt file in data_root} of images for a set's trainings, see `reproduction.training_lists`.

    Raises ValueError that names the parameter for another value, and for a list of seeds or sets that repeats one.
    """

    profile: str
    data_root: str | os.PathLike
    results_root: str | os.PathLike
    seeds: Sequence[int] = (0,)
    combined_boxes: str = "labeled"
    unreadable: str = "refuse"
    near_duplicates: str = "keep"
    own_sets: Sequence[str] = ()
    leaked_people: str = "leave_out"
    training_lists: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {value!r}; it is one of {', '.join(choices)}.")
        check_seeds("seeds", self.seeds)
        own = self.own_sets
        if isinstance(own, str) or len(set(own)) != len(own):
            raise ValueError(f"own_sets must be a list of different CSV files in data_root, not {own!r}.")
        training_lists.check(self.training_lists, ALL_SETS)

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> "Experiment":
        """The experiment that a profile's settings describe; names that it does not know are passed over."""
        return cls(**{known.name: settings[known.name] for known in fields(cls) if known.name in settings})

    data = property(lambda self: resolve(self.data_root), doc="The data folder.")
    results = property(lambda self: resolve(self.results_root), doc="The results folder.")
    source = property(lambda self: datasets.data_source(self.data), doc="Kind of data: embedded, or official (own too)")

    private = property(lambda self: shows_people(self.results, self.facts()), doc="Folder for figures of people.")
    parts = property(lambda self: (paper.MARKET1501, f"cuhk03_{self.combined_boxes}", "cuhk01"),
                     doc="The sets that the combined set is made of (Sec. 3.3).")  # fmt: skip

    def facts(self, **settings) -> dict[str, object]:
        """What every row and sidecar says: data_source, profile, and the settings given, a list as text for a cell."""
        cells = {key: " ".join(map(str, x)) if isinstance(x, list) else x for key, x in settings.items()}
        return {"data_source": self.source, "profile": self.profile, **cells}

    @property
    def not_run(self) -> dict[str, str]:
        """{train set: why its runs and rows are not run} for absent sets; "combined" needs all of its `parts`."""
        absent = status.missing(self.data)
        lacking = [absent[name] for name in self.parts if name in absent]
        return absent | ({paper.COMBINED: lacking[0]} if lacking else {})

    @property
    def present(self) -> list[str]:
        """The sets of the paper, CUHK01 too, that are under `data_root`."""
        absent = self.not_run
        return [name for name in ALL_SETS if name not in absent]

    def images(self, name: str) -> pd.DataFrame:
        """Image table of one set: market1501, cuhk01, cuhk03_labeled, cuhk03_detected, or a CSV file under `data_root`.
        Raises what `datasets.load` raises, and ValueError for own data in a folder of embedded data."""
        return self._tables([name])[name]

    def sets(self, *names: str) -> dict[str, pd.DataFrame]:
        """{name: image table} of those of `names` that are not in `not_run`; without names, of all that are there.

        All are the paper's sets and `own_sets`. Raises FileNotFoundError where there is none, and as :meth:`images`."""
        absent = self.not_run
        wanted = [name for name in names if name not in absent] if names else [*self.present, *self.own_sets]
        if not (names or wanted):
            raise layout.nothing(self.data)
        return self._tables(wanted)

    def training_table(self, train_set: str) -> pd.DataFrame:
        """Labelled training images of one set, or of Market-1501 + CUHK03 + CUHK01 for `combined` (Sec. 3.3).

        No training person is tested in a set that the model is scored on: the set itself (of the combined one: the
        paper's sets) and `own_sets`. Only people of one data set can be the same: CUHK03's two forms are one, and an
        own CSV with the name of an official set is part of that."""
        whole = train_set == paper.COMBINED
        parts = self.parts if whole else (train_set,)
        tested = [name for name in self.present if name in paper.SETS] if whole else [*parts]
        tested += self.own_sets
        tables = self._tables([*parts, *tested])
        if listed := self.training_lists.get(train_set):
            every = self._read(train_set)
            tables[train_set] = training_lists.keep(tables[train_set], every, self.data / listed)
        scored = [tables[name] for name in tables if name in tested]
        return datasets.combine({name: tables[name] for name in parts}, scored=scored, leaked=self.leaked_people)

    def _tables(self, names: Iterable[str]) -> dict[str, pd.DataFrame]:
        """Tables as `near_duplicates` wishes them: to leave copies out, the test images of every set are looked at."""
        names = dict.fromkeys(names)
        if self.near_duplicates == "keep":
            return {name: self._read(name) for name in names}
        everything = {name: self._read(name) for name in dict.fromkeys((*self.present, *names, *self.own_sets))}
        pairs = audit(everything)
        return {name: leave_out(everything[name], pairs) for name in names}

    def _read(self, name: str) -> pd.DataFrame:
        if name.endswith(".csv") and self.source == "embedded":
            remedy = "Put it into a data folder without that (-p data_root=data), with results of its own"
            mixed = f"{name}: own data is not mixed with the embedded data of {self.data}"
            raise ValueError(f"{mixed}. {remedy} (-p results_root=results/own).")
        base = source_set(name)
        options = {"boxes": name.removeprefix(f"{base}_")} if base != name else {}
        return datasets.load(base, self.data, unreadable=self.unreadable, **options)

    def run(self, model: str, name: str, seed: int) -> "Run":
        """The training behind a row's model, set and seed; it need not have been made."""
        return Run(self, model, name, seed)

    def runs(self, sets: Iterable[str]) -> list["Run"]:
        """The runs that the tables score: each model's on each of the `sets`, one a seed, those in `not_run` left out.
        Raises what :meth:`Run.check` raises."""
        absent = self.not_run
        models = [model for model in (*MODELS, paper.COMBINED) if model not in absent]
        return [self.run(model, name, seed).check() for name in sets for model in models for seed in self.seeds]

    def described(self) -> pd.DataFrame:
        """`Run.line` and `folder` of every training of the paper under `results_root`; absent ones are left out."""
        runs = [self.run(*training, seed) for training in trainings() for seed in self.seeds]
        if lines := [run.check().line | {"folder": str(run.folder)} for run in runs if run.record]:
            return pd.DataFrame(lines)
        raise FileNotFoundError(f"{self.results / 'runs'}: there is no finished run. Run 02_train first.")


@dataclass(frozen=True)
class Run:
    """One training of an experiment, as a row's `model` and `set` name it: of "combined", HCN's on the combined set."""

    experiment: Experiment
    model: str
    set: str
    seed: int

    name = property(lambda self: run_name(self.model, self.set, self.seed), doc="Its folder below `runs/`.")
    folder = property(lambda self: self.experiment.results / "runs" / self.name, doc="Its folder.")
    finished = property(lambda self: bool(self.record.get("finished")), doc="Whether the training came to its end.")

    @functools.cached_property
    def record(self) -> dict[str, object]:
        """What run.json says, read once; empty where there is none. Raises ValueError for a damaged one."""
        from reid_core.training import run_folder  # which loads PyTorch: the workflow asks for names alone

        return run_folder.read(self.folder) if (self.folder / run_folder.RUN).is_file() else {}

    def check(self) -> "Run":
        """The run itself. Raises FileNotFoundError, with the command that makes it, when it is not finished, and
        ValueError when it was trained on embedded data and `data_root` is official (or own), or the other way round."""
        if not self.finished:
            model, train_set = training_of(self.model, self.set)
            given = f"-p model={model} -p {shlex.quote(f'train_set={train_set}')} -p seed={self.seed}"
            remedy = f"Make it with: reid-core notebook 02_train {given}"
            raise FileNotFoundError(f"{self.folder}: this run is not finished. {remedy}")
        check_source(self.folder, self.record, self.experiment)
        return self

    @property
    def line(self) -> dict[str, object]:
        """One line about a finished run: model, train set, seed, hours, iterations, device, form of the heads."""
        model, train_set = training_of(self.model, self.set)
        iterations, seconds = self.record["recipe"]["iterations"], self.record["seconds"]
        return {
            "model": model, "train_set": train_set, "seed": self.seed, "hours": seconds / 3600,
            "iterations": iterations, "seconds_per_iteration": seconds / iterations, "form": self.record["form"],
            "device": self.record["device"], "run": self.name,
        }  # fmt: skip


def check_source(folder: Path, record: Mapping[str, object], experiment: Experiment) -> None:
    """Raise ValueError where a run (its run.json) is of embedded data and the experiment is not, or the reverse."""
    if record["data_source"] != experiment.source:
        mixed = f"{folder} was trained on {record['data_source']} data, but the data in {experiment.data} is"
        remedy = "Choose another results folder for this data (results_root), or the data of these results (data_root)."
        raise ValueError(f"{mixed} {experiment.source}: the two are never mixed. {remedy}")
