"""Images a second of our training against a plain PyTorch loop and torchreid, side by side in one run.

    python benchmarks/training/throughput.py --data-root data/embedded/smoke --backbone resnet50 \\
        --height 128 --width 64 --batch-size 16 --precision fp32 bf16 [--torchreid-python PATH] [--csv FILE]

Every row trains on Market-1501's training images of the data folder, from random weights, SGD with momentum. The
contenders take turns, `--rounds` times: each turn runs `--warm-up` seconds uncounted, then counts for `--seconds`;
the median turn is reported, with the slowest and the fastest. So another load on the machine meets all alike.
"plain loop" is what a tutorial writes: torchvision's ResNet, a DataLoader of JPEG files with torchvision's transforms
on all cores, loss.item() at each iteration; its HCN computes the merged maps. torchreid runs in its own environment,
whose Python is given. The operations are counted exactly (flops.py); the peak is that of a large matrix product on
this device, the fastest of all rounds, in the arithmetic of the convolutions: of fp32 on GPUs TF32, PyTorch's default.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
import torchvision
from flops import step_flops
from PIL import Image
from torchvision import transforms

from reid_core import datasets, images, machine, model
from reid_core.datasets import table as image_table
from reid_core.training import Recipe, batches, device_fit
from reid_core.training.step import GraphStep, Objective, Step
from reproduction.speed import matrix_rate


def rate(step: Callable[[], None], batch_size: int, warm_up: float, seconds: float, wait: Callable) -> float:
    """Images a second of one turn: repeated steps, after `warm_up` seconds and at least one uncounted step."""
    _steps(step, warm_up, wait)
    count, taken = _steps(step, seconds, wait)
    return count * batch_size / taken


def _steps(step: Callable[[], None], seconds: float, wait: Callable) -> tuple[int, float]:
    """Run steps for so many seconds, one at least; how many, and the seconds they took."""
    begun = time.perf_counter()
    for count in itertools.count(1):
        step()
        if count % 5 == 0:
            wait()
        if time.perf_counter() - begun > seconds:
            break
    wait()
    return count, time.perf_counter() - begun


def our_step(name: str, recipe: Recipe, table: pd.DataFrame, root: Path, device: torch.device) -> Callable:
    torch.manual_seed(0)
    objective = Objective(name)
    network = objective.network(int(table[image_table.LABEL].max()) + 1, recipe)
    network.to(device, memory_format=torch.channels_last).train()
    pixels = images.decoded(table, recipe.height, recipe.width, data_root=root).pixels
    source, sampler = batches.Batches(pixels, device), batches.Sampler(len(table), recipe)
    labels = torch.from_numpy(table[image_table.LABEL].to_numpy(copy=True))
    runner = torch.compile(network) if recipe.compile else network
    kind = GraphStep if device_fit.captures(recipe, source, 1) else Step
    step = kind(objective, runner, objective.optimizer(network, recipe), recipe, source, labels)
    counter = itertools.count()

    def once() -> None:
        iteration = next(counter)
        step(sampler.draw(iteration), min(iteration, recipe.iterations - 1))

    return once


class _Files(torch.utils.data.Dataset):
    def __init__(self, table: pd.DataFrame, height: int, width: int):
        self.paths, self.labels = list(table[image_table.PATH]), table[image_table.LABEL].to_numpy()
        self.transform = transforms.Compose(
            [
                transforms.Resize((height, width)),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(images.MEAN, images.STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int):
        with Image.open(self.paths[i]) as image:
            return self.transform(image.convert("RGB")), self.labels[i]


def plain_step(name: str, recipe: Recipe, table: pd.DataFrame, device: torch.device) -> Callable:
    torch.manual_seed(0)
    classes = int(table[image_table.LABEL].max()) + 1
    if name == "baseline":
        network = torchvision.models.get_model(recipe.backbone, weights=None, num_classes=classes)
    else:
        network = model.HCN(classes, recipe.backbone, heads="plain")
    network.to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    loader = torch.utils.data.DataLoader(
        _Files(table, recipe.height, recipe.width),
        batch_size=recipe.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=len(os.sched_getaffinity(0)),
        pin_memory=device.type == "cuda",
        persistent_workers=True,
    )
    stream = itertools.chain.from_iterable(itertools.repeat(loader))

    def once() -> None:
        batch, labels = next(stream)
        batch, labels = batch.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        logits = network(batch)
        loss = Objective(name).losses(logits if isinstance(logits, dict) else {"r5": logits}, labels).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return once


class Torchreid:
    """torchreid's engine in a process of its own; each call of `turn` is one turn, its images a second."""

    def __init__(self, python: str, recipe: Recipe, root: Path, device: torch.device, args):
        self.folder = tempfile.TemporaryDirectory()
        (Path(self.folder.name) / "market1501").symlink_to(root.resolve())
        settings = {
            "root": self.folder.name,
            "backbone": recipe.backbone,
            "height": recipe.height,
            "width": recipe.width,
            "batch_size": recipe.batch_size,
            "workers": len(os.sched_getaffinity(0)),
            "warm_up": args.warm_up,
            "seconds": args.seconds,
            "device": device.type,
        }
        script = Path(__file__).with_name("torchreid_peer.py")
        self.process = subprocess.Popen(
            [python, str(script), json.dumps(settings)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def turn(self) -> float:
        print(file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("{"):  # torchreid itself prints much
                return json.loads(line)["images_per_second"]
        raise SystemExit(f"torchreid ended with status {self.process.wait()}; what it said is above.")

    def close(self) -> None:
        print("end", file=self.process.stdin, flush=True)  # the loaders' workers hold the pipe open too
        self.process.wait()
        self.folder.cleanup()


COLUMNS = ["trainer", "model", "heads", "precision", "images/s", "slowest", "fastest", "TFLOP/s", "peak TFLOP/s",
           "share of peak"]  # fmt: skip


def summary(found: pd.DataFrame) -> str:
    """What the table says in ratios: ours to the others, HCN to the baseline."""
    speed = found.set_index(["trainer", "model", "heads", "precision"])["images/s"]
    ours = ("ours", "baseline", "pooled")
    lines = []
    for precision in found.loc[found["trainer"] == "ours", "precision"].unique():
        base = speed[(*ours, precision)]
        for trainer, *rest in (key for key in speed.index if key[0] != "ours"):
            own = speed[("ours", rest[0], rest[1], precision)]
            other = speed[(trainer, *rest)]
            lines.append(f"ours ({precision}) to {trainer}, {rest[0]}, {rest[1]}: {own / other:.2f} times the images/s")
        for heads in ("pooled", "plain"):
            cost = base / speed[("ours", "hcn", heads, precision)] - 1
            lines.append(f"HCN, {heads}, over the baseline ({precision}): {cost:+.0%} time an image")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--height", type=int, default=224)
    parser.add_argument("--width", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=["fp32", "bf16", "fp16"])
    parser.add_argument("--cuda-graph", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--torchreid-python")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()

    device = torch.device(args.device)
    torch.backends.cudnn.benchmark = True  # as `train` does; all in this process profit
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    table = datasets.combine({"market1501": datasets.load("market1501", args.data_root)})
    classes = int(table[image_table.LABEL].max()) + 1
    sizes = {name: getattr(args, name) for name in ("backbone", "height", "width", "batch_size")}
    common = Recipe(**sizes, weights="random", batchnorm="live", cuda_graph=args.cuda_graph, compile=args.compile,
                    iterations=1_000_000)  # fmt: skip

    for precision in args.precision:
        try:
            device_fit.precision(replace(common, precision=precision), device)
        except ValueError as error:
            parser.error(str(error))

    def turns(step: Callable[[], None]) -> Callable[[], float]:
        return lambda: rate(step, args.batch_size, args.warm_up, args.seconds, wait)

    contenders: dict[tuple[str, str, str, str], Callable[[], float]] = {}
    for precision in args.precision:
        for name, heads in (("baseline", "pooled"), ("hcn", "pooled"), ("hcn", "plain")):
            recipe = replace(common, precision=precision, heads=heads)
            step = our_step(name, recipe, table, args.data_root, device)
            contenders["ours", name, heads, precision] = turns(step)
    for name, heads in (("baseline", "pooled"), ("hcn", "plain")):
        contenders["plain loop", name, heads, "fp32"] = turns(plain_step(name, common, table, device))
    with contextlib.ExitStack() as stack:
        if args.torchreid_python:
            peer = Torchreid(args.torchreid_python, common, args.data_root, device, args)
            stack.callback(peer.close)
            contenders["torchreid", "baseline", "pooled", "fp32"] = peer.turn
        speeds = {key: [] for key in contenders}
        peaks = dict.fromkeys({key[3] for key in contenders}, 0.0)
        for number in range(args.rounds):
            for key, turn in contenders.items():
                speeds[key].append(turn())
                print(f"{number + 1}/{args.rounds} {' '.join(key):34}{speeds[key][-1]:9.1f} images/s", file=sys.stderr)
            peaks = {precision: max(old, matrix_rate(precision, device)) for precision, old in peaks.items()}

    rows = []
    for key, found in speeds.items():
        flops = step_flops(key[1], classes, heads=key[2], **sizes) / args.batch_size * statistics.median(found)
        rows.append([*key, statistics.median(found), min(found), max(found), flops / 1e12, peaks[key[3]] / 1e12,
                     flops / peaks[key[3]]])  # fmt: skip
    found = pd.DataFrame(rows, columns=COLUMNS)
    print(f"{machine.device_name(device)}: {args.backbone}, {args.height}x{args.width}, batch {args.batch_size}")
    print(found.to_string(index=False, float_format=lambda x: f"{x:.3g}"))
    print(summary(found))
    if args.csv:
        found.to_csv(args.csv, index=False)


if __name__ == "__main__":
    main()
