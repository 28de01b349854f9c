"""Images a second of our training against a plain PyTorch loop and torchreid, side by side in one run.

    python benchmarks/training/throughput.py --data-root data/embedded/smoke --backbone resnet50 \\
        --height 128 --width 64 --batch-size 16 --precision fp32 bf16 [--torchreid-python PATH] [--csv FILE]

Every row trains on Market-1501's training images of the data folder, from random weights, SGD with momentum, and
counts the images of its steady state (the first `--warm-up` seconds are left out). "plain loop" is what a tutorial
writes: torchvision's ResNet, a DataLoader of JPEG files with torchvision's transforms on all cores, loss.item() at
each iteration; its HCN computes the merged maps. torchreid runs in its own environment, whose Python is given.
The operations are counted exactly (flops.py), the peak is that of a large matrix product on this device, now.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
import torchvision
from flops import step_flops
from PIL import Image
from torchvision import transforms

from reid_core import datasets, model, provenance
from reid_core.datasets import table as tables
from reid_core.training import Recipe, batches, images
from reid_core.training.step import GraphStep, Step, losses, make_optimizer


def rate(step: Callable[[], None], batch_size: int, warm_up: float, seconds: float, wait: Callable) -> float:
    """Images a second of repeated steps, after `warm_up` seconds and at least three steps."""
    for count in itertools.count():
        if count == 0:
            begun = time.perf_counter()
        step()
        if count >= 2 and time.perf_counter() - begun > warm_up:
            break
    wait()
    begun = time.perf_counter()
    for count in itertools.count(1):
        step()
        if count % 5 == 0:
            wait()
        if time.perf_counter() - begun > seconds:
            break
    wait()
    return count * batch_size / (time.perf_counter() - begun)


def peak(device: torch.device, precision: str, wait: Callable) -> float:
    """Operations a second of a square matrix product in a precision."""
    n = 8192 if device.type == "cuda" else 2048
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    fastest = float("inf")
    for _ in range(8):
        wait()
        begun = time.perf_counter()
        a @ b
        wait()
        fastest = min(fastest, time.perf_counter() - begun)
    return 2 * n**3 / fastest


def our_step(name: str, recipe: Recipe, table: pd.DataFrame, root: Path, device: torch.device) -> Callable:
    torch.manual_seed(0)
    network = model.MODELS[name](
        int(table[tables.LABEL].max()) + 1, recipe.backbone, **recipe.network_settings()
    )
    network.to(device, memory_format=torch.channels_last).train()
    pixels = images.decoded(table, recipe.height, recipe.width, data_root=root).pixels
    source, sampler = batches.Batches(pixels, device), batches.Sampler(len(table), recipe)
    labels = torch.from_numpy(table[tables.LABEL].to_numpy(copy=True))
    runner = torch.compile(network) if recipe.compile else network
    kind = GraphStep if recipe.cuda_graph else Step
    step, counter = kind(runner, make_optimizer(network, recipe), recipe, source, labels), itertools.count()

    def once() -> None:
        iteration = next(counter)
        step(sampler.draw(iteration), min(iteration, recipe.iterations - 1))

    return once


class _Files(torch.utils.data.Dataset):
    def __init__(self, table: pd.DataFrame, height: int, width: int):
        self.paths, self.labels = list(table[tables.PATH]), table[tables.LABEL].to_numpy()
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
    classes = int(table[tables.LABEL].max()) + 1
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
        loss = losses(logits if isinstance(logits, dict) else {"r5": logits}, labels).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return once


def torchreid_rate(python: str, recipe: Recipe, root: Path, device: torch.device, args) -> float:
    script = Path(__file__).with_name("torchreid_peer.py")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "market1501").symlink_to(root.resolve())
        settings = {
            "root": folder,
            "backbone": recipe.backbone,
            "height": recipe.height,
            "width": recipe.width,
            "batch_size": recipe.batch_size,
            "workers": len(os.sched_getaffinity(0)),
            "warm_up": args.warm_up,
            "seconds": args.seconds,
            "device": device.type,
        }
        run = subprocess.run(
            [python, str(script), json.dumps(settings)], capture_output=True, text=True, check=False
        )
    if run.returncode:
        raise SystemExit(f"torchreid failed: {run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])["images_per_second"]


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
    parser.add_argument("--warm-up", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--torchreid-python")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()

    device = torch.device(args.device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    table = datasets.combine({"market1501": datasets.load("market1501", args.data_root)})
    classes, rows = int(table[tables.LABEL].max()) + 1, []

    def row(trainer: str, name: str, precision: str, heads: str, speed: float) -> None:
        sizes = {name: getattr(args, name) for name in ("backbone", "height", "width", "batch_size")}
        flops = step_flops(name, classes, heads=heads, **sizes) / args.batch_size * speed
        share = flops / peaks[precision]
        rows.append([trainer, name, heads, precision, speed, flops / 1e12, peaks[precision] / 1e12, share])
        print(f"{trainer:12}{name:10}{heads:8}{precision:6}{speed:10.1f} images/s{flops / 1e12:9.3f} TFLOP/s"
              f"{share:8.1%} of the peak", file=sys.stderr)  # fmt: skip

    peaks = {precision: peak(device, precision, wait) for precision in {*args.precision, "fp32"}}
    timing = args.batch_size, args.warm_up, args.seconds, wait
    for precision in args.precision:
        for name, heads in (("baseline", "pooled"), ("hcn", "pooled"), ("hcn", "plain")):
            recipe = Recipe(
                backbone=args.backbone, weights="random", batchnorm="live", height=args.height, width=args.width,
                batch_size=args.batch_size, precision=precision, heads=heads, cuda_graph=args.cuda_graph,
                compile=args.compile, iterations=1_000_000,
            )  # fmt: skip
            row(
                "ours",
                name,
                precision,
                heads,
                rate(our_step(name, recipe, table, args.data_root, device), *timing),
            )
    for name, heads in (("baseline", "pooled"), ("hcn", "plain")):
        row("plain loop", name, "fp32", heads, rate(plain_step(name, recipe, table, device), *timing))
    if args.torchreid_python:
        speed = torchreid_rate(args.torchreid_python, recipe, args.data_root, device, args)
        row("torchreid", "baseline", "fp32", "pooled", speed)

    columns = [
        "trainer",
        "model",
        "heads",
        "precision",
        "images/s",
        "TFLOP/s",
        "peak TFLOP/s",
        "share of peak",
    ]
    found = pd.DataFrame(rows, columns=columns)
    print(f"{provenance.device_name()}: {args.backbone}, {args.height}x{args.width}, batch {args.batch_size}")
    print(found.to_string(index=False, float_format=lambda x: f"{x:.3g}"))
    if args.csv:
        found.to_csv(args.csv, index=False)


if __name__ == "__main__":
    main()
