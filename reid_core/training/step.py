"""One iteration: forward, the losses (those of Section 3.1), backward, update; eagerly or as a CUDA graph."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core.training.batches import Batches, Draw
from reid_core.training.recipe import Recipe

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def losses(logits: dict[str, Tensor], labels: Tensor) -> Tensor:
    """Cross entropy of the identities (Section 3.1), the mean over the batch, of each head: (heads,) float32."""
    return torch.stack([F.cross_entropy(x.float(), labels) for x in logits.values()])


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD as published: classifier biases take twice the learning rate and no weight decay."""
    biases = [classifier.bias for classifier in network.classifiers.values()]
    apart = {id(bias) for bias in biases}
    others = [parameter for parameter in network.parameters() if id(parameter) not in apart]
    groups = [
        {"params": others, "multiplier": 1.0},
        {"params": biases, "multiplier": 2.0, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(
        groups,
        lr=recipe.base_lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    if recipe.momentum:  # PyTorch leaves it uninitialised where loss scaling skips the first update
        for parameter in network.parameters():
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
    return optimizer


def precision(recipe: Recipe, device: torch.device) -> str:
    """The precision of a recipe on a device: "auto" is bf16 where there are instructions for it, else fp32."""
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16" if computes_bf16(device) else "fp32"


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16; without them it is emulated, slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def unfit(recipe: Recipe, batches: Batches, processes: int) -> list[str]:
    """What the batches' device cannot do as the recipe says, and what it does instead, a sentence each."""
    found, device = [], batches.device
    if recipe.cuda_graph and not captures(recipe, batches, processes):
        if device.type == "cpu":
            where = "on the CPU"
        elif processes > 1:
            where = f"on {processes} processes"
        else:
            where = "with images that fill more than half of the free GPU memory"
        found.append(f"cuda_graph has no effect {where}; the iterations are the same, launched one by one.")
    if recipe.precision == "bf16" and not computes_bf16(device):
        found.append('This device emulates precision "bf16", slowly; "auto" or "fp32" is faster here.')
    if recipe.precision == "fp16" and device.type == "cpu":
        found.append('precision "fp16" is meant for GPUs; "auto" or "fp32" is faster on the CPU.')
    return found


def captures(recipe: Recipe, batches: Batches, processes: int) -> bool:
    """Whether the iterations are replayed as a CUDA graph: on one GPU on which the images are resident."""
    return recipe.cuda_graph and batches.device.type == "cuda" and batches.resident and processes == 1


class Step:
    """Trains a network, one batch a call.

    `network` gives logits (a DistributedDataParallel or compiled module will do); `labels` (N,) int64; `measure`
    makes the losses (heads,) float32 of what it gives and the batch's labels.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        batches: Batches,
        labels: Tensor,
        measure: Callable[[Any, Tensor], Tensor] = losses,
    ):
        self.network, self.optimizer, self.recipe, self.measure = network, optimizer, recipe, measure
        self.batches, self.labels, self.device = batches, labels.to(batches.device), batches.device
        self.precision = precision(recipe, self.device)
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
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def update(self, images: Tensor, labels: Tensor) -> Tensor:
        """Forward, backward and update with one batch on the device; its losses (heads,) float32, before the update.

        images: (n, 3, height, width) float32; labels: (n,) int64. A loss that is not finite raises nothing here.
        """
        with self.autocast():
            outputs = self.network(images)
        each = self.measure(outputs, labels)
        if self.weights is None:
            weights = [self.recipe.loss_weight(i) for i in range(len(each))]
            self.weights = torch.tensor(weights, device=self.device)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale((each * self.weights).sum()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return each.detach()

    def autocast(self) -> contextlib.AbstractContextManager:
        """In which the network runs: autocast to bfloat16 or float16 as `precision` says, nothing for "fp32"."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, _AUTOCAST[self.precision], cache_enabled=False)


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
        """Train on the batch that the buffers describe; its losses (heads,) float32, in one tensor for all replays.

        What PyTorch cannot capture raises RuntimeError.
        """
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
