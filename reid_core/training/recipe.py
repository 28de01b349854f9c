"""The training recipe: every setting of a run, checked when it is made."""

import difflib
import math
import types
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin

from torch import nn

from reid_core import model


@dataclass(frozen=True)
class Recipe(model.Settings):
    """Every setting of a run. The defaults are as near as is public to the recipe behind Table 3 for Market-1501.

    That recipe is Zhong et al.'s (CVPR 2017, ref. [13]) for their ResNet-50 baseline: 224x224 squashed, mirror,
    batches of 16 from a shuffled set, SGD with momentum 0.9 and weight decay 5e-4, learning rate 1e-3 divided by
    10 every 20,000 iterations to 50,000 (CUHK03: every 15,000 to 75,000), frozen BatchNorm statistics, dropout
    0.5. The paper gives HCN no recipe of its own, nor one for the combined set; the same one is used.

    Each setting is explained where its default stands, those of the network in `reid_core.model.Settings`.
    Raises TypeError for a value of a wrong type and ValueError for one out of range, naming the setting.

    >>> Recipe(base_lr="1e-3")
    Traceback (most recent call last):
    TypeError: base_lr must be a number, not the text '1e-3'; in YAML write 0.001 or 1.0e-3, without quotes.
    """

    backbone: str = "resnet50"  # a ResNet of torchvision
    weights: str = "imagenet"  # torchvision's IMAGENET1K_V1; "random"; or the path of a local file
    batchnorm: Literal["frozen", "live"] = "frozen"
    # Of r5, c1, c2 in the sum of the losses, further heads take the last one's; the paper does not say: equal.
    loss_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    height: int = 224  # of the input, in pixels; the aspect is not kept
    width: int = 224
    mirror: bool = True  # each image with probability 0.5
    # Shift each image by up to so many pixels each way, the border in the mean colour; useful from scratch.
    crop_padding: int = 0
    erasing: float = 0.0  # probability of blanking a random rectangle of 2-20% of the area
    batch_size: int = 16  # images an iteration, over all processes
    iterations: int = 50_000
    base_lr: float = 1e-3  # the highest learning rate
    lr_schedule: Literal["step", "cosine"] = "step"  # times lr_gamma every lr_step iterations; half a cosine to zero
    lr_step: int = 20_000
    lr_gamma: float = 0.1
    lr_warmup: int = 0  # iterations of linear rise to base_lr
    # Of SGD; classifier biases take twice the learning rate and no decay, as published.
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    # On GPUs fp32's convolutions may use TF32, PyTorch's default; bf16 and fp16 are autocast, fp16 with loss scaling;
    # "auto" is bf16 where the device computes in it, else fp32; run.json says which.
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    seed: int = 0  # of initial weights, order of the images, augmentation and dropout
    deterministic: bool = False  # reproducible kernels, also on GPUs, at some cost in speed
    compile: bool = False  # torch.compile the network; pays on GPUs in long runs
    # Replay the iteration as one CUDA graph: one GPU with room for the decoded images, not with fp16; elsewhere
    # without effect, which the run says and run.json records.
    cuda_graph: bool = False
    checkpoint_every: int = 1000  # iterations

    def __post_init__(self):
        # Frozen, it refuses assignment; its dict takes the settings as numbers and tuples that compare and hash.
        vars(self).update({f.name: _typed(f.name, getattr(self, f.name), f.type) for f in fields(self)})
        super().__post_init__()
        for name in ("height", "width", "batch_size", "iterations", "lr_step", "checkpoint_every"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("crop_padding", "lr_warmup", "weight_decay", "seed"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("base_lr", "lr_gamma"):
            self._require(name, getattr(self, name) > 0, "above 0")
        self._require("momentum", 0 <= self.momentum < 1, "at least 0 and below 1")
        self._require("erasing", 0 <= self.erasing <= 1, "between 0 and 1")
        self._require("lr_warmup", self.lr_warmup < self.iterations, "below the number of iterations")
        self._require("nesterov", not self.nesterov or self.momentum > 0, "false without momentum")
        w = self.loss_weights
        self._require("loss_weights", w and w[0] > 0 and min(w) >= 0, "[r5, c1, c2], r5's above 0")
        if min(self.height, self.width) < 32:
            raise ValueError(f"height and width must be at least 32, not {self.height} and {self.width}.")
        if self.weights == "random" and self.batchnorm == "frozen":
            why = 'batchnorm "frozen" keeps the statistics of pretrained weights, and weights "random" have none'
            raise ValueError(f'{why}: set batchnorm to "live", or weights to "imagenet" or a local file.')
        if self.weights not in ("imagenet", "random") and self.weights.lower() in ("imagenet", "random"):
            raise ValueError(f"weights is {self.weights!r}; did you mean {self.weights.lower()!r}?")
        if self.cuda_graph and self.precision == "fp16":
            raise ValueError('cuda_graph does not go with precision "fp16"; use "bf16" or "fp32".')
        if self.backbone not in model.BACKBONES:
            what = f"backbone {self.backbone!r} is unknown{_suggestion(self.backbone, model.BACKBONES)}"
            raise ValueError(f"{what}. There are the ResNets of torchvision: {', '.join(model.BACKBONES)}.")
        if self.batchnorm == "live" and self.batch_size == 1 and max(self.height, self.width) <= 32:
            found = f'batchnorm "live" with batch_size 1 at {self.height}x{self.width} leaves one value a channel in'
            remedy = 'take a larger batch_size, larger images, or batchnorm "frozen"'
            raise ValueError(f"{found} the last map, which has no variance: {remedy}.")

    def _require(self, name: str, condition: bool, words: str) -> None:
        if not condition:
            raise ValueError(f"{name} must be {words}, not {getattr(self, name)!r}.")

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> "Recipe":
        """The recipe of these settings, the others' defaults; ValueError for an unknown one, with the closest known."""
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                what = f"Unknown setting {name!r}{_suggestion(str(name), known)}"
                raise ValueError(f"{what}. There are {', '.join(known)}.")
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON and YAML hold them; `from_dict` takes them back."""
        return asdict(self) | {"loss_weights": list(self.loss_weights)}

    def network_settings(self) -> dict[str, Any]:
        """The options of `model.HCN` and `model.ResNet50Baseline`."""
        return {field.name: getattr(self, field.name) for field in fields(model.Settings)}

    def network(self, name: str, num_classes: int) -> nn.Module:
        """The network "baseline" or "hcn" for so many people, with random weights from torch's global generator."""
        return model.MODELS[name](num_classes, self.backbone, **self.network_settings())

    def learning_rate(self, iteration: int) -> float:
        """The learning rate of iteration 0, 1, ..."""
        if iteration < self.lr_warmup:
            return self.base_lr * (iteration + 1) / self.lr_warmup
        if self.lr_schedule == "step":
            return self.base_lr * self.lr_gamma ** (iteration // self.lr_step)
        done = (iteration - self.lr_warmup) / (self.iterations - self.lr_warmup)
        return self.base_lr * (1 + math.cos(math.pi * done)) / 2

    def loss_weight(self, head: int) -> float:
        """The weight of head 0 (r5), 1 (c1), 2 (c2), ..."""
        return self.loss_weights[min(head, len(self.loss_weights) - 1)]

    def differences(self, other: dict[str, Any]) -> list[str]:
        """How saved settings differ from these, one "name: theirs, not ours" each."""
        own = self.to_dict()
        pairs = [(name, other.get(name), own.get(name)) for name in own | other]
        return [f"{name}: {theirs!r} there, {ours!r} asked for" for name, theirs, ours in pairs if theirs != ours]


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value as the setting's type; an integer serves as a number, a list as a tuple."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            known = ", ".join(choices := get_args(kind))
            raise ValueError(f"{name} must be one of {known}, not {value!r}{_suggestion(str(value), choices)}.")
        return value
    if isinstance(kind, types.GenericAlias):
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{name} must be a list of numbers, not {value!r}.")
        return tuple(_typed(name, item, float) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        word = {float: "a number", int: "an integer", bool: "true or false", str: "text"}[kind]
        what = "the text " if isinstance(value, str) else ""
        raise TypeError(f"{name} must be {word}, not {what}{value!r}{_yaml_hint(value, kind)}.")
    return value


def _yaml_hint(value: Any, kind: type) -> str:
    """YAML 1.1 reads 1e-3 as text; a number needs a point before the exponent."""
    if not isinstance(value, str) or kind not in (int, float):
        return ""
    try:
        number = kind(float(value))
    except (ValueError, OverflowError):
        return ""
    scientific = f"{number:.1e}".replace("e-0", "e-") if kind is float and abs(number) < 1 else ""
    return f"; in YAML write {number}" + (f" or {scientific}" if scientific else "") + ", without quotes"


def _suggestion(word: str, known) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
