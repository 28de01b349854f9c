"""The tables that `reid-core compare` finds beside a new run, taken from a finished one: results/reference/smoke/*.csv.

python docs/reference.py [results/smoke]
"""

import shutil
import sys
from pathlib import Path

from reproduction.compare import TABLES
from reproduction.sidecar import REPOSITORY

REFERENCE = REPOSITORY / "results" / "reference"


def take(results: Path, reference: Path) -> None:
    reference.mkdir(parents=True, exist_ok=True)
    for stem in TABLES:
        shutil.copyfile(results / f"{stem}.csv", reference / f"{stem}.csv")


if __name__ == "__main__":
    results = Path(*sys.argv[1:]) if sys.argv[1:] else REPOSITORY / "results" / "smoke"
    take(results, REFERENCE / results.resolve().name)
