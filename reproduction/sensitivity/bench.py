"""Choices of matching and evaluation, and the bench that makes them again on the features of trained runs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from reid_core import evaluation, features, reranking, xqda
from reid_core.matching import Matching, learn, match
from reid_core.training import run_folder
from reproduction import paper, scoring
from reproduction.experiment import Experiment
from reproduction.sensitivity.variants import WORDS, Study, words
from reproduction.tables import PEOPLE
from reproduction.words import unknown_name

Way = tuple[str, bool]  # metric and re-ranking
PLAIN: Way = ("euclidean", False)
REPORTED: dict[str, Way] = {name: (metric, True) for name, metric in paper.PRINTED_METRIC.items()}
VALUES = {"ap": evaluation.AP_DEFINITIONS, "junk_in_pool": (True, False), "jaccard": reranking.CHOICES["jaccard"],
          "xqda_solver": xqda.SOLVERS}  # fmt: skip
NUMBERS = {"k1": "k1", "k2": "k2, query expansion", "lambda_value": "lambda"}


@dataclass(frozen=True)
class Option:
    """One other value of a field of `reid_core.matching.Matching`; `needs`: "xqda", "reranking", "junk" or nothing."""

    field: str
    choice: str
    default: str
    other: str
    changes: dict[str, object]
    needs: str
    note: str = ""

    def way(self, name: str) -> Way:
        """Metric and re-ranking at which the choice is made on a set."""
        return ("xqda", True) if self.needs == "xqda" else REPORTED[name]


def options(how: Matching, numbers: Mapping[str, Sequence]) -> list[Option]:
    """The choices of matching: every other value of the named ones, and the `numbers` given for k1, k2, lambda_value.
    Raises ValueError for another name in `numbers`, no list, or a value that re-ranking does not take."""
    choices = []
    for name, (choice, needs, note) in WORDS["matching"].items():
        own = getattr(how, name)
        other = next(value for value in VALUES[name] if value != own)
        choices.append(Option(name, choice, words(own), words(other), {name: other}, needs, note))
    if not isinstance(numbers, Mapping):
        raise ValueError(f"sensitivity_matching is {numbers!r}; write it as {{k1: [10, 30]}}.")
    for name, values in numbers.items():
        if name not in NUMBERS:
            raise ValueError(f"sensitivity_matching: {unknown_name(name, NUMBERS, 'a number of re-ranking')}")
        if not isinstance(values, (list, tuple)):
            raise ValueError(f"sensitivity_matching: {name} must be a list of values, not {values!r}.")
        if len(set(values)) < len(values):
            raise ValueError(f"sensitivity_matching: {name} names a value twice: {list(values)}.")
        own = getattr(how, name)
        for value in (value for value in values if value != own):
            try:
                replace(how, **{name: value})
            except (TypeError, ValueError) as error:
                raise ValueError(f"sensitivity_matching: {error}") from None
            choices.append(Option(name, NUMBERS[name], words(own), words(value), {name: value}, "reranking"))
    return choices


@dataclass
class Bench:
    """The default's runs on one set, and scores of runs on it: rows of `intervals.by_person`, of each run's seed.

    Features are kept in files as `scoring.extract` does; what the default runs need more than once (features,
    metrics), and the scores of all runs, also in memory."""

    kit: Experiment
    name: str
    images: pd.DataFrame
    folders: list[Path]
    how: Matching
    model: str = "hcn"
    _vectors: dict[Path, features.Features] = field(default_factory=dict)
    _learned: dict[Path, xqda.XQDA] = field(default_factory=dict)
    _rows: dict[tuple[Path, Way], pd.DataFrame] = field(default_factory=dict)

    def run(self, folder: Path) -> str:
        """A run's folder below `runs/`."""
        return folder.relative_to(self.kit.results / "runs").as_posix()

    def vectors(self, folder: Path) -> features.Features:
        """Features of the set under a run, of R5."""
        vectors = self._vectors.get(folder) or scoring.extract(self.kit, folder, self.images, self.name)
        if folder in self.folders:
            self._vectors[folder] = vectors
        return vectors

    def outputs(self, folder: Path) -> dict[str, features.Features]:
        """Features of the set by each output of a run but R5, and by all of them joined ("r5+c1+c2")."""
        heads = "+".join(run_folder.read(folder)["heads"])
        joined = scoring.extract(self.kit, folder, self.images, self.name, heads)
        return {name: part for name, part in features.parts(joined).items() if name != "r5"} | {heads: joined}

    def learned(self, folder: Path) -> xqda.XQDA:
        """The default's metric on a default run."""
        if folder not in self._learned:
            self._learned[folder] = learn(self.vectors(folder), self.how.xqda_solver)
        return self._learned[folder]

    def score(self, folder: Path, way: Way, changes: Mapping | None = None, learned=None, vectors=None) -> pd.DataFrame:
        """A run matched one way, with `changes` to the default's settings; `learned`: by this XQDA, not its own;
        `vectors`: of these features, not R5's (or of R5's, at hand)."""
        how = replace(self.how, **(changes or {}))
        vectors = self.vectors(folder) if vectors is None else vectors
        scores = scoring.evaluate(match(vectors, *way, how, learned), how.ap)
        return scores[PEOPLE].assign(seed=run_folder.read(folder)["recipe"]["seed"])

    def rows(self, folders: Iterable[Path], way: Way) -> pd.DataFrame:
        """Runs matched one way with the default's settings, one below the other."""
        for folder in (folder for folder in folders if (folder, way) not in self._rows):
            vectors, own = self.vectors(folder), folder in self.folders
            for each in {way} if own else {way, PLAIN, REPORTED[self.name]}:  # of another, read once for all its lines
                learned = self.learned(folder) if own and each[0] == "xqda" else None
                self._rows[folder, each] = self.score(folder, each, learned=learned, vectors=vectors)
        return pd.concat([self._rows[folder, way] for folder in folders], ignore_index=True)

    def again(self, way: Way, changes: Mapping[str, object]) -> pd.DataFrame:
        """The default runs with other settings of matching."""
        own = way[0] == "xqda" and "xqda_solver" not in changes
        learned = {folder: self.learned(folder) for folder in self.folders if own}
        return pd.concat([self.score(folder, way, changes, learned.get(folder)) for folder in self.folders])


def benches(
    kit: Experiment, study: Study, sets: Mapping[str, pd.DataFrame], how: Matching, model: str = "hcn"
) -> dict[str, Bench]:
    """A bench for each set: the study's default runs on its own set, the profile's runs of `model` on the others.

    `model` "combined" takes HCN on the combined set for every set."""
    made = {}
    for name, images in sets.items():
        folders = [kit.run(model, name, seed).folder for seed in kit.seeds]
        if name == study.train_set and model == "hcn":
            folders = [run.folder for run in study.default_runs]
        made[name] = Bench(kit, name, images, folders, how, model)
    return made
