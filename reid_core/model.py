"""Section 3.2: the ResNet-50 baseline and the Hierarchical Cross Network (HCN), one file.

The paper, in short. R2..R5 are the outputs of the last block of ResNet-50's four stages. Two hierarchical
cross maps merge levels that have one level between them, by element-wise addition of the upsampled upper map
and of the lower map, which a 1x1 convolution (the lateral) widens to the upper map's channels:

    C1 = lateral(R3) + upsample(R5)         C2 = lateral(R2) + upsample(R4)

    ResNet-50 at 224x224, (channels, height, width): R2 (256, 56, 56), R3 (512, 28, 28), R4 (1024, 14, 14),
    R5 (2048, 7, 7); C1 (2048, 28, 28) widens R3 and upsamples R5 4x, C2 (1024, 56, 56) widens R2, upsamples R4 4x

Each of R5, C1, C2 is pooled, dropped out and classified; the retrieval feature is R5's pooled map. The baseline
is the same network with R5's head alone.

**Pooled form.** C1 and C2 are only ever averaged over space. The average of a sum is the sum of averages; a 1x1
convolution is the same linear map everywhere, so it commutes with the average; and upsampling by an integer
factor keeps the average (nearest: each value is repeated; bilinear with align_corners=False: the weights of
each input value sum to the factor, the clamped borders included). So

    mean(C1) = lateral(mean(R3)) + mean(R5)

exactly, up to rounding, at almost no cost, where the plain form adds 40% to ResNet-50's multiply-adds. The
network uses the pooled form where that holds, and the plain form elsewhere: align_corners=True, bicubic, a ReLU
or a 3x3 convolution after merging, maximum pooling, a factor that is not an integer, or `heads="plain"`.
"""

from dataclasses import dataclass, fields
from typing import Literal, get_args

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from reid_core import small_maps
from reid_core.weight_files import load_backbone

__all__ = ["BACKBONES", "HCN", "HEADS", "MODELS", "Dropout", "ResNet50Baseline", "Settings", "load_backbone"]

HEADS = ("r5", "c1", "c2")
BACKBONES = tuple(n for n in torchvision.models.list_models(module=torchvision.models) if "resne" in n)
_STAGES = {"r2": "layer1", "r3": "layer2", "r4": "layer3", "r5": "layer4"}
_MERGES = {  # (upper map, lower map) of C1, C2, ...; the last one of each list merges conv1's map, R1
    "skip": (("r5", "r3"), ("r4", "r2"), ("r3", "r1")),
    "adjacent": (("r5", "r4"), ("c1", "r3"), ("c2", "r2"), ("c3", "r1")),
}
_MERGES["none"] = _MERGES["skip"]  # the same convolutions and classifiers; the upper map is not added


@dataclass(frozen=True)
class Settings:
    """What the paper leaves open about the network, explained setting by setting. The defaults read it literally."""

    dropout: float = 0.5  # rate before each classifier; the paper does not say, 0.5 as in Zhong et al.'s baseline
    # "skip": Section 3.2. "adjacent": FPN's, from the coarsest level to the finest, which Section 3.2 argues against:
    # C1 = R4 + R5, C2 = R3 + C1, C3 = R2 + C2, each 2048 wide. "none": a control, auxiliary heads on single maps:
    # C1 = lateral(R3), C2 = lateral(R2), with the parameters of "skip" (laterals and classifiers, of the same names,
    # shapes and initial values; what is left out, the addition of R5 and of R4, has none); nothing is upsampled.
    merging: Literal["skip", "adjacent", "none"] = "skip"
    conv1_level: bool = False  # also merge R1, the output of conv1, into one more map; Section 3.2: does not help
    upsample: Literal["nearest", "bilinear", "bicubic"] = "nearest"  # the paper does not say; as in FPN
    align_corners: bool = False  # of bilinear and bicubic upsampling
    merge_relu: bool = False  # a ReLU after merging; none is mentioned
    merge_conv3x3: bool = False  # FPN's 3x3 convolution on each merged map; none is mentioned
    pooling: Literal["average", "maximum"] = "average"  # of all heads, R5 included; as in ResNet's pool5
    heads: Literal["pooled", "plain"] = "pooled"  # the pooled form where it is exact; always through the merged maps
    # "live": batch statistics in training. "frozen": the stored statistics throughout, while scale and bias train
    # (the released toolchain of Zhong et al., CVPR 2017).
    batchnorm: Literal["live", "frozen"] = "live"

    def __post_init__(self):
        for field in fields(Settings):
            choices, value = get_args(field.type), getattr(self, field.name)
            if choices and value not in choices:
                raise ValueError(f"{field.name} must be one of {', '.join(choices)}, not {value!r}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout}.")
        if self.align_corners and self.upsample == "nearest":
            raise ValueError('align_corners applies to upsample "bilinear" or "bicubic", not to "nearest".')


