"""Section 3.1: training the baseline and HCN. `train` makes a run folder from a labelled image table.

One training step is read in four files:
    loop.py         `train`: checks, then batch after batch to the last iteration; losses, signals, what is written
    step.py         the losses of Section 3.1 and SGD (`Objective`); forward, backward and update of one batch (`Step`)
    batches.py      which images come in which batch, and how they are augmented and normalised
    recipe.py       every setting, checked where it is made
Beside them:
    checkpoint.py   the state of a training, saved and taken back to the bit
    run_folder.py   the files of a run; whether a folder holds this run or another
    device_fit.py   what the device can do: precision, reproducible kernels, CUDA graphs
    distributed.py  several processes, one training
"""

from reid_core.training.loop import train
from reid_core.training.recipe import Recipe
from reid_core.training.run_folder import load_network, loss_curve

__all__ = ["Recipe", "load_network", "loss_curve", "train"]
