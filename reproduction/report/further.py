"""Figures, and sections for what goes beyond the paper's own tables: an entry of further.yaml each, in this order.

A result needs no entry to be on the page: what `results_folder.MADE` names is shown as it is. An entry gives it words,
headings and decimals. A section is on the page as soon as its notebook is in the kit; a table or a figure that was not
made yet is said to be absent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reproduction import results_folder
from reproduction.report.origin import address
from reproduction.report.sources import Results
from reproduction.runner import notebooks

WORDS = yaml.safe_load(Path(__file__).with_name("further.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Column:
    """A column of a CSV and how it is shown: its heading, and the decimals of a number (None: as text)."""

    name: str
    heading: str
    digits: int | None = None
    signed: bool = False
    strong: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page: an introduction, a table (the stem of its CSV; "" for none), figures, as `figure` takes them.
    Which notebook makes these, `results_folder.MADE` says."""

    key: str
    title: str
    words: str
    table: str = ""
    columns: tuple[Column, ...] = ()
    figures: Sequence[Mapping[str, str]] = ()

    made = property(lambda self: results_folder.of(self.table or self.figures[0]["stem"]),
                    doc="The result that is shown, or the first of them.")  # fmt: skip


SECTIONS = tuple(Section(**one | {"columns": tuple(Column(*column) for column in one.get("columns", ()))})
                 for one in WORDS["sections"])  # fmt: skip
# What reproduction.report.sections shows in its own way, by the names of its parts.
OWN = ("table1", "subsets", "people", "table2", "table3", "table4", "figure3", "figure3_time", "figure4", "figure5",
       "convergence", "claims", "across")  # fmt: skip


def sections(found: Results) -> list[dict[str, Any]]:
    """The values of every section whose notebook is in the kit, at last of results that have no words here."""
    known = {*OWN, *(one.made.section for one in SECTIONS)}
    rest = dict.fromkeys(made.section for made in results_folder.MADE if made.section not in known)
    every = [*SECTIONS, *(_plain(found, name) for name in rest)]
    return [_section(found, one) for one in every if one.made.notebook in notebooks.names()]


def figure(found: Results, stem: str, title: str, caption: str) -> dict[str, Any]:
    """A figure inside the page, or why it is not: absent, or of people and kept apart from the page. Drawings are as
    sharp as the page (SVG); pictures of people are not drawn, and theirs is the smaller file."""
    drawn = [one for one in results_folder.MADE if one.stem == stem and one.suffixes != results_folder.TABLE][0]
    withheld = drawn.people and not found.embedded
    return {
        "stem": stem, "title": title, "caption": caption, "withheld": withheld, "drawn": not drawn.people,
        "kept": found.link(found.private / f"{stem}.png") if withheld else None,
        "source": None if withheld else found.image(stem, (".png",) if drawn.people else (".svg", ".png")),
        "address": address(found, drawn.section),
    }  # fmt: skip


def _plain(found: Results, name: str) -> Section:
    """A section without words of its own: the columns of its table as they are called, its figures."""
    made = results_folder.section(name)
    stem = next((one.stem for one in made if ".csv" in one.suffixes and not one.people), "")
    table = found.table(stem, ()) if stem else None
    names = [] if table is None else table.columns.drop(["data_source", "profile"])
    columns = tuple(Column(name, name, 2 if table[name].dtype == float else None) for name in names)
    drawn = [{"stem": it.stem, "title": it.stem, "caption": ""} for it in made if it.suffixes != results_folder.TABLE]
    return Section(name, name.replace("-", " ").capitalize(), "", stem, columns, drawn)


def _section(found: Results, section: Section) -> dict[str, Any]:
    names = tuple(column.name for column in section.columns)
    table = found.table(section.table, names) if section.table else False
    figures = [figure(found, **about) for about in section.figures]
    return vars(section) | {"address": address(found, section.made.section), "table": table, "figures": figures}
