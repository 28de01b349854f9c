"""The results of README.md, from a results folder: nobody types a number there.

    python docs/readme_tables.py [results/smoke]

rewrites what stands between the two `results` marks in README.md, and docs/results.png: re-ranked scores of Tables 2
and 3 with their intervals, the times of Table 4 and the count of verdicts, all of one profile and data source. The
paper's numbers, which are of other data, are not set beside them.
"""

import sys
from pathlib import Path

import pandas as pd

from reproduction import claims, paper, plots, tables
from reproduction.sidecar import REPOSITORY
from reproduction.words import duration, plural

README, PICTURE = REPOSITORY / "README.md", REPOSITORY / "docs" / "results.png"
START, END = "<!-- results: python docs/readme_tables.py -->", "<!-- end of results -->"
MODELS = {"baseline": "baseline of [13]", "hcn": "HCN", "combined": "HCN, combined set"}


def markdown(results: Path) -> str:
    """The tables and sentences of a results folder, as Markdown."""
    scores = both(results, "")
    fourth, verdicts = (pd.read_csv(results / f"{stem}.csv") for stem in ("table4", "claims"))
    people, half = tables.doubt(scores)
    seeds = pd.read_csv(results / "table3_seeds.csv").query("model == 'hcn'")["seed"].unique()
    count = (
        f"With {people} test people a set and {plural(list(seeds), 'seed')}, a rank-1 is known to ±{half:.1f} points."
        f" Verdicts on the paper's {len(verdicts)} claims: {claims.summary(verdicts['verdict'])}."
    )
    return "\n\n".join([table(scores), times(fourth), count])


def both(results: Path, suffix: str) -> pd.DataFrame:
    """Tables 2 and 3 as one, the baseline's rows named alike, the literature first."""
    found = pd.concat([pd.read_csv(results / f"table{number}{suffix}.csv") for number in (2, 3)], ignore_index=True)
    found["method"] = found["method"].str.removeprefix("ResNet50+")
    return found.sort_values("model", key=lambda model: model.map(["literature", *MODELS].index), kind="stable")


def table(scores: pd.DataFrame) -> str:
    """One row a model and metric, re-ranked; for each set rank-1 and mAP, each with its interval."""
    heads = [f"{paper.SET_TITLES[name]}: {score}" for name in paper.SETS for score in ("rank-1", "mAP")]
    lines = [f"| re-ranked | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for model, title in MODELS.items():
        for metric, words in plots.METRICS.items():
            rows = scores[(scores["model"] == model) & (scores["metric"] == metric) & scores["reranked"]]
            rows = rows.set_index("set").reindex(paper.SETS)
            cells = [cell(rows.loc[name], score) for name in paper.SETS for score in tables.SCORES]
            lines.append(f"| {title}, {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(row: pd.Series, score: str) -> str:
    if row["status"] != tables.MEASURED:
        return ""
    return tables.within(*(row[f"ours_{score}{end}"] for end in ("", "_low", "_high")))


def times(found: pd.DataFrame) -> str:
    """Table 4 in one sentence."""
    total = found[found["train_set"] == "total"].set_index("method")
    ours, theirs = (duration(3600 * total.loc[method, "ours_hours"]) for method in ("Our", "Zhong [13]"))
    share, implied = (total.loc["Our", key] / total.loc["Zhong [13]", key] for key in ("ours_hours", "iterations"))
    return (
        f"Training time (Table 4) on {found['device'].dropna().iloc[0]}: three baselines {theirs}, one combined HCN"
        f" {ours}, {share:.0%} of it; the iteration counts alone imply {implied:.0%}."
    )


def draw(results: Path) -> None:
    """docs/results.png: mAP of every row, on the three sets."""
    figure = plots.scores(both(results, ""), both(results, "_seeds"), ["mAP"])
    figure.savefig(PICTURE, bbox_inches="tight", metadata={"Software": None})


def main(results: str = "results/smoke") -> None:
    before, rest = README.read_text(encoding="utf-8").split(START)
    _, after = rest.split(END)
    README.write_text(f"{before}{START}\n\n{markdown(Path(results))}\n\n{END}{after}", encoding="utf-8")
    draw(Path(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
