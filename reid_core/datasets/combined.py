"""The combined data set (paper, Sec. 3.3), and whether training on it leaves the test sets unseen."""

import warnings
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from reid_core.datasets.table import DATASET, DISTRACTOR, LABEL, PERSON, SOURCE, SUBSET, TRAIN, validate

LEAKED = ("report", "leave_out", "refuse")


def combine(
    tables: Mapping[str, pd.DataFrame], *, scored: Iterable[pd.DataFrame] = (), leaked: str = "report"
) -> pd.DataFrame:
    """The training rows of several image tables with one label a person.

    Person numbers collide across data sets while people do not, so labels are 0-based and contiguous over the sorted
    (data set, person) pairs. The two forms of CUHK03 are one data set.

    Parameters
    ----------
    tables : name to image table; the names only serve messages.
    scored : the image tables that the model will be tested on.
    leaked : what to do with training people who are test people of `scored` (:func:`leaked_people`):
        "report" (warn), "leave_out" or "refuse" (raise). With CUHK03 labeled in training and both forms scored
        that is person 1202, a training person of the one and a test person of the other.

    Returns the image table of the training rows, in the order given, with an int64 column `label`.
    Raises ValueError for no table, one without training rows, one name for two files, leaked people with "refuse".
    """
    if leaked not in LEAKED:
        raise ValueError(f"leaked is {leaked!r}; it is one of {', '.join(LEAKED)}.")
    if not tables:
        raise ValueError("There is no image table to combine.")
    scored, parts = list(scored), []
    _check_names([*tables.values(), *scored])
    for name, table in tables.items():
        part = table[table[SUBSET] == TRAIN]
        if part.empty:
            raise ValueError(f"{name} has no training rows to combine.")
        parts.append(part.drop(columns=LABEL, errors="ignore"))
    together = validate(pd.concat(parts))
    people = leaked_people(together, scored)
    if people.empty or leaked == "leave_out":
        return _labelled(leave_out(together, people))
    named = ", ".join(f"{row.dataset} {row.person_id}" for row in people.head(5).itertuples())
    who = "1 training person is a test person" if len(people) == 1 else f"{len(people)} training people are test people"
    message = f"{who} of a set to be scored: {named}"
    if leaked == "refuse":
        raise ValueError(f"{message}. Leave them out with leaked='leave_out' (leaked_people: leave_out in a profile).")
    warnings.warn(f"{message}. The training keeps them (leaked='report').", stacklevel=2)
    return _labelled(together)


def leaked_people(train: pd.DataFrame, scored: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Training people who are also query or gallery people of a scored table.
    Returns one row a person: dataset, person_id, training_images, test_images (over all scored tables)."""
    scored, keys = [train.iloc[:0], *scored], [DATASET, PERSON]
    _check_names([train, *scored])
    training = train[train[SUBSET] == TRAIN].groupby(keys).size().rename("training_images")
    tests = [table[(table[SUBSET] != TRAIN) & (table[PERSON] > DISTRACTOR)][keys] for table in scored]
    testing = pd.concat(tests).groupby(keys).size().rename("test_images")
    return pd.concat([training, testing], axis=1, join="inner").reset_index()


def _check_names(tables: Iterable[pd.DataFrame]) -> None:
    """Refuse one name for the people of two files, who would be taken for the same."""
    sources = {}
    for table in tables:
        source = table.attrs.get(SOURCE)
        for name in table[DATASET].unique() if source else ():
            if (other := sources.setdefault(name, source)) != source:
                remedy = "Load each under its own name (dataset=...), or both under one where the people are the same"
                both = f"{other} and {source} are both called {name!r}"
                raise ValueError(f"{both}, so their people would be taken for the same. {remedy}.")


def leave_out(train: pd.DataFrame, people: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table whose (data set, person) is not among `people`; a label column is made anew."""
    keys = [DATASET, PERSON]
    kept = ~pd.MultiIndex.from_frame(train[keys]).isin(pd.MultiIndex.from_frame(people[keys]))
    rest = train[kept].reset_index(drop=True)
    return _labelled(rest) if LABEL in train.columns else rest


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{LABEL: table.groupby([DATASET, PERSON], sort=True).ngroup().astype(np.int64)})
