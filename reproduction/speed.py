"""The steady speed of an iteration, measured in seconds without data: for Table 4's two forms and for plans."""

import itertools
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from reid_core import machine
from reid_core.training.batches import Batches, Sampler
from reid_core.training.device_fit import captures, generators
from reid_core.training.recipe import Recipe
from reid_core.training.step import GraphStep, Objective, Step

CONTENDERS = (("baseline", "pooled"), ("hcn", "pooled"), ("hcn", "plain"))
TURNS = 10
_TOGETHER = 10  # iterations between looks at the clock on a GPU, as each look waits for it; on a CPU: 1


def measure(recipe: Recipe, num_classes: int, *, seconds: float, turns: int = TURNS, device=None) -> pd.DataFrame:
    """Seconds an iteration of the baseline and of HCN with pooled and with plain heads, one line each.

    Images are noise: the speed does not depend on them. The three take turns, so that another load on the machine meets
    them alike; the median turn counts. Warming up (kernels chosen, graphs captured) is not counted.

    Of the recipe, `heads`, `weights`, learning rate and length are left aside. `num_classes`: people to tell apart;
    `seconds`: of counting for each of the three, all its `turns` together; `device`: as for `train`.

    Returns columns model, form (what the network computes, "pooled" or "plain": some settings have no pooled form),
    seconds_per_iteration, fastest_turn, slowest_turn, over_baseline (ratio of times), iterations (counted), device,
    precision. Raises ValueError for seconds that are not above 0."""
    if not 0 < seconds < math.inf:
        raise ValueError(f"The seconds to measure for must be above 0, not {seconds!r}, and finite.")
    device = machine.choose(device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    lines, timed = [], {}
    with generators(recipe, device):
        for name, heads in CONTENDERS:
            # At so small a rate random weights stay finite under frozen statistics too.
            iterations = _iterations(name, replace(recipe, heads=heads, base_lr=1e-9), num_classes, device)
            form, precision = next(iterations)
            if (name, form) not in timed:
                timed[name, form] = iterations, []
                _turn(iterations, 0.0, wait)
        for _ in range(turns):
            for iterations, taken in timed.values():
                taken.append(_turn(iterations, seconds / turns, wait))
    for (name, form), (_, taken) in timed.items():
        each = [spent / count for count, spent in taken]
        lines.append({
            "model": name, "form": form, "seconds_per_iteration": statistics.median(each), "fastest_turn": min(each),
            "slowest_turn": max(each), "over_baseline": None, "iterations": sum(count for count, _ in taken),
            "device": machine.device_name(device), "precision": precision,
        })  # fmt: skip
    found = pd.DataFrame(lines)
    found["over_baseline"] = found["seconds_per_iteration"] / found["seconds_per_iteration"].iloc[0]
    return found


def arithmetic(precision: str, device: torch.device) -> str:
    """What a training of a precision ("fp32", "bf16" or "fp16") computes its convolutions in on a device: "float32",
    "tf32", "bf16" or "fp16". On GPUs that have TF32, PyTorch's float32 convolutions use it by default."""
    if precision != "fp32":
        return precision
    chosen = device.type == "cuda" and torch.backends.cudnn.allow_tf32
    return "tf32" if chosen and torch.cuda.get_device_capability(device) >= (8, 0) else "float32"


def matrix_rate(precision: str, device: torch.device, size: int | None = None) -> float:
    """Operations a second (a multiply-add is two) of a large product of square matrices, the fastest of four.

    It is computed in `arithmetic(precision, device)`, so that it bounds what a training of that precision reaches.
    `size`: rows of the matrices; None: 8192 on a GPU, 2048 on a CPU."""
    n = size or (8192 if device.type == "cuda" else 2048)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    before, fastest = torch.get_float32_matmul_precision(), math.inf
    torch.set_float32_matmul_precision("high" if arithmetic(precision, device) == "tf32" else "highest")
    try:
        for _ in range(4):
            wait()
            begun = time.perf_counter()
            torch.mm(a, b)
            wait()
            fastest = min(fastest, time.perf_counter() - begun)
    finally:
        torch.set_float32_matmul_precision(before)
    return 2 * n**3 / fastest


def _iterations(name: str, recipe: Recipe, num_classes: int, device: torch.device) -> Iterator:
    """Yields (form, precision) once, then trains one iteration a step; the first steps warm up."""
    torch.manual_seed(recipe.seed)
    objective = Objective(name)
    network = objective.network(num_classes, recipe)
    network.to(device, memory_format=torch.channels_last).train()
    shape = (2 * recipe.batch_size, recipe.height, recipe.width, 3)
    rng = np.random.default_rng(recipe.seed)
    batches = Batches(rng.integers(0, 256, shape, dtype=np.uint8), device)
    sampler, labels = Sampler(shape[0], recipe), torch.arange(shape[0]) % num_classes
    runner = torch.compile(network) if recipe.compile else network
    kind = GraphStep if captures(recipe, batches, 1) else Step
    step = kind(objective, runner, objective.optimizer(network, recipe), recipe, batches, labels)
    yield network.form(recipe.height, recipe.width), step.precision
    together = 1 if device.type == "cpu" else _TOGETHER
    for start in itertools.count(0, together):
        for iteration in range(start, start + together):
            step(sampler.draw(iteration), min(iteration, recipe.iterations - 1))
        yield together


def _turn(iterations: Iterator, seconds: float, wait) -> tuple[int, float]:
    """Train for so many seconds, at least one look at the clock; iterations and seconds they took."""
    begun, count = time.perf_counter(), 0
    while True:
        count += next(iterations)
        wait()
        if (spent := time.perf_counter() - begun) > seconds:
            return count, spent
