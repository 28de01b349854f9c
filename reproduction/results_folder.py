"""A results folder: which notebook leaves which files in it, and where the report shows each.

A new result is one entry of MADE and the cell of its notebook that saves it. The workflow, the report, `explain`, the
claims and the pages for readers follow from that: its files, its sidecar, the notebook and the command that makes it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

REPORT = "report.html"
TABLE, DRAWING, PICTURE = (".csv",), (".png", ".svg"), (".png",)
RUN_FILES = (
    "run.json",
    "weights.safetensors",
    "loss.csv",
    "timing.csv",
    "labels.csv",
)  # of a finished training


@dataclass(frozen=True)
class Made:
    """A result of a notebook: the files `<stem><suffix>`, with one sidecar `<stem>.json` beside them.

    `section` is the part of the report that shows it or links to it. What shows `people` lies in the folder for
    such (:func:`reproduction.experiment.shows_people`); what is not made `always` needs more than its own profile.
    """

    notebook: str
    stem: str
    section: str
    suffixes: tuple[str, ...] = TABLE
    people: bool = False
    always: bool = True

    def files(self, results: Path, private: Path) -> list[Path]:
        """Every file of it, the sidecar last; `private` is the folder for what shows people."""
        folder = private if self.people else results
        return [folder / f"{self.stem}{suffix}" for suffix in (*self.suffixes, ".json")]


MADE = (
    Made("01_datasets", "table1", "table1"),
    Made("01_datasets", "table1_subsets", "subsets"),
    Made("01_datasets", "near_duplicate_counts", "near-duplicates"),
    Made("01_datasets", "near_duplicates", "near-duplicates", TABLE + PICTURE, people=True),
    Made("01_datasets", "people", "people", DRAWING, people=True),
    Made("03_table2_cuhk03", "table2", "table2"),
    Made("03_table2_cuhk03", "table2_seeds", "table2"),
    Made("04_table3_market1501", "table3", "table3"),
    Made("04_table3_market1501", "table3_seeds", "table3"),
    Made("05_table4_training_time", "table4", "table4"),
    Made("05_table4_training_time", "table4_forms", "forms"),
    Made("06_figure3_loss_curves", "figure3", "figure3", DRAWING),
    Made("06_figure3_loss_curves", "figure3_time", "figure3_time", DRAWING),
    Made("06_figure3_loss_curves", "convergence", "convergence"),
    Made("06_figure3_loss_curves", "convergence_time", "convergence"),
    Made("06_figure3_loss_curves", "loss_curves", "convergence"),
    Made("06_figure3_loss_curves", "loss_levels", "levels"),
    Made("07_figure4_ap_and_cmc", "figure4", "figure4", TABLE + DRAWING),
    Made("08_figure5_rank_lists", "figure5", "figure5"),
    Made("08_figure5_rank_lists", "figure5", "figure5", DRAWING, people=True),
    Made("09_claims", "claims", "claims"),
    Made("09_claims", "cross_dataset", "across"),
    Made("09_claims", "near_duplicate_scores", "met-in-training"),
    Made("09_claims", "near_duplicate_retrained", "met-in-training", always=False),
    Made("10_sensitivity", "sensitivity", "sensitivity", TABLE + DRAWING),
    Made("11_inside_hcn", "inside_hcn", "inside", TABLE + DRAWING),
    Made("11_inside_hcn", "response_maps", "inside", DRAWING, people=True),
)

# The tables that a notebook reads or whose checks it relies on; 03 to 11 read the data and the trainings besides.
NEEDED = {
    "02_train": ("table1",),
    "03_table2_cuhk03": ("table1",),
    "04_table3_market1501": ("table1",),
    "06_figure3_loss_curves": ("table4_forms",),
    "08_figure5_rank_lists": ("table1",),
    "09_claims": ("table1", "table2_seeds", "table3_seeds", "table4", "table4_forms", "convergence", "figure4",
                  "sensitivity"),
    "10_sensitivity": ("table1",),
    "11_inside_hcn": ("table1",),
}  # fmt: skip


def made(notebook: str | None = None) -> Iterable[Made]:
    """The results of one notebook, or of all."""
    return tuple(one for one in MADE if notebook in (None, one.notebook))


def files(notebook: str, results: Path, private: Path) -> list[Path]:
    """Every file that a notebook leaves in a results folder whenever it runs, sidecars too, each once.

    `private` is where figures of people go: `results` itself for embedded data. The folders of runs and features, and
    the executed copy, are not among them.

    >>> [path.name for path in files("08_figure5_rank_lists", Path("r"), Path("r"))]
    ['figure5.csv', 'figure5.json', 'figure5.png', 'figure5.svg']
    """
    found = (path for one in made(notebook) if one.always for path in one.files(results, private))
    return list(dict.fromkeys(found))
