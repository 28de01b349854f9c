"""What is up to date: the one comparison of what made a result with what would make it now.

Content decides: settings, the code, the data and the results read, never where or how old a file is. Before a notebook
runs, its *origin* is taken: its name and parameters, a digest of its code, the digests of its inputs. The sidecars that
it writes hold it as `notebook`; its executed copy holds it besides, with the digests of every source file, so that a
difference can be named, and with the features and runs that it left. A step is up to date when all that it makes is
there, unchanged, and says the origin that it would have now.
"""

import contextlib
import functools
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reid_core import files
from reid_core.datasets import cache, layout
from reid_core.datasets.table import cache_root
from reproduction import embedded, results_folder
from reproduction.embedded import rendering
from reproduction.runner import notebooks, sources, steps
from reproduction.runner.steps import DATASETS, PAGES, PLACES, REPORT, TRAIN, Places, Step

MARK = "<!-- made from "  # begins the last line of a page
AFTER = "after "  # begins the reason of a step that only waits for others
_KEPT = (".safetensors", ".json")  # of features and runs: what cannot be told from a smaller file
_DATA = (".mat", ".csv", ".json")  # of data besides images
RUN, WEIGHTS = results_folder.RUN_FILES[:2]
_RACY = 2.0  # seconds in which a file may change twice and keep its date


def pending(settings: Mapping[str, Any], force: Iterable[str] = ()) -> dict[Step, str]:
    """{step: why it would run}, in order; a step that waits for another one may find then that nothing differs.

    `force` names notebooks that run in any case."""
    now, found = Now(settings), {}
    for step in steps.of(settings):
        why = "asked for" if step.notebook in force else now.difference(step)
        before = [other.name for other in found if other.name in now.read_by(step)]
        if why or before:
            found[step] = why or f"{AFTER}{before[0]}{' and others' if len(before) > 1 else ''}"
    return found


class Now:
    """What the results of a profile would be made from now."""

    def __init__(self, settings: Mapping[str, Any]):
        self.settings, self.places = settings, Places.of(settings)

    def read_by(self, step: Step) -> set[str]:
        """Names of the steps whose results a step reads. A training reads the data alone, which 01 may render."""
        if step.notebook == TRAIN:
            return {DATASETS} if self.will_render else set()
        return set(step.after)

    @functools.cached_property
    def will_render(self) -> bool:
        """Whether the data will be rendered, or another rendering put in its place."""
        if self.settings["render_sizes"] == "none":
            return False
        sizes, seed = embedded.Sizes.named(self.settings["render_sizes"]), self.settings["render_seed"]
        order = rendering.ordered(sizes, seed)
        with contextlib.suppress(FileExistsError):
            return not rendering.holds(self.places.data, order, True)
        return True

    @functools.cached_property
    def data(self) -> str:
        return data_digest(self.places.data, self.places.results)

    def origin(self, step: Step) -> dict[str, Any]:
        """What a step is made from: name, parameters, code and inputs, and the `sources` behind the code's digest."""
        code = self._code(step)
        known = {"name": Path(step.notebook).stem, "parameters": dict(step.parameters), "code": digest(code)}
        return known | {"inputs": self._inputs(step), "sources": code}

    def _code(self, step: Step) -> dict[str, str]:
        if step.notebook in PAGES:
            return sources.code_of_module(PAGES[step.notebook])
        return sources.code(notebooks.find(step.notebook), step.notebook != TRAIN)  # a run is known by recipe and data

    def _inputs(self, step: Step) -> dict[str, str | None]:
        results, found = self.places.results, {}
        if DATASETS in step.after and step.notebook != REPORT:
            found["data"] = self.data
        if step.notebook != TRAIN:
            tables = (f"{stem}.csv" for stem in results_folder.NEEDED.get(step.notebook, ()))
            found |= {name: _digest(results / name) for name in tables}
        runs = (name.partition("-")[2] for name in step.after if name.startswith(f"{TRAIN}-"))
        found |= {f"runs/{run}": _digest(self.places.run(run) / RUN) for run in runs}
        if step.notebook == REPORT:
            made = [path for made in results_folder.MADE for path in made.files(results, self.places.private)]
            found |= {path.name: _digest(path) for path in (*made, self.places.private / results_folder.EXPLORER)}
        return found

    def difference(self, step: Step) -> str | None:
        """Why the results of a step are not those that it would make now; None where they are."""
        made = self.places.made(step)
        if absent := next((path for path in made if not path.is_file()), None):
            return f"{_short(absent, self.places)} is not there"
        known, now = self.known(step), self.origin(step)
        if known is None:
            return f"{_short(made[-1], self.places)} does not say what it was made from"
        otherwise = (_written_otherwise(path, now) for path in self._sidecars(step))
        return _differs(known, now) or self._changed_since(step, known) or next(filter(None, otherwise), None)

    def _sidecars(self, step: Step) -> list[Path]:
        return [path for path in self.places.made(step) if path.suffix == ".json" and step.notebook != TRAIN]

    def known(self, step: Step) -> dict[str, Any] | None:
        """The origin that a step's executed copy, or its page, tells of."""
        try:
            if step.notebook in PAGES:
                text = self.places.made(step)[0].read_text(encoding="utf-8")
                return json.loads(text.rpartition(MARK)[2].removesuffix(" -->\n"))
            book = json.loads(self.places.executed(step).read_text(encoding="utf-8"))
            return book["metadata"].get(notebooks.ORIGIN)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _changed_since(self, step: Step, known: Mapping[str, Any]) -> str | None:
        if step.notebook == DATASETS and known.get("data") != self.data:
            return "the data changed"
        for name, digest in known.get("left", {}).items():
            path = self.places.results / name
            if not path.is_file():
                return f"{name} is not there"
            if digest and _digest(path) != digest:
                return f"{name} is another one"
        runs = [path.parent for path in self.places.made(step) if path.name == RUN]
        runs += [self.places.results / Path(name).parent for name in known.get("left", {}) if Path(name).name == RUN]
        for run in dict.fromkeys(runs):
            written = _record(run / RUN).get("weights_digest")
            if written and cache.contents([run / WEIGHTS]) != [written]:  # remembered while the file stays
                return f"{_short(run / WEIGHTS, self.places)} is not what the training wrote"
        return None

    def left(self, known: Mapping[str, Any] | None, since: float) -> dict[str, Any]:
        """{"left": {feature file or run made since then, or `known` and still there: digest of JSON, else None},
        "data": digest of what a notebook may have rendered}."""
        before, found = (known or {}).get("left", {}), {}
        for folder in ("features", "runs"):
            for path in sorted((self.places.results / folder).rglob("*")):
                name = str(path.relative_to(self.places.results))
                if path.parent.name == "checkpoints":  # another job's training renews and removes them
                    continue
                if path.suffix in _KEPT and (name in before or path.stat().st_ctime >= since):
                    whole = path.name != RUN or _record(path).get("finished")  # or another job is at it
                    found[name] = _digest(path) if path.suffix == ".json" and whole else None
        return {"left": found, "data": data_digest(self.places.data, self.places.results)}

    def settings_there(self, step: Step) -> list[dict[str, Any] | None]:
        """The settings by which what a step makes was made, of each file in the results folder that says them."""
        sidecars = [path for path in self._sidecars(step) if path.is_file()]
        origins = [self.known(step), *(_record(path).get("notebook") for path in sidecars)]
        return [settings_of(origin) for origin in origins if origin]


