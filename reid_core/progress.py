"""Progress on stderr: the one maker of bars, and the one switch that silences them; in a log, a line a minute."""

import contextlib
import contextvars
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO

from tqdm import tqdm

EVERY = 60.0  # seconds between two lines of a log
_SHOWN = contextvars.ContextVar("shown", default=True)


@contextlib.contextmanager
def shown(flag: bool) -> Iterator[None]:
    """Silence every bar and line made inside, at any depth, unless `flag` (and all `shown` around it) say yes.

    >>> with shown(False), shown(True):
    ...     bar(range(3), desc="Count", unit="number").disable
    True
    """
    token = _SHOWN.set(_SHOWN.get() and flag)
    try:
        yield
    finally:
        _SHOWN.reset(token)


def bar(iterable: Iterable | None = None, *, total: int | None = None, desc: str, unit: str, **more) -> tqdm:
    """A tqdm bar that goes when it ends, silenced by `shown` or TQDM_DISABLE=1; `more` are tqdm's own settings."""
    if not (type(sys.stderr).__module__.startswith("ipykernel") or sys.stderr.isatty()):  # nobody sees it move: a log
        more |= {"file": Log(sys.stderr), "mininterval": EVERY, "delay": EVERY}
    # tqdm reads TQDM_DISABLE once, at its import, and takes "0" for a yes.
    off = not _SHOWN.get() or os.environ.get("TQDM_DISABLE", "0").lower() not in ("", "0", "false")
    return tqdm(iterable, total=total, desc=desc, unit=unit, leave=False, disable=off, **more)


class Log:
    """A stream on which no cursor goes back: of a progress line, whoever writes it, one state a minute is a line."""

    def __init__(self, stream: TextIO):
        self.stream, self.last = stream, time.monotonic()

    def write(self, text: str) -> None:
        self.stream.write(re.sub(r"\r([^\r\n]*)(?=\r|\Z)", self._line, text).replace("\r", ""))

    def _line(self, state: re.Match) -> str:  # it begins with a carriage return and has no end of line
        if not state[1].strip() or time.monotonic() < self.last + EVERY:
            return ""
        self.last = time.monotonic()
        return f"{state[1].rstrip()}\n"

    def flush(self) -> None:
        self.stream.flush()


def say(text: str) -> None:
    """A line on stderr, above the bars there are; in a log, too."""
    if _SHOWN.get():
        tqdm.write(text, file=sys.stderr)
