"""Numbers and words as print sets them."""

import re

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


def spread(value: float, deviation: float, digits: int) -> str:
    """Mean and standard deviation; the mean alone for one seed."""
    return number(value, digits) + ("" if pd.isna(deviation) else f" ± {number(deviation, digits)}")


def text(value: object) -> str:
    return "" if pd.isna(value) else str(value)


def plural(values: list, word: str) -> str:
    """The word with its values, kept on one line with the first.

    >>> plural(["0"], "seed"), plural(["0", "1"], "seed")
    ('seed\xa00', 'seeds\xa00, 1')
    """
    return f"{word}{'s' if len(values) != 1 else ''}\N{NO-BREAK SPACE}{', '.join(map(str, values))}"


def typeset(words: str) -> str:
    """Curly quotes, and a true minus before a number or between spaces; nothing else changes.

    >>> typeset("the paper's 'slightly': 43.7 - 34.7 (-3.6), re-rank")
    'the paper’s ‘slightly’: 43.7 − 34.7 (−3.6), re-rank'
    """
    words = re.sub(r"(?<![\w.\])])'(?=\w)", "‘", words).replace("'", "’")
    return re.sub(r"(?<![\w-])-(?=\d)|(?<= )-(?= )", "−", words)
