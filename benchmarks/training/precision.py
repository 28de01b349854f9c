"""bf16 with float32 master weights on the CPU: a step's time beside float32's, and whether the losses agree.

    ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 OMP_NUM_THREADS=1 python benchmarks/training/precision.py \
        --data-root data/embedded/smoke [--threads 1] [--rounds 7] [--paper] [--seeds 0 1 2]

HCN by profile smoke's recipe, with --paper profile paper's network (ResNet-50 at 224x224, batches of 16, random
initial weights), in turns on the same batches from the same weights. Autocast keeps float32 weights and casts them in
every step; `bf16 weights` keeps convolutions and classifiers in bf16, and float32 copies of them that the update works
on. The variable is for virtual machines whose AMX convolves wrongly; where they are wrong the script stops.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from step import in_turn, processor_seconds, step_of, torchs
from torch import Tensor, nn

from reid_core import datasets, small_maps
from reid_core.training import Recipe, device_fit
from reid_core.training.step import Objective
from reproduction.embedded import pretraining
from reproduction.runner import profiles


class Masters(Objective):
    """Updates float32 copies of all weights that are in bf16, then rounds them into the network."""

    def optimizer(self, network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
        ours = super().optimizer(network, recipe)
        copies = {p: nn.Parameter(p.detach().float()) for p in network.parameters() if p.dtype == torch.bfloat16}
        for group in ours.param_groups:
            group["params"] = [copies.get(p, p) for p in group["params"]]
        for rounded, exact in copies.items():
            ours.state[exact] = {name: value.float() for name, value in ours.state.pop(rounded).items()}

        def widen(*_) -> None:
            for rounded, exact in copies.items():
                exact.grad, rounded.grad = rounded.grad.float(), None

        @torch.no_grad()
        def narrow(*_) -> None:
            for rounded, exact in copies.items():
                rounded.copy_(exact)

        ours.register_step_pre_hook(widen)
        ours.register_step_post_hook(narrow)
        return ours


def halve(network: nn.Module) -> None:
    """Convolutions and classifiers in bf16; BatchNorm's few numbers stay float32."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.to(torch.bfloat16)
    network.register_forward_pre_hook(lambda _, given: (given[0].bfloat16(),))


def small_in_single(network: nn.Module) -> None:
    """Under autocast small maps are convolved by our products in float32, as without it."""

    def forward(module: small_maps.Conv2d, x: Tensor) -> Tensor:
        if math.prod(small_maps._sizes(x, module.stride[0])) > small_maps._POSITIONS:
            return small_maps.Conv2d.forward(module, x)
        with torch.autocast("cpu", enabled=False):
            return small_maps.Conv2d.forward(module, x.float())

    for module in network.modules():
        if type(module) is small_maps.Conv2d:
            module.forward = forward.__get__(module)


def ways(recipe: Recipe, table, root: Path) -> dict[str, Callable[[], Tensor]]:
    """A step of each way, from the same weights."""
    half = replace(recipe, precision="bf16")
    found = {
        "float32": (Objective, recipe),
        "bf16 by autocast": (Objective, half),
        "bf16 by autocast, small maps float32": (Objective, half, small_in_single),
        "bf16 weights, float32 copies": (Masters, recipe, halve),
        "  the same, torch's convolutions": (Masters, recipe, halve, torchs),
    }
    return {name: step_of(kind("hcn"), of, table, root, *changes) for name, (kind, of, *changes) in found.items()}


def losses(recipe: Recipe, table, root: Path, seeds: list[int]) -> None:
    """Print R5's mean loss over each quarter of a training of each way, and its difference to float32's."""
    for seed in seeds:
        curves = {}
        for name, step in ways(replace(recipe, seed=seed), table, root).items():
            torch.manual_seed(seed)  # dropout
            curves[name] = np.array([float(step()[0]) for _ in range(recipe.iterations)])
            quarters = [part.mean() for part in np.array_split(curves[name], 4)]
            apart = np.abs(curves[name] - curves["float32"])
            print(f"seed {seed} {name:38} {np.round(quarters, 4)}, largest difference {apart.max():.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--paper", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not device_fit.convolves_in_bf16(torch.device("cpu")):
        raise SystemExit(device_fit._WRONG)
    for dtype in (torch.float32, torch.bfloat16):
        square = torch.randn(2048, 2048).to(dtype)
        rate = 2 * 2048**3 / processor_seconds(lambda a=square: a @ a)
        print(f"{dtype}: {rate / 1e9:.0f} GFLOP/s of processor time in a product")
    schedule = profiles.load("smoke")["schedules"]["market1501"]
    recipe = pretraining.recipe(profiles.load("smoke")["recipe"] | schedule)
    if args.paper:
        of_paper = {"backbone": "resnet50", "weights": "random", "height": 224, "width": 224, "batch_size": 16,
                    "batchnorm": "live"}  # fmt: skip
        recipe = replace(recipe, **of_paper, crop_padding=0, dropout=0.5)
    table = datasets.combine({"market1501": datasets.load("market1501", args.data_root)})
    endless = replace(recipe, iterations=1_000_000)
    in_turn(ways(endless, table, args.data_root), args.rounds, calls=1 if args.paper else 2)
    losses(recipe, table, args.data_root, args.seeds)


if __name__ == "__main__":
    main()