def _differs(known: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first difference between two origins, in words."""
    was, given = settings_of(known), settings_of(now)
    if was is None:
        return "it was made outside of reid-core"
    if key := _other(was, given):
        return f"{key[0]} is {_brief(given.get(key[0]))}, was {_brief(was.get(key[0]))}"
    if known.get("code") != now["code"]:
        old = known.get("sources", {})
        return f"the code changed: {', '.join(_other(old, now['sources'])[:3])}" if old else "the code changed"
    if name := _other(known.get("inputs", {}), now["inputs"]):
        return f"the {name[0]} changed" if name[0] == "data" else f"{name[0]} changed"
    return None


def _other(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The keys, in order, whose values are not the same."""
    return sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))


def settings_of(origin: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parameters of a notebook without places, and of its schedules only that of the run; None for unknown ones."""
    if origin.get("parameters") is None:
        return None
    found = {key: value for key, value in origin["parameters"].items() if key not in PLACES}
    if "schedules" in found and "train_set" in found:
        found["schedules"] = found["schedules"].get(found["train_set"])
    return json.loads(json.dumps(found))


def _written_otherwise(sidecar: Path, now: Mapping[str, Any]) -> str | None:
    """Whether the files of a sidecar are as it says, and it says the origin `now`; else why not."""
    record = _record(sidecar)
    for name, written in record.get("files", {}).items():
        if _digest(sidecar.with_name(name)) != written:
            return f"{name} was changed since it was written"
    why = _differs(record.get("notebook") or {}, now)
    return f"{sidecar.name}: {why}" if why else None


def _record(path: Path) -> dict[str, Any]:
    """A sidecar's content; empty for a damaged one."""
    with contextlib.suppress(ValueError):
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else {}
    return {}


def digest(value: object) -> str:
    """SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def data_digest(root: Path, results: Path) -> str | None:
    """Digest of all names and contents below a data folder; None where there is no file.

    Left out is what systems and file managers leave, and further down embedded data and the folder of results. It is
    remembered in the cache for as long as no file's size, date or place on the disk changes."""
    found = sorted(_data_files(root, os.path.realpath(results)))
    if not found:
        return None
    stats = [(name, path.stat()) for name, path in found]
    states = [(name, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev) for name, s in stats]
    memory = cache_root() / "found" / f"data-{digest(states)[:32]}.txt"
    with contextlib.suppress(OSError):
        return memory.read_text(encoding="utf-8")
    content = digest([(name, files.digest(path)) for name, path in found])
    if max(s.st_ctime for _, s in stats) < time.time() - _RACY:
        with contextlib.suppress(OSError):
            files.write_text(memory, content)
    return content


def _data_files(root: Path, results: str) -> Iterator[tuple[str, Path]]:
    """(path below the folder, path) of the files; each folder once, where links lead in circles."""
    seen = set()
    for folder, below, names in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        nested = folder != str(root) and layout.EMBEDDED_MARK in names
        if here in seen or nested or here == results:
            below.clear()
            continue
        seen.add(here)
        below[:] = sorted(name for name in below if not layout.is_systems(name))
        for name in names:
            path = Path(folder, name)
            if (not layout.is_clutter(name) or path.suffix in _DATA) and path.is_file():
                yield os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace"), path


def _digest(path: Path) -> str | None:
    return files.digest(path) if path.is_file() else None


def _short(path: Path, places: Places) -> str:
    folders = (places.results, places.private)
    return str(next((path.relative_to(folder) for folder in folders if path.is_relative_to(folder)), path))


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
