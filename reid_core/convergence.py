"""How much lower HCN's R5 loss is, and how much sooner it falls (Section 4.3 on Figure 3), in numbers."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from reid_core import experiment
from reid_core.plots import smooth


def measure(losses: Mapping[str, Mapping[str, list[pd.DataFrame]]], window: int) -> pd.DataFrame:
    """Compare the smoothed R5 losses of HCN and baseline, one line per set and seed.

    `losses` as from `reid_core.experiment.loss_tables`; curves are smoothed by a centred moving average of `window`
    iterations. Columns: share_lower (share of the iterations after the first tenth at which HCN's loss is lower),
    baseline_final (the baseline's loss at its end), hcn_iterations_to_baseline_final (missing if never reached),
    the same in seconds of training, both models' iterations and seconds, and the names of the two runs.
    """
    lines = []
    for name, models in losses.items():
        pairs = zip(models.get("baseline", []), models.get("hcn", []), strict=False)
        for baseline, hcn in pairs:
            ours, theirs = smooth(hcn["loss_r5"], window), smooth(baseline["loss_r5"], window)
            common = min(len(ours), len(theirs))
            after = slice(common // 10, common)
            reached = first_at_or_below(ours, theirs[-1])
            seconds, seed = hcn["seconds"].to_numpy(), int(baseline["seed"].iloc[0])
            lines.append({
                "set": name, "seed": seed,
                "share_lower": float(np.mean(ours[after] < theirs[after])),
                "baseline_final": theirs[-1], "hcn_final": ours[-1],
                "baseline_iterations": len(theirs), "hcn_iterations": len(ours),
                "hcn_iterations_to_baseline_final": None if reached is None else reached + 1,
                "baseline_seconds": baseline["seconds"].iloc[-1],
                "hcn_seconds_to_baseline_final": None if reached is None else seconds[reached],
                "runs": " ".join(experiment.run_name(model, name, seed) for model in experiment.MODELS),
            })  # fmt: skip
    return pd.DataFrame(lines)


def first_at_or_below(curve: np.ndarray, level: float) -> int | None:
    """Index of the first value at or below `level`; None if there is none.

    >>> first_at_or_below(np.array([3.0, 2.0, 1.0]), 2.0)
    1
    """
    below = np.flatnonzero(curve <= level)
    return int(below[0]) if len(below) else None
