"""The figures of the page; their words stand in further.yaml."""

from pathlib import Path
from typing import Any

import yaml

from reproduction import results_folder
from reproduction.report.origin import address
from reproduction.report.sources import Results

WORDS = yaml.safe_load(Path(__file__).with_name("further.yaml").read_text(encoding="utf-8"))


def figure(found: Results, stem: str, title: str, caption: str) -> dict[str, Any]:
    """A figure inside the page, or why it is not: absent, or of people and kept apart from the page.

    Drawings are as sharp as the page (SVG); pictures of people are not drawn, and theirs is the smaller file.
    """
    drawn = [one for one in results_folder.MADE if one.stem == stem and one.suffixes != results_folder.TABLE][0]
    withheld = drawn.people and not found.embedded
    return {
        "stem": stem, "title": title, "caption": caption, "withheld": withheld, "drawn": not drawn.people,
        "kept": found.link(found.private / f"{stem}.png") if withheld else None,
        "source": None if withheld else found.image(stem, (".png",) if drawn.people else (".svg", ".png")),
        "address": address(found, drawn.section),
    }  # fmt: skip
