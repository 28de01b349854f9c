"""How much lower HCN's R5 loss is, and how much sooner it falls (Section 4.3 on Figure 3), in numbers with a null.

Two noisy curves of one law differ, too: the first time that one touches the other's last value says nothing. So the
losses to reach are fixed beforehand, as shares of what guessing costs, both directions count alike, and what a
difference is worth is told by the spread over seeds. The tests count how often two curves of one law are told apart.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from reproduction import experiment, intervals, paper

SHARES = (0.75, 0.5, 0.25, 0.1)  # of the loss of guessing
LEAST = float(np.finfo(np.float32).eps)  # a loss below it, 0 above all, counts as this: float32 tells no more


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Centred moving average over `window` values, over those that there are at both ends.

    `values` (n,): losses, one an iteration; `window` at least 1, else ValueError, of an even one a value more lies
    before the centre. Returns (n,) float64.

    >>> smooth([1.0, 2.0, 6.0, 3.0], 3).tolist()
    [1.5, 3.0, 3.6666666666666665, 4.5]
    """
    if window < 1:
        raise ValueError(f"smoothing is {window}; a moving average takes at least 1 iteration.")
    curve = pd.Series(values, dtype=float).reset_index(drop=True)
    return curve.rolling(min(window, len(curve)), center=True, min_periods=1).mean().to_numpy()


def loss_tables(runs: pd.DataFrame) -> dict[str, dict[str, list[pd.DataFrame]]]:
    """{set: {model: [loss table, one a seed]}} of `Experiment.described`; the paper's order, the baseline first. Beside
    the losses stand seed and classes, the number of people that the training tells apart."""
    from reid_core.training import run_folder  # which loads PyTorch: the report and the verdicts do without

    losses: dict = {}
    for name, model in itertools.product(paper.SETS, experiment.MODELS):
        chosen = runs[(runs["train_set"] == name) & (runs["model"] == model)].sort_values("seed")
        for line in chosen.itertuples():
            about = {"seed": line.seed, "classes": run_folder.read(line.folder)["num_classes"]}
            curve = run_folder.loss_curve(line.folder).assign(**about)
            losses.setdefault(name, {}).setdefault(model, []).append(curve)
    return losses


