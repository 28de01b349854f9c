"""The report's contents as plain values for the template: every number formatted, every absent file named."""

import shlex
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from reid_core import __version__
from reproduction import claims, intervals, paper, results_folder, tables
from reproduction.claims import verdicts as words
from reproduction.report import queries
from reproduction.report.further import OWN, SECTIONS, WORDS, figure, sections
from reproduction.report.origin import address, executed, explained, files, origin, read_from, runs
from reproduction.report.sources import Results
from reproduction.runner import profiles
from reproduction.words import interval, number, plural, text

# Shape, colour and word say a verdict, so that no one of them is needed alone.
MARKS = {
    "holds": "yes", "reproduced": "yes", "does not hold": "no", "not reproduced": "no",
    "undecided": "open",
    **{f"{trainings}: {word}": "open" for trainings in (words.ONE_EACH, words.SINGLE) for word in words.DECIDABLE},
    **dict.fromkeys(words.OUTSIDE, "none"),
}  # fmt: skip
# The ids of the parts of the page whose name is not that of the result, besides those of further.yaml.
PLACES = {"subsets": "table1", "convergence": "figure3_time"}


def everything(found: Results) -> dict[str, Any]:
    """All values of the template."""
    parts = (sure, table1, subsets, table4, convergence, across, origin, runs, executed, files)
    held = queries.held(found)
    return {part.__name__: part(found) for part in parts} | {
        "version": __version__, "titles": paper.SET_TITLES, "scores": tables.SCORES, "measured": tables.MEASURED,
        "printed": paper.PAPER, "facts": found.facts, "embedded": found.embedded, "results": found.shown,
        "explorer": found.link(found.private / results_folder.EXPLORER), "people_folder": found.link(found.private),
        "data": found.data(), "altered": found.altered(), "trace": explained(found, "claims"),
        "claims": [claim(line) | {"queries": queries.of_claim(found, held, line.claim)}
                   for line in found.claims.itertuples()],
        "places": {one.made.section: f"about-{one.key}" for one in SECTIONS if one.made.section not in OWN} | PLACES,
        "tally": tally(found.claims["verdict"]),
        "comparisons": [comparison(found, number) for number in (2, 3)],
        "people": figure(found, **WORDS["people"]),
        "figures": [figure(found, **about) for about in WORDS["figures"]],
        "figure5_queries": queries.of_figure5(found, held),
        "further": sections(found),
        "convergence_address": address(found, "convergence"),
        "profile_argument": profiles.arguments(found.facts["profile"], {}),
    }  # fmt: skip


def claim(line) -> dict[str, str]:
    """A line of claims.csv with its verdict taken apart: word, mark, and what follows in brackets."""
    word, detail = claims.taken_apart(line.verdict)
    if word not in MARKS:
        raise ValueError(f"claims.csv: the verdict of {line.claim} is {line.verdict!r}; known: {', '.join(MARKS)}.")
    shown = {name: text(getattr(line, name)) for name in ("section", "text", "paper", "ours", "threshold", "confound")}
    files = [made for made in results_folder.MADE if f"{made.stem}.csv" in read_from(line) and not made.people]
    return shown | {"key": line.claim, "word": word, "mark": MARKS[word], "detail": detail, "read_from": files,
                    "sampled": line if pd.notna(getattr(line, "difference", None)) else None}  # fmt: skip


def tally(verdicts: Iterable[str]) -> list[dict[str, object]]:
    """How many claims have which verdict, in the order of MARKS."""
    found = [claims.taken_apart(verdict)[0] for verdict in verdicts]
    several = {"holds": "hold", "does not hold": "do not hold"}
    return [{"words": word if count == 1 else several.get(word, word), "mark": mark, "count": count}
            for word, mark in MARKS.items() if (count := found.count(word))]  # fmt: skip


