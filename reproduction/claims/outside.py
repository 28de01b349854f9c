"""Claims that no difference of scores decides: what follows by arithmetic or from the schedules."""

from collections.abc import Callable

import numpy as np

from reproduction import paper, tables
from reproduction.claims.sides import Absent, Results
from reproduction.claims.verdicts import Finding


def _arithmetic(ours: str, as_printed: bool, words: tuple[str, str] = ("as printed", "not as printed")) -> Finding:
    return Finding(ours, word=f"by arithmetic: {words[not as_printed]}")


def _table1(results: Results) -> Finding:
    table = results.table("table1").set_index("dataset")
    columns = ("identities found", "training identities found", "testing identities found")
    found = table.loc[list(paper.TABLE1), list(columns)]
    if found[list(columns[:2])].isna().any(axis=None):
        raise Absent("not all sets are there")
    ids, train, test = (found[column].fillna(0).astype(int) for column in columns)
    left_out = int(table.loc["Combined", "left out"])
    adds_up = bool((ids == train + test).all()) and train["Combined"] == train.drop("Combined").sum() - left_out
    words = ", ".join(f"{name} {ids[name]} = {train[name]} + {test[name]}" for name in found.index)
    words += f" ({left_out} left out of training, tested in the other form of CUHK03)" if left_out else ""
    return _arithmetic(words, adds_up, ("the numbers add up", "the numbers do not add up"))


def _image_counts(results: Results) -> Finding:
    if results.data_source != "official":
        return Finding("", word="not measurable here: rendered data have sizes of their own")
    found = results.table("table1_subsets").set_index(["name", "subset"])["images found"]
    if not {paper.MARKET1501, paper.CUHK03_LABELED} <= set(found.index.get_level_values("name")):
        raise Absent("not all sets are there")
    market, cuhk03 = found[paper.MARKET1501], int(found[paper.CUHK03_LABELED].sum())
    counts = (int(market["train"] + market["gallery"]), int(market["train"]), int(market["gallery"]), cuhk03)
    words = "Market-1501 {:,} = {:,} + {:,}; CUHK03 labeled {:,}".format(*counts)
    return _arithmetic(words, counts == paper.IMAGES)


def _figure4(results: Results) -> Finding:
    found = results.table("figure4")
    holds = np.allclose(found["ap_step"].round(2), [item[2] for item in paper.FIGURE4]) and (found["cmc"] == 1).all()
    step, trapezoid = (", ".join(f"{v:.2f}" for v in found[c]) for c in ("ap_step", "ap_trapezoid"))
    return _arithmetic(f"step AP {step}; trapezoid AP {trapezoid}; CMC 1 for all", bool(holds))


def _half_time(results: Results) -> Finding:
    """By the runs' clocks, which any other load on the machine changes, and by the steady speed of an iteration."""
    found, forms = results.table("table4"), results.table("table4_forms")
    totals = found[found["train_set"] == "total"].set_index("method")
    hours, counts = totals["ours_hours"], totals["iterations"]
    if hours[["Zhong [13]", "Our"]].isna().any():
        raise Absent("not all runs are there")
    shares = [one["Our"] / one["Zhong [13]"] for one in (hours, counts)]
    steady = forms[forms["method"] == "Our"].set_index("form")["share_of_baselines"]
    words = (
        f"{_time(hours['Our'])} against {_time(hours['Zhong [13]'])} ({shares[0]:.0%}) by the runs' clocks; from the"
        f" steady speed {', '.join(f'{value:.0%} ({form} heads)' for form, value in steady.items())}"
    )
    verdict = f"set by the schedule: the iteration counts alone imply {shares[1]:.0%}"
    return Finding(words + tables.unlike(found), word=verdict)


def _longer(results: Results) -> Finding:
    found = results.table("table4")
    runs = found[found["train_set"] != "total"].set_index(["method", "train_set"])[["ours_hours", "iterations"]]
    if runs.loc["Zhong [13]"].isna().any(axis=None) or runs.loc["Our"].isna().any(axis=None):
        raise Absent("not all runs are there")
    (ours, count), (single, most) = runs.loc["Our"].iloc[0], runs.loc["Zhong [13]"].max()
    words = f"{_time(ours)} against at most {_time(single)} by the runs' clocks{tables.unlike(found)}"
    return Finding(words, word=f"set by the schedule: {count:.0f} iterations against at most {most:.0f}")


def _time(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 3600:.0f} s"


CHECKS: dict[str, Callable[[Results], Finding]] = {
    "table1": _table1,
    "image_counts": _image_counts,
    "figure4": _figure4,
    "half_training_time": _half_time,
    "combined_trains_longer": _longer,
}
