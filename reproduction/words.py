"""Numbers, durations and hints as people read them."""

import difflib
import re
from collections.abc import Iterable

import pandas as pd


def number(value: float | None, digits: int = 1, signed: bool = False) -> str:
    """A number as print sets it: thousands apart, a true minus, nothing for a missing value.

    >>> number(-2.345, 1), number(12936, 0), number(0.04, 1, signed=True), number(float("nan"))
    ('−2.3', '12,936', '0.0', '')
    """
    if pd.isna(value):
        return ""
    text = f"{value:+,.{digits}f}" if signed else f"{value:,.{digits}f}"
    zero = not text.strip("+-0.,")
    return text.lstrip("+-") if zero else text.replace("-", "−")


def interval(low: float, high: float, digits: int = 1, signed: bool = False) -> str:
    """The ends of an interval; nothing for missing ones.

    >>> interval(54.04, 68.2), interval(-2.0, 19.64, signed=True)
    ('54.0–68.2', '−2.0 to +19.6')
    """
    if pd.isna(low) or pd.isna(high):
        return ""
    return (" to " if signed else "–").join(number(end, digits, signed) for end in (low, high))


def text(value: object) -> str:
    return "" if pd.isna(value) else str(value)


def plural(values: list, word: str) -> str:
    """The word with its values, kept on one line with the first.

    >>> plural(["0"], "seed"), plural(["0", "1"], "seed")
    ('seed\xa00', 'seeds\xa00, 1')
    """
    return f"{word}{'s' if len(values) != 1 else ''}\N{NO-BREAK SPACE}{', '.join(map(str, values))}"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(9.4), duration(75), duration(7300)
    ('9.4 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def unknown_name(name: str, known: Iterable[str], what: str) -> str:
    """One sentence that says a name is unknown and suggests the nearest known one.

    >>> unknown_name("sead", ["seed", "k1"], "a parameter")
    "'sead' is not a parameter. Did you mean 'seed'?"
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(known))}."
    return f"{name!r} is not {what}. {hint}"


def typeset(words: str) -> str:
    """Curly quotes, and a true minus before a number or between spaces; nothing else changes.

    >>> typeset("the paper's 'slightly': 43.7 - 34.7 (-3.6), re-rank")
    'the paper’s ‘slightly’: 43.7 − 34.7 (−3.6), re-rank'
    """
    words = re.sub(r"(?<![\w.\])])'(?=\w)", "‘", words).replace("'", "’")
    return re.sub(r"(?<![\w-])-(?=\d)|(?<= )-(?= )", "−", words)
