"""What the paper prints, as data: its tables and its known defects.

Paper: "Hierarchical Cross Network for Person Re-identification", arXiv 1712.06820. Nothing here is measured.
Rank-1 and mAP are in per cent, as printed. The bracketed numbers are the paper's own references; [13] is
Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017, and its released results.
"""

from dataclasses import dataclass

MARKET1501, CUHK03_LABELED, CUHK03_DETECTED = "market1501", "cuhk03_labeled", "cuhk03_detected"
SETS = (CUHK03_DETECTED, CUHK03_LABELED, MARKET1501)
COMBINED = "combined"
PRINTED_METRIC = {  # of the re-ranked rows that Tables 2 and 3 print for the paper's own methods, as we read them
    CUHK03_DETECTED: "xqda", CUHK03_LABELED: "xqda", MARKET1501: "euclidean",
}  # fmt: skip
SET_TITLES = {
    MARKET1501: "Market-1501",
    CUHK03_LABELED: "CUHK03 labeled",
    CUHK03_DETECTED: "CUHK03 detected",
    COMBINED: "Combined",
}

# Table 1: identities in all, for training, for testing (None: the set is not tested on).
TABLE1 = {
    "Market-1501": (1501, 751, 750),
    "CUHK03": (1467, 767, 700),
    "CUHK01": (971, 971, None),
    "Combined": (2489, 2489, None),
}

# Section 4.1: images of Market-1501 in all, for training, for testing; of CUHK03.
IMAGES = (32668, 12936, 19732, 14096)

# Table 4: training time in hours on a Titan X.
TABLE4 = {
    "Zhong [13]": {CUHK03_DETECTED: 36.0, CUHK03_LABELED: 36.0, MARKET1501: 24.0, "total": 96.0},
    "Our": {CUHK03_LABELED: 43.0, "total": 43.0},
}

# Figure 4: (title, relevance of the ranked images, printed AP); the CMC of each list is 1.
FIGURE4 = (
    ("(a)", (True, False, False, False), 1.0),
    ("(b)", (True, True, False, False), 1.0),
    ("(c)", (True, False, True, False), 0.83),
)


PAPER, _13, _20 = "paper", "released results of [13]", "table of [20]"


@dataclass(frozen=True)
class Row:
    """One row of Table 2 or 3, and how the kit measures it.

    `printed` maps a set to (rank-1, mAP) as `source` prints them: the paper or, for rows that it has not, another.
    `model` is baseline, hcn, combined (HCN on the combined set) or None for a method of the literature, which
    `reproduction.literature` runs under the row's name.
    """

    table: int
    method: str
    model: str | None
    metric: str
    reranked: bool
    printed: dict[str, tuple[float, float]]
    source: str = PAPER
    note: str = ""


_SINGLE = "Single query, without re-ranking."
_RERANKED = "Not in the paper, whose own rows are re-ranked: this one compares like with like."
_RELEASED = "Not in the paper: LOMO of length sqrt(3), as its authors release it; [13] divides it by its length."
_UNSTATED = "The paper does not state the metric of this row: both are measured. This is "
_EUCLIDEAN = _UNSTATED + "Euclidean."
_XQDA = _UNSTATED + "XQDA; the paper's figure of {}+re-rank is set beside it."
_FROM_13 = "Not printed by the paper; the figure is from the released results of [13]."

