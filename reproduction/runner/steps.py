"""The steps of a profile: each notebook with its parameters, what it makes, and what it waits for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reproduction import experiment, paper, results_folder
from reproduction.runner import notebooks, profiles

DATASETS, TRAIN, EXPLORER, REPORT = "01_datasets", "02_train", "explorer", "report"
RANK_LISTS = "08_figure5_rank_lists"  # the pages are given what this notebook is
TABLE2, TABLE3 = "03_table2_cuhk03", "04_table3_market1501"
READERS = {paper.MARKET1501: TABLE3} | dict.fromkeys((paper.CUHK03_DETECTED, paper.CUHK03_LABELED), TABLE2)
INSIDE = "11_inside_hcn"
SIDE_BY_SIDE = (TABLE3, "06_figure3_loss_curves", "07_figure4_ap_and_cmc", RANK_LISTS, INSIDE, EXPLORER)
PAGES = {EXPLORER: "reproduction.report.explorer_page", REPORT: "reproduction.report"}  # the modules that write them
ORDER = "03 05 04 06 07 08 11 ex 10 09"  # what others wait for first; what takes every core apart from what shares them
PLACES = ("data_root", "results_root")  # where things lie is no setting of theirs
OF_A_RUN = ("model", "train_set", "seed")


@dataclass(frozen=True)
class Step:
    """One execution of a notebook, or the report: `name` is that of the executed copy, `after` the steps that run
    before it, where they run at all; `small`: it scores and draws a few thousand images."""

    name: str
    notebook: str
    parameters: Mapping[str, Any] = field(hash=False)
    after: tuple[str, ...] = ()
    small: bool = False

    kind = property(lambda self: {DATASETS: "datasets", TRAIN: "train"}.get(self.notebook, self.notebook),
                    doc="What `plan` counts it as: the trainings are one kind.")  # fmt: skip
    shares = property(lambda self: self.small and self.notebook in SIDE_BY_SIDE,
                      doc="Whether another step may run beside it, on two cores or more, without a GPU.")  # fmt: skip

    of_a_run = property(lambda self: {key: self.parameters[key] for key in OF_A_RUN if self.notebook == TRAIN},
                        doc="Model, train set and seed of a training; empty for the others.")  # fmt: skip


@dataclass(frozen=True)
class Places:
    """The folders of a profile: of data, results, and results that show people."""

    data: Path
    results: Path
    private: Path

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Places":
        private = experiment.executed_notebooks(settings).parent
        return cls(*(experiment.resolve(settings[key]) for key in PLACES), private)

    def executed(self, step: Step) -> Path:
        return self.private / "notebooks" / f"{step.name}.ipynb"

    def run(self, name: str) -> Path:
        return self.results / "runs" / name

    def made(self, step: Step) -> list[Path]:
        """Every file that a step leaves whenever it runs; features, and runs of its own, not among them."""
        if step.notebook in PAGES:
            return [(self.private if step.notebook == EXPLORER else self.results) / f"{step.notebook}.html"]
        if step.notebook == TRAIN:
            folder = self.run(step.name.partition("-")[2])
            return [*(folder / name for name in results_folder.RUN_FILES), self.executed(step)]
        return [*results_folder.files(step.notebook, self.results, self.private), self.executed(step)]


def of(settings: Mapping[str, Any]) -> list[Step]:
    """All steps of a profile, in the order in which they run; of official data without what needs an absent set.

    Table 2 comes as soon as what it reads is trained: somebody who watches has a table to look at early. Trainings and
    what is timed run alone; of small data, what scores and draws leaves cores to another step."""
    absent = experiment.Experiment.of(settings).not_run if settings["render_sizes"] == "none" else {}
    select = lambda name: profiles.select(settings, RANK_LISTS if name in PAGES else name)  # noqa: E731
    trained: dict[str | None, list[Step]] = {TABLE2: [], TABLE3: [], None: []}  # by the table that alone reads them
    for seed in settings["seeds"]:
        for model, train_set in experiment.trainings():
            if train_set not in absent:
                step = _training(select(TRAIN) | {"model": model, "train_set": train_set, "seed": seed})
                trained[READERS.get(train_set)].append(step)
    first, last = [*trained[TABLE2], *trained[None]], trained[TABLE3]
    read = {TABLE2: first, TABLE3: [*trained[None], *last], "07_figure4_ap_and_cmc": []}
    made, small = [], settings["render_sizes"] in ("tiny", "smoke")
    extracted = (TABLE2,) if small else (TABLE2, TABLE3)  # of small data, Table 3 is beside the two, and ahead of them
    for notebook in _analyses(settings, set(absent)):
        features = extracted if notebook in (INSIDE, EXPLORER) else ()  # which find what these have extracted
        stems = results_folder.NEEDED.get(notebook, ())
        tables = (entry.notebook for entry in results_folder.MADE if entry.stem in stems)
        after = dict.fromkeys([*(step.name for step in read.get(notebook, [*first, *last])), *tables, *features])
        made.append(Step(notebook, notebook, select(notebook), tuple(after), small))
    table2, *others = made
    found = [Step(DATASETS, DATASETS, select(DATASETS)), *first, table2, *last, *others]
    return [*found, Step(REPORT, REPORT, select(REPORT), tuple(step.name for step in found))]


def one(settings: Mapping[str, Any], notebook: Path) -> Step:
    """The step that runs a notebook under a profile: a training as its model, train set and seed say, or any other."""
    parameters = profiles.select(settings, notebook)
    if notebook == notebooks.FOLDER / f"{TRAIN}.ipynb":
        declared = notebooks.declared(notebook)
        return _training(parameters | {key: settings.get(key, declared[key]) for key in OF_A_RUN})
    known = of(settings) if notebook.parent == notebooks.FOLDER else []
    own = Step(notebook.stem, str(notebook), parameters)
    return next((step for step in known if step.notebook == notebook.stem), own)


def _training(parameters: Mapping[str, Any]) -> Step:
    name = experiment.run_name(*(parameters[key] for key in OF_A_RUN))
    return Step(f"{TRAIN}-{name}", TRAIN, parameters, (DATASETS,))


def _analyses(settings: Mapping[str, Any], absent: set[str]) -> list[str]:
    """The notebooks after the trainings and the explorer, in `ORDER`."""
    names = list({made.notebook for made in results_folder.MADE} - {DATASETS} | {EXPLORER})
    if {settings["rank_list_set"], paper.COMBINED} & absent:  # Figure 5 compares the two models on one set
        names.remove(RANK_LISTS)
    if set(paper.SETS) <= absent:  # nothing to retrieve from
        names.remove(INSIDE)
    return sorted(names, key=lambda name: ORDER.index(name[:2]))
