"""Person and camera ids: one way to read them, so that no two of them become one and none is read as another.

Ids are numbers or text. Numbers are int64, whatever held them; text stays text, and "7" is no 7.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

PERSON, CAMERA = "person_id", "camera_id"  # their columns
JUNK, DISTRACTOR = -1, 0  # people of the gallery who are nobody
NO_CAMERA = -1  # of images whose camera is not known; a set has it throughout, or not at all
INTEGER = re.compile(r"([+-]?[0-9]{1,4000})(\.0*)?")
_ROUNDED = r"[+-]?(?:\d\.?\d*[eE][+-]\d+|\d{16,}\.\d*)"  # how spreadsheets and floats write a long number as text
LIMITS = np.iinfo(np.int64)


def exact(text: str) -> int:
    """The whole number that a cell of a CSV file says; blanks around it do not count.

    Raises ValueError for fractions, exponents, anything but digits, or numbers beyond int64. A number that went through
    floating point (7.0, 1e6) may have lost digits on the way: 7.0 is 7, but from 2^53 on such a one is refused.

    >>> exact(" 0012"), exact("-1"), exact("7.0")
    (12, -1, 7)
    """
    if (match := INTEGER.fullmatch(text.strip())) is None:
        raise ValueError(f"{text!r} is no whole number; write ids with digits alone, such as 12.")
    number = int(match[1])
    if match[2] and abs(number) >= 2**53:
        raise ValueError(f"{text!r} went through floating point; digits may be lost, write no point.")
    if not LIMITS.min <= number <= LIMITS.max:
        raise ValueError(f"{text!r} does not fit into 64 bits; number people and cameras with fewer digits.")
    return number


def column(values, name: str) -> np.ndarray:
    """Ids as they come (a column of a table, an array, a list, a tensor), as (n,) int64, or (n,) str where text.

    values: (n,) or (n, 1) whole numbers of any type (unsigned, nullable, floating, categories), or text; name: what to
    call them in an error, such as "person_id".

    Raises ValueError, naming the first row, for another shape, missing ids, fractions, numbers that may lack digits
    (as text, too), numbers and text mixed, other types. Blanks around text and its Unicode form do not count.
    """
    series = _series(values, name)
    _refuse(series, series.isna(), name, "is missing", "give every image one, or leave it out")
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = pd.Series(series.cat.categories.to_numpy()[series.cat.codes])
    kind = pd.api.types.infer_dtype(series)
    if kind == "string":
        _refuse(series, series.str.strip() == "", name, "is blank", "give every image one, or leave it out")
        text = series.str.strip().str.normalize("NFC")
        _refuse(series, text.str.fullmatch(_ROUNDED), name, "went through floating point", "write all its digits")
        return text.to_numpy(str)
    if kind not in ("integer", "floating", "empty", "mixed-integer-float"):
        raise ValueError(f"{name} holds {kind} values ({series.iloc[0]!r} first); number them, or use text throughout.")
    return _whole(series, name)


def unknown(cameras: np.ndarray) -> np.ndarray:
    """(n,) bool: which cameras, as `column` gives them, are not known."""
    return cameras == (NO_CAMERA if cameras.dtype.kind == "i" else str(NO_CAMERA))


def alike(first, second, name: str, sides=("query", "gallery")) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of ids that will be compared (see `column`): both numbers, or both text.
    Raises ValueError as `column` does, naming the side, and where one is text and the other numbers."""
    first, second = column(first, f"{name} of the {sides[0]}"), column(second, f"{name} of the {sides[1]}")
    if first.dtype.kind != second.dtype.kind and len(first) and len(second):
        found = (f"{x[0].item()!r} in the {side}" for x, side in zip((first, second), sides, strict=True))
        raise ValueError(f"{name} is text on one side and a number on the other: {' but '.join(found)}; use one kind.")
    return first, second


def _series(values, name: str) -> pd.Series:
    """As a fresh Series of one value an image."""
    if hasattr(values, "detach"):
        try:
            values = values.detach().cpu().numpy()
        except (TypeError, NotImplementedError) as error:  # sparse, bfloat16, on device meta
            raise ValueError(f"{name} is a tensor that cannot be read ({error}); pass plain whole numbers.") from error
    if isinstance(values, pd.DataFrame):
        values = values.iloc[:, 0] if values.shape[1] == 1 else values.to_numpy()
    if not isinstance(values, pd.Series | pd.Index | pd.api.extensions.ExtensionArray | np.ma.MaskedArray):
        values = np.asarray(values, object if isinstance(values, list | tuple) else None)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or getattr(values.dtype, "names", None):
        raise ValueError(f"{name} has shape {values.shape}; one id an image is expected: (n,).")
    return pd.Series(values).reset_index(drop=True)


def _whole(series: pd.Series, name: str) -> np.ndarray:
    """Numbers as int64, or ValueError where that would change one."""
    floats = series[[isinstance(value, float | np.floating) for value in series]] if series.dtype.kind in "fO" else ()
    if len(floats):
        exact_below = 2.0 ** (np.finfo(float if series.dtype == object else series.dtype.type).nmant + 1)
        numbers = floats.astype(float)
        _refuse(floats, numbers % 1 != 0, name, "is no whole number", "number people and cameras by integers")
        beyond = numbers.abs() >= exact_below
        _refuse(floats, beyond, name, "is too large to be exact in floating point", "use integers")
    whole = series if series.dtype.kind in "iu" else series.map(int).astype(object)
    beyond = (whole < LIMITS.min) | (whole > LIMITS.max)
    _refuse(series, beyond, name, "does not fit into 64 bits", "use numbers with fewer digits")
    return whole.to_numpy(np.int64)


def _refuse(series: pd.Series, bad, name: str, what: str, remedy: str) -> None:
    if bad.any():
        row = int(np.argmax(bad.to_numpy(bool)))
        found = f"{series.iloc[row]!r} ({int(bad.sum())} such rows in all)"
        raise ValueError(f"{name} {what} in row {series.index[row]}: {found}; {remedy}.")
