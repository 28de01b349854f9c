"""Files of weights: read without running code, found in whatever they were saved within, known by their content."""

import http.client
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from reid_core import files
from reid_core.progress import say, shown

IMAGENET, RANDOM = "imagenet", "random"
_COUNTER = "num_batches_tracked"  # of BatchNorm; not in torchvision's published files, nothing here reads it
_ANCHOR = "conv1.weight"  # a ResNet's first tensor: what stands before its name stands before all names


class Initial(NamedTuple):
    """What a network started from: SHA-256 (hex) of the file; what was taken off or left out of it ("": nothing); what
    a .safetensors file itself says of its making."""

    digest: str
    note: str
    about: dict[str, str]


def located(weights: str, backbone: str) -> Path:
    """Where the file of a recipe's `weights` lies or would lie: a path, or for "imagenet" torch's own cache.
    A relative path that is not there leads to what is installed beside this package, if anything."""
    if weights != IMAGENET:
        path, beside = Path(weights).expanduser(), Path(__file__).resolve().parents[1] / Path(weights).expanduser()
        return beside if beside.is_file() and not path.exists() else path
    return Path(torch.hub.get_dir()) / "checkpoints" / _url(backbone).rpartition("/")[2]


def digest(weights: str, network: nn.Module) -> str | None:
    """SHA-256 (hex) of the file of a recipe's `weights`, loaded as `load_backbone` does; None where none is."""
    return load_backbone(network, weights).digest if located(weights, network.backbone_name).is_file() else None


def load_backbone(network: nn.Module, weights: str, *, progress: bool = True) -> Initial:
    """Fill the backbone of a network of `reid_core.model` with pretrained weights.

    Parameters
    ----------
    network : one with a `backbone`
    weights : "imagenet", torchvision's IMAGENET1K_V1, downloaded once into torch's own cache: they expect RGB images
        normalised with ImageNet's mean and standard deviation, and their ResNet-50 has the stride in the 3x3
        convolution, where the released Caffe model has it in the first 1x1. Or the path of a file (.pth, .safetensors)
        with a state dict in torchvision's names, alone or within what a training script saved ({"state_dict": ...}),
        with any one prefix before all names ("module."); fc.* is ignored, BatchNorm's counters may be absent
    progress : a line where a file is downloaded

    Raises FileNotFoundError for a missing file, also where it cannot be downloaded; ValueError for a damaged one, and
    for one that does not fit the backbone.
    """
    name, path = network.backbone_name, located(weights, network.backbone_name)
    published = path.stem.rpartition("-")[2]  # torchvision's names end with the first digits of the file's SHA-256
    if weights == IMAGENET and not path.is_file():
        with shown(progress):
            _download(path, _url(name), published)
    own = network.backbone.state_dict()
    counters = {key: x for key, x in own.items() if key.endswith(_COUNTER)}
    again = f"move {path} aside, so that it is downloaded again, or put a whole copy there"
    found = read(path, again if weights == IMAGENET else None)
    state, notes = _within(found, own.keys() - counters.keys(), str(path))
    sha = files.digest(path)
    if weights == IMAGENET and not sha.startswith(published):
        notes += [f"not torchvision's own file: its SHA-256 begins {sha[: len(published)]}, not {published}"]
    load_state(network.backbone, counters | state, str(path), f"a {name} backbone in torchvision's names")
    about = {}
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
    return Initial(sha, f"{path.name}: {'; '.join(notes)}" if notes else "", about)


