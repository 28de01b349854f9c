"""The floor of a training step on the CPU, what a step takes, and what other ways would take.

    python benchmarks/training/step.py --data-root data/embedded/smoke [--threads 1] [--rounds 9]
        [--backbone resnet50 --height 128 --width 64 --batch-size 16]

Without the second line the network is profile smoke's; other networks begin with random weights, their BatchNorm's
statistics held.

The floor: the operations of all convolutions and products, and those without the multiplications by a zero of the
padding, at the rate of a large product measured here; and the bytes of BatchNorm, ReLU and update, each number read
or written once, at the rate of a large copy. All ways see the same batches from the same weights and take turns;
printed are medians and minima of processor time and of wall time.
"""

import argparse
import functools
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from flops import step_flops
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reid_core import datasets, images, small_maps, weight_files
from reid_core.datasets import table as image_table
from reid_core.training import Recipe, batches
from reid_core.training.step import Objective, Step
from reproduction.embedded import pretraining
from reproduction.runner import profiles

NETWORK = {"backbone": str, "height": int, "width": int, "batch_size": int}


class TorchSGD(Objective):
    """The same training with PyTorch's own SGD, fused or by lists of tensors."""

    fused = True

    def optimizer(self, network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
        ours = super().optimizer(network, recipe)
        settings = {"lr": recipe.base_lr, "momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
        return torch.optim.SGD(ours.param_groups, **settings, fused=self.fused, foreach=not self.fused)


class ForeachSGD(TorchSGD):
    fused = False


def torchs(network: nn.Module) -> None:
    """torch's convolutions for maps of every size."""
    for module in network.modules():
        if type(module) is small_maps.Conv2d:
            module.__class__ = nn.Conv2d


def pairs(network: nn.Module) -> list[tuple[nn.Module, str, nn.Module, nn.Module]]:
    """Every convolution of the backbone: its parent, name, itself and the BatchNorm behind it."""
    found = []
    for parent in network.backbone.modules():
        children = dict(parent.named_children())
        for name, child in children.items():
            if isinstance(child, nn.Conv2d):
                found.append((parent, name, child, children["1" if name == "0" else name.replace("conv", "bn")]))
    return found


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """The convolution with the frozen BatchNorm in its weights; scale and bias learn as before."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight, bias = convolution.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
    if isinstance(convolution, small_maps.Conv2d) and x.shape[2] * x.shape[3] <= 8 * convolution.stride[0] ** 2:
        y = small_maps._Products.apply(x, weight, convolution.stride[0])
        return y + bias[:, None, None]
    return F.conv2d(x, weight, bias, convolution.stride, convolution.padding)


def fold(network: nn.Module) -> None:
    for _, _, convolution, norm in pairs(network):
        convolution.forward = functools.partial(folded, convolution, norm)
        norm.forward = nn.Identity()


def fold_for_good(network: nn.Module) -> None:
    """As for inference: the weights are changed once."""
    for parent, name, convolution, norm in pairs(network):
        setattr(parent, name, fuse_conv_bn_eval(convolution.eval(), norm.eval()))
        norm.forward = nn.Identity()


def still(network: nn.Module) -> None:
    """The backbone's BatchNorm with fixed statistics, which a recipe has for pretrained weights only."""
    for module in network.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def planes_first(network: nn.Module) -> None:
    network.to(memory_format=torch.contiguous_format)
    network.register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))


def step_of(objective: Objective, recipe: Recipe, table, root: Path, *changes: Callable) -> Callable[[], torch.Tensor]:
    torch.manual_seed(recipe.seed)
    network = objective.network(int(table[image_table.LABEL].max()) + 1, recipe)
    if recipe.weights != weight_files.RANDOM:
        weight_files.load_backbone(network, recipe.weights)
    still(network.to(memory_format=torch.channels_last).train())
    for change in changes:
        change(network)
    pixels = images.decoded(table, recipe.height, recipe.width, data_root=root).pixels
    source, sampler = batches.Batches(pixels, torch.device("cpu")), batches.Sampler(len(table), recipe)
    labels = torch.from_numpy(table[image_table.LABEL].to_numpy(copy=True))
    step = Step(objective, network, objective.optimizer(network, recipe), recipe, source, labels)
    counter = itertools.count()

    def once() -> torch.Tensor:
        iteration = next(counter)
        return step(sampler.draw(iteration), iteration)

    return once


def extraction_of(recipe: Recipe, *changes: Callable) -> Callable[[], None]:
    network = recipe.network("hcn", 5)
    network.to(memory_format=torch.channels_last).eval()
    for change in changes:
        change(network)
    batch = torch.randn(64, 3, recipe.height, recipe.width).to(memory_format=torch.channels_last)
    return torch.inference_mode()(lambda: network.features(batch))


def processor_seconds(call: Callable[[], object]) -> float:
    """The least of eight calls, all threads together, so that another load on the machine counts little."""
    seconds = []
    for _ in range(8):
        begun = time.process_time()
        call()
        seconds.append(time.process_time() - begun)
    return min(seconds)


