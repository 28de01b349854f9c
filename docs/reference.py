"""The tables that `reid-core compare` finds beside a new run, taken from a finished one: results/reference/smoke/*.csv.

python docs/reference.py [results/smoke]
"""

import argparse
import shutil
from pathlib import Path

from reproduction.compare import TABLES
from reproduction.sidecar import REPOSITORY

REFERENCE = REPOSITORY / "results" / "reference"


def take(results: Path, reference: Path) -> None:
    """Copy all of the tables; raises FileNotFoundError, with nothing made, where one is missing."""
    sources = [results / f"{stem}.csv" for stem in TABLES]
    if missing := [source.name for source in sources if not source.is_file()]:
        raise FileNotFoundError(f"{results} has no {', '.join(missing)}: it holds no finished run.")
    reference.mkdir(parents=True, exist_ok=True)
    for source in sources:
        shutil.copyfile(source, reference / source.name)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    smoke = REPOSITORY / "results" / "smoke"
    parser.add_argument("results", type=Path, nargs="?", default=smoke, help="of a finished run (default: %(default)s)")
    results = parser.parse_args(arguments).results
    try:
        take(results, REFERENCE / results.resolve().name)
    except FileNotFoundError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
