"""What the paper prints, as data (paper.yaml): its tables and its known defects.

Paper: "Hierarchical Cross Network for Person Re-identification", arXiv 1712.06820. Nothing here is measured.
Rank-1 and mAP are in per cent, as printed. The bracketed numbers are the paper's own references; [13] is
Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017, and its released results.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

MARKET1501, CUHK03_LABELED, CUHK03_DETECTED = "market1501", "cuhk03_labeled", "cuhk03_detected"
SETS = (CUHK03_DETECTED, CUHK03_LABELED, MARKET1501)
COMBINED = "combined"
_PRINTED = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
SET_TITLES: dict[str, str] = _PRINTED["titles"]
PRINTED_METRIC: dict[str, str] = _PRINTED["metrics"]
TABLE1 = {name: tuple(counts) for name, counts in _PRINTED["table1"].items()}
IMAGES = tuple(_PRINTED["images"])
TABLE4: dict[str, dict[str, float]] = _PRINTED["table4"]
FIGURE4 = tuple((title, tuple(relevance), ap) for title, relevance, ap in _PRINTED["figure4"])
PAPER = "paper"


@dataclass(frozen=True)
class Row:
    """One row of Table 2 or 3, and how the kit measures it.

    `printed` maps a set to (rank-1, mAP) as `source` prints them: the paper or, for rows that it has not, another.
    `model` is baseline, hcn, combined (HCN on the combined set) or None for a method of the literature, which
    `reproduction.literature` runs under the row's name."""

    table: int
    method: str
    model: str | None
    metric: str
    reranked: bool
    printed: dict[str, tuple[float, float]]
    source: str = PAPER
    note: str = ""


def _row(table: int, sets: tuple[str, ...], method: str, model: str | None, metric: str, reranked: bool, *rest) -> Row:
    """A line of paper.yaml; one that the paper does not print ends after `reranked`."""
    *scores, source, note = rest or (PAPER, "")
    printed = {name: tuple(scores[2 * i : 2 * i + 2]) for i, name in enumerate(sets) if scores}
    return Row(table, method, model, metric, reranked, printed, source, note)


ROWS = (
    *(_row(2, (CUHK03_DETECTED, CUHK03_LABELED), *line) for line in _PRINTED["table2"]),
    *(_row(3, (MARKET1501,), *line) for line in _PRINTED["table3"]),
)


# Plain references that a reader expects beside the methods; the paper has none of them.
REFERENCES = ("Colour histogram", "ImageNet ResNet-50", "LOMO", "KISSME on LOMO")


def rows(table: int) -> tuple[Row, ...]:
    """The rows of Table 2 or 3 in the order in which the kit shows them, plain references first.

    >>> [row.method for row in rows(3) if row.model is None and not row.printed]
    ['Colour histogram', 'ImageNet ResNet-50', 'LOMO', 'KISSME on LOMO', 'SCSP+re-rank [3]', 'DNS+re-rank [20]']
    """
    references = tuple(
        Row(table, name, None, "own", False, {}, note="Not in the paper: a plain reference.") for name in REFERENCES
    )
    return references + tuple(row for row in ROWS if row.table == table)
