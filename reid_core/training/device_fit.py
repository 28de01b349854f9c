"""What a device can do of what a recipe asks: precision, reproducible kernels, CUDA graphs; and what it cannot."""

import contextlib
import functools
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from reid_core.training.batches import Batches
from reid_core.training.recipe import Recipe

REDUCED = {"bf16": torch.bfloat16, "fp16": torch.float16}
_MAPS = ((4, 2), (2, 2), (8, 4), (7, 7))  # sizes of a ResNet's last maps, at which a convolution is tried
_CALLS = 4  # one may look right by chance
_WRONG = "bf16 convolutions are wrong on this processor, as on some virtual machines that offer AMX; the environment"
_WRONG += " variable ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16, set before Python starts, mends them"


def precision(recipe: Recipe, device: torch.device) -> str:
    """The precision of a recipe on a device: "auto" is bf16 where there are instructions for it that work, else fp32.

    Raises ValueError, with the remedy, for bf16 asked for by name on a processor that convolves wrongly in it."""
    if recipe.precision == "auto":
        return "bf16" if computes_bf16(device) and convolves_in_bf16(device) else "fp32"
    if recipe.precision == "bf16" and not convolves_in_bf16(device):
        raise ValueError(f'precision "bf16": {_WRONG}. Or take precision "fp32".')
    return recipe.precision


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16; without them it is emulated, slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@functools.cache
def convolves_in_bf16(device: torch.device) -> bool:
    """Whether small convolutions in bf16, forward and backward, agree with float32's; GPUs are trusted.

    Where they are wrong, they are so at some sizes only, by more than half or with NaN, and not in every call."""
    if device.type != "cpu":
        return True
    generator = torch.Generator().manual_seed(0)
    for height, width in _MAPS:
        for stride in (1, 2):
            images = torch.randn(8, 128, height, width, generator=generator)
            kernels = torch.randn(128, 128, 3, 3, generator=generator) / 34  # outputs of unit variance
            exact = _convolution(images, kernels, stride, torch.float32)
            for _ in range(_CALLS):
                for x, expected in zip(_convolution(images, kernels, stride, torch.bfloat16), exact, strict=True):
                    if not (x - expected).norm() < 0.05 * expected.norm():  # NaN is not smaller
                        return False
    return True


@torch.enable_grad()
def _convolution(images, kernels, stride: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """A convolution's outputs and the gradients of both operands, in float32, computed under autocast to `dtype`."""
    images, kernels = (x.clone(memory_format=torch.channels_last).requires_grad_() for x in (images, kernels))
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32, cache_enabled=False):
        outputs = F.conv2d(images, kernels, stride=stride, padding=1)
    outputs.float().square().sum().backward()
    return outputs.detach().float(), images.grad, kernels.grad


@contextlib.contextmanager
def generators(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Seed torch for the run and choose its kernels, afterwards as before; ValueError where none repeat their bits."""
    if recipe.deterministic and recipe.upsample == "bicubic" and device.type == "cuda":
        raise ValueError('No GPU repeats upsample "bicubic" to the bit: take "bilinear", or deterministic: false.')
    backend = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), backend.deterministic, backend.benchmark
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        torch.use_deterministic_algorithms(recipe.deterministic)
        backend.deterministic, backend.benchmark = recipe.deterministic, not recipe.deterministic
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0])
            backend.deterministic, backend.benchmark = before[1:]


def captures(recipe: Recipe, batches: Batches, processes: int) -> bool:
    """Whether the iterations are replayed as a CUDA graph: on one GPU on which the images are resident."""
    return recipe.cuda_graph and batches.device.type == "cuda" and batches.resident and processes == 1


def unfit(recipe: Recipe, batches: Batches, processes: int) -> list[str]:
    """What the batches' device cannot do as the recipe says, and what it does instead, a sentence each."""
    found, device = [], batches.device
    if recipe.cuda_graph and not captures(recipe, batches, processes):
        where = "with images that fill more than half of the free GPU memory"
        if device.type != "cuda" or processes > 1:
            where = f"on the {device.type.upper()}" if device.type != "cuda" else f"on {processes} processes"
        found.append(f"cuda_graph has no effect {where}; the iterations are the same, launched one by one.")
    if recipe.precision == "bf16" and not computes_bf16(device):
        found.append('This device emulates precision "bf16", slowly; "auto" or "fp32" is faster here.')
    if recipe.precision == "auto" and computes_bf16(device) and not convolves_in_bf16(device):
        found.append(f'precision "auto" takes fp32 here: {_WRONG}.')
    if recipe.precision == "fp16" and device.type == "cpu":
        found.append('precision "fp16" is meant for GPUs; "auto" or "fp32" is faster on the CPU.')
    return found
