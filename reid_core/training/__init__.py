"""Section 3.1: training the baseline and HCN. `train` makes a run folder from a labelled image table.
One training step is read in four files: loop.py, step.py, batches.py, recipe.py; what each holds says `reid_core`."""

from reid_core.training.loop import train
from reid_core.training.recipe import Recipe
from reid_core.training.run_folder import load_network, loss_curve

__all__ = ["Recipe", "load_network", "loss_curve", "train"]
