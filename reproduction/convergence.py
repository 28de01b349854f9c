"""How much lower HCN's R5 loss is, and how much sooner it falls (Section 4.3 on Figure 3), in numbers."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from reid_core import training
from reproduction import experiment, paper


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Centred moving average over `window` values, over those that there are at both ends.

    Parameters
    ----------
    values : (n,) losses, one an iteration.
    window : at least 1; of an even window one value more lies before the centre.

    Returns
    -------
    (n,) float64.

    Raises
    ------
    ValueError
        Where `window` is below 1.

    >>> smooth([1.0, 2.0, 6.0, 3.0], 3).tolist()
    [1.5, 3.0, 3.6666666666666665, 4.5]
    """
    if window < 1:
        raise ValueError(f"smoothing is {window}; a moving average takes at least 1 iteration.")
    curve = pd.Series(values, dtype=float).reset_index(drop=True)
    return curve.rolling(min(window, len(curve)), center=True, min_periods=1).mean().to_numpy()


def loss_tables(runs: pd.DataFrame) -> dict[str, dict[str, list[pd.DataFrame]]]:
    """{set: {model: [loss table, one a seed]}} of `Experiment.described`; the paper's order, the baseline first."""
    losses: dict = {}
    for name in paper.SETS:
        for model in experiment.MODELS:
            chosen = runs[(runs["train_set"] == name) & (runs["model"] == model)].sort_values("seed")
            if len(chosen):
                losses.setdefault(name, {})[model] = [
                    training.loss_curve(line.folder).assign(seed=line.seed) for line in chosen.itertuples()
                ]
    return losses


def measure(losses: Mapping[str, Mapping[str, list[pd.DataFrame]]], window: int) -> pd.DataFrame:
    """Compare the smoothed R5 losses of HCN and baseline, one line per set and seed.

    `losses` as from :func:`loss_tables`; curves are smoothed by a centred moving average of `window`
    iterations. Columns: share_lower (share of the iterations after the first tenth at which HCN's loss is lower),
    baseline_final (the baseline's loss at its end), hcn_iterations_to_baseline_final (missing if never reached),
    the same in seconds of training, both models' iterations and seconds, and the names of the two runs.
    """
    lines = []
    for name, seed, baseline, hcn in _pairs(losses):
        ours, theirs = smooth(hcn["loss_r5"], window), smooth(baseline["loss_r5"], window)
        common = min(len(ours), len(theirs))
        after = slice(common // 10, common)
        reached = first_at_or_below(ours, theirs[-1])
        seconds = hcn["seconds"].to_numpy()
        lines.append({
            "set": name, "seed": seed,
            "share_lower": float(np.mean(ours[after] < theirs[after])),
            "baseline_final": theirs[-1], "hcn_final": ours[-1],
            "baseline_iterations": len(theirs), "hcn_iterations": len(ours),
            "hcn_iterations_to_baseline_final": None if reached is None else reached + 1,
            "baseline_seconds": baseline["seconds"].iloc[-1],
            "hcn_seconds_to_baseline_final": None if reached is None else seconds[reached],
            "runs": _run_names(name, seed),
        })  # fmt: skip
    return pd.DataFrame(lines)


def levels(
    losses: Mapping[str, Mapping[str, list[pd.DataFrame]]],
    window: int,
    shares: Sequence[float] = (0.75, 0.5, 0.25, 0.1),
) -> pd.DataFrame:
    """Iterations that baseline and HCN take to given R5 losses, one line per set, seed and loss.

    The losses are `shares` of the baseline's first smoothed loss. Columns: set, seed, share, loss,
    baseline_iterations, hcn_iterations (missing where never reached), saved, the share of the baseline's
    iterations that HCN saves (negative: it takes more), and the names of the two runs.
    """
    lines = []
    for name, seed, baseline, hcn in _pairs(losses):
        theirs, ours = smooth(baseline["loss_r5"], window), smooth(hcn["loss_r5"], window)
        for share in shares:
            reached = [first_at_or_below(curve, share * theirs[0]) for curve in (theirs, ours)]
            lines.append(
                {"set": name, "seed": seed, "share": share, "loss": share * theirs[0], "runs": _run_names(name, seed)}
                | {
                    f"{model}_iterations": None if index is None else index + 1
                    for model, index in zip(("baseline", "hcn"), reached, strict=True)
                }
            )
    found = pd.DataFrame(lines).astype({"baseline_iterations": "Float64", "hcn_iterations": "Float64"})
    return found.assign(saved=1 - found["hcn_iterations"] / found["baseline_iterations"])


def in_time(reached: pd.DataFrame, forms: pd.DataFrame) -> pd.DataFrame:
    """Time that HCN takes to the baseline's final loss over the baseline's whole time, by the form of its heads.

    `reached` from `measure`, `forms` with model, form and over_baseline (a ratio of times an iteration, as from
    `reproduction.speed.measure`). Means over seeds, one line a set; a set where a seed never reaches that loss
    has missing values. Columns: iterations (the share of iterations), clock (by the runs' own clocks), and one a form.
    Below 1 HCN wins.
    """
    shares = pd.DataFrame({
        "set": reached["set"],
        "iterations": reached["hcn_iterations_to_baseline_final"] / reached["baseline_iterations"],
        "clock": reached["hcn_seconds_to_baseline_final"] / reached["baseline_seconds"],
    }).astype({"iterations": float, "clock": float})  # fmt: skip
    found = shares.groupby("set", sort=False).agg(lambda values: values.mean(skipna=False))
    costs = forms[forms["model"] == "hcn"].drop_duplicates("form").set_index("form")["over_baseline"]
    for form, cost in costs.items():
        found[form] = found["iterations"] * cost
    return found


def who_wins(times: pd.DataFrame) -> str:
    """`in_time` in words, a line a set.

    >>> print(who_wins(pd.DataFrame({"iterations": [0.7], "clock": [0.8], "pooled": [0.7], "plain": [1.1]},
    ...                             index=["market1501"])))
    Market-1501: 70% of the baseline's iterations; of its time 70% (pooled form, HCN wins), 110% (plain form, HCN loses)
    """
    lines = []
    for name, line in times.iterrows():
        title = paper.SET_TITLES.get(name, name)
        if pd.isna(line["iterations"]):
            lines.append(f"{title}: HCN does not reach the baseline's final loss (with every seed)")
            continue
        forms = [
            f"{line[form]:.0%} ({form} form, HCN {'wins' if line[form] < 1 else 'loses'})"
            for form in times.columns.drop(["iterations", "clock"])
        ]
        lines.append(f"{title}: {line['iterations']:.0%} of the baseline's iterations; of its time {', '.join(forms)}")
    return "\n".join(lines)


def _pairs(losses: Mapping[str, Mapping[str, list[pd.DataFrame]]]) -> Iterator[tuple]:
    """(set, seed, the baseline's loss table, HCN's), for every seed that has both."""
    for name, models in losses.items():
        hcn = {int(loss["seed"].iloc[0]): loss for loss in models.get("hcn", [])}
        for baseline in models.get("baseline", []):
            seed = int(baseline["seed"].iloc[0])
            if seed in hcn:
                yield name, seed, baseline, hcn[seed]


def _run_names(name: str, seed: int) -> str:
    return " ".join(experiment.run_name(model, name, seed) for model in experiment.MODELS)


def first_at_or_below(curve: np.ndarray, level: float) -> int | None:
    """Index of the first value at or below `level`; None if there is none.

    >>> first_at_or_below(np.array([3.0, 2.0, 1.0]), 2.0)
    1
    """
    below = np.flatnonzero(curve <= level)
    return int(below[0]) if len(below) else None
