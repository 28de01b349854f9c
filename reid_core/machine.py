"""The machine at work: device, cores, free memory, versions of packages, the kit's commit."""

import contextlib
import functools
import importlib.metadata
import math
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded where it is needed: most commands do without
    import torch

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "pillow", "h5py")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = ("memory.max", "memory.current", "inactive_file")
_PROCESS, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_REPOSITORY = Path(__file__).resolve().parent.parent


def choose(device: "str | torch.device | None") -> "torch.device":
    """The device asked for (ValueError: no such GPU, or "meta"), or for None a GPU, also Apple's, or the CPU."""
    import torch

    cuda = torch.cuda.is_available() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""  # hidden by now
    device = torch.device(device or ("cuda" if cuda else "mps" if torch.backends.mps.is_available() else "cpu"))
    if device.type == "cuda" and not cuda:
        raise ValueError(f"Device {device} was asked for, but PyTorch finds no GPU; take 'cpu' or None.")
    if device.type == "meta":
        raise ValueError("Device meta, which holds no values, was asked for; take 'cpu' or None.")
    return device


def cores() -> int:
    """Number of processor cores that this process may use, by its affinity and its container's quota (cgroup)."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([seen, *_quotas()])


def free_memory(device: "str | torch.device") -> int:
    """Bytes left: of a GPU, with what PyTorch keeps on it; else of machine, cgroup or `ulimit -v`, the least."""
    import resource

    import psutil
    import torch

    if torch.device(device).type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    own, limit = psutil.Process().memory_info().vms, resource.getrlimit(resource.RLIMIT_AS)[0]
    left = [*_left_in_groups(), *([max(0, limit - own)] if limit != resource.RLIM_INFINITY else [])]
    return min([psutil.virtual_memory().available, *left])


def _groups(controller: str, process: Path, mount: Path) -> Iterator[tuple[Path, bool]]:
    """Folder, and whether it is of version 1, of every control group that the process is in, and of those above."""
    for line in process.read_text().splitlines() if process.exists() else []:
        _, controllers, group = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            root = mount / controller if controllers else mount
            here = root / os.path.normpath(group).lstrip("/")
            # A container may be told its name outside, where it sees its own group as the root: hence all the way up.
            yield from ((f, bool(controllers)) for f in (here, *here.parents) if f.is_relative_to(root))


def _left_in_groups(process=_PROCESS, mount=_MOUNT) -> list[int]:
    """What every control group that the process is in leaves of its limit of memory, in bytes."""
    left = []
    for folder, first in _groups("memory", process, mount):
        limit_name, usage_name, unused = _V1 if first else _V2
        # Passed over: no such group here, or the limit is the word "max".
        with contextlib.suppress(OSError, ValueError):
            facts = dict(line.split(maxsplit=1) for line in (folder / "memory.stat").read_text().splitlines())
            limit, used = (int((folder / name).read_text()) for name in (limit_name, usage_name))
            left.append(limit - used + int(facts.get(unused, 0)))  # unused files in memory are given back
    return left


def _quotas(process=_PROCESS, mount=_MOUNT) -> list[int]:
    """Cores that every control group that the process is in may use at a time, rounded up."""
    found = []
    for folder, first in _groups("cpu", process, mount):
        with contextlib.suppress(OSError, ValueError):  # as above; -1 is no quota, too
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if first else ("cpu.max",)
            quota, period = map(int, " ".join((folder / name).read_text() for name in names).split())
            found += [math.ceil(quota / period)] if quota > 0 else []
    return found


@functools.cache
def device_name(device: "str | torch.device | None" = None) -> str:
    """The name of a GPU (None: one if there is one), or of the processor with its number of usable cores."""
    import torch

    if (kind := (torch.device(device) if device else choose(None)).type) == "cuda":
        return torch.cuda.get_device_name(device)
    models = [platform.processor() or platform.machine()]
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")] or models
    return f"{models[0]} ({'GPU by MPS' if kind == 'mps' else f'{cores()} cores'})"


@functools.cache
def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


@functools.cache
def commit() -> dict | None:
    """The checkout's own commit and whether files differ from it: {"id": str, "modified": bool}; None outside git.
    A repository around the kit is not the kit's, nor one that the environment names (GIT_DIR, in a hook). Modified is
    also a source file or notebook that git does not know."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*words: str) -> str:
        told = {"cwd": _REPOSITORY, "env": clean, "stderr": subprocess.DEVNULL, "timeout": 30}
        own = ["git", "-c", f"safe.directory={_REPOSITORY}"]  # another user's, as a folder shown to a container is
        return os.fsdecode(subprocess.check_output([*own, *words], **told)).rstrip("\n")

    try:
        top, head = git("rev-parse", "--show-toplevel"), git("rev-parse", "HEAD")
        changes = git("status", "--porcelain", "--untracked-files=no")
        unknown = git("status", "--porcelain", "--untracked-files", "--", "reid_core", "reproduction", "notebooks")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"id": head, "modified": bool(changes or unknown)} if Path(top).resolve() == _REPOSITORY else None
