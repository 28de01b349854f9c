"""Features by a network that is not the kit's: any function of images, or a torch module, whole or up to a layer."""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

_OWN = "Give a function that makes rows of it, such as lambda images: network(images)[0]"


@contextlib.contextmanager
def lent(module: nn.Module, device: torch.device) -> Iterator[None]:
    """A module in evaluation mode on a device; afterwards each of its parts is in the mode and place that it was."""
    homes = {x.device for x in (*module.parameters(), *module.buffers())}
    if len(homes) > 1:
        raise ValueError(f"The network lies on {len(homes)} devices, so it stays there; give a function that calls it.")
    if torch.device("meta") in homes:
        raise ValueError("The network lies on device meta, without weights; load these first.")
    modes = {part: part.training for part in module.modules()}
    try:
        yield module.to(device).eval()
    finally:
        for part, mode in modes.items():
            part.training = mode
        for home in homes:
            module.to(home)


def module_of(network) -> nn.Module | None:
    """The module that a network is, or is a method of; None for another function. Raises TypeError for neither."""
    module = network if isinstance(network, nn.Module) else getattr(network, "__self__", None)
    if not callable(network):
        raise TypeError(f"A network is a run folder, a torch module or a function of images, not {network!r:.60}.")
    return module if isinstance(module, nn.Module) else None


@torch.no_grad()  # not inference_mode: a module may keep what it made here, and be trained afterwards
def rows(network, layer: str | None, batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Features (n, d) float32 on the CPU, each row of length 1, of batches (n, 3, height, width) float32.
    Raises ValueError for what is no feature, with what it is, and for one that depends on the batch it came in."""
    module, run = module_of(network), getattr(network, "encode_image", network)  # CLIP's forward wants texts, too
    dtype = next((x.dtype for x in module.parameters() if x.is_floating_point()), None) if module else None
    with lent(module, device) if module else contextlib.nullcontext():
        if layer is not None:
            run = _up_to(module, run, layer)
        for i, batch in enumerate(batches):
            batch = batch.contiguous().to(dtype or batch.dtype)
            found = _checked(run(batch), batch, layer)
            if i == 0 and len(batch) > 1:
                alone = _checked(run(batch[:1]), batch[:1], layer)
                if (alone[0] - found[0]).norm() > 0.1 * found[0].norm():
                    raise ValueError("An image's feature depends on its batch: is the network in training mode?")
            yield normalize(found, eps=torch.finfo(found.dtype).tiny).float()


def _up_to(module: nn.Module | None, run: Callable, layer: str) -> Callable:
    """What a module's layer gives, whatever comes after it."""
    names = [name for name, _ in module.named_modules() if name] if module else []
    if layer not in names:
        close = ", ".join(difflib.get_close_matches(layer, names, 3) or names[:3]) or "none: it is no torch module"
        raise ValueError(f"The network has no layer {layer!r}; it has {close} (see named_modules()).")

    def call(batch: Tensor):
        seen = []
        with module.get_submodule(layer).register_forward_hook(lambda _, inputs, output: seen.append(output)):
            run(batch)
        if len(seen) != 1:
            raise ValueError(f"Layer {layer!r} ran {len(seen)} times in one pass; name one that runs once.")
        return seen[0]

    return call


def _checked(found, batch: Tensor, layer: str | None) -> Tensor:
    """Rows (n, d) float64 on the CPU; a layer's maps and tokens are averaged."""
    n, what = len(batch), f"Layer {layer!r}" if layer else "The network"
    if isinstance(found, np.ndarray):
        found = torch.from_numpy(found)
    if not isinstance(found, Tensor):
        inside = f" of {', '.join(map(str, found))}" if isinstance(found, dict) else ""
        raise ValueError(f"{what} gives a {type(found).__name__}{inside}, not one tensor (n, d). {_OWN}.")
    if found.is_meta:
        raise ValueError(f"{what} gives a tensor on device meta, which holds no values.")
    shape = f"{what} gives {found.dtype} of shape {tuple(found.shape)} for {n} images"
    if not found.is_floating_point() or found.ndim < 2 or len(found) != n or 0 in found.shape:
        raise ValueError(f"{shape}, not floats (n, d). {_OWN}.")
    if found.ndim > 2 and not (layer and found.ndim < 5):
        raise ValueError(f"{shape}, not (n, d). Name a layer, whose maps are averaged, or: {_OWN}.")
    if found.ndim == 4 and _skew(*found.shape[1:3], batch) < _skew(*found.shape[2:], batch):
        raise ValueError(f"{shape}: these look like (n, height, width, d). {_OWN}.")
    found = found.to(torch.promote_types(found.dtype, torch.float32))
    found = found.mean(1) if found.ndim == 3 else found.flatten(2).mean(2) if found.ndim == 4 else found
    found = found.cpu().double()
    if not found.isfinite().all():
        raise ValueError(f"{what} gives values that are not finite, NaN or infinity, for an image of {n}.")
    return found


def _skew(height: int, width: int, batch: Tensor) -> float:
    """How far maps of this height and width are from the pictures' proportions."""
    return abs(np.log(height / width * batch.shape[3] / batch.shape[2]))
