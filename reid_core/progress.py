"""Progress on stderr: the one maker of bars, and the one switch that silences all of them."""

import contextlib
import contextvars
import os
import sys
from collections.abc import Iterable, Iterator

from tqdm import tqdm

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
    """A tqdm bar that goes when it ends; `more` are tqdm's own settings, such as `delay` in seconds."""
    return tqdm(iterable, total=total, desc=desc, unit=unit, leave=False, disable=not _watched(), **more)


def say(text: str) -> None:
    """A line on stderr, above the bars there are; in a log, too."""
    if _SHOWN.get():
        tqdm.write(text, file=sys.stderr)


def _watched() -> bool:
    """Whether somebody sees a bar move: on a terminal or in a notebook, not in a log, nor with TQDM_DISABLE=1."""
    # tqdm reads TQDM_DISABLE once, at its import, and takes "0" for a yes.
    off = os.environ.get("TQDM_DISABLE", "0").lower() not in ("", "0", "false")
    in_notebook = type(sys.stderr).__module__.partition(".")[0] == "ipykernel"
    return _SHOWN.get() and not off and (in_notebook or sys.stderr.isatty())
