"""Rows of any table of the kit by name: how they are called, and the one that a reader means.

Tables are read as text, every cell as it stands in the CSV; an empty cell is "".
"""

import difflib
import itertools
import re
import shlex
from collections.abc import Sequence

import numpy as np
import pandas as pd

FACTS = ("data_source", "profile", "ap", "protocol")
LONG = 60  # characters: a longer text is no name
_WHOLE, _DECIMAL = r"(?:-*\d+)?", r"-*\d+\.\d+"


def name_columns(table: pd.DataFrame) -> list[str]:
    """The fewest columns that tell all rows apart; empty where none do.

    Words are tried first, then whole numbers too, then decimals that repeat, then any decimals. Long texts and columns
    with one value for all rows name nothing.

    >>> table = pd.DataFrame({"set": ["a", "a", "b"], "seed": ["0", "1", "0"], "mAP": ["0.1", "0.2", "0.3"]})
    >>> name_columns(table)
    ['set', 'seed']
    >>> name_columns(table.drop(columns="seed").assign(set="a"))
    ['mAP']
    """
    short = [column for column in table if column not in FACTS and table[column].nunique() > 1
             and table[column].str.len().max() <= LONG]  # fmt: skip
    whole = [column for column in short if not table[column].str.fullmatch(_DECIMAL).any()]
    words = [column for column in whole if not table[column].str.fullmatch(_WHOLE).all()]
    repeated = [column for column in short if column in whole or table[column].nunique() <= len(table) / 2]
    for columns in (words, whole, repeated, short):
        for count in range(1, min(6, len(columns)) + 1):
            for chosen in itertools.combinations(columns, count):
                if not table.duplicated(list(chosen)).any():
                    return list(chosen)
    return []


def name(table: pd.DataFrame, columns: Sequence[str], row: int) -> str:
    """What to write after `--row` for a row: bare words where these are enough, else column=value."""
    cells = {column: table[column].iloc[row] for column in columns}
    bare = [value if _speaks(value) else f"{column}={value}" for column, value in cells.items() if value]
    if len(_matching(table, bare)) != 1:
        bare = [f"{column}={value}" for column, value in cells.items()]
    return shlex.join(bare)


def choose(table: pd.DataFrame, terms: Sequence[str], where: str) -> int:
    """Index of the one row that all `terms` describe: VALUE, a cell of any column, or COLUMN=VALUE.
    Raises ValueError for none, naming the term at fault and the nearest values, and for several, naming them."""
    for term in terms:
        if not _matching(table, [term]):
            raise ValueError(f"{where}: no row has {term!r}. {_suggestion(table, term)}")
    found = _matching(table, terms)
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"{where}: no row has all of {shlex.join(terms)}.")
    columns = name_columns(table)
    some = [f"  --row {name(table, columns, row)}" for row in found[:20]]
    some += [f"  ... and {len(found) - 20} more"] if len(found) > 20 else []
    raise ValueError("\n".join([f"{where}: {len(found)} rows have {shlex.join(terms)}; say which:", *some]))


def _matching(table: pd.DataFrame, terms: Sequence[str]) -> list[int]:
    cells = table.to_numpy(dtype=object)
    fits = np.ones(len(table), bool)
    for term in terms:
        column, equals, value = term.partition("=")
        fits &= (table[column] == value).to_numpy() if equals and column in table else (cells == term).any(axis=1)
    return [int(row) for row in np.flatnonzero(fits)]


def _suggestion(table: pd.DataFrame, term: str) -> str:
    column, equals, value = term.partition("=")
    columns, wanted = ([column], value) if equals and column in table else (name_columns(table), term)
    known = list(dict.fromkeys(cell for name in columns for cell in table[name] if cell))
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    near = near or [cell for cell in known if wanted.lower() in cell.lower()][:3] or known[:8]
    return f"Nearest: {', '.join(near)}." if near else ""


def _speaks(value: str) -> bool:
    """Whether a value says by itself what it is: a word, not a number or a truth value."""
    return not re.fullmatch(f"{_WHOLE}|{_DECIMAL}|True|False", value) and "=" not in value
