"""Images that cannot be decoded: found by decoding every one, and left out on request."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from reid_core import machine
from reid_core.datasets import cache
from reid_core.datasets.table import PATH, unmatched_queries, validate
from reid_core.progress import bar

REASON = "reason"


def find(table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose image does not decode to its end, with a column `reason`; remembered until an image changes."""

    def decode_all() -> pd.DataFrame:
        with ThreadPoolExecutor(machine.cores()) as pool:
            checked = pool.map(_defect, table[PATH])
            reasons = list(bar(checked, total=len(table), desc="Checking images", unit="image"))
        return pd.DataFrame({REASON: pd.Series(reasons, index=table.index, dtype=object).dropna()})

    found = cache.remembered([table], "unreadable", __file__, decode_all)
    return table.loc[found.index].assign(**{REASON: found[REASON]})


def without(table: pd.DataFrame, unreadable: str) -> pd.DataFrame:
    """The table, if every image decodes; else a ValueError ("refuse"), or the rest and a warning ("drop").
    Both name the first image and count them. A second warning counts queries that lose their last match."""
    bad = find(table)
    if bad.empty:
        return table
    first, number = bad.iloc[0], "1 image" if len(bad) == 1 else f"{len(bad):,} images"
    found = f"{number} cannot be read, the first being {first[PATH]} ({first[REASON]}), of {len(table):,}"
    if unreadable == "refuse":
        remedy = "Restore the files from the data set's archive, or leave them out with unreadable='drop'"
        raise ValueError(f"{found}. {remedy} (unreadable: drop in a profile).")
    warnings.warn(f"{found}; left out.", stacklevel=3)
    rest = validate(table.drop(index=bad.index))
    if lost := len(unmatched_queries(rest)):
        who = "1 query" if lost == 1 else f"{lost:,} queries"
        warnings.warn(f"With them the only match of {who} is gone, which will score zero.", stacklevel=3)
    return rest


def _defect(path: str) -> str | None:
    from reid_core import images  # which needs Pillow; loading a table does without

    try:
        images.rgb(path)
    except (OSError, images.Undecodable) as error:
        return "the file is missing" if isinstance(error, FileNotFoundError) else getattr(error, "reason", str(error))
