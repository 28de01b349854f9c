"""Section 3.1: training the baseline and HCN. `train` makes a run folder from a labelled image table."""

from reid_core.training.loop import train
from reid_core.training.recipe import Recipe
from reid_core.training.run_folder import load_network, loss_curve

__all__ = ["Recipe", "load_network", "loss_curve", "train"]
