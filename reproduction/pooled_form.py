"""Section 3.2 under average pooling: whether the heads know where in the maps anything was. Measured, not argued.

`reid_core.model` shows that averaging commutes with merging. Then the logits of the cross maps' heads are linear in the
means of the stages, and where in R3 and where in R5 something responded is not in them:

    C1's logits = A mean(R3) + B mean(R5) + c      A = W L,  B = W,  c = W l + b

W and b are C1's classifier, L and l its lateral; of C2 the same with R2 and R4. Two demonstrations on a trained
network, in float64 and always through the merged maps: its logits beside the formula's, and beside those of maps whose
places are shuffled, in each stage and image anew. Then both again with one setting changed. Nothing is trained for
that: the weights are the run's, and only those of a 3x3 are drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from reid_core import images, model
from reid_core.training import run_folder

SETTINGS = {"as trained": {}, "bilinear upsampling": {"upsample": "bilinear"},
            "maximum pooling": {"pooling": "maximum"}, "a ReLU after merging": {"merge_relu": True},
            "a 3x3 after merging": {"merge_conv3x3": True}}  # fmt: skip


@torch.inference_mode()
def demonstrate(run_dir: str | Path, paths: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """How far the formula and shuffled places are from the logits of a few images; a row a setting and cross map.

    Columns: setting, head, form (of `model.HCN.form`: "pooled" where the formula is said to hold), formula_difference
    and shuffle_difference (the largest over images and people, as a share of the largest logit, in two digits),
    people_changed (images in per cent whose likeliest person is another after the shuffle), images.
    Raises what `run_folder.load_network` raises, and ValueError for a broken image."""
    network, run = run_folder.load_network(run_dir)
    size, draw = (run["recipe"]["height"], run["recipe"]["width"]), torch.Generator().manual_seed(seed)
    streamed = images.streamed(list(paths), *size, batch_size=len(paths), device=torch.device("cpu"))
    maps = network.double().stages(next(streamed).double())
    shuffled, lines = {name: _shuffled(x, draw) for name, x in maps.items()}, []
    for setting, options in SETTINGS.items():
        other = _changed(network, options, seed)
        form, other.settings = other.form(*size), replace(other.settings, heads="plain")
        logits, after, expected = other(maps), other(shuffled), formula(other, maps)
        for head in other.merges:
            apart = [(x[head] - logits[head]).abs().max() / logits[head].abs().max() for x in (expected, after)]
            changed = (after[head].argmax(1) != logits[head].argmax(1)).double().mean()
            lines.append({
                "setting": setting, "head": head, "form": form,
                "formula_difference": float(f"{apart[0]:.2g}"), "shuffle_difference": float(f"{apart[1]:.2g}"),
                "people_changed": 100 * changed.item(), "images": len(paths),
            })  # fmt: skip
    return pd.DataFrame(lines)


def formula(network: model.HCN, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{cross map: logits (n, classes)} of its head by A mean(lower) + B mean(upper) + c.

    `maps`: the stages, {"r1": (n, channels, height, width), ...}; of a map merged before, the mean is its head's."""
    means = {name: x.mean((2, 3)) for name, x in maps.items()}  # (n, channels)
    logits = {}
    for name, (upper, lower) in network.merges.items():
        head, lateral = network.classifiers[name], network.laterals[name]
        weight = lateral.weight[:, :, 0, 0]
        means[name] = means[lower] @ weight.T + lateral.bias + means[upper]
        a, b, c = head.weight @ weight, head.weight, head.weight @ lateral.bias + head.bias
        b = 0 * b if network.settings.merging == "none" else b  # the control, to which nothing is added
        logits[name] = means[lower] @ a.T + means[upper] @ b.T + c
    return logits


def _changed(network: model.HCN, options: Mapping[str, object], seed: int) -> model.HCN:
    """The network with other settings and the same weights, in float64; it takes maps of the stages for images."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        settings = vars(replace(network.settings, **options, heads="pooled"))
        other = model.HCN(network.num_classes, network.backbone_name, **settings).double().eval()
    other.load_state_dict(other.state_dict() | network.state_dict())
    other.stages = lambda maps: maps
    return other


def _shuffled(x: Tensor, draw: torch.Generator) -> Tensor:
    """Maps (n, channels, height, width) with each image's places in another order, the same in all its channels."""
    order = torch.rand(len(x), 1, x[0, 0].numel(), generator=draw).argsort(2)
    return x.flatten(2).gather(2, order.expand(-1, x.shape[1], -1)).view_as(x)