def read(path: str | Path, remedy: str | None = None) -> Any:
    """What a .safetensors, .pth or .pt file holds, read without running any code that may be in it.
    Raises FileNotFoundError for no file; ValueError, with a `remedy` of the caller's or a general one, for a damaged
    one or one with more than tensors in it."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {path}; give the path of an existing one.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path) and (damaged := zipfile.ZipFile(path).testzip()):
            raise ValueError(f"the checksum of its part {damaged} is wrong")  # which torch does not look at
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition(". Please use")[0]
        reason = reason.partition("\n")[0] or type(error).__name__
        remedy = remedy or "write it again, as .safetensors, or as .pth with nothing but tensors in it"
        raise ValueError(f"{path} cannot be read as weights ({reason}); {remedy}.") from error


def load_state(module: nn.Module, state: Mapping, where: str, expected: str, remedy: str | None = None) -> None:
    """Copy `state`, tensors by name, into a module, or raise ValueError for any missing, too many or of another kind.
    The error says what differs (shape or kind of number, too), `where` the weights came from, what the module is
    (`expected`) and what to do (`remedy`, a sentence; None for a general one)."""
    own = module.state_dict()
    missing, surplus = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    sides = (("missing", missing), ("too many", surplus))
    differences = [f"{len(keys)} tensors {word}, such as {keys[0]}" for word, keys in sides if keys]
    differences += [
        f"{key} is {_described(state[key])} instead of {_described(own[key])}"
        for key in sorted(own.keys() & state.keys())
        if not isinstance(x := state[key], Tensor)
        or x.shape != own[key].shape
        or own[key].is_floating_point() > x.is_floating_point()
    ][:3]
    if differences:
        remedy = remedy or "Give a file that holds these, or the settings that these weights were made with."
        raise ValueError(f"{where}: these are not the weights of {expected}: {'; '.join(differences)}. {remedy}")
    module.load_state_dict(state)


def _described(x: Any) -> str:
    if isinstance(x, Tensor):
        return f"{tuple(x.shape)}" if x.is_floating_point() else f"{tuple(x.shape)} of {x.dtype}"
    keys = f" with keys such as {next(iter(x))!r}" if isinstance(x, Mapping) and x else ""
    return f"a {type(x).__name__}{keys}"


def _within(found: Any, names: set[str], where: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of these names in what a file held, wherever they are, and notes on what was taken off them.
    Where no part has all the names, the one with most. Raises ValueError where there are no tensors by name, several
    parts that fit, or numbers that are not finite."""
    if not (parts := list(_parts(found))):
        kind = f"{'one tensor of shape ' if isinstance(found, Tensor) else ''}{_described(found)}"
        need = "a state dict is needed, tensors by name, as torch.save(network.state_dict(), path) writes"
        raise ValueError(f"{where} holds {kind}, not weights: {need}.")
    if len(fitting := [part for part in parts if names <= part[2].keys()]) > 1:
        ways = " and ".join(f"{way or 'names'} {prefix}*" for way, prefix, *_ in fitting)
        raise ValueError(f"{where} holds several networks that fit ({ways}); save the one to start from alone.")
    way, prefix, tensors, outside = max(fitting or parts, key=lambda part: len(names & part[2].keys()))
    state = {name: x for name, x in tensors.items() if not name.startswith("fc.")}
    for name, x in state.items():
        if isinstance(x, Tensor) and not x.isfinite().all():
            raise ValueError(f"{where}: {prefix}{name} holds values that are not finite; write it again.")
    notes = [f"taken from its {way}"] if way else []
    notes += [f"prefix {prefix!r} taken off all names"] if prefix else []
    if outside:
        notes += [f"{len(outside)} tensors beside the backbone left out, such as {min(outside)}"]
    return state, notes


def _parts(found: Any, way: str = "") -> Iterator[tuple[str, str, dict[str, Any], list[str]]]:
    """Every dict of tensors by name in what was saved, with every prefix that a ResNet's names have in it.
    Of each the keys that lead to it, the prefix, the tensors by their names without it, and the names that lack it."""
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        return
    if any(isinstance(x, Tensor) for x in found.values()):
        for prefix in sorted({x.removesuffix(_ANCHOR) for x in found if f".{x}".endswith(f".{_ANCHOR}")} | {""}):
            inside = {x.removeprefix(prefix): found[x] for x in found if x.startswith(prefix)}
            yield way, prefix, inside, [x for x in found if not x.startswith(prefix)]
    for name, x in found.items():
        yield from _parts(x, f"{way}[{name!r}]")


def _url(backbone: str) -> str:
    return torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"].url


def _download(path: Path, url: str, published: str) -> None:
    """Fetch the file. Raises FileNotFoundError naming file, address and remedy."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        say(f"Downloading {url} to {path.parent} ...")
        torch.hub.download_url_to_file(url, str(path), published, progress=False)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        state = f"{path} are not there and cannot be downloaded from {url} ({error})"
        remedy = "Put that file there (TORCH_HOME moves the folder), or give the path of one as the setting weights"
        raise FileNotFoundError(f"The ImageNet weights {state}. {remedy}.") from error
