"""What the loop trains. Resuming, run folder, clock and interruption are the same for every task."""

from typing import Any, Protocol

import pandas as pd
from torch import Tensor, nn, optim

from reid_core import model
from reid_core.training import step
from reid_core.training.batches import Draw, Sampler
from reid_core.training.recipe import Recipe


class Draws(Protocol):
    """Batches of images as a function of the iteration, so that resuming needs no state."""

    def draw(self, iteration: int) -> Draw: ...


class Task(Protocol):
    """One kind of training: its network, how batches are drawn, what is minimised.

    name: "baseline", "hcn", ...; run.json's `model`.   settings: its own settings, beside the recipe.
    parallel: whether a batch may be shared out over processes.
    memory: {name in a checkpoint: name in the optimiser's state}, of what the optimiser remembers of a parameter.
    """

    name: str
    settings: dict[str, Any]
    parallel: bool
    memory: dict[str, str]

    def network(self, num_classes: int, recipe: Recipe) -> nn.Module:
        """The network with initial weights, from torch's global generator."""

    def pretrain(self, network: nn.Module, recipe: Recipe, progress: bool) -> None:
        """Load what the recipe's `weights` names; nothing for "random"."""

    def optimizer(self, network: nn.Module, recipe: Recipe) -> optim.Optimizer:
        """The optimiser with its `memory` made; every group has a "multiplier" of the learning rate."""

    def sampler(self, table: pd.DataFrame, recipe: Recipe) -> Draws: ...

    def heads(self, network: nn.Module) -> list[str]:
        """Names of the losses, in order."""

    def losses(self, outputs: Any, labels: Tensor) -> Tensor:
        """What the network gave for a batch, and the batch's labels (n,): the losses (heads,) float32."""

    def form(self, network: nn.Module, recipe: Recipe) -> str:
        """In which form the network is computed; run.json's `form`."""


class Identities:
    """Section 3.1: the baseline or HCN learns to tell the training people apart.

    Raises ValueError for the name of another model.
    """

    settings: dict[str, Any] = {}
    parallel = True
    memory = {"momentum": "momentum_buffer"}

    def __init__(self, name: str):
        if name not in model.MODELS:
            raise ValueError(f"Unknown model {name!r}; there are {', '.join(model.MODELS)}.")
        self.name = name

    def network(self, num_classes: int, recipe: Recipe) -> nn.Module:
        return model.MODELS[self.name](num_classes, recipe.backbone, **recipe.network_settings())

    def pretrain(self, network: nn.Module, recipe: Recipe, progress: bool) -> None:
        if recipe.weights != "random":
            model.load_backbone(network, recipe.weights, progress=progress)

    def optimizer(self, network: nn.Module, recipe: Recipe) -> optim.Optimizer:
        return step.make_optimizer(network, recipe)

    def sampler(self, table: pd.DataFrame, recipe: Recipe) -> Draws:
        return Sampler(len(table), recipe)

    def heads(self, network: nn.Module) -> list[str]:
        return list(network.widths)

    def losses(self, outputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        return step.losses(outputs, labels)

    def form(self, network: nn.Module, recipe: Recipe) -> str:
        return network.form(recipe.height, recipe.width)
