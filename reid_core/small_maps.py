"""Convolutions of small maps on the CPU: matrix products, one a tap of the kernel, without those that see padding only.

At 64x32 a ResNet's last two stages have maps of 4x2 and 2x1 positions. There 44% and 78% of a 3x3 convolution's
multiplications have a zero of the padding as factor, and oneDNN, which computes them, spends longer still on bringing
the kernels into its own layout than on multiplying. The results are the same up to rounding;
benchmarks/training/step.py measures what it gains.
"""

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_POSITIONS = 8  # of the output; from 16 on the two are about as fast


class Conv2d(nn.Conv2d):
    """torch's; of few output positions computed here, on the CPU, outside autocast and compilation."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) as from nn.Conv2d, of the same input, channels last."""
        expected = (4, self.in_channels, self.weight.dtype, "cpu")  # of all else torch says what is wrong
        if torch.compiler.is_compiling() or (x.ndim, *x.shape[1:2], x.dtype, x.device.type) != expected:
            return super().forward(x)
        if not 0 < math.prod(_sizes(x, self.stride[0])) <= _POSITIONS or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        y = _Products.apply(x, self.weight, self.stride[0])
        return y if self.bias is None else y + self.bias[:, None, None]


def use(network: nn.Module) -> None:
    """Turn the convolutions of a ResNet into these, others not; weights, names and random numbers stay torch's."""
    for module in network.modules():
        if type(module) is nn.Conv2d and (module.groups, *module.dilation, module.padding_mode) == (1, 1, 1, "zeros"):
            (k, width), (stride, across) = module.kernel_size, module.stride
            if k == width and k % 2 and stride == across and module.padding == (k // 2, k // 2):
                module.__class__ = Conv2d


def _sizes(x: Tensor, stride: int) -> list[int]:
    """Height and width of the output."""
    return [(size - 1) // stride + 1 for size in x.shape[2:]]


class _Products(torch.autograd.Function):
    """Cross-correlation of (n, channels, height, width) by a (filters, channels, k, k) kernel, padded by k // 2."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        inputs, outputs = x.permute(0, 2, 3, 1), x.new_zeros(len(x), *_sizes(x, stride), len(weight))
        for tap, there, here in _taps(inputs, outputs, weight.shape[2], stride):
            outputs[here] += inputs[there] @ weight[tap].T  # flattened it is faster, but rounds otherwise
        return outputs.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and weight, in their shapes, from that of the outputs (n, filters, rows, columns)."""
        x, weight = ctx.saved_tensors
        inputs, outputs = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
        of_inputs = torch.zeros_like(inputs) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for tap, there, here in _taps(inputs, outputs, weight.shape[2], ctx.stride):
            part = outputs[here]
            if of_inputs is not None:
                of_inputs[there] += part @ weight[tap]
            if of_weight is not None:
                of_weight[tap] = part.flatten(0, 2).T @ inputs[there].flatten(0, 2)
        return None if of_inputs is None else of_inputs.permute(0, 3, 1, 2), of_weight, None


def _taps(inputs: Tensor, outputs: Tensor, k: int, stride: int) -> Iterator[tuple]:
    """Each tap of a k x k kernel as an index of the kernel, the positions that it reads and those that it adds to."""
    whole, (_, height, width, _), (_, rows, columns, _) = slice(None), inputs.shape, outputs.shape
    for i, j in itertools.product(range(k), repeat=2):
        down, right = _overlap(height, rows, i - k // 2, stride), _overlap(width, columns, j - k // 2, stride)
        if down and right:
            yield (whole, whole, i, j), (whole, down[0], right[0]), (whole, down[1], right[1])


def _overlap(size: int, count: int, shift: int, stride: int) -> tuple[slice, slice] | None:
    """Where a tap reads in a line of `size` inputs, and where it adds to `count` outputs; None for padding alone."""
    first, end = max(0, -(shift // stride)), min(count, (size - 1 - shift) // stride + 1)
    if first >= end:
        return None
    return slice(first * stride + shift, (end - 1) * stride + shift + 1, stride), slice(first, end)