def sure(found: Results) -> tuple[str, str] | None:
    """How many people the sets test, and how far the rank-1 of our rows could be off, in points."""
    columns = ("people", "model", "ours_rank1_low", "ours_rank1_high")
    parts = [part for stem in ("table2", "table3") if (part := found.table(stem, columns)) is not None]
    doubt = tables.doubt(pd.concat(parts)) if parts else None
    return doubt and (doubt[0], number(doubt[1]))


def table1(found: Results) -> dict[str, Any]:
    """Table 1: identities in all, for training, for testing, each as published, found, and the difference."""
    columns = [f"{subset}identities {kind}" for subset in ("", "training ", "testing ")
               for kind in ("published", "found", "difference")]  # fmt: skip
    table = found.table("table1", ("dataset", "note", *columns))
    drawn = figure(found, **WORDS["table1"])
    return {"address": address(found, "table1"), "columns": columns, "rows": table, "figure": drawn}


def subsets(found: Results) -> dict[str, Any]:
    """Images per set and subset: published, found, difference, and what they hold."""
    columns = ("images published", "images found", "images difference", "junk", "distractors",
               "cameras published", "cameras found")  # fmt: skip
    table = found.table("table1_subsets", ("name", "subset", *columns))
    return {"address": address(found, "subsets"), "columns": columns, "rows": table}


def comparison(found: Results, table_number: int) -> dict[str, Any]:
    """Table 2 or 3: a row a method; per set the paper's scores, ours and the difference, or why there are none."""
    stem = f"table{table_number}"
    forms = ("paper_{}", "ours_{}", "ours_{}_low", "ours_{}_high", "{}_difference")
    needed = [form.format(score) for score in tables.SCORES for form in forms]
    needed += "set method model status seeds queries people paper_source note faithful ap".split()
    table = found.table(stem, tuple(needed))
    shown = {"number": table_number, "address": address(found, stem), "rows": None}
    if table is None:
        return shown
    sets, behind = list(table["set"].unique()), _behind(found, stem)
    notes, rows = [], []
    for method, lines in table.groupby("method", sort=False):
        own = [note for note in lines["note"].dropna().unique() if note]
        notes += [note for note in own if note not in notes]
        model = lines["model"].iloc[0]
        rows.append({
            "method": method, "model": model, "first": not rows or rows[-1]["model"] != model,
            "notes": [notes.index(note) + 1 for note in own], "faithful": next(iter(lines["faithful"].dropna()), ""),
            "sets": [lines[lines["set"] == part].iloc[0].to_dict() for part in sets],
            "behind": [behind[place] for place in lines.index if place in behind],
        })  # fmt: skip
    words = {word: meaning for word, meaning in tables.FAITHFUL.items() if word in {row["faithful"] for row in rows}}
    return shown | {
        "rows": rows, "digits": table_number - 1,  # Table 2 prints one decimal, Table 3 two
        "notes": notes, "faithful": words, "figure": figure(found, **WORDS[stem]),
        "sets": [paper.SET_TITLES.get(part, part) for part in sets],
        **{name: ", ".join(filter(None, map(text, table.get(name, table["ap"][:0]).unique())))
           for name in ("ap", "protocol")},
        "facts": [_evaluated(table[(table["set"] == part) & (table["status"] == tables.MEASURED)]) for part in sets],
    }  # fmt: skip


def _behind(found: Results, stem: str) -> dict[int, dict[str, Any]]:
    """{place of a measured row: the seeds that it is the mean of, its people and intervals, the commands for it}."""
    if not (found.path / f"{stem}_seeds.csv").is_file():
        return {}
    table, seeds = (results_folder.read_csv(found.path / f"{name}.csv", as_text=True)
                    for name in (stem, f"{stem}_seeds"))  # fmt: skip
    return {place: {
        "set": paper.SET_TITLES.get(row["set"], row["set"]), "people": row["people"], "queries": row["queries"],
        "within": [[float(row[f"ours_{score}_{end}"] or "nan") for end in ("low", "high")] for score in tables.SCORES],
        "explain": f"{explained(found, stem)} --row {shlex.join((row['method'], row['set']))}",
        "seeds": [
            {"seed": one["seed"], "run": one["run"], "scores": [100 * float(one[score]) for score in tables.SCORES],
             "link": one["run"] and found.link(found.path / "runs" / one["run"] / "run.json"),
             "command": results_folder.training(one["run"]) and found.command(f"02_train-{one['run']}")}
            for one in results_folder.seeds_behind(row, seeds).to_dict("records")
        ],
    } for place, row in enumerate(table.to_dict("records")) if row["status"] == tables.MEASURED}  # fmt: skip


