"""Sections for what goes beyond the paper's own tables: one entry of SECTIONS each, shown in this order.

A result needs no entry to be on the page: what `results_folder.MADE` names is shown as it is. An entry gives it words,
headings and decimals. A section is on the page as soon as its notebook is in the kit; a table or a figure that was not
made yet is said to be absent.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from reproduction import paper, results_folder, tables
from reproduction.report.figures import figure
from reproduction.report.origin import address
from reproduction.report.sources import Results
from reproduction.runner import notebooks
from reproduction.words import number, text


@dataclass(frozen=True)
class Column:
    """A column of a CSV and how it is shown: its heading, and the decimals of a number (None: as text)."""

    name: str
    heading: str
    digits: int | None = None
    signed: bool = False
    strong: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page: an introduction, a table (the stem of its CSV; "" for none), figures.

    `figures` are (stem, title, caption). Which notebook makes these, `results_folder.MADE` says.
    """

    key: str
    title: str
    words: str
    table: str = ""
    columns: tuple[Column, ...] = ()
    figures: tuple[tuple[str, str, str], ...] = ()

    @property
    def made(self) -> results_folder.Made:
        """The result that is shown, or the first of them."""
        return results_folder.of(self.table or self.figures[0][0])


SECTIONS = (
    Section(
        "forms",
        "Table 4, projected",
        "Table 4 from the steady speed of an iteration, measured side by side: another load on the machine while a run"
        " trained shows in the hours above, not here. Pooled heads give the same losses as the plain form, in which the"
        " maps are merged in full, with less arithmetic.",
        "table4_forms",
        (Column("method", "Method"), Column("form", "heads"), Column("seconds_per_iteration", "s an iteration", 4),
         Column("over_baseline", "over the baseline", 2), Column("iterations", "iterations", 0),
         Column("projected_hours", "hours", 3, strong=True), Column("share_of_baselines", "of the baselines’", 2)),
    ),
    Section(
        "levels",
        "Figure 3, at given losses",
        "Iterations that each model takes to a smoothed R5 loss, given as a share of what guessing costs; empty where"
        " it is never reached. Saved: the part of the baseline’s iterations that HCN does without.",
        "loss_levels",
        (Column("set", "Set"), Column("seed", "seed", 0), Column("share", "share", 2), Column("loss", "loss", 2),
         Column("baseline_iterations", "baseline", 0), Column("hcn_iterations", "HCN", 0),
         Column("saved", "saved", 2, signed=True, strong=True)),
    ),
    *(
        Section(
            f"seconds{number}",
            f"Table {number}, in seconds",
            "What each row took: its features, of every image that it uses, each alone; its training, the metric’s fit"
            " included (of the combined model: the one training that serves every set); matching all queries with the"
            " gallery, re-ranking included. What is kept on disk reports the seconds that it once took.",
            f"table{number}",
            (Column("method", "Method"), Column("set", "Set"), Column("seconds_features", "features", 1),
             Column("seconds_train", "train", 1), Column("seconds_match", "match", 2)),
        )
        for number in (2, 3)
    ),
    Section(
        "sensitivity",
        "What the paper leaves open, and controls",
        "Each choice that the paper does not state, made the other way on the same images: rank-1 and mAP of the"
        " default in per cent, and how far the other option moves them, in points, with the 95% interval over test"
        " people and, where a side has several, seeds; both sides have equally many. One that holds 0 decides nothing."
        " The paper compares 44.0 with 43.4. The controls, named by their model, ask what HCN’s gain is due to: they"
        " stand beside the profile’s own runs, at their schedule. Nothing is tuned for a variant: one that the"
        " default’s learning rate does not suit shows it in the final training loss of R5. A line without numbers was"
        " not run; the last column says why.",
        "sensitivity",
        (Column("choice", "Choice"), Column("default", "default"), Column("other", "other"), Column("set", "set"),
         Column("matching", "matching"), Column("default_rank1", "rank-1", 1),
         Column("rank1_difference", "moves by", 1, True, True), Column("rank1_low", "from", 1, True),
         Column("rank1_high", "to", 1, True), Column("default_mAP", "mAP", 1),
         Column("mAP_difference", "moves by", 1, True, True), Column("mAP_low", "from", 1, True),
         Column("mAP_high", "to", 1, True), Column("seeds", "seeds"), Column("default_loss", "final loss", 2),
         Column("other_loss", "other's", 2), Column("status", "status")),
        (("sensitivity", "Sensitivity",
          "How far each choice moves rank-1 and mAP, re-ranked. Whiskers are the 95% interval; a mark is full where 0"
          " lies outside of it. The seed’s mark is the range over the seeds. An arrow: a mark further out."),),
    ),
    Section(
        "near-duplicates",
        "Pictures in training and in a test set",
        "Training images that show the same picture as a query or gallery image, newly cut or encoded. CUHK01 and"
        " CUHK03 were taken on one campus, and CUHK03's two kinds of boxes are cut from the same frames. The paper does"
        " not say whether this was looked at; the setting near_duplicates: leave_out keeps them out of training.",
        "near_duplicate_counts",
        (Column("train_set", "Training set"), Column("test_set", "Test set"),
         Column("training images", "training images", 0),
         Column("images found", "of them in the test set", 0, strong=True),
         Column("people found", "people", 0), Column("test images found", "test images", 0)),
        (("near_duplicates", "Near-duplicates",
          "Pairs, the most alike first: training image left, test image right. The last may be look-alikes."),),
    ),
    Section(
        "met-in-training",
        "What near-duplicates do to the scores",
        "Euclidean scores of each model over all queries, and over those that were not met in training, neither in"
        " their own image nor in that of a true match.",
        "near_duplicate_scores",
        (Column("model", "Model"), Column("set", "Test set"), Column("seed", "seed"), Column("queries", "queries", 0),
         Column("queries affected", "met in training", 0), Column("mAP", "mAP, all", 1),
         Column("mAP others", "mAP, others", 1), Column("mAP difference", "difference", 1, signed=True, strong=True)),
    ),
    Section(
        "inside",
        "A look inside HCN",
        "What the cross maps C1 and C2 hold. The paper trains with them, retrieves with R5 alone, and does not say what"
        " the others would give.",
        figures=(
            ("inside_hcn", "Each output as the feature",
             "mAP with R5, C1 or C2 as the retrieval feature, and with all joined, each of length 1 first; by Euclidean"
             " distance and by XQDA, which weighs a map's channels anew, each without and with re-ranking. A model's"
             " place above the baseline's line is what training with C1 and C2 adds to R5; its places beside R5 are"
             " what they add as features."),
            ("response_maps", "Response maps",
             "Three queries, chosen by rule: the largest gain in AP from joining C1 and C2 to R5, the median, the"
             " largest loss; beside each its nearest matches and the nearest other person. Response: the length of the"
             " map's vector at each place. Similarity: what each place adds to the cosine of the two features, printed"
             " above it. Brackets give a map's height and width; a row goes from dark, its lowest value, to bright."),
        ),
    ),
    Section(
        "pooling",
        "What HCN is under average pooling",
        "Averaging commutes with adding, with a 1x1 convolution and with upsampling. So the logits of C1's head are A"
        " mean(R3) + B mean(R5) + c, and C2's the same of R2 and R4: as trained, the losses do not know where in a map"
        " anything was. Merging, upsampling and skipping of Section 3.2 then decide only which pooled stages share a"
        " classifier, and act on the retrieval feature, R5's, through training alone. Measured in float64 on one"
        " trained network: how far its logits are from the formula, and how far they move when the places of every"
        " stage are shuffled (as shares of the largest logit; 1e-16 is rounding). Below, one setting is changed without"
        " training anew. With maximum pooling or a ReLU after merging it counts which place of R3 meets which of R5; a"
        " 3x3 alone stays linear and tells only places at the border from the rest.",
        "pooling_demonstration",
        (Column("setting", "Setting"), Column("head", "head"), Column("form", "form"),
         Column("formula_difference", "logits from the formula"),
         Column("shuffle_difference", "moved by the shuffle", strong=True),
         Column("people_changed", "likeliest person changed, % of images", 0), Column("images", "images", 0)),
    ),
)  # fmt: skip