# method, model, metric, re-ranked; rank-1 and mAP on CUHK03 detected, then labeled; source; note
_TABLE2 = (
    ("LOMO as released+XQDA",         None, "xqda", False, PAPER, _RELEASED),
    ("LOMO as released+XQDA+re-rank", None, "xqda", True,  PAPER, _RELEASED),
    ("LOMO+XQDA", None, "xqda", False, 12.8, 11.5, 14.8, 13.6, _13,
     "The paper prints LOMO+XQDA only re-ranked; this figure without re-ranking is [13]'s."),
    ("LOMO+XQDA [19]", None, "xqda", True, 16.6, 17.8, 19.1, 20.8, PAPER,
     "Printed as LOMO+XQDA, but in [13] these are LOMO+XQDA WITH re-ranking."),
    ("Euclidean [13]",         "baseline", "euclidean", False, 21.3, 19.7, 22.2, 21.0, _13, _FROM_13),
    ("Euclidean+re-rank [13]", "baseline", "euclidean", True,  24.9, 27.3, 26.6, 28.9, _13, _FROM_13),
    ("XQDA [13]",              "baseline", "xqda",      False, 31.1, 28.2, 32.0, 29.6, PAPER,
     "In [13]: identity-trained ResNet-50 with XQDA."),
    ("XQDA+re-rank [13]",      "baseline", "xqda",      True,  34.7, 37.4, 38.1, 40.3, PAPER,
     "In [13]: identity-trained ResNet-50 with XQDA, re-ranked."),
    ("HCN",                    "hcn",      "euclidean", False),
    ("HCN+XQDA",               "hcn",      "xqda",      False),
    ("HCN+re-rank",            "hcn",      "euclidean", True,  40.9, 43.0, 43.4, 46.0, PAPER, _EUCLIDEAN),
    ("HCN+XQDA+re-rank",       "hcn",      "xqda",      True,  40.9, 43.0, 43.4, 46.0, PAPER, _XQDA.format("HCN")),
    ("Ours",                   "combined", "euclidean", False),
    ("Ours+XQDA",              "combined", "xqda",      False),
    ("Ours+re-rank",           "combined", "euclidean", True),
    ("Ours+XQDA+re-rank",      "combined", "xqda",      True,  43.7, 45.3, 44.0, 46.9, PAPER,
     "XQDA is fitted on the training images of the set it is tested on; the paper does not say."),
)  # fmt: skip

# The same, with rank-1 and mAP on Market-1501
_TABLE3 = (
    ("SCSP [3]",               None,       "scsp",      False, 51.90, 26.35, PAPER,
     "The paper's reference [3] is cited for SCSP and for a triplet method alike. " + _SINGLE),
    ("SCSP+re-rank [3]",       None,       "scsp",      True,  PAPER, _RERANKED),
    ("DNS [20]",               None,       "dns",       False, 61.02, 35.68, PAPER,
     "The printed figure is [20]'s score-level fusion of LOMO with a second feature; its figure for LOMO alone "
     "is the next row's. " + _SINGLE),
    ("DNS on LOMO [20]",       None,       "dns",       False, 55.43, 29.87, _20,
     "The same null space beside what [20] reports for LOMO alone, the figure to compare with. " + _SINGLE),
    ("DNS+re-rank [20]",       None,       "dns",       True,  PAPER, _RERANKED),
    ("Gated [21]",             None,       "gated",     False, 65.88, 39.55, PAPER, _SINGLE),
    ("ResNet50+Euclidean [13]",         "baseline", "euclidean", False, 78.92, 55.03, _13, _FROM_13),
    ("ResNet50+Euclidean+re-rank [13]", "baseline", "euclidean", True,  81.44, 70.39, PAPER, ""),
    ("ResNet50+XQDA [13]",              "baseline", "xqda",      False, 77.58, 56.06, _13, _FROM_13),
    ("ResNet50+XQDA+re-rank [13]",      "baseline", "xqda",      True,  80.70, 69.98, _13, _FROM_13),
    ("HCN",                    "hcn",      "euclidean", False),
    ("HCN+XQDA",               "hcn",      "xqda",      False),
    ("HCN+re-rank",            "hcn",      "euclidean", True,  84.09, 74.28, PAPER, _EUCLIDEAN),
    ("HCN+XQDA+re-rank",       "hcn",      "xqda",      True,  84.09, 74.28, PAPER, _XQDA.format("HCN")),
    ("Ours",                   "combined", "euclidean", False),
    ("Ours+XQDA",              "combined", "xqda",      False),
    ("Ours+re-rank",           "combined", "euclidean", True,  82.63, 72.66, PAPER, _EUCLIDEAN),
    ("Ours+XQDA+re-rank",      "combined", "xqda",      True,  82.63, 72.66, PAPER,
     _XQDA.format("Ours")),
)  # fmt: skip


def _row(table: int, sets: tuple[str, ...], method: str, model: str | None, metric: str, reranked: bool, *rest) -> Row:
    """A line of the tables above; one that the paper does not print ends after `reranked`."""
    *scores, source, note = rest or (PAPER, "")
    printed = {name: tuple(scores[2 * i : 2 * i + 2]) for i, name in enumerate(sets) if scores}
    return Row(table, method, model, metric, reranked, printed, source, note)


ROWS = (
    *(_row(2, (CUHK03_DETECTED, CUHK03_LABELED), *line) for line in _TABLE2),
    *(_row(3, (MARKET1501,), *line) for line in _TABLE3),
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