def _evaluated(measured: pd.DataFrame) -> str:
    seeds = sorted({seed for seeds in measured["seeds"].astype(str) for seed in seeds.removesuffix(".0").split()})
    queries, people = (number(measured[column].max(), 0) for column in ("queries", "people"))
    return f"{queries} queries of {people} people, {plural(seeds, 'seed')}" if seeds else tables.NOT_YET


def table4(found: Results) -> dict[str, Any]:
    """Table 4: hours of each training and their totals, and the combined model's share of the baselines' time."""
    columns = ("method", "train_set", "paper_hours", "ours_hours", "hours_std", "iterations",
               "seconds_per_iteration", "device", "form", "status", "note")  # fmt: skip
    table = found.table("table4", columns)
    if table is None:
        return {"address": address(found, "table4"), "blocks": None}
    blocks = [{"method": method, "note": text(lines["note"].iloc[0]), "lines": lines.to_dict("records")}
              for method, lines in table.groupby("method", sort=False)]  # fmt: skip
    totals = table[table["train_set"] == "total"].set_index("method")[["paper_hours", "ours_hours", "iterations"]]
    share = 100 * totals.loc["Our"] / totals.loc["Zhong [13]"]
    devices = " / ".join(table["device"].dropna().unique())
    return {"address": address(found, "table4"), "blocks": blocks, "share": share, "devices": devices,
            "figure": figure(found, **WORDS["table4"])}  # fmt: skip


def convergence(found: Results) -> pd.DataFrame | None:
    """Numbers to Figure 3, a line a set and seed."""
    table = found.table("convergence", ("set", "seed", "baseline_iterations", "baseline_final", "hcn_final",
                                        "baseline_log_loss", "hcn_log_loss"))  # fmt: skip
    if table is None:
        return None
    return table.assign(lower=-100 * np.expm1(table["hcn_log_loss"] - table["baseline_log_loss"]))


def across(found: Results) -> dict[str, Any] | None:
    """rank-1 / mAP of HCN trained on one set (columns) and tested on another (rows): means over seeds, intervals."""
    table = found.table("cross_dataset", ("train_set", "test_set", "seed", "rank1", "mAP"))
    if table is None:
        return None
    behind = found.path / "cross_dataset_people.csv"
    people = results_folder.read_csv(behind) if behind.is_file() else None
    order = [name for name in ("untrained", *paper.SETS, paper.COMBINED) if name in set(table["train_set"])]

    def cell(name: str, source: str) -> dict[str, Any]:
        """Of the set `name`, tested with what was trained on `source`."""
        mean, within = ("" if rows is None else rows[(rows["test_set"] == name) & (rows["train_set"] == source)]
                        for rows in (table, people))  # fmt: skip
        ends = [intervals.interval(within, score, least=0.0) for score in tables.SCORES] if len(within) else []
        return {
            "own": name == source,
            "text": " / ".join(number(mean[score].mean()) for score in tables.SCORES) if len(mean) else "",
            "within": " / ".join(interval(one.low, one.high) for one in ends),
        }

    return {
        "columns": order, "address": address(found, "across"),
        "rows": [{"set": name, "cells": [cell(name, source) for source in order]}
                 for name in table["test_set"].unique()],
    }  # fmt: skip
