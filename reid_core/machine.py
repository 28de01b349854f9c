"""The machine at work: device, cores, versions of packages, the kit's commit."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded where it is needed: most commands do without
    import torch

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "pillow", "h5py")
_REPOSITORY = Path(__file__).resolve().parent.parent


def choose(device: "str | torch.device | None") -> "torch.device":
    """The device asked for, or for None a GPU where there is one. Raises ValueError for a GPU that is not there."""
    import torch

    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"Device {device} was asked for, but PyTorch finds no GPU; use device='cpu' or None."
        )
    return device


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def device_name(device: "str | torch.device | None" = None) -> str:
    """The GPU's name, or the processor's with its number of usable cores.

    `device`: where the work ran, such as "cpu" or "cuda:1"; None: a GPU where there is one.
    """
    import torch

    if torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")).type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    with_model = Path("/proc/cpuinfo")
    if with_model.exists():
        lines = with_model.read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    return f"{model} ({cores()} cores)"


@functools.cache
def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for package in packages:
        found[package] = importlib.metadata.version(package)
    return found


@functools.cache
def commit() -> dict | None:
    """The checkout's commit and whether files differ from it: {"id": str, "modified": bool}; None outside git."""
    try:
        run = functools.partial(
            subprocess.run, cwd=_REPOSITORY, capture_output=True, text=True, check=True, timeout=30
        )
        head = run(["git", "rev-parse", "HEAD"]).stdout.strip()
        changes = run(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return {"id": head, "modified": bool(changes)}
