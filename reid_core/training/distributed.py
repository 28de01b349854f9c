"""Several processes, one training: `torchrun` starts them, each takes its share of the global batch."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from reid_core import machine
from reid_core.training.recipe import Recipe


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
        """The mean of a tensor over the processes."""
        if self.processes > 1:
            dist.all_reduce(x)
            x /= self.processes
        return x

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.processes == 1:
            return flag
        return bool(self.mean(torch.tensor(float(flag), device=self.device)).item())

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.processes > 1:
            dist.barrier()

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
    """The group `torchrun` describes in the environment, or this process alone.

    `device`: None takes a GPU where there is one. Several processes take one GPU each (NCCL), or the CPU (Gloo);
    they must see the same run folder and cache.

    Raises ValueError for a global batch that does not divide by the processes, and for live BatchNorm statistics
    over several CPU processes, which PyTorch cannot synchronise.
    """
    device = machine.choose(device)
    processes, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if processes == 1:
        yield Group(device=device)
        return
    if recipe.batch_size % processes:
        raise ValueError(f"batch_size {recipe.batch_size} must be a multiple of the {processes} processes.")
    if recipe.batchnorm == "live" and device.type == "cpu":
        raise ValueError(
            'batchnorm "live" over several CPU processes is not possible; use "frozen", or GPUs.'
        )
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    own = not dist.is_initialized()
    if own:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(rank, processes, device)
    finally:
        if own:
            dist.destroy_process_group()