def measure(losses: Mapping[str, Mapping[str, list[pd.DataFrame]]], window: int) -> pd.DataFrame:
    """The smoothed R5 losses of baseline and HCN, one line per set and seed; missing where a model lacks the seed.

    `losses` as from :func:`loss_tables`; curves are smoothed by a centred moving average of `window` iterations.
    Columns: set, seed; for baseline and HCN iterations, seconds, final (the last smoothed loss) and log_loss (mean
    logarithm of the smoothed loss after the first tenth of the iterations that all of the set have); runs, their names.
    """
    lines = []
    for name, seed, tables, runs in _by_seed(losses):
        common = min(len(table) for tables_of in losses[name].values() for table in tables_of)
        line = {"set": name, "seed": seed}
        for model, table in tables.items():
            curve = smooth(table["loss_r5"], window)
            line[f"{model}_iterations"], line[f"{model}_seconds"] = len(curve), table["seconds"].iloc[-1]
            line[f"{model}_final"] = curve[-1]
            line[f"{model}_log_loss"] = float(np.log(np.maximum(curve[common // 10 : common], LEAST)).mean())
        lines.append(line | {"runs": runs})
    return pd.DataFrame(lines).astype({f"{model}_iterations": "Int64" for model in experiment.MODELS})


def levels(losses: Mapping[str, Mapping[str, list[pd.DataFrame]]], window: int) -> pd.DataFrame:
    """Iterations that baseline and HCN take to given smoothed R5 losses, one line per set, seed and loss.

    The losses are SHARES of ln M, what guessing among the training's M people costs. Columns: set, seed, share, loss,
    baseline_iterations, hcn_iterations (missing where never reached, or no such training), saved, the share of the
    baseline's iterations that HCN saves (negative: it takes more), and runs, the names of the trainings."""
    lines = []
    for name, seed, tables, runs in _by_seed(losses):
        curves = {model: smooth(table["loss_r5"], window) for model, table in tables.items()}
        for share in SHARES:
            loss = share * np.log(next(iter(tables.values()))["classes"].iloc[0])
            there = {model: np.flatnonzero(curve <= loss) for model, curve in curves.items()}
            reached = {f"{model}_iterations": at[0] + 1 if len(at) else None for model, at in there.items()}
            lines.append({"set": name, "seed": seed, "share": share, "loss": loss, **reached, "runs": runs})
    found = pd.DataFrame(lines).astype({"baseline_iterations": "Float64", "hcn_iterations": "Float64"})
    return found.assign(saved=1 - found["hcn_iterations"] / found["baseline_iterations"])


def sooner(reached: pd.DataFrame) -> intervals.Interval | None:
    """Per cent of the baseline's iterations that HCN saves on one set; None where no loss is reached by all trainings.

    `reached`: that set's rows of :func:`levels`. A training's number is the mean logarithm of the iterations, over the
    losses that every training of both models reaches; what is saved is 1 - exp(difference of the means)."""
    logs = np.log(_by_all(reached)).mean(axis=1)
    return None if logs.isna().any() else intervals.saving(logs["hcn"], logs["baseline"])


def lower(measured: pd.DataFrame) -> intervals.Interval:
    """Per cent by which HCN's smoothed loss is lower on one set, in geometric mean; its rows of :func:`measure`."""
    return intervals.saving(*(measured[f"{model}_log_loss"].dropna() for model in ("hcn", "baseline")))


def compared(measured: pd.DataFrame, reached: pd.DataFrame, forms: pd.DataFrame) -> pd.DataFrame:
    """Both comparisons of every set for reading, and what HCN's iterations cost in time.

    `forms`: model, form and over_baseline (a ratio of times an iteration, as from `reproduction.speed.measure`).
    Columns: set, seeds, the shares that were `reached` by all; saved and lower with `_low` and `_high` (95%; missing
    for one seed), in per cent; for each form of HCN's heads, HCN's time to these losses over the baseline's."""
    costs = forms[forms["model"] == "hcn"].drop_duplicates("form").set_index("form")["over_baseline"]
    lines = []
    for name, of_set in reached.groupby("set", sort=False):
        shares = _by_all(of_set).columns[::-1]
        found = {"saved": sooner(of_set), "lower": lower(measured[measured["set"] == name])}
        line = {"set": name, "seeds": found["lower"].seeds, "reached": " ".join(f"{share:g}" for share in shares)}
        for key, one in found.items():
            ends = (one.low, one.high) if one and one.seeds > 1 else (None, None)
            line |= {key: one.value if one else None, f"{key}_low": ends[0], f"{key}_high": ends[1]}
        share = 1 - line["saved"] / 100 if found["saved"] else np.nan
        lines.append(line | dict(share * costs))
    return pd.DataFrame(lines)


def _by_all(reached: pd.DataFrame) -> pd.DataFrame:
    """Iterations of each training (model, seed) to the shares that every training of a set reaches, a column each."""
    counts = {
        (model, line.seed, line.share): getattr(line, f"{model}_iterations")
        for line in reached.astype({f"{model}_iterations": float for model in experiment.MODELS}).itertuples()
        for model in experiment.MODELS
        if experiment.run_name(model, line.set, line.seed) in line.runs.split()
    }
    return pd.Series(counts).unstack().dropna(axis=1)


def _by_seed(losses: Mapping[str, Mapping[str, list[pd.DataFrame]]]) -> Iterator[tuple]:
    """(set, seed, {model: loss table}, run names) for every seed of a set that both models were trained on, not always
    with it."""
    for name, models in losses.items():
        every = {(int(loss["seed"].iloc[0]), model): loss for model, of_model in models.items() for loss in of_model}
        if len({model for _, model in every}) == len(experiment.MODELS):
            for seed in sorted({seed for seed, _ in every}):
                tables = {model: every[seed, model] for model in experiment.MODELS if (seed, model) in every}
                yield name, seed, tables, " ".join(experiment.run_name(model, name, seed) for model in tables)