class Dropout(nn.Module):
    """Dropout of (n, d) features whose mask is drawn for the global batch.

    `shard = (rank, processes)`: with several processes, each draws the mask of all their batches from its
    equally seeded generator and takes its own rows, so their number does not change the training."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate, self.shard = rate, (0, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        rank, processes = self.shard
        n, d = x.shape
        draws = torch.rand(n * processes, d, device=x.device)[rank * n : (rank + 1) * n]
        return x * (draws >= self.rate) / (1 - self.rate)


class _Network(nn.Module):
    """A torchvision ResNet with one classifier for R5 and one for each merged map."""

    def __init__(self, num_classes: int, backbone: str, settings: Settings, merges):
        super().__init__()
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(f"num_classes must be the number of training people, 2 or more, not {num_classes!r}.")
        self.num_classes, self.backbone_name, self.settings = num_classes, backbone, settings
        self.backbone = _backbone(backbone)
        widths = {"r1": self.backbone.bn1.num_features}
        for name, stage in _STAGES.items():
            convolutions = [m for m in getattr(self.backbone, stage)[-1].modules() if isinstance(m, nn.Conv2d)]
            widths[name] = convolutions[-1].out_channels
        self.merges = {f"c{i}": pair for i, pair in enumerate(merges, 1)}
        for name, (upper, _) in self.merges.items():
            widths[name] = widths[upper]
        self.widths = {name: widths[name] for name in ("r5", *self.merges)}

        # R5's head is drawn first, so that baseline and HCN start from the same numbers under the same seed.
        self.classifiers = nn.ModuleDict({n: _classifier(d, num_classes) for n, d in self.widths.items()})
        laterals = {n: nn.Conv2d(widths[lower], widths[n], 1) for n, (_, lower) in self.merges.items()}
        after = {n: nn.Conv2d(widths[n], widths[n], 3, padding=1) for n in self.merges if settings.merge_conv3x3}
        self.laterals, self.after = nn.ModuleDict(laterals), nn.ModuleDict(after)
        for convolution in (*self.laterals.values(), *self.after.values()):
            nn.init.kaiming_uniform_(convolution.weight, a=1)  # FPN's; the paper does not say
            nn.init.zeros_(convolution.bias)
        self.dropout = Dropout(settings.dropout)
        small_maps.use(self)

    def train(self, mode: bool = True):
        """Training mode; with `batchnorm="frozen"` the backbone's BatchNorm keeps its stored statistics."""
        super().train(mode)
        if self.settings.batchnorm == "frozen":
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits (n, num_classes) of each head, "r5" first, of normalised images (n, 3, height, width)."""
        return {name: self.classifiers[name](self.dropout(x.flatten(1))) for name, x in self.pooled(images).items()}

    def features(self, images: Tensor, output: str = "r5") -> Tensor:
        """Pooled map (n, d) of one head, not normalised; the paper retrieves with R5's (Section 3.2)."""
        if output not in self.widths:
            raise ValueError(f"This network has the outputs {', '.join(self.widths)}, not {output!r}.")
        if output == "r5":
            return self._pool(self.stages(images)["r5"])
        return self.pooled(images)[output]

    def pooled(self, images: Tensor) -> dict[str, Tensor]:
        """Pooled map (n, d) of every head, in the form that `form(height, width)` names."""
        maps = self.stages(images)
        if not self._commutes({name: x.shape[-2:] for name, x in maps.items()}):
            return {name: self._pool(x) for name, x in self._merge(maps).items()}
        levels = {"r5", *(level for pair in self.merges.values() for level in pair if level in maps)}
        means = {name: maps[name].mean((2, 3), keepdim=True) for name in levels}
        for name, (upper, lower) in self.merges.items():
            x = self.laterals[name](means[lower])  # (n, d, 1, 1)
            means[name] = x if self.settings.merging == "none" else x + means[upper]
        return {name: means[name].flatten(1) for name in self.widths}

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps (n, channels, height, width): the stages r1..r5 and, in the plain form, c1, c2."""
        maps = self.stages(images)
        return maps | self._merge(maps)

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The backbone's maps r1 (conv1 with BatchNorm and ReLU, before its max-pooling) to r5."""
        net = self.backbone
        maps = {"r1": net.relu(net.bn1(net.conv1(images)))}
        x = net.maxpool(maps["r1"])
        for name, stage in _STAGES.items():
            x = maps[name] = getattr(net, stage)(x)
        return maps

    def form(self, height: int, width: int) -> str:
        """The form of the heads at an input size: "pooled" where exact and not switched off, else "plain"."""
        sizes = {"r0": (height, width)}
        for i in range(1, 6):  # each of conv1, max-pooling (before R2) and stages 2-4 halves, rounding up
            sizes[f"r{i}"] = tuple((x + 1) // 2 for x in sizes[f"r{i - 1}"])
        return "pooled" if self._commutes(sizes) else "plain"

    def _commutes(self, sizes: dict[str, tuple[int, int]]) -> bool:
        """Whether averaging commutes with every merge, for maps of these (height, width)."""
        s, sizes = self.settings, dict(sizes)
        if s.heads == "plain" or s.merge_relu or s.merge_conv3x3 or s.pooling == "maximum":
            return False
        if s.merging == "none":  # nothing is upsampled
            return True
        if s.upsample == "bicubic" or s.align_corners:
            return False
        for name, (upper, lower) in self.merges.items():
            sizes[name] = sizes[lower]
            if any(fine % coarse for fine, coarse in zip(sizes[lower], sizes[upper], strict=True)):
                return False
        return True

    def _merge(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        """R5 and the merged maps, plain form. A 3x3 or a ReLU acts on what is pooled, not on what is merged."""
        s, merged, outputs = self.settings, dict(maps), {"r5": maps["r5"]}
        for name, (upper, lower) in self.merges.items():
            x = self.laterals[name](merged[lower])  # upper's channels, lower's size
            if s.merging != "none":
                corners = None if s.upsample == "nearest" else s.align_corners
                x = x + F.interpolate(merged[upper], size=x.shape[-2:], mode=s.upsample, align_corners=corners)
            merged[name] = x
            if s.merge_conv3x3:
                x = self.after[name](x)
            outputs[name] = F.relu(x) if s.merge_relu else x
        return outputs

    def _pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if self.settings.pooling == "average" else x.amax((2, 3))


class ResNet50Baseline(_Network):
    """The identity classifier of Zhong et al., CVPR 2017 (ref. [13]): a ResNet, dropout, one classifier.

    Weights are random; `load_backbone` brings ImageNet's.

    Parameters
    ----------
    num_classes : training identities.
    backbone : a ResNet of torchvision, "resnet50" in the paper.
    options : the fields of Settings.

    Raises ValueError for a backbone, an option or a value that does not exist.

    >>> net = ResNet50Baseline(10, backbone="resnet18")
    >>> {name: tuple(x.shape) for name, x in net(torch.zeros(2, 3, 64, 32)).items()}
    {'r5': (2, 10)}
    """

    def __init__(self, num_classes: int, backbone: str = "resnet50", **options):
        super().__init__(num_classes, backbone, _settings(options), merges=())


class HCN(_Network):
    """Hierarchical Cross Network, Section 3.2: the baseline with one more classifier on each cross map.

    The widths follow the backbone: for ResNet-50, 2048 for R5 and C1 and 1024 for C2.

    Parameters
    ----------
    num_classes, backbone, options : as for ResNet50Baseline, with the same errors.

    >>> net = HCN(10, backbone="resnet18", merge_relu=True)
    >>> {name: tuple(x.shape) for name, x in net(torch.zeros(2, 3, 64, 32)).items()}
    {'r5': (2, 10), 'c1': (2, 10), 'c2': (2, 10)}
    >>> net.features(torch.zeros(2, 3, 64, 32)).shape, net.form(64, 32)
    (torch.Size([2, 512]), 'plain')
    """

    def __init__(self, num_classes: int, backbone: str = "resnet50", **options):
        settings = _settings(options)
        merges = _MERGES[settings.merging]
        super().__init__(num_classes, backbone, settings, merges if settings.conv1_level else merges[:-1])


MODELS = {"baseline": ResNet50Baseline, "hcn": HCN}


def _classifier(width: int, num_classes: int) -> nn.Linear:
    """Gaussian weights of standard deviation 0.001 and zero bias, as in the released toolchain of Zhong et al."""
    classifier = nn.Linear(width, num_classes)
    nn.init.normal_(classifier.weight, std=0.001)
    nn.init.zeros_(classifier.bias)
    return classifier


def _settings(options: dict) -> Settings:
    known = [field.name for field in fields(Settings)]
    if unknown := options.keys() - set(known):
        raise ValueError(f"Unknown network option {min(unknown)!r}; there are {', '.join(known)}.")
    return Settings(**options)


def _backbone(name: str) -> nn.Module:
    if name not in BACKBONES:
        raise ValueError(f"Unknown backbone {name!r}; torchvision has {', '.join(BACKBONES)}.")
    backbone = torchvision.models.get_model(name, weights=None)
    del backbone.fc, backbone.avgpool
    return backbone
