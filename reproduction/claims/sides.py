"""What is compared: the rows by test person of a method on a set, as Tables 2 and 3, notebooks 09 and 10 keep them."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import yaml

from reproduction import intervals, paper, results_folder
from reproduction.claims.verdicts import Part

SCORES = intervals.SCORES
NAMES = {"baseline": "baseline", "hcn": "HCN", "combined": "combined HCN"}
TITLES = {"rank1": "rank-1", "mAP": "mAP"}
BY_CHANCE = ("SCSP", "Gated")  # rows of the literature that chance trained; the others give the same every time
KEYS = [name for name in intervals.COLUMNS if name not in SCORES]
READ = yaml.safe_load(Path(__file__).with_name("columns.yaml").read_text(encoding="utf-8"))  # those read of a table


class Absent(LookupError):
    """What a claim compares was not measured; the message says why."""


def reader(results: Path) -> Callable[[str], pd.DataFrame]:
    """What reads a table of a results folder, once. Raises ValueError for one that is damaged or lacks a column."""
    return functools.cache(lambda stem: results_folder.read_csv(results / f"{stem}.csv", READ[stem]))


class Results:
    """A results folder for one claim; `names` are the files that the claim asked for."""

    def __init__(self, read: Callable[[str], pd.DataFrame], data_source: str):
        self._read, self.data_source = read, data_source
        self.names: dict[str, None] = {}  # a dict keeps the order and each name once

    def table(self, stem: str) -> pd.DataFrame:
        self.names[f"{stem}.csv"] = None
        return self._read(stem)


@dataclass(frozen=True)
class Side:
    """A method on a set: its name in words, its rows as of `intervals.by_person`, whether chance trained it."""

    name: str
    rows: pd.DataFrame
    trained: bool = True
    own: bool = True  # a model of ours, not a row of the literature

    seeds = property(lambda self: sorted(self.rows["seed"].unique()))

    def first(self, count: int) -> "Side":
        """The same with so many trainings."""
        return replace(self, rows=self.rows[self.rows["seed"].isin(self.seeds[:count])])

    def score(self, score: str) -> float:
        """The mean over seeds, in per cent."""
        return float(100 * self.rows[score].sum() / self.rows["queries"].sum())

    both = property(lambda self: f"{self.name} {self.score('rank1'):.1f}/{self.score('mAP'):.1f}", doc="rank-1/mAP.")


def model(results: Results, name: str, which: str, metric: str = "", reranked: bool = True) -> Side:
    """One of our models in Table 2 or 3, at the metric that the paper's row of the set has, re-ranked."""
    return _chosen(_of_table(results, name), NAMES[which], set=name, model=which,
                   metric=metric or paper.PRINTED_METRIC[name], reranked=reranked)  # fmt: skip


def method(results: Results, name: str, row: str) -> Side:
    """A row of the literature in Table 2 or 3."""
    return _chosen(_of_table(results, name), row, row.startswith(BY_CHANCE), set=name, method=row)


def across(results: Results, source: str, name: str) -> Side:
    """HCN trained on `source` and tested on `name`, Euclidean and re-ranked."""
    title = f"HCN of {paper.SET_TITLES[source]}" if source in paper.SET_TITLES else f"{source} HCN"
    return _chosen(results.table("cross_dataset_people"), title, train_set=source, test_set=name)


def studied(results: Results, kind: str, variant: str, side: str, name: str) -> Side:
    """One side, default or other, of a training of notebook 10, at the metric that the paper's row has, re-ranked."""
    title = variant.replace("_", " ") if side == "other" else "HCN as it is"
    return _chosen(results.table("sensitivity_people"), title, kind=kind, variant=variant, side=side, set=name,
                   metric=paper.PRINTED_METRIC[name], reranked=True)  # fmt: skip


def sets_of(results: Results, kind: str, variant: str) -> list[str]:
    """The sets on which notebook 10 has a training. Raises Absent, with the reason, where it has none."""
    found = results.table("sensitivity_people")
    there = set(found.loc[(found["kind"] == kind) & (found["variant"] == variant), "set"])
    if not there:
        lines = results.table("sensitivity")
        why = lines.loc[(lines["kind"] == kind) & (lines["variant"] == variant), "status"]
        raise Absent(why.iloc[0] if len(why) else f"{variant}: not run")
    return [name for name in paper.SETS if name in there]


def _of_table(results: Results, name: str) -> pd.DataFrame:
    return results.table("table3_people" if name == paper.MARKET1501 else "table2_people")


def _chosen(table: pd.DataFrame, title: str, trained: bool = True, **values) -> Side:
    for column, value in values.items():
        table = table[table[column] == value]
    if table.empty:
        name = values.get("set") or values["test_set"]
        raise Absent(f"{title} on {paper.SET_TITLES.get(name, name)}: not run")
    return Side(title, table[list(intervals.COLUMNS)], trained, "method" not in values)


def compared(
    ours: Side, theirs: Side, scores: Sequence[str] = SCORES, *, place: str = "", same: bool = False, **claimed
) -> list[Part]:
    """`ours` - `theirs` in each score, with as many trainings on both sides where both are models of ours.

    Against a row of the literature with one training all of ours count. `place` begins the words; `same`: two ways of
    matching the same trainings, whose own spread drops out of each one's difference; `claimed` are the edges of `Part`.
    """
    if ours.own and theirs.own:
        count = min(len(ours.seeds), len(theirs.seeds))
        ours, theirs = ours.first(count), theirs.first(count)
    a, b, chance = ours.rows, theirs.rows, (ours.trained, theirs.trained)
    if same:
        a, b = (a.set_index(KEYS) - b.set_index(KEYS)).reset_index(), None
    parts = []
    for score in scores:
        words = f"{place}{TITLES[score]} {ours.score(score):.1f} ({ours.name}) against {theirs.score(score):.1f}"
        parts.append(Part(f"{words} ({theirs.name})", intervals.interval(a, score, b, random=chance), **claimed))
    return parts
