"""The result tables of README.md, from a results folder: nobody types a number there.

    python docs/readme_tables.py [results/smoke]

rewrites what stands between the two `results` marks in README.md: Tables 2 and 3 with the paper's figures, the times of
Table 4 and the count of verdicts, all of one profile and data source, which the text names.
"""

import sys
from pathlib import Path

import pandas as pd

from reproduction import claims, paper
from reproduction.sidecar import REPOSITORY
from reproduction.tables import MEASURED, SCORES
from reproduction.words import duration

README = REPOSITORY / "README.md"
START, END = "<!-- results: python docs/readme_tables.py -->", "<!-- end of results -->"


def markdown(results: Path) -> str:
    """The tables and sentences of a results folder, as Markdown."""
    second, third, fourth, verdicts = (
        pd.read_csv(results / f"{stem}.csv") for stem in ("table2", "table3", "table4", "claims")
    )
    profile = verdicts["profile"].iloc[0]
    parts = [table(second, (paper.CUHK03_DETECTED, paper.CUHK03_LABELED), profile),
             table(third, (paper.MARKET1501,), profile), times(fourth)]  # fmt: skip
    seeds = str(verdicts["seeds"].iloc[0]).split()
    count = f"Verdicts on the paper's {len(verdicts)} claims: {claims.summary(verdicts['verdict'])}."
    doubt = " With one seed and few queries, a few points are noise." if len(seeds) == 1 else ""
    return "\n\n".join([*parts, count + doubt])


def table(found: pd.DataFrame, sets: tuple[str, ...], profile: str) -> str:
    """One row a method, rank-1 / mAP of the paper and ours for each set; rows that were not measured are left out."""
    heads = [f"{paper.SET_TITLES[name]}: paper | {profile}" for name in sets]
    lines = [f"| method | {' | '.join(heads)} |", "|---" * (1 + 2 * len(sets)) + "|"]
    for method, part in found.groupby("method", sort=False):
        rows = part.set_index("set").reindex(sets)
        if (rows["status"] != MEASURED).all():
            continue
        cells = [pair(rows.loc[name], column) for name in sets for column in ("paper", "ours")]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def pair(row: pd.Series, column: str) -> str:
    values = [row[f"{column}_{score}"] for score in SCORES]
    return "" if pd.isna(values).any() else " / ".join(f"{value:.1f}" for value in values)


def times(found: pd.DataFrame) -> str:
    """Table 4 in one sentence."""
    total = found[found["train_set"] == "total"].set_index("method")["ours_hours"]
    ours, theirs = (duration(3600 * total[method]) for method in ("Our", "Zhong [13]"))
    device = found["device"].dropna().iloc[0]
    share = f"{total['Our'] / total['Zhong [13]']:.0%}"
    return (
        f"Training time (Table 4) on {device}: three baselines {theirs}, one combined HCN {ours}, {share} of it;"
        " the paper: 43 h of 96 h, 45%."
    )


def main(results: str = "results/smoke") -> None:
    before, rest = README.read_text(encoding="utf-8").split(START)
    _, after = rest.split(END)
    README.write_text(f"{before}{START}\n\n{markdown(Path(results))}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
