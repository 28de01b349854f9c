"""The figures of the page: which, by which notebook, with which words under them."""

from typing import Any

from reproduction.report.origin import address
from reproduction.report.sources import Results

CURVES, PICTURES = (".svg", ".png"), (".png",)
FIGURES = (
    ("figure3", "Figure 3", "06_figure3_loss_curves", CURVES,
     "Training loss of R5, the last feature map, at each iteration: the backbone alone and inside HCN, one panel a set;"
     " the moving average over the raw values. The paper shows such curves and no numbers; the table below puts numbers"
     " to them."),
    ("figure3_time", "Figure 3, against time", "06_figure3_loss_curves", CURVES,
     "The same losses against seconds of training. An iteration of HCN may cost more than one of the backbone, so being"
     " ahead at the same iteration is not the same as being ahead at the same time."),
    ("figure4", "Figure 4", "07_figure4_ap_and_cmc", CURVES,
     "The paper's three example lists. CMC at rank 1 is 1 for all; average precision tells them apart. The printed 0.83"
     " is the step AP; the official toolchain behind the tables integrates by trapezoid and gives 0.79."),
    ("figure5", "Figure 5", "08_figure5_rank_lists", PICTURES,
     "The ten nearest gallery images of three queries, chosen by rule: the largest gain in AP, the median, the largest"
     " loss. Above HCN trained on the combined set, below the baseline of [13], both with XQDA and re-ranking. A"
     " green frame is a true match, a red one another person; each list names its AP."),
)  # fmt: skip
PEOPLE = ("people", "Sample images", "01_datasets", PICTURES,
          "Two people of each set, a row a person, ordered by camera.")  # fmt: skip


def figure(
    found: Results, stem: str, title: str, name: str, suffixes: tuple[str, ...], caption: str
) -> dict[str, Any]:
    """A figure inside the page, or why it is not: absent, or of people and kept apart from the page."""
    withheld = suffixes == PICTURES and not found.embedded
    inlined = None if withheld else found.image(stem, suffixes)
    return {
        "stem": stem, "title": title, "caption": caption, "withheld": withheld, "drawn": suffixes == CURVES,
        "kept": found.link(found.people_folder / f"{stem}.png") if withheld else None,
        "source": inlined[1] if inlined else None, "address": address(found, name, stem),
    }  # fmt: skip