def in_turn(contenders: dict[str, Callable[[], None]], rounds: int, calls: int = 2) -> None:
    """Print processor and wall time of a call of each, all in turn."""
    found = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for _, (name, call) in itertools.product(range(rounds), contenders.items()):
        before, begun = time.process_time(), time.perf_counter()
        for _ in range(calls):
            call()
        spent, wall = time.process_time() - before, time.perf_counter() - begun
        found[name].append((spent / calls * 1e3, wall / calls * 1e3))
    first = None
    for name, times in found.items():
        processor, wall = zip(*times, strict=True)
        middle = statistics.median(processor)
        first = first or middle
        print(
            f"{name:42} processor {middle:6.1f} ms (least {min(processor):6.1f}), wall {statistics.median(wall):6.1f} "
            f"(least {min(wall):6.1f}), {middle / first:.2f} of the first",
            flush=True,
        )


def floor(recipe: Recipe) -> None:
    """Print the least time of one step of HCN at this machine's rates, in processor time."""
    with torch.device("meta"):
        network, seen = recipe.network("hcn", 60), []
        sizes = {"norm": 0, "relu": 0}
    useful = total = 0

    def look(module: nn.Module, given: tuple[torch.Tensor], y: torch.Tensor) -> None:
        nonlocal useful, total
        if isinstance(module, nn.Conv2d):
            (k, *_), (stride, _), (padding, _) = module.kernel_size, module.stride, module.padding
            operations = 2 * module.weight.numel() * y.shape[2] * y.shape[3] * recipe.batch_size
            inside = [
                sum(0 <= i * stride + tap - padding < size for i in range(count) for tap in range(k)) / count / k
                for size, count in zip(given[0].shape[2:], y.shape[2:], strict=True)
            ]
            times = 3 if seen else 2  # no gradient by the images
            seen.append(module)
            total, useful = total + times * operations, useful + times * operations * inside[0] * inside[1]
        elif isinstance(module, nn.BatchNorm2d):
            sizes["norm"] += y.nbytes
        elif isinstance(module, nn.ReLU):
            sizes["relu"] += y.nbytes

    for module in network.modules():
        module.register_forward_hook(look)
    network.train()(torch.empty(recipe.batch_size, 3, recipe.height, recipe.width, device="meta"))
    counted = step_flops("hcn", 60, backbone=recipe.backbone, height=recipe.height, width=recipe.width,
                         batch_size=recipe.batch_size)  # fmt: skip
    square, x = torch.randn(2048, 2048), torch.zeros(50_000_000)
    y = torch.empty_like(x)
    both = (square, square.numpy())  # on some processors NumPy multiplies twice as fast
    rate = max(2 * 2048**3 / processor_seconds(lambda x=x: x @ x) for x in both)
    speed = 2 * x.nbytes / processor_seconds(lambda: y.copy_(x))
    weights = sum(p.nbytes for p in network.parameters())
    print(f"{rate / 1e9:.0f} GFLOP/s in a product, {speed / 1e9:.1f} GB/s in a copy, {torch.get_num_threads()} threads")
    print(f"operations: {counted / 1e9:.2f} G as torch counts, {counted / rate * 1e3:.1f} ms")
    print(f"  without zeros of the padding {useful / total:.0%} of the convolutions': {useful / rate * 1e3:.1f} ms")
    for name, amount in {
        "BatchNorm, read and written forward, two read and one written backward": 5 * sizes["norm"],
        "ReLU, in place forward, two read and one written backward": 5 * sizes["relu"],
        "update: weight, gradient, momentum read, weight and momentum written": 5 * weights,
    }.items():
        print(f"{name}: {amount / 1e6:.0f} MB, {amount / speed * 1e3:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    for name, kind in NETWORK.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    other = {name: value for name in NETWORK if (value := getattr(args, name)) is not None}
    other |= {"weights": weight_files.RANDOM, "batchnorm": "live"} if other else {}
    recipe = pretraining.recipe(profiles.load("smoke")["recipe"] | {"iterations": 1_000_000} | other)
    table = datasets.combine({"market1501": datasets.load("market1501", args.data_root)})
    floor(recipe)

    def step(kind: type[Objective], *changes: Callable) -> Callable[[], None]:
        return step_of(kind("hcn"), recipe, table, args.data_root, *changes)

    in_turn(
        {
            "torch's convolutions and SGD": step(TorchSGD, torchs),
            "  not channels last": step(TorchSGD, torchs, planes_first),
            "  BatchNorm folded": step(TorchSGD, torchs, fold),
            "  SGD by lists": step(ForeachSGD, torchs),
            "  our SGD": step(Objective, torchs),
            "  our convolutions": step(TorchSGD),
            "ours": step(Objective),
            "  BatchNorm folded, too": step(Objective, fold),
            "  ours, not channels last": step(Objective, planes_first),
        },
        args.rounds,
    )
    in_turn(
        {
            "extraction of 64, torch's convolutions": extraction_of(recipe, torchs),
            "extraction of 64, torch's, folded": extraction_of(recipe, torchs, fold_for_good),
            "extraction of 64, ours": extraction_of(recipe),
            "extraction of 64, ours, folded": extraction_of(recipe, fold_for_good),
        },
        args.rounds,
    )


if __name__ == "__main__":
    main()
