"""Exact floating-point operations of the trainings of Table 4, and the time below which no device can do them.

    python benchmarks/training/flops.py [--tflops 989]

Counts every convolution and matrix product of forward and backward, two operations a multiply-add, by running the
step on tensors without data. Iterations are those of Zhong et al. (CVPR 2017): 75,000 for either form of CUHK03,
50,000 for Market-1501; the paper publishes none for the combined set, 75,000 is assumed. Batches of 16 at 224x224.
"""

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from reid_core import model
from reid_core.training.step import Objective

PEOPLE = {"CUHK03 detected": 767, "CUHK03 labeled": 767, "Market-1501": 751, "combined": 2489}
ITERATIONS = {"CUHK03 detected": 75_000, "CUHK03 labeled": 75_000, "Market-1501": 50_000, "combined": 75_000}
TABLE_4 = [("baseline", name) for name in list(PEOPLE)[:3]] + [("hcn", name) for name in PEOPLE]


def step_flops(
    model_name: str,
    num_classes: int,
    *,
    backbone: str = "resnet50",
    heads: str = "pooled",
    height: int = 224,
    width: int = 224,
    batch_size: int = 16,
) -> int:
    """Floating-point operations of one iteration, forward and backward, of one training."""
    with torch.device("meta"):
        network = model.MODELS[model_name](num_classes, backbone, heads=heads, batchnorm="frozen").train()
        images = torch.empty(batch_size, 3, height, width)
        labels = torch.empty(batch_size, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        Objective(model_name).losses(network(images), labels).sum().backward()
    return counter.get_total_flops()


def table_4(heads: str) -> dict[tuple[str, str], int]:
    """Floating-point operations of each training of Table 4, heads in the "pooled" or "plain" form."""
    return {(name, data): step_flops(name, PEOPLE[data], heads=heads) * ITERATIONS[data] for name, data in TABLE_4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tflops", type=float, default=989.0, help="peak of the device, 10^12 a second")
    peak = parser.parse_args().tflops * 1e12
    print(f"{'training':28}{'iterations':>12}{'plain':>12}{'pooled':>12}")
    plain, pooled = table_4("plain"), table_4("pooled")
    for name, data in TABLE_4:
        key = name, data
        print(f"{name + ', ' + data:28}{ITERATIONS[data]:12,}{plain[key]:12.4g}{pooled[key]:12.4g}")
    iterations = sum(ITERATIONS[data] for _, data in TABLE_4)
    for form, total in (("plain", sum(plain.values())), ("pooled", sum(pooled.values()))):
        print(f"all, {form}: {total:.4g} operations in {iterations:,} iterations, {total / peak / 60:.1f} minutes at "
              f"{peak / 1e12:.0f} TFLOP/s, {total / peak / iterations * 1e3:.2f} ms an iteration")  # fmt: skip


if __name__ == "__main__":
    main()
