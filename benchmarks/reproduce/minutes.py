"""Where the minutes of `make reproduce` go: seconds of every step, by a results folder's own record of its last run.

    python benchmarks/reproduce/minutes.py results/smoke [another results folder]

Steps and their times are those of workflow.log; how long a kernel takes to start, load its modules and end is told by
the executed notebooks, the seconds of a training by its run.json.
"""

import argparse
import json
import re
from datetime import datetime
from pathlib import Path

import pandas as pd

from reproduction.results_folder import Folder

LINE = re.compile(r"(\S+ \S+) \[(\d+)/\d+\] (\S+?)(?: \((.*)\))?(?: \.\.\.|: [\d.]+ .*)")
OF_A_RUN = re.compile(r"model (\S+), train_set (\S+), seed (\d+)")
TABLE2 = "03_table2_cuhk03"


def steps(results: Path) -> pd.DataFrame:
    """A line a step of the log's last run: step, notebook, begin and end in seconds from the run's start."""
    log = (results / "workflow.log").read_text(encoding="utf-8").splitlines()
    begins = [number for number, line in enumerate(log) if " commit " in line]
    if not begins:
        raise ValueError(f"{results / 'workflow.log'}: no run of the workflow begins in it.")
    log = log[begins[-1] :]
    started, found = datetime.fromisoformat(log[0][:19]), {}
    for when, _, notebook, about in (match.groups() for line in log if (match := LINE.fullmatch(line))):
        run = OF_A_RUN.fullmatch(about or "")
        step = f"{notebook}-{run[1]}-{run[2]}-seed{run[3]}" if run else notebook
        seconds = (datetime.fromisoformat(when) - started).total_seconds()
        found.setdefault(step, {"step": step, "notebook": notebook, "begin": seconds})["end"] = seconds
    return pd.DataFrame(found.values())


def start_up(executed: Path) -> float:
    """Seconds of an executed notebook outside of its cells, and in the first, which loads its modules."""
    book = json.loads(executed.read_text(encoding="utf-8"))
    known = (cell["metadata"].get("papermill", {}) for cell in book["cells"] if cell["cell_type"] == "code")
    inside = [cell["duration"] for cell in known if cell.get("duration")]
    return book["metadata"]["papermill"]["duration"] - sum(inside[1:])


def minutes(results: Path) -> pd.DataFrame:
    """A line a notebook, then the whole: steps, seconds, of these start_up and training; two at once count twice."""
    source = "embedded" if any(results.glob("notebooks/*.ipynb")) else "official"
    folder, lines = Folder(results, source), []
    for step in steps(results).to_dict("records"):
        executed, run = (
            folder.copy(step["step"]),
            results / "runs" / step["step"].removeprefix("02_train-") / "run.json",
        )
        step |= {"steps": 1, "seconds": step["end"] - step["begin"]}
        step |= {"start_up": start_up(executed) if executed.is_file() else 0.0}
        lines.append(step | {"training": json.loads(run.read_text())["seconds"] if run.is_file() else 0.0})
    table = pd.DataFrame(lines)
    table.loc[table["notebook"] == "10_sensitivity", "training"] = sum(
        json.loads(path.read_text())["seconds"] for path in results.glob("runs/sensitivity/*/run.json")
    )
    counts = ["steps", "seconds", "start_up", "training"]
    made = table.groupby("notebook", sort=False)[counts].sum()
    made.loc["together"] = made.sum()
    made.loc["from start to end"] = [len(table), table["end"].max(), float("nan"), float("nan")]
    made.loc["until Table 2"] = [float("nan"), *table.loc[table["notebook"] == TABLE2, "end"], *[float("nan")] * 2]
    return made.astype({"steps": "Int64"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="results folders, the one before a change first")
    tables = {str(results): minutes(results) for results in parser.parse_args().results}
    print(pd.concat(tables, axis=1).round(1).to_string(na_rep=""))


if __name__ == "__main__":
    main()
