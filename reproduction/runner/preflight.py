"""Whether PyTorch, as it is installed, can use this machine's NVIDIA card: asked before anything runs."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping

# The last PyTorch with wheels for CUDA 12 and so for cards before Turing (pytorch issue 190385); 2.15 is CUDA 13 alone.
OLDER = "pip install torch==2.14.1 torchvision==0.29.2 --index-url https://download.pytorch.org/whl/cu126"
DRIVERS = {"12": 525, "13": 580}  # NVIDIA's oldest driver for Linux of each major version of CUDA
TURING = (7, 5)
WAIT, NO_CARD = 30, 6  # seconds for nvidia-smi; its exit status on a machine without a card


def check(settings: Mapping[str, object]) -> None:
    """Raise ValueError for a card that cannot be used where a profile is for a GPU, by the size of its data (official,
    or Table 1's); for a smaller one, warn in one line."""
    if not (trouble := _trouble()):
        return
    if settings["render_sizes"] in ("none", "full"):
        raise ValueError(f"{trouble} Or put CUDA_VISIBLE_DEVICES= before the command, to compute on the processor.")
    print(f"Warning: {trouble} This profile goes on without it.", file=sys.stderr)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # PyTorch would take an old card, and fail at its first kernel


def cards() -> list[tuple[str, str, tuple[int, int] | None]]:
    """Name, driver and compute capability (None: the driver is too old to say) of every card that nvidia-smi lists."""
    return _listed()[0]


def _listed() -> tuple[list[tuple[str, str, tuple[int, int] | None]], str]:
    """The cards, and what nvidia-smi says where it fails instead of listing any."""
    said = ""
    if not re.match(r" *(\d|GPU-|MIG-)", os.environ.get("CUDA_VISIBLE_DEVICES", "0")):  # what CUDA takes for no card
        return [], said
    for fields in ("driver_version,compute_cap,name", "driver_version,name"):
        command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=WAIT)
        except OSError:
            return [], ""
        except subprocess.TimeoutExpired:
            return [], f"nothing in {WAIT} seconds"
        said = "" if done.returncode in (0, NO_CARD) else done.stdout.strip().partition("\n")[0]
        if found := re.findall(r"^([\d.]+), (?:(?:(\d+)\.(\d+)|\[.*?\]), )?(.+)$", done.stdout, re.MULTILINE):
            each = [(name, driver, (int(major), int(minor)) if major else None) for driver, major, minor, name in found]
            return each, ""
    return [], said


def _trouble() -> str | None:
    found, failure = _listed()
    if not (found or failure):
        return None
    import torch

    if failure:
        mend = "Mend the driver; after an update of it, restart the machine."
        return None if torch.cuda.is_available() else f"nvidia-smi finds no card that works: {failure!r}. {mend}"
    name, driver, capability = found[0]
    card = f"{name} (driver {driver}{', compute capability {}.{}'.format(*capability) if capability else ''})"
    if torch.version.cuda is None:
        again = "reinstall it: pip install --force-reinstall -r requirements.lock"
        why = f"PyTorch {torch.__version__} is built without CUDA"
        return f"{card} is not used: {why}. {_remedy(capability, driver, again)}"
    major = torch.version.cuda.partition(".")[0]
    built = f"PyTorch {torch.__version__} is built for CUDA {torch.version.cuda}"
    if not torch.cuda.is_available():
        least = DRIVERS.get(major, 580)
        if int(driver.partition(".")[0]) >= least and (capability or TURING) >= TURING:
            how = "in MIG mode without an instance, closed to programs, or not passed on to this container"
            return f"{card} is not used: its driver is new enough, but PyTorch finds no card. Is it {how}?"
        newer = f"a driver from version {least} on"
        return f"{card} is not used: {built}, which needs {newer}. {_remedy(capability, driver, f'install {newer}')}"
    architectures = torch.cuda.get_arch_list()
    seen = [torch.cuda.get_device_capability(n) for n in range(torch.cuda.device_count())]  # not hidden by the user
    if any(each is None or covers(architectures, each) for each in seen or [each for *_, each in found]):
        return None
    why = f"{built}, with kernels for {', '.join(architectures)} alone"
    return f"{card} cannot be used: {why}. {_remedy(capability, driver, 'install the newest PyTorch')}"


def covers(architectures: list[str], capability: tuple[int, int]) -> bool:
    """Whether there are kernels for a card: of its major version, no later than it; or code that it can compile."""
    found = re.findall(r"(sm|compute)_(\d+)(\d)", " ".join(architectures))
    return any((int(major), int(minor)) <= capability and (kind == "compute" or int(major) == capability[0])
               for kind, major, minor in found)  # fmt: skip


def _remedy(capability: tuple[int, int] | None, driver: str, newer: str) -> str:
    old = f"{OLDER} (cards from Maxwell to Hopper, drivers from version {DRIVERS['12']} on)"
    if capability and capability < TURING:
        return f"For cards before Turing (compute capability {TURING[0]}.{TURING[1]}): {old}."
    return f"Either {newer}, or {old}." if int(driver.split(".")[0]) < DRIVERS["13"] else f"To do: {newer}."
