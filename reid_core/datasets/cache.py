"""The cache of derived files: digests of image files, arrays, and what reading every image of some tables found.

Whatever is kept here lies under a name that holds a digest of all that made it, the images' contents among them.
A cache that cannot be written is no error where it only saves time: the next call reads or finds anew.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from reid_core import files, machine, progress
from reid_core.datasets.table import PATH, cache_root

_CHUNK = 256  # files a job: a thread's turn costs more than a stat
_OPENER = Path(files.__file__).with_name("images.py")  # by which every image is read


def contents(paths: Iterable[str | os.PathLike]) -> list[str]:
    """SHA-256 (hex) of each file's content, "" for one that cannot be read.
    They are remembered while path, size, times of change of content and of status (mtime and ctime, which no program
    can set back) and inode of all files stay: later calls cost one stat a file."""
    paths = [os.fspath(path) for path in paths]
    memory = place("digests", [paths, [*_of_each(state, paths)]], suffix=".txt")
    with contextlib.suppress(OSError, UnicodeError):
        digests = memory.read_text("ascii").split("\n")[:-1]
        if len(digests) == len(paths):
            return digests
    digests = [*progress.bar(_of_each(_digest, paths), total=len(paths), desc="Read images", unit="image", delay=1)]
    with contextlib.suppress(OSError):
        files.write_text(memory, "".join(f"{digest}\n" for digest in digests))
    return digests


def place(kind: str, made_from: object, code: Sequence[str | Path] = (), suffix: str = ".npy") -> Path:
    """Where the cache keeps something of a kind that is made from values which JSON can write, by some source files."""
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode())
    for source in code:
        key.update(Path(source).read_bytes())
    return cache_root() / kind / f"{key.hexdigest()[:32]}{suffix}"


def made(path: Path, make: Callable[[Path], object], size: int, purpose: str) -> float:
    """Seconds that the file at `path` took, by `make` of a temporary path now, if it is not there yet.
    It is written whole or not at all; what killed processes left is removed first. Raises OSError where the disk has
    less than `size` bytes free for the `purpose`."""
    record = path.with_suffix(".json")
    if not (path.is_file() and record.is_file()):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.remove_dead(path.parent)
        files.require_space(path.parent, size, f"{purpose} (REID_CORE_CACHE moves the cache)")
        started = time.perf_counter()
        with files.replacing(path) as temporary:
            make(temporary)
        files.write_text(record, json.dumps({"seconds": time.perf_counter() - started}))
    return json.loads(record.read_text())["seconds"]


def remembered(tables: Iterable[pd.DataFrame], settings: object, code: str | Path, find: Callable) -> pd.DataFrame:
    """`find()`, a DataFrame of numbers and text, or what it gave before for the same rows, files, settings and code.
    It depends on the rows of `tables` and their images' contents, on `settings`, values that JSON can write, and on
    `code`, the source file of what `find` does, and on the opener of images."""
    made_from = [settings, [[table.to_csv(lineterminator="\n"), contents(table[PATH])] for table in tables]]
    memory = place("found", made_from, [code, _OPENER], ".json")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(memory.read_text(encoding="utf-8"))
        return pd.DataFrame(kept["data"], kept["index"], kept["columns"]).astype(kept["dtypes"])
    found = find()
    with contextlib.suppress(OSError):
        kinds = {name: str(kind) for name, kind in found.dtypes.items()}
        files.write_text(memory, json.dumps(found.to_dict("split") | {"dtypes": kinds}))
    return found


def _of_each(fact: Callable, paths: list[str]) -> Iterator:
    """`fact` of each path, in order, a good many at a time."""
    chunks = (paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK))
    with ThreadPoolExecutor(machine.cores()) as pool:
        for part in pool.map(lambda chunk: [fact(path) for path in chunk], chunks):
            yield from part


def state(path: str | os.PathLike) -> tuple[int, ...] | None:
    """Size, times of change and inode of a file; None where there is none."""
    with contextlib.suppress(OSError):
        stat = os.stat(path)
        return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
    return None


def _digest(path: str) -> str:
    with contextlib.suppress(OSError):
        return files.digest(path)
    return ""
