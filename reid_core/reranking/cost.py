"""What re-ranking will take in memory and time, before it starts."""

import timeit
from dataclasses import dataclass

import torch

from reid_core.distance import inner_products

SECONDS_A_PAIR = {"cpu": 6e-9, "cuda": 2e-11}  # looking at one distance; of one core, by 3,000 to 18,000 images
SECONDS_AN_IMAGE = {"cpu": 4e-5, "cuda": 5e-6}  # everything sparse, likewise; the product comes on top
WORKSPACE = {"cpu": 400 << 20, "cuda": 5 << 30}
ENTRIES_A_NEIGHBOUR = 8  # entries of an expanded, averaged vector for each of the k1 neighbours


@dataclass(frozen=True)
class Cost:
    """Memory in bytes beyond the features given, multiplications' flops, and pairs of images looked at."""

    memory: int
    flops: int
    pairs: int
    images: int
    device: torch.device

    def seconds(self) -> float:
        """Expected time, from a matrix product timed now on the device; within about a factor of two."""
        kind = "cpu" if self.device.type == "cpu" else "cuda"
        rate = product_rate(self.device)
        return self.flops / rate + self.pairs * SECONDS_A_PAIR[kind] + self.images * SECONDS_AN_IMAGE[kind]


def estimate(n_query, n_gallery, dimensions, *, k1=20, projected=None, device="cpu", holds_result=True) -> Cost:
    """Cost of k_reciprocal, which is linear in the images but for the pairs it looks at.

    One copy of the features on the device counts. `projected`: dimensions kept by the metric; `holds_result`: whether
    the (Q, G) result lies there, too."""
    n, device = n_query + n_gallery, torch.device(device)
    on_cpu = device.type == "cpu"
    values_an_image = dimensions + 2 * (projected or 0) + 16 * (k1 + 1) + 8 * ENTRIES_A_NEIGHBOUR * k1
    values_an_image += (2 * projected if projected else dimensions) * (device.type == "cuda")  # factors cut to TF32
    memory = 4 * n * values_an_image + WORKSPACE["cpu" if on_cpu else "cuda"]
    memory += 4 * n_query * n_gallery if holds_result else 0
    pairs = n * (n + 1) // 2 if on_cpu else n * n  # the CPU uses the symmetry
    flops = 2 * (pairs + (0 if holds_result else n_query * n_gallery)) * (projected or dimensions)
    return Cost(memory, flops, pairs, n, device)


def product_rate(device) -> float:
    """Flops a second of a float32 matrix product on the device, measured in a few hundredths of a second."""
    rows, columns = torch.ones(512, 2048, device=device), torch.ones(4096, 2048, device=device)
    seconds = min(timeit.repeat(lambda: float(inner_products(rows, columns)[0, 0]), number=1, repeat=3))
    return 2 * 512 * 4096 * 2048 / seconds
