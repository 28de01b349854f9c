"""What reading every image of some tables found, remembered in the cache until the images or the code change."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from reid_core import files
from reid_core.datasets.table import PATH, cache_root


def remembered(
    tables: Iterable[pd.DataFrame], settings: object, code: str | Path, find: Callable[[], pd.DataFrame]
) -> pd.DataFrame:
    """`find()`, or what it gave before for the same rows, files, settings and code.

    Parameters
    ----------
    tables : image tables; the rows, and size and date of change of every image file, are part of the key.
    settings : whatever else the result depends on, as values that JSON can write.
    code : the source file of what `find` does, of which the content is part of the key.
    find : makes a DataFrame of numbers and text.

    A cache that cannot be written is no error: the next call finds anew.
    """
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + Path(code).read_bytes())
    for table in tables:
        key.update(table.to_csv(lineterminator="\n").encode())
        key.update(json.dumps([_state(path) for path in table[PATH]]).encode())
    memory = cache_root() / "found" / f"{key.hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError):
        return _from_text(memory.read_text(encoding="utf-8"))
    found = find()
    with contextlib.suppress(OSError):
        files.write_text(memory, _to_text(found))
    return found


def _state(path: str) -> tuple[int, int] | None:
    """Size and date of change of a file; None where there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _to_text(frame: pd.DataFrame) -> str:
    columns = {name: [str(column.dtype), column.tolist()] for name, column in frame.items()}
    return json.dumps({"index": frame.index.tolist(), "columns": columns})


def _from_text(text: str) -> pd.DataFrame:
    saved = json.loads(text)
    columns = {
        name: pd.Series(values, saved["index"], dtype=kind)
        for name, (kind, values) in saved["columns"].items()
    }
    return pd.DataFrame(columns, index=saved["index"])
