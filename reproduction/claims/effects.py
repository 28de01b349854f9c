"""The order of methods that the field knows of official data, as a run has it: whether its data shows such effects."""

import contextlib
import functools
from pathlib import Path

from reproduction import paper
from reproduction.claims.sides import Absent, Results, compared, method, model, reader
from reproduction.claims.verdicts import Part
from reproduction.intervals import LEVEL


def effects(results: Path) -> list[Part]:
    """Each effect as a difference with its 95% interval, in points; none of a set that is not there.

    On the CUHK03 sets the network with XQDA above LOMO with XQDA, and above itself without XQDA (rank-1); on every set
    the re-ranked network above itself (mAP). The network is the baseline, so that no effect looks at HCN."""
    asked = Results(reader(results), "")
    found = []
    for name in paper.SETS:
        plain, learnt, again = (functools.partial(model, asked, name, "baseline", *way)
                                for way in (("euclidean", False), ("xqda", False), ("euclidean", True)))  # fmt: skip
        lomo = functools.partial(method, asked, name, "LOMO+XQDA")
        pairs = [("XQDA, ", learnt, lomo, "rank1"), ("XQDA against without, ", learnt, plain, "rank1")]
        pairs = pairs * (name != paper.MARKET1501) + [("re-ranked against not, ", again, plain, "mAP")]
        for words, ours, theirs, score in pairs:
            with contextlib.suppress(Absent):
                place = f"{paper.SET_TITLES[name]}: {words}"
                found += compared(ours(), theirs(), [score], place=place, same=theirs is plain)
    return found


def told(results: Path) -> list[str]:
    """The effects as lines of text, each with whether it is there."""
    lines = [("there" if part.holds else "not there" if part.fails(LEVEL) else "undecided", part)
             for part in effects(results)]  # fmt: skip
    return [f"  {word:<10} {part}" for word, part in lines]