# What reproduction.report.sections shows in its own way, by the names of its parts.
OWN = ("table1", "subsets", "people", "table2", "table3", "table4", "figure3", "figure3_time", "figure4", "figure5",
       "convergence", "claims", "across")  # fmt: skip


def sections(found: Results) -> list[dict[str, Any]]:
    """The values of every section whose notebook is in the kit, at last of results that have no words here."""
    known = {*OWN, *(one.made.section for one in SECTIONS)}
    rest = dict.fromkeys(made.section for made in results_folder.MADE if made.section not in known)
    every = [*SECTIONS, *(_plain(found, name) for name in rest)]
    return [_section(found, one) for one in every if one.made.notebook in notebooks.names()]


def _plain(found: Results, name: str) -> Section:
    """A section without words of its own: the columns of its table as they are called, its figures."""
    made = results_folder.section(name)
    stem = next((one.stem for one in made if ".csv" in one.suffixes and not one.people), "")
    table = found.table(stem, ()) if stem else None
    names = [] if table is None else table.columns.drop(["data_source", "profile"])
    columns = tuple(Column(name, name, 2 if table[name].dtype == float else None) for name in names)
    drawn = tuple((one.stem, one.stem, "") for one in made if one.suffixes != results_folder.TABLE)
    return Section(name, name.replace("-", " ").capitalize(), "", stem, columns, drawn)


def _section(found: Results, section: Section) -> dict[str, Any]:
    names = tuple(column.name for column in section.columns)
    table = found.table(section.table, names) if section.table else None
    return {
        "key": section.key, "title": section.title, "words": section.words, "table": section.table,
        "address": address(found, section.made.section),
        "columns": section.columns,
        "rows": None if table is None else [
            [_cell(line[column.name], column) for column in section.columns] for line in table.to_dict("records")
        ],
        "figures": [figure(found, *about) for about in section.figures],
    }  # fmt: skip


def _cell(value: object, column: Column) -> str:
    """A cell as shown; a row's status only where it is not the usual one."""
    if column.digits is None or (isinstance(value, str) and not pd.isna(value)):
        return "" if value == tables.MEASURED else text(paper.SET_TITLES.get(value, value))
    return number(value, column.digits, column.signed)
