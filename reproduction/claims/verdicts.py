"""What a verdict is made of, and its words.

A claim has parts: differences, each with an interval and the side on which the claim puts the true value. It holds only
where every part's 95% interval lies on the claimed side (an intersection of statements needs no correction); it does
not where k of n parts' intervals lie wholly on the other side at level 1 - 5% k/n, for some k (Simes 1986; for parts
that are independent or vary together); all else is undecided. So a claim without any truth in it, either way, is
decided in at most 5% of cases, which the tests count. One training a side says nothing of the methods: such a verdict
begins with ONE_EACH.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reproduction.intervals import LEVEL, Interval
from reproduction.words import interval, number

WORDS = {"embedded": ("holds", "does not hold"), "official": ("reproduced", "not reproduced")}
UNDECIDED, NOT_MEASURED = "undecided", "not measured"
BASELINE_NOT_DONE = "undecided (the baseline is not done)"
ONE_TRAINING = "undecided (one training a side: their spread is not known)"
ONE_EACH, SINGLE = "these two trainings", "these trainings"  # compared with one another, or each with itself
DECIDABLE = (*WORDS["embedded"], *WORDS["official"], UNDECIDED)
OUTSIDE = ("by arithmetic", "set by the schedule", "false as printed", BASELINE_NOT_DONE, NOT_MEASURED,
           "not measurable here")  # fmt: skip
EXACT = 1e-9  # points: 45.3 - 37.4 is 7.9 for people, not for a computer


@dataclass(frozen=True)
class Part:
    """One difference of a claim: `found` is its interval, `words` say what differs from what.

    The claim puts its true value above `low` (`at_least`: or there) and no higher than `high`."""

    words: str
    found: Interval
    low: float = 0.0
    at_least: bool = False
    high: float = float("inf")

    room = property(lambda self: min(self.found.low - self.low, self.high - self.found.high),
                    doc="By how much the interval lies on the claimed side; below 0: not wholly.")  # fmt: skip

    @property
    def holds(self) -> bool:
        above = self.found.low - self.low
        return (above > -EXACT if self.at_least else above > EXACT) and self.found.high - self.high < EXACT

    def fails(self, level: float) -> bool:
        """Whether the interval lies wholly on the other side; one without width always lies on one of the two."""
        found = self.found.at(level)
        if found.error < EXACT:
            return not self.holds
        return found.high - self.low < -EXACT or found.low - self.high > EXACT

    def __str__(self) -> str:
        found = self.found
        return f"{self.words}, {number(found.value, signed=True)} ({interval(found.low, found.high, signed=True)})"


@dataclass(frozen=True)
class Finding:
    """What was measured for a claim: the words for `ours`, and its parts, or the `word` that stands for a verdict.

    `doubt` takes the place of "holds" where that is too early; `one` are the first words with one training a side."""

    ours: str
    parts: Sequence[Part] = ()
    word: str = NOT_MEASURED
    doubt: str = ""
    one: str = ONE_EACH

    @functools.cached_property
    def holds(self) -> bool | None:
        """True, False, or None where the intervals leave it open."""
        if self._fail:
            return False
        return True if all(part.holds for part in self.parts) else None

    @functools.cached_property
    def _fail(self) -> list[Part]:
        for count in range(1, len(self.parts) + 1):
            failing = [part for part in self.parts if part.fails(1 - (1 - LEVEL) * count / len(self.parts))]
            if len(failing) >= count:
                return failing
        return []

    @property
    def decides(self) -> Interval | None:
        """The interval of the part that lies least on the claimed side, of those that fail if any does.

        Of these, one with several trainings goes first: it says more."""
        if self._fail:
            return min(self._fail, key=lambda part: (part.found.seeds == 1, part.room)).found
        return min(self.parts, key=lambda part: part.room).found if self.parts else None

    @property
    def trainings(self) -> int:
        """On each side, of the part that fails, or else the fewest of any part; 0 where chance trained none."""
        counts = [self.decides] if self._fail else [part.found for part in self.parts]
        return min((found.seeds for found in counts if found.seeds), default=0)


def measured(parts: Sequence[Part], **options) -> Finding:
    """The finding of these parts, each in words."""
    return Finding("; ".join(map(str, parts)), parts, **options)


def verdict(finding: Finding, data_source: str) -> str:
    """The words for a finding.

    >>> sure = Interval(5.0, 2.0, 56, 57, 3)
    >>> verdict(Finding("", [Part("HCN against baseline", sure)]), "embedded")
    'holds'
    >>> verdict(Finding("", [Part("HCN against baseline", sure, low=7.9, at_least=True)]), "official")
    'undecided'
    """
    if not finding.parts:
        return finding.word
    if finding.holds and finding.doubt:
        return finding.doubt
    yes, no = WORDS[data_source]
    word = {True: yes, False: no, None: UNDECIDED}[finding.holds]
    return f"{finding.one}: {word}" if finding.trainings == 1 else word


def taken_apart(words: str) -> tuple[str, str]:
    """A verdict's kind and what it says besides.

    >>> taken_apart("by arithmetic: as printed"), taken_apart("these two trainings: holds")
    (('by arithmetic', 'as printed'), ('these two trainings: holds', ''))
    >>> taken_apart(ONE_TRAINING)
    ('undecided', 'one training a side: their spread is not known')
    """
    if words in OUTSIDE:
        return words, ""
    first, _, rest = words.partition(": ")
    if first in OUTSIDE:
        return first, rest
    first, _, rest = words.partition(" (")
    return first, rest.removesuffix(")")


def summary(verdicts: Iterable[str]) -> str:
    """How many claims have which verdict, in one line: the decidable, those on single trainings, and all others.

    >>> summary(["holds", "undecided", "these two trainings: holds", "by arithmetic: as printed"])
    'of 2 decidable: 1 holds, 1 undecided; of these two trainings alone: 1 holds; besides: 1 by arithmetic'
    """
    groups = {"decidable": Counter(), "alone": Counter(), "besides": Counter()}
    for words in verdicts:
        kind, _ = taken_apart(words)
        of_one = kind.startswith("these ")
        group = groups["alone" if of_one else "decidable" if kind in DECIDABLE else "besides"]
        group[kind.partition(": ")[2] if of_one else kind] += 1
    titles = (f"of {sum(groups['decidable'].values())} decidable", f"of {ONE_EACH} alone", "besides")
    told = (f"{title}: {', '.join(f'{count} {kind}' for kind, count in group.items())}"
            for title, group in zip(titles, groups.values(), strict=True) if group)  # fmt: skip
    return "; ".join(told)
