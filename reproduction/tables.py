"""Tables 1-4 as data frames: the paper's numbers, ours, the difference, and what they were measured on."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from reid_core import files
from reid_core.datasets import cuhk01, cuhk03, market1501
from reid_core.datasets.table import DATASET, DISTRACTOR, JUNK, PERSON, QUERY, SUBSET, SUBSETS, TRAIN
from reproduction import intervals, paper, sidecar, words
from reproduction.intake import published as official

NOT_YET = "not measured yet"
MEASURED = "measured"
SCORES = ("rank1", "mAP")
PEOPLE = "people"  # of scores: each cell holds the rows of `intervals.by_person` behind one; of a table: their number
TITLES = {module.NAME: module.TITLE for module in (market1501, cuhk03, cuhk01)}
IDENTITIES = ("identities", "training identities", "testing identities")
TIMES = ("features", "train", "match")
SECONDS = tuple(f"seconds_{part}" for part in TIMES)
REFERENCE, ADAPTED, RECREATED = "reference", "adapted", "re-created"
FAITHFUL = {  # how near a row of the literature comes to its paper
    REFERENCE: "a plain reference of ours, in no paper's table",
    ADAPTED: "by the published equations, a part that is not on record replaced or left out, as the note says",
    RECREATED: "the published idea in a network of ours: the printed figure is no target",
}


def table1(images: Mapping[str, pd.DataFrame], combined: pd.DataFrame | None = None) -> pd.DataFrame:
    """Table 1: per data set its identities in all, for training and for testing.

    `images`: name to image table, at most one a data set (of CUHK03's two forms, which have the same people, the
    labeled one); a data set of Table 1 that is not given is shown with nothing found. `combined`: images that the
    combined training learns from, `Experiment.training_table`; None where a set is absent.

    Returns rows in Table 1's order, then other data sets; columns `dataset` and, for each of `IDENTITIES`, `<column>
    published`, `found` and `difference` (Int64, missing where the paper prints none or nothing was found). Combined
    counts the people who train, not the sum of the sets: `left out` are those who are tested, as `note` says."""
    counts = {}
    for name, table in images.items():
        dataset = _dataset(name, table)
        title = TITLES.get(dataset, dataset)
        if title in counts:
            raise ValueError(f"{name}: Table 1 counts {title} once, but two tables of it are given.")
        counts[title] = _identities(table)
    if combined is not None:
        people = len(combined[[DATASET, PERSON]].drop_duplicates())
        counts["Combined"] = (people, people, None)
    rows = []
    for title in [*paper.TABLE1, *(title for title in counts if title not in paper.TABLE1)]:
        row = {"dataset": title}
        published, counted = paper.TABLE1.get(title, (None,) * 3), counts.get(title, (None,) * 3)
        for column, there, here in zip(IDENTITIES, published, counted, strict=True):
            row[f"{column} published"], row[f"{column} found"] = there, here
            row[f"{column} difference"] = None if None in (there, here) else here - there
        known = title == "Combined" and combined is not None
        rows.append(row | (_left_out(images.values(), combined) if known else {"left out": None, "note": ""}))
    frame = pd.DataFrame(rows)
    return frame.astype({column: "Int64" for column in frame.columns if column not in ("dataset", "note")})


def _left_out(images: Iterable[pd.DataFrame], combined: pd.DataFrame) -> dict[str, object]:
    """How many training people of Table 1's sets the combined training lacks, and who."""
    train = pd.concat(table[(table[SUBSET] == TRAIN) & table[DATASET].isin(TITLES)] for table in images)
    every, learnt = (pd.MultiIndex.from_frame(part[[DATASET, PERSON]]).unique() for part in (train, combined))
    lacking = [f"{dataset} {person}" for dataset, person in every.difference(learnt)]
    who = f"{len(every):,} without {', '.join(lacking)}"
    note = f"{who}: tested in CUHK03's other form or in an own set, so left out." if lacking else ""
    return {"left out": len(lacking), "note": note}


def table1_subsets(images: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Identities, images and cameras per table and subset, as published, as found, and the difference.

    `name` is the mapping's key; a name ending in "detected" takes CUHK03's published numbers for detected boxes
    (labeled ones otherwise). Identities leave junk and distractors out, images count them."""
    rows = []
    for name, table in images.items():
        form = "detected" if name.endswith("detected") else "labeled"
        dataset = _dataset(name, table)
        published = official.SETS.get(f"{dataset}_{form}" if dataset == cuhk03.NAME else dataset, {})
        for subset in SUBSETS:
            part = table[table[SUBSET] == subset]
            if part.empty and subset not in published:
                continue
            there, here = published.get(subset), official.found(part)
            row = {"name": name, "subset": subset}
            for count, field in (("identities", "people"), ("images", "images"), ("cameras", "cameras")):
                if count == "cameras":
                    row |= {"junk": (part[PERSON] == JUNK).sum(), "distractors": (part[PERSON] == DISTRACTOR).sum()}
                row[f"{count} published"] = there and getattr(there, field)
                row[f"{count} found"] = getattr(here, field)
                row[f"{count} difference"] = there and getattr(here, field) - getattr(there, field)
            rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.astype({column: "Int64" for column in frame.columns if column not in ("name", "subset")})


def _identities(table: pd.DataFrame) -> tuple[int, int, int | None]:
    people = table[table[PERSON] > DISTRACTOR]
    test = people.loc[people[SUBSET] == QUERY, PERSON].nunique()
    return people[PERSON].nunique(), people.loc[people[SUBSET] == TRAIN, PERSON].nunique(), test or None


def _dataset(name: str, table: pd.DataFrame) -> str:
    names = table[DATASET].unique()
    if len(names) != 1:
        raise ValueError(f"{name} holds rows of {len(names)} data sets; give one image table a data set.")
    return names[0]


def compare(
    rows: Iterable[paper.Row], sets: Iterable[str], scores: pd.DataFrame, facts: Mapping[str, object],
    not_run: Mapping[str, str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Table 2 or 3: one line per row of the paper and set.

    `rows`: of the table, `paper.rows`; `sets`: names, in the order of the lines; `facts`: data_source, profile, ap,
    which go into every line; `not_run`: a reason by set, method or model. `scores`: one line per run and way of
    matching: model, set, metric, reranked, method (only for rows of the literature), seed, rank1 and mAP (fractions),
    people (rows of `intervals.by_person`), queries, run, the seconds of `TIMES`, for the literature also how faithful
    the row is (`FAITHFUL`) and a note; the protocol.

    Returns scores in per cent, the mean over seeds with its standard deviation (over one seed: none); differences are
    ours - paper. `ours_<score>_low` and `_high` are the 95% interval of the mean (`intervals.interval`), over other
    test people and, with several seeds, other trainings. `people` are those that were tested."""
    not_run = not_run or {}
    known = ("set", "model", "metric", "reranked", "method", "run", "seed", "faithful", "protocol", "note", *SECONDS)
    scores = scores.reindex(columns=dict.fromkeys([*scores.columns, *known]))
    lines = [_line(row, name, behind(row, name, scores), not_run) | dict(facts) for row in rows for name in sets]
    counted = {name: "Int64" for name in (PEOPLE, "queries", "queries_without_match")}
    forms = ("paper_{}", "ours_{}", "{}_std", "{}_difference", "ours_{}_low", "ours_{}_high")
    scored = {form.format(score): float for score in SCORES for form in forms}
    return pd.DataFrame(lines).astype(counted | scored)


def behind(row: paper.Row, name: str, scores: pd.DataFrame) -> pd.DataFrame:
    """The lines of `scores`, as in `compare`, behind a row of the paper, or of `compare`, on one set: a line a seed."""
    known = ("method",) if row.model in (None, "literature") else ("model", "metric", "reranked")
    for column, value in {"set": name, **{column: getattr(row, column) for column in known}}.items():
        scores = scores[scores[column] == value]
    return scores


def _line(row: paper.Row, name: str, scored: pd.DataFrame, not_run: Mapping[str, str]) -> dict:
    printed = row.printed.get(name, (None, None))
    line = {"table": row.table, "set": name, "method": row.method, "model": row.model or "literature",
            "metric": row.metric, "reranked": row.reranked}  # fmt: skip
    for score, value in zip(SCORES, printed, strict=True):
        ours = 100 * scored[score].mean() if len(scored) else None
        line[f"paper_{score}"], line[f"ours_{score}"] = value, ours
        line[f"{score}_std"] = 100 * scored[score].std(ddof=1) if len(scored) > 1 else None
        line[f"ours_{score}_low"], line[f"ours_{score}_high"] = _interval(scored, score)
        line[f"{score}_difference"] = ours - value if None not in (ours, value) else None
    line["paper_source"] = row.source if row.printed else ""
    why = next((not_run[key] for key in (name, row.method, row.model) if key in not_run), NOT_YET)
    line["status"] = MEASURED if len(scored) else why
    line["seeds"] = " ".join(map(str, sorted(scored["seed"].unique())))
    line[PEOPLE] = len(scored[PEOPLE].iloc[0]) if len(scored) else None
    line["queries"] = int(scored["queries"].iloc[0]) if len(scored) else None
    line["queries_without_match"] = int(scored["queries_without_match"].max()) if len(scored) else None
    line |= {seconds: round(float(scored[seconds].mean()), 2) for seconds in SECONDS}
    line |= {name: " ".join(scored[name].dropna().unique()) for name in ("faithful", "protocol")}
    line["runs"] = " ".join(sorted(scored["run"].dropna().unique()))
    line["note"] = " ".join([row.note, *scored["note"].dropna().unique()]).strip()
    return line


def _interval(scored: pd.DataFrame, score: str) -> tuple[float, float] | tuple[None, None]:
    """Low and high end of a score's interval in per cent."""
    if scored.empty:
        return None, None
    people = [rows.assign(seed=seed) for rows, seed in zip(scored[PEOPLE], scored["seed"], strict=True)]
    found = intervals.interval(pd.concat(people), score, least=0.0)
    return found.low, found.high


def table4(runs: pd.DataFrame, facts: Mapping[str, object]) -> pd.DataFrame:
    """Table 4: training hours, three baselines against one combined HCN, the paper's hours beside ours.

    `runs`: one line per run with model, train_set, seed, hours, iterations, seconds_per_iteration. Rows: the paper's
    two, and the three separate HCN trainings for comparison. A row's total needs all of its runs. Every note says so
    where runs were trained on unlike devices."""
    rows = (
        ("Zhong [13]", "baseline", paper.SETS, "paper: [13]'s schedules, 75k + 75k + 50k iterations"),
        ("Our", "hcn", (paper.COMBINED,), "printed under 'labeled': the combined set takes the labeled images"),
        ("HCN, separately", "hcn", paper.SETS, "not in the paper: HCN trained on each set"),
    )
    lines = []
    for method, model, train_sets, note in rows:
        printed = paper.TABLE4.get(method, {})
        parts = []
        for name in train_sets:
            trained = runs[(runs["model"] == model) & (runs["train_set"] == name)]
            column = paper.CUHK03_LABELED if name == paper.COMBINED else name
            parts.append({"method": method, "train_set": name, "paper_hours": printed.get(column)} | _hours(trained))
        complete = all(part["status"] == MEASURED for part in parts)
        summed = runs[(runs["model"] == model) & runs["train_set"].isin(train_sets)].groupby("seed")["hours"]
        total = {
            "paper_hours": printed.get("total"), "train_set": "total", "method": method,
            **{key: sum(part[key] for part in parts) if complete else None for key in ("ours_hours", "iterations")},
            "runs": " ".join(part["runs"] for part in parts if part["runs"]),
            "hours_std": summed.sum(min_count=len(train_sets)).std() if complete else None,
            "status": MEASURED if complete else NOT_YET,
        }  # fmt: skip
        lines += [part | {"note": note + unlike(runs)} for part in [*parts, total]]
    return pd.DataFrame([line | dict(facts) for line in lines]).astype({"iterations": "Int64"})


def unlike(table: pd.DataFrame) -> str:
    """A remark where the `device` of runs, or of Table 4's lines, is not the same one.

    >>> unlike(pd.DataFrame({"device": ["A100", "H100 / A100", None]}))
    '; on unlike devices (A100, H100), whose hours do not compare'
    """
    found = sorted({name for cell in table["device"].dropna() for name in cell.split(" / ") if name})
    return f"; on unlike devices ({', '.join(found)}), whose hours do not compare" if len(found) > 1 else ""


def table4_forms(table: pd.DataFrame, speeds: pd.DataFrame, facts: Mapping[str, object]) -> pd.DataFrame:
    """Table 4's totals projected from the steady speed of an iteration, HCN with pooled and with plain heads.

    `table`: from `table4`, whose iterations are taken; `speeds`: from `speed.measure`. Columns beside those of
    `speeds`: method, iterations, projected_hours, and share_of_baselines, the hours over the baselines'."""
    iterations = table[table["train_set"] == "total"].set_index("method")["iterations"]
    lines = []
    for method, model in (("Zhong [13]", "baseline"), ("Our", "hcn"), ("HCN, separately", "hcn")):
        for speed in speeds[speeds["model"] == model].drop(columns="iterations").to_dict("records"):
            hours = iterations[method] * speed["seconds_per_iteration"] / 3600
            lines.append({"method": method, **speed, "iterations": iterations[method], "projected_hours": hours})
    forms = pd.DataFrame(lines).astype({"iterations": "Int64", "projected_hours": "Float64"})
    forms["share_of_baselines"] = forms["projected_hours"] / forms["projected_hours"].iloc[0]
    return forms.assign(**facts)


def _hours(trained: pd.DataFrame) -> dict:
    known = len(trained) > 0
    return {
        "ours_hours": trained["hours"].mean() if known else None,
        "hours_std": trained["hours"].std(),
        "iterations": int(trained["iterations"].iloc[0]) if known else None,
        "seconds_per_iteration": trained["seconds_per_iteration"].mean() if known else None,
        "form": " ".join(sorted(trained["form"].unique())), "device": " / ".join(sorted(trained["device"].unique())),
        "seeds": " ".join(map(str, sorted(trained["seed"]))), "runs": " ".join(sorted(trained["run"])),
        "status": MEASURED if known else NOT_YET,
    }  # fmt: skip


def save(table: pd.DataFrame, path: str | Path, **facts) -> Path:
    """Write a table as CSV (UTF-8, floats with 4 decimals) in one step, with its JSON sidecar of sidecar."""
    with files.replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")
    sidecar.write_sidecar(path, **facts)
    return Path(path)


def as_printed(table: pd.DataFrame) -> pd.DataFrame:
    """Table 2 or 3 in the paper's shape: a row a method, per set rank-1 and mAP, paper's and ours with its 95%
    interval, and the seconds of `TIMES`; last, how faithful a row of the literature is."""
    blocks = {}
    for name in table["set"].unique():
        part, heading = table[table["set"] == name].set_index("method"), paper.SET_TITLES[name]
        for score, title in zip(SCORES, ("rank-1", "mAP"), strict=True):
            ends = (f"ours_{score}", f"ours_{score}_low", f"ours_{score}_high")
            blocks[heading, title, "paper"] = part[f"paper_{score}"].map(_cell)
            blocks[heading, title, "ours"] = [
                within(*values) if status == MEASURED else status
                for *values, status in part[[*ends, "status"]].itertuples(index=False)
            ]
            blocks[heading, title, "difference"] = part[f"{score}_difference"].map("{:+.1f}".format)
        for time in TIMES:
            blocks[heading, "seconds", time] = part[f"seconds_{time}"].map(_cell)
    blocks["literature", "row", "is"] = table.groupby("method", sort=False)["faithful"].max()
    return pd.DataFrame(blocks).replace({"+nan": "", "nan": ""})


def doubt(table: pd.DataFrame) -> tuple[str, float] | None:
    """How many people the sets of Tables 2 and 3 test, as text, and half the width of the median rank-1's interval of
    our own rows, in points; None where none was measured.

    >>> doubt(pd.DataFrame({"model": ["hcn", "baseline"], "people": [57, 60], "ours_rank1_low": [40, 40],
    ...                     "ours_rank1_high": [60, 62]}))
    ('57–60', 10.5)
    """
    ours = table[(table["model"] != "literature") & table[PEOPLE].notna()]
    if ours.empty:
        return None
    people = sorted({int(ours[PEOPLE].min()), int(ours[PEOPLE].max())})
    return "–".join(map(str, people)), float((ours["ours_rank1_high"] - ours["ours_rank1_low"]).median() / 2)


def within(value: float, low: float, high: float) -> str:
    """A score with its interval, in per cent.

    >>> within(61.14, 54.0, 68.25)
    '61.1 (54.0–68.2)'
    """
    return f"{words.number(value)} ({words.interval(low, high)})"


def _cell(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.1f}"
