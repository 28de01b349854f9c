"""Several processes, one training: `torchrun` starts them, each takes its share of the global batch."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reid_core import machine
from reid_core.training.recipe import Recipe

TORCHRUN = ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Group:
    """This process among all of a training; (0, 1) alone."""

    rank: int = 0
    processes: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def first(self) -> bool:
        return self.rank == 0

    def mean(self, x: Tensor) -> Tensor:
        if self.processes > 1:
            dist.all_reduce(x)
            x /= self.processes
        return x

    def any(self, flag: bool) -> bool:
        return flag if self.processes == 1 else bool(self.mean(torch.tensor(float(flag), device=self.device)))

    def wait(self) -> None:
        if self.processes > 1:
            dist.barrier()

    @contextlib.contextmanager
    def first_ahead(self) -> Iterator[None]:
        """The block in the first process, then in the others, which find downloaded and decoded what it did."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over the processes and dropout drawn for the global batch."""
        if self.processes == 1:
            return network
        network.dropout.shard = (self.rank, self.processes)
        if network.settings.batchnorm == "live":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=devices, broadcast_buffers=False)


@contextlib.contextmanager
def group(device: str | torch.device | None, recipe: Recipe) -> Iterator[Group]:
    """The group that `torchrun` started or the caller has initialised in torch.distributed, or this process alone.

    `device`: None takes a GPU where there is one. Several processes take one GPU each (NCCL), or the CPU (Gloo);
    they must see the same run folder and cache. A WORLD_SIZE that somebody else has set is left aside, with a warning:
    there, a notebook would wait for processes that never come.
    Raises ValueError for a global batch that does not divide by the processes, and for live BatchNorm statistics
    over several CPU processes, which PyTorch cannot synchronise.
    """
    device = machine.choose(device)
    initialised = dist.is_available() and dist.is_initialized()
    if not initialised and not _launched():
        yield Group(device=device)
        return
    processes = dist.get_world_size() if initialised else int(os.environ["WORLD_SIZE"])
    rank = dist.get_rank() if initialised else int(os.environ["RANK"])
    if recipe.batch_size % processes:
        raise ValueError(f"batch_size {recipe.batch_size} must be a multiple of the {processes} processes.")
    if processes > 1 and recipe.batchnorm == "live" and device.type == "cpu":
        raise ValueError('batchnorm "live" over several CPU processes is impossible; use "frozen", or GPUs.')
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if not initialised:
        if rank == 0:
            print(f"Waiting for all {processes} processes of torchrun to come.", file=sys.stderr)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(rank, processes, device)
    finally:
        if not initialised:
            dist.destroy_process_group()


def _launched() -> bool:
    """Whether torchrun started this process as one of several: it sets all of these."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return False
    missing = [name for name in TORCHRUN if name not in os.environ]
    if missing:
        found = f"WORLD_SIZE={os.environ['WORLD_SIZE']} is set, but not by torchrun, which also sets {missing[0]}"
        remedy = "Several train together under torchrun, or after torch.distributed.init_process_group"
        warnings.warn(f"{found}: this process trains alone. {remedy}.", stacklevel=5)
    return not missing
