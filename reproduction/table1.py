"""Table 1 of the paper from image tables: identities as published, as found, and the difference."""

from collections.abc import Mapping

import pandas as pd

from reid_core.datasets import cuhk01, cuhk03, market1501
from reid_core.datasets.combined import combine
from reid_core.datasets.table import DATASET, DISTRACTOR, JUNK, PERSON, QUERY, SUBSET, SUBSETS, TRAIN
from reproduction.intake.published import SETS, Subset, found
from reproduction.paper import TABLE1

TITLES = {module.NAME: module.TITLE for module in (market1501, cuhk03, cuhk01)}
COLUMNS = ("identities", "training identities", "testing identities")


def summary(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Table 1: per data set its identities in all, for training and for testing.

    Parameters
    ----------
    tables : name to image table, at most one a data set (CUHK03's two forms have the same people; the combined
        set takes the labeled one). A data set of Table 1 that is not given is shown with nothing found.

    Returns
    -------
    DataFrame
        Rows in Table 1's order, then other data sets; columns `dataset` and, for each of `identities`,
        `training identities`, `testing identities`: `<column> published`, `found` and `difference` (Int64,
        missing where the paper prints none or nothing was found). The row Combined counts the people of
        :func:`reid_core.datasets.combine` and is found only when all sets of Table 1 are given.
    """
    counts = {}
    for name, table in tables.items():
        dataset = _dataset(name, table)
        title = TITLES.get(dataset, dataset)
        if title in counts:
            raise ValueError(f"{name}: Table 1 counts {title} once, but two tables of it are given.")
        counts[title] = _identities(table)
    if set(TITLES.values()) <= set(counts):
        people = combine(tables)[[DATASET, PERSON]].drop_duplicates()
        people = people[people[DATASET].isin(TITLES)]
        counts["Combined"] = (len(people), len(people), None)
    rows = []
    for title in [*TABLE1, *(title for title in counts if title not in TABLE1)]:
        row = {"dataset": title}
        published, counted = TABLE1.get(title, (None,) * 3), counts.get(title, (None,) * 3)
        for column, there, here in zip(COLUMNS, published, counted, strict=True):
            row[f"{column} published"], row[f"{column} found"] = there, here
            row[f"{column} difference"] = None if None in (there, here) else here - there
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.astype({column: "Int64" for column in frame.columns if column != "dataset"})


def subsets(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Identities, images and cameras per table and subset, as published, as found, and the difference.

    `name` is the mapping's key; a name ending in "detected" takes CUHK03's published numbers for detected boxes
    (labeled ones otherwise). Identities leave junk and distractors out, images count them.
    """
    rows = []
    for name, table in tables.items():
        published = published_counts(
            _dataset(name, table), "detected" if name.endswith("detected") else "labeled"
        )
        for subset in SUBSETS:
            part = table[table[SUBSET] == subset]
            if part.empty and subset not in published:
                continue
            there, here = published.get(subset), found(part)
            rows.append(
                {
                    "name": name,
                    "subset": subset,
                    "identities published": there and there.people,
                    "identities found": here.people,
                    "identities difference": there and here.people - there.people,
                    "images published": there and there.images,
                    "images found": here.images,
                    "images difference": there and here.images - there.images,
                    "junk": int((part[PERSON] == JUNK).sum()),
                    "distractors": int((part[PERSON] == DISTRACTOR).sum()),
                    "cameras published": there and there.cameras,
                    "cameras found": here.cameras,
                    "cameras difference": there and here.cameras - there.cameras,
                }
            )
    frame = pd.DataFrame(rows)
    return frame.astype({column: "Int64" for column in frame.columns if column not in ("name", "subset")})


def published_counts(dataset: str, boxes: str = "labeled") -> dict[str, Subset]:
    """Per subset the published facts of a data set; empty for one the paper does not use."""
    return SETS.get(f"{dataset}_{boxes}" if dataset == cuhk03.NAME else dataset, {})


def _identities(table: pd.DataFrame) -> tuple[int, int, int | None]:
    people = table[table[PERSON] > DISTRACTOR]
    test = people.loc[people[SUBSET] == QUERY, PERSON].nunique()
    return people[PERSON].nunique(), people.loc[people[SUBSET] == TRAIN, PERSON].nunique(), test or None


def _dataset(name: str, table: pd.DataFrame) -> str:
    names = table[DATASET].unique()
    if len(names) != 1:
        raise ValueError(f"{name} holds rows of {len(names)} data sets; give one image table a data set.")
    return names[0]
