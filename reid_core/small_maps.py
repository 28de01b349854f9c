"""Convolutions of small maps on the CPU: matrix products, one a tap of the kernel, without those that see padding only.

At 64x32 a ResNet's last two stages have maps of 4x2 and 2x1 positions. There 44% and 78% of a 3x3 convolution's
multiplications have a zero of the padding as factor, and oneDNN, which computes them, spends longer still on bringing
the kernels into its own layout than on multiplying. The results are the same up to rounding;
benchmarks/training/step.py measures what it gains.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_POSITIONS = 8  # of the output; from 16 on the two are about as fast


class Conv2d(nn.Conv2d):
    """torch's; of few output positions computed here, on the CPU, outside autocast and compilation."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) as from nn.Conv2d, of the same input, channels last."""
        if self._fits(x) and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            y = _Products.apply(x, self.weight, self.stride[0], self.padding[0])
            return y if self.bias is None else y + self.bias[:, None, None]
        return super().forward(x)

    def _fits(self, x: Tensor) -> bool:
        """Whether torch would take the input, and the output has few positions."""
        expected = (4, self.in_channels, self.weight.dtype)
        if torch.compiler.is_compiling() or (x.ndim, *x.shape[1:2], x.dtype) != expected:
            return False
        height, width = _sizes(x, self.kernel_size[0], self.stride[0], self.padding[0])
        return min(height, width) > 0 and height * width <= _POSITIONS


def _sizes(x: Tensor, k: int, stride: int, padding: int) -> tuple[int, int]:
    """Height and width of the output."""
    return tuple((size + 2 * padding - k) // stride + 1 for size in x.shape[2:])


def use(network: nn.Module) -> None:
    """Turn the network's plain square convolutions into these; weights, names and random numbers stay torch's."""
    for module in network.modules():
        if type(module) is nn.Conv2d and (module.groups, *module.dilation, module.padding_mode) == (1, 1, 1, "zeros"):
            if all(len(set(x)) == 1 for x in (module.kernel_size, module.stride, module.padding)):
                module.__class__ = Conv2d


class _Products(torch.autograd.Function):
    """Cross-correlation of (n, channels, height, width) with a (filters, channels, k, k) kernel, zeros around it."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.steps = stride, padding
        inputs = x.permute(0, 2, 3, 1)
        outputs = x.new_zeros(len(x), *_sizes(x, weight.shape[2], stride, padding), len(weight))
        for tap, there, here in _taps(inputs, outputs, weight.shape[2], stride, padding):
            outputs[here] += inputs[there] @ weight[tap].T
        return outputs.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        inputs, outputs = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
        of_x = torch.zeros_like(inputs) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for tap, there, here in _taps(inputs, outputs, weight.shape[2], *ctx.steps):
            part = outputs[here]
            if of_x is not None:
                of_x[there] += part @ weight[tap]
            if of_weight is not None:
                of_weight[tap] = part.flatten(0, 2).T @ inputs[there].flatten(0, 2)
        return None if of_x is None else of_x.permute(0, 3, 1, 2), of_weight, None, None


def _taps(inputs: Tensor, outputs: Tensor, k: int, stride: int, padding: int) -> Iterator[tuple]:
    """Each tap of a k x k kernel as an index of the kernel, the positions that it reads and those that it adds to."""
    for i, j in itertools.product(range(k), repeat=2):
        ways = [
            _overlap(inputs.shape[axis], outputs.shape[axis], tap - padding, stride) for axis, tap in ((1, i), (2, j))
        ]
        if all(ways):
            there, here = zip(*ways, strict=True)
            yield (slice(None), slice(None), i, j), (slice(None), *there), (slice(None), *here)


def _overlap(size: int, count: int, shift: int, stride: int) -> tuple[slice, slice] | None:
    """Where a tap reads in a line of `size` inputs, and where it adds to `count` outputs; None for padding alone."""
    first, end = max(0, -(shift // stride)), min(count, (size - 1 - shift) // stride + 1)
    if first >= end:
        return None
    return slice(first * stride + shift, (end - 1) * stride + shift + 1, stride), slice(first, end)
