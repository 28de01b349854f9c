"""Convolutions of small maps: the products, tap by tap, against torch's own convolution and against loops."""

import copy

import pytest
import torch
from torch import nn

from reid_core import small_maps
from reid_core.model import HCN

SIZES = [(1, 1), (2, 1), (4, 2), (3, 2), (8, 4), (7, 3)]


def pair(k, stride, bias, dtype):
    """torch's convolution with random weights, and the same one here."""
    torch.manual_seed(0)
    theirs = nn.Conv2d(6, 5, k, stride, k // 2, bias=bias, dtype=dtype)
    ours = copy.deepcopy(theirs)
    small_maps.use(ours)
    assert type(ours) is small_maps.Conv2d
    return theirs, ours


def gradients(convolution, x):
    """Outputs, and the gradients of a sum of their squares by input and parameters."""
    x = x.clone().requires_grad_()
    y = convolution(x)
    return y, *torch.autograd.grad(y.square().sum(), (x, *convolution.parameters()))


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("k", "stride"), [(3, 1), (3, 2), (1, 1), (1, 2), (7, 2), (5, 3)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_outputs_and_gradients_are_torchs(k, stride, size, dtype, bound, channels_last):
    torch.manual_seed(1)
    x = torch.randn(3, 6, *size, dtype=dtype)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for bias in (True, False):
        theirs, ours = pair(k, stride, bias, dtype)
        ours.to(memory_format=layout)
        found = gradients(ours, x.to(memory_format=layout))
        for value, expected in zip(found, gradients(theirs, x), strict=True):
            assert (value - expected).abs().max() <= bound * max(1, expected.abs().max())
        with torch.inference_mode():
            alone = ours(x.to(memory_format=layout))
        assert alone.is_inference() and (alone - found[0]).abs().max() <= bound * max(1, found[0].abs().max())


def test_a_tap_is_left_out_just_where_it_reads_padding_alone():
    """Counted in a loop over positions: 1 of 3 columns and all rows at 2x1, everything at 4x2."""
    taps = small_maps._taps
    for height, width in SIZES:
        inputs = outputs = torch.zeros(1, height, width, 1)
        seen = sorted((tap[2], tap[3]) for tap, _, _ in taps(inputs, outputs, 3, 1))
        inside = {
            (i, j)
            for i in range(3)
            for j in range(3)
            for y in range(height)
            for x in range(width)
            if 0 <= y + i - 1 < height and 0 <= x + j - 1 < width
        }
        assert seen == sorted(inside)


def used(monkeypatch):
    """How often the products are computed from here on."""
    calls, apply = [], small_maps._Products.apply
    monkeypatch.setattr(small_maps._Products, "apply", lambda *args: calls.append(args) or apply(*args))
    return calls


def test_small_maps_alone_are_computed_here_and_neither_under_autocast_nor_for_other_convolutions(monkeypatch):
    calls = used(monkeypatch)
    _, ours = pair(3, 1, False, torch.float32)
    ours(torch.zeros(2, 6, 4, 2))
    assert len(calls) == 1
    ours(torch.zeros(2, 6, 3, 3))
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(torch.zeros(2, 6, 4, 2)).dtype == torch.bfloat16
    with torch.device("meta"):
        copy.deepcopy(ours).to("meta")(torch.zeros(2, 6, 4, 2))
    assert len(calls) == 1
    others = [
        nn.Conv2d(6, 6, 3, padding=1, groups=2),
        nn.Conv2d(6, 6, 3, padding=2, dilation=2),
        nn.Conv2d(6, 6, (3, 1), padding=(1, 0)),
        nn.Conv2d(6, 6, 3),
        nn.Conv2d(6, 6, 2, padding=1),
        nn.Conv2d(6, 6, 3, (1, 2), padding=1),
        nn.Conv2d(6, 6, 3, padding="same"),
        nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular"),
    ]
    for other in others:
        small_maps.use(other)
        assert type(other) is nn.Conv2d


def test_what_torch_refuses_is_refused_in_its_words():
    theirs, ours = pair(3, 2, False, torch.float32)
    for x in (torch.zeros(2, 6, 0, 2), torch.zeros(2, 5, 4, 4), torch.zeros(2, 6, 4, 4, dtype=torch.float64)):
        with pytest.raises(RuntimeError) as expected:
            theirs(x)
        with pytest.raises(RuntimeError) as found:
            ours(x)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("batchnorm", ["frozen", "live"])
def test_a_network_gives_what_it_gives_with_torchs_convolutions(batchnorm, monkeypatch):
    """Outputs and every gradient of HCN at profile smoke's size, in float64."""
    torch.manual_seed(0)
    ours = HCN(5, "resnet18", dropout=0.0, batchnorm=batchnorm).double().train()
    theirs = copy.deepcopy(ours)
    for module in theirs.modules():
        if type(module) is small_maps.Conv2d:
            module.__class__ = nn.Conv2d
    calls, found = used(monkeypatch), []
    images = torch.randn(4, 3, 64, 32, dtype=torch.float64)
    for network in (theirs, ours):
        outputs = network(images)
        sum(x.square().sum() for x in outputs.values()).backward()
        found.append([*outputs.values(), *(x.grad for x in network.parameters())])
        assert list(network.state_dict()) == list(ours.state_dict())
    for value, expected in zip(*found, strict=True):
        assert (value - expected).norm() <= 1e-12 * expected.norm()
    assert len(calls) == 12, "stages 3 and 4 with their shortcuts, and both laterals"
