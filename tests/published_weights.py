"""Files of weights laid out as torchvision publishes its ResNets', written from their structure alone, by hand."""

from collections import OrderedDict

import torch

# Blocks of the four stages, convolutions' kernels in a block, and how many times a stage's width its output has.
_RESNETS = {
    "resnet18": ((2, 2, 2, 2), (3, 3), 1),
    "resnet34": ((3, 4, 6, 3), (3, 3), 1),
    "resnet50": ((3, 4, 6, 3), (1, 3, 1), 4),
    "resnet101": ((3, 4, 23, 3), (1, 3, 1), 4),
}
TENSORS = {"resnet18": 102, "resnet34": 182, "resnet50": 267, "resnet101": 522}


def state(backbone: str) -> OrderedDict:
    """Seeded random weights under the names of IMAGENET1K_V1: Parameters and buffers, no num_batches_tracked."""
    generator, found = torch.Generator().manual_seed(0), OrderedDict()

    def convolution(name: str, n: int, outputs: int, inputs: int, kernel: int) -> None:
        spread = (2 / (inputs * kernel**2)) ** 0.5
        weights = torch.randn(outputs, inputs, kernel, kernel, generator=generator) * spread
        found[f"{name}conv{n}.weight" if n else f"{name}0.weight"] = torch.nn.Parameter(weights)
        bn = f"{name}bn{n}" if n else f"{name}1"
        found[f"{bn}.running_mean"] = torch.zeros(outputs)
        found[f"{bn}.running_var"] = torch.ones(outputs)
        found[f"{bn}.weight"] = torch.nn.Parameter(torch.full((outputs,), 0.5))
        found[f"{bn}.bias"] = torch.nn.Parameter(torch.zeros(outputs))

    stages, kernels, widening = _RESNETS[backbone]
    convolution("", 1, 64, 3, 7)
    inputs = 64
    for stage, blocks in enumerate(stages):
        width = 64 * 2**stage
        for block in range(blocks):
            name, ins = f"layer{stage + 1}.{block}.", inputs
            for n, kernel in enumerate(kernels, 1):
                outputs = width * (widening if n == len(kernels) else 1)
                convolution(name, n, outputs, ins, kernel)
                ins = outputs
            if block == 0 and inputs != outputs:
                convolution(f"{name}downsample.", 0, outputs, inputs, 1)
            inputs = outputs
    found["fc.weight"] = torch.nn.Parameter(torch.randn(1000, inputs, generator=generator) * 0.01)
    found["fc.bias"] = torch.nn.Parameter(torch.zeros(1000))
    return found
