"""Measure the golden numbers of profile tiny and write golden.json: python tests/end_to_end/make_golden.py

Run it after `reid-core reproduce --profile tiny`, and say in the commit why they changed.
"""

import json
import sys
from pathlib import Path

import pandas as pd
import torch

from reid_core import machine
from reproduction import experiment, paper


def versions() -> dict[str, str]:
    """The packages on which bytes of pictures and first losses depend, and whether a GPU draws the dropout."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {name: machine.versions()[name] for name in ("numpy", "pillow", "torch")} | {"device": device}


def measure(data: Path, results: Path) -> dict:
    """Numbers that only change when the kit does: data, counts, scores without training, first and last losses."""
    table1 = pd.read_csv(results / "table1.csv").set_index("dataset")
    table2 = pd.read_csv(results / "table2.csv")
    labeled = table2[table2["set"] == paper.CUHK03_LABELED].set_index("method")
    losses = pd.read_csv(results / "loss_curves.csv")
    first, last = {}, {}
    for (name, model), curve in losses.groupby(["set", "model"]):
        first[f"{model}-{name}"] = float(curve["loss_r5"].iloc[0])
        last[f"{model}-{name}"] = float(curve["loss_r5"].tail(10).mean())
    return {
        "versions": versions(),
        "data_digest": json.loads((data / "embedded.json").read_text())["digest"],
        "table1": {name: int(ids) for name, ids in table1["identities found"].items()},
        "colour_histogram": float(labeled.loc["Colour histogram", "ours_mAP"]) / 100,
        "lomo_xqda": float(labeled.loc["LOMO+XQDA", "ours_mAP"]) / 100,
        "first_loss": first,
        "last_loss": last,
    }


if __name__ == "__main__":
    golden = measure(experiment.resolve("data/embedded/tiny"), experiment.resolve("results/tiny"))
    target = Path(__file__).with_name("golden.json")
    target.write_text(json.dumps(golden, indent=2) + "\n")
    print(f"wrote {target}", file=sys.stderr)
