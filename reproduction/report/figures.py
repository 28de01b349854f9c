"""The figures of the page and the words under them."""

from typing import Any

from reproduction import results_folder
from reproduction.report.origin import address
from reproduction.report.sources import Results

FIGURES = (
    ("figure3", "Figure 3",
     "Training loss of R5, the last feature map, at each iteration: the backbone alone and inside HCN, one panel a set;"
     " the moving average over the raw values. The paper shows such curves and no numbers; the table below puts numbers"
     " to them."),
    ("figure3_time", "Figure 3, against time",
     "The same losses against seconds of training. An iteration of HCN may cost more than one of the backbone, so being"
     " ahead at the same iteration is not the same as being ahead at the same time."),
    ("figure4", "Figure 4",
     "The paper's three example lists. CMC at rank 1 is 1 for all; average precision tells them apart. The printed 0.83"
     " is the step AP; the official toolchain behind the tables integrates by trapezoid and gives 0.79."),
    ("figure5", "Figure 5",
     "The ten nearest gallery images of three queries, chosen by rule: the largest gain in AP, the median, the largest"
     " loss. Above HCN trained on the combined set, below the baseline of [13], both with XQDA and re-ranking. A"
     " green frame is a true match, a red one another person; each list names its AP."),
)  # fmt: skip
DRAWN = (
    "A mark for each seed, a tick for their mean, a line for its 95% interval. Rows whose lines overlap can still"
    " differ: they are scored on the same people, and the claims above compare them person by person. The paper's"
    " figures are marked on official data only."
)
PEOPLE = ("people", "Sample images", "Two people of each set, a row a person, ordered by camera.")


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
