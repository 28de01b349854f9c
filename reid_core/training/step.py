"""One iteration: forward, the losses (those of Section 3.1), backward, update; eagerly or as a CUDA graph."""

import contextlib
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core import model
from reid_core.training import device_fit
from reid_core.training.batches import Batches, Draw, Sampler
from reid_core.training.recipe import Recipe


class Objective:
    """What is trained. As it stands, Section 3.1: the baseline or HCN learns to tell the training people apart.

    A subclass trains another network in the same loop, such as one on pairs. `name`: "baseline", "hcn" or the
    subclass's own, run.json's `model`; `settings`: its own, beside the recipe; `parallel`: whether a batch may be
    shared out over processes. Raises ValueError for a name that is no model's.
    """

    settings: dict[str, Any] = {}
    parallel = True

    def __init__(self, name: str):
        if name not in model.MODELS:
            raise ValueError(f"Unknown model {name!r}; there are {', '.join(model.MODELS)}.")
        self.name = name

    def network(self, num_classes: int, recipe: Recipe) -> nn.Module:
        """The network with initial weights, from torch's global generator."""
        return recipe.network(self.name, num_classes)

    def optimizer(self, network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
        """SGD as published: classifier biases take twice the learning rate and no weight decay.

        Of any objective: every group has a "multiplier" of the learning rate, and what is remembered of a parameter
        is made at once, as a checkpoint is restored into it.
        """
        biases = [classifier.bias for classifier in network.classifiers.values()]
        apart = {id(bias) for bias in biases}
        others = [parameter for parameter in network.parameters() if id(parameter) not in apart]
        groups = [{"params": others, "multiplier": 1.0}, {"params": biases, "multiplier": 2.0, "weight_decay": 0.0}]
        settings = {name: getattr(recipe, name) for name in ("momentum", "nesterov", "weight_decay")}
        optimizer = _SGD(groups, lr=recipe.base_lr, fused=True, **settings)
        if recipe.momentum:  # PyTorch leaves it uninitialised where loss scaling skips the first update
            for parameter in network.parameters():
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
        return optimizer

    def sampler(self, table: pd.DataFrame, recipe: Recipe) -> Sampler:
        """What draws the batches: `draw(iteration)`, a function of the iteration, so that resuming needs no state."""
        return Sampler(len(table), recipe)

    def heads(self, network: nn.Module) -> list[str]:
        """Names of the losses, in order."""
        return list(network.widths)

    def losses(self, outputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Mean cross entropy (heads,) float32 of each head's logits (n, people); labels: (n,) int64."""
        return torch.stack([F.cross_entropy(x.float(), labels) for x in outputs.values()])

    def form(self, network: nn.Module, recipe: Recipe) -> str:
        """In which form the network is computed; run.json's `form`."""
        return network.form(recipe.height, recipe.width)


class _SGD(torch.optim.SGD):
    """PyTorch's. On the CPU its fused update reads memory in order, but copies a channels-last gradient before."""

    def _init_group(self, group, params: list[Tensor], grads: list[Tensor], buffers: list[Tensor]) -> bool:
        sparse = super()._init_group(group, params, grads, buffers)
        for i, (parameter, gradient) in enumerate(zip(params, grads, strict=True)):
            if gradient.device.type == "cpu" and gradient.ndim == 4 and gradient.stride() == parameter.stride():
                if (by_memory := gradient.permute(0, 2, 3, 1)).is_contiguous():
                    grads[i] = by_memory
        return sparse


class Step:
    """Trains an objective's network (or it distributed or compiled), one batch a call; `labels`: (N,) int64."""

    def __init__(
        self, objective: Objective, network: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe,
        batches: Batches, labels: Tensor,
    ):  # fmt: skip
        self.objective, self.network, self.optimizer, self.recipe = objective, network, optimizer, recipe
        self.batches, self.labels, self.device = batches, labels.to(batches.device), batches.device
        self.precision = device_fit.precision(recipe, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.weights = None

    def __call__(self, draw: Draw, iteration: int) -> Tensor:
        """Train on one batch; the heads' losses (heads,) float32, on the device, before the update."""
        self.set_learning_rate(iteration)
        images = self.batches(draw)
        return self.update(images, self.labels[torch.from_numpy(draw.rows).to(self.device)])

    def set_learning_rate(self, iteration: int) -> None:
        """Give every group of the optimiser the learning rate of iteration 0, 1, ..., times its multiplier."""
        for group in self.optimizer.param_groups:
            lr = self.recipe.learning_rate(iteration) * group["multiplier"]
            group["lr"] = group["lr"].fill_(lr) if isinstance(group["lr"], Tensor) else lr

    def update(self, images: Tensor, labels: Tensor) -> Tensor:
        """Forward, backward and update with one batch on the device; its losses (heads,) float32, before the update.

        images: (n, 3, height, width) float32; labels: (n,) int64. A loss that is not finite raises nothing here."""
        reduced, autocast = device_fit.REDUCED.get(self.precision), contextlib.nullcontext()
        if reduced is not None:
            autocast = torch.autocast(self.device.type, reduced, cache_enabled=False)
        with autocast:
            outputs = self.network(images)
        each = self.objective.losses(outputs, labels)
        if self.weights is None:
            self.weights = torch.tensor([self.recipe.loss_weight(i) for i in range(len(each))], device=self.device)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale((each * self.weights).sum()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return each.detach()


class BufferedStep(Step):
    """The same iteration from fixed buffers, on any device: what a CUDA graph can be captured from.

    Rows, augmentation and learning rate are written into the buffers; `run` then reads nothing else that changes.
    Raises ValueError for images that are not resident on the device.
    """

    def __init__(self, *args):
        super().__init__(*args)
        if not self.batches.resident:
            raise ValueError("Fixed buffers need images that are resident on the device; take a plain Step.")
        for group in self.optimizer.param_groups:
            group["lr"] = torch.zeros((), device=self.device)
        self.buffers = None

    def __call__(self, draw: Draw, iteration: int) -> Tensor:
        self.set_learning_rate(iteration)
        arrays = [torch.from_numpy(a) for a in (draw.rows, draw.mirror, draw.shift, draw.box)]
        if self.buffers is None:
            self.buffers = [array.to(self.device, copy=True) for array in arrays]
        for buffer, array in zip(self.buffers, arrays, strict=True):
            buffer.copy_(array.pin_memory() if self.device.type == "cuda" else array, non_blocking=True)
        return self.run().clone()

    def run(self) -> Tensor:
        """Train on the batch that the buffers describe; its losses (heads,) float32, before the update."""
        rows, mirror, shift, box = self.buffers
        pixels = self.batches.pixels(rows)
        shifts, boxes = self.recipe.crop_padding > 0, self.recipe.erasing > 0
        images = self.batches.augment(pixels, mirror, shift, box, shifts, boxes)
        return self.update(images, self.labels[rows])


class GraphStep(BufferedStep):
    """The same iteration, captured once as a CUDA graph and replayed: one launch instead of thousands.

    The first iterations run as they are, on a stream of their own, so that every buffer and choice of kernels that
    outlives an iteration is made outside the graph. Dropout draws from the device's generator, which a replay
    advances as far as the iteration itself would. Raises ValueError for a device that is no GPU.
    """

    WARM_UP = 3

    def __init__(self, *args):
        super().__init__(*args)
        if self.device.type != "cuda":
            raise ValueError(f"A CUDA graph needs a CUDA device, not {self.device}; take a plain Step.")
        self.graph, self.result, self.runs = None, None, 0
        self.aside = torch.cuda.Stream(self.device)

    def run(self) -> Tensor:
        """As `BufferedStep.run`, into one tensor for all replays; RuntimeError for what PyTorch cannot capture."""
        self.runs += 1
        if self.runs <= self.WARM_UP:
            current = torch.cuda.current_stream(self.device)
            self.aside.wait_stream(current)
            with torch.cuda.stream(self.aside):
                result = super().run()
            current.wait_stream(self.aside)
            return result
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.aside):
                self.result = super().run()
        self.graph.replay()
        return self.result
