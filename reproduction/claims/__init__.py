"""A verdict for every claim of the paper's text, from the tables that the notebooks wrote.

Words of the verdicts. Embedded data can neither confirm nor refute the paper: a claim there "holds", "does not hold"
or is "undecided"; on official data the words are "reproduced", "not reproduced" and "undecided". `verdicts` says when.
Words of their own, outside that tally: "by arithmetic" (it follows from numbers that no training made), "set by the
schedule" (it follows from the recipe's iterations), "false as printed" (on the paper's own face), "not measured" (with
what is missing) and "not measurable here" (with why).
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from reproduction.claims.measures import CHECKS
from reproduction.claims.sides import Absent, Results, reader
from reproduction.claims.verdicts import NOT_MEASURED, Finding, summary, taken_apart, verdict

__all__ = ["CLAIMS", "NOT_MEASURED", "judge", "summary", "taken_apart"]


@dataclass(frozen=True)
class Claim:
    """One claim of claims.yaml: where it stands, what it says, and what would confound our verdict on it."""

    key: str
    section: str
    text: str
    paper: str
    threshold: str
    confound: str = ""
    verdict: str = ""  # of a claim that the paper itself decides, or that nothing here can


_FILE = Path(__file__).with_name("claims.yaml")
CLAIMS = tuple(Claim(**one) for one in yaml.safe_load(_FILE.read_text(encoding="utf-8")))


def judge(results: Path, data_source: str) -> pd.DataFrame:
    """One line per claim of `CLAIMS`: its words, ours and the paper's, the verdict, what it was read from.

    `results` is a results folder with the tables that `results_folder.NEEDED` names for 09_claims, and those that this
    notebook makes before; a claim whose file is absent is "not measured". difference, low, high, people and trainings
    (a side) are those of the part that decides, in points; empty where a claim has none. The column files names those
    that a verdict was read from. Raises ValueError for a damaged one."""
    read = reader(results)
    lines = []
    for claim in CLAIMS:
        asked = Results(read, data_source)
        try:
            finding = Finding("", word=claim.verdict) if claim.verdict else CHECKS[claim.key](asked)
        except (FileNotFoundError, Absent) as error:
            missing = isinstance(error, FileNotFoundError)
            finding = Finding(f"needs {Path(error.filename).name}" if missing else str(error))
        part = finding.decides
        lines.append({
            "claim": claim.key, "section": claim.section, "text": claim.text, "paper": claim.paper,
            "ours": finding.ours, "verdict": verdict(finding, data_source),
            "difference": part and part.value, "low": part and part.low, "high": part and part.high,
            "people": (part and part.people) or None, "trainings": finding.trainings or None,
            "threshold": claim.threshold, "confound": claim.confound, "files": " ".join(asked.names),
        })  # fmt: skip
    return pd.DataFrame(lines).astype({"people": "Int64", "trainings": "Int64"})
