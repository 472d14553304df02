"""This process among those that share a run; usually it is alone.

Several are started by torchrun: the global batch and its order stay the same, and each process takes its share of the
rows. One all-reduce of the flat gradient, by gloo on a CPU and NCCL on GPUs, turns the shares' mean gradients and
losses into the batch's; after it every process takes the same step, so weights never differ and need not be sent.
Evaluations are shared, too. Process 0 alone writes records, checkpoints and the log, and shows progress.
"""

from __future__ import annotations

import atexit
import datetime
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lra import console
from lra.errors import ConfigError
from lra.training.device import choose_device

T = TypeVar("T")
PATIENCE = datetime.timedelta(hours=12)  # others wait while process 0 prepares data


@dataclass(frozen=True)
class Group:
    """This process, number `rank` of `size`, and its device. In a group of one, nothing is sent."""

    rank: int
    size: int
    device: torch.device

    def broadcast(self, value: T | None) -> T:
        """Process 0's value, in every process."""
        box = [value]
        if self.size > 1:
            dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]  # pyright: ignore[reportReturnType]

    def average(self, flat: Tensor) -> None:
        """Replaces the tensor by its mean over the processes."""
        if self.size > 1:
            dist.all_reduce(flat)
            flat /= self.size

    def add(self, array: np.ndarray) -> np.ndarray:
        """The sum of the processes' arrays, in every process."""
        if self.size == 1:
            return array
        total = torch.from_numpy(array.astype(np.int32 if array.dtype.kind in "iu" else np.float64))
        dist.all_reduce(total)
        return total.numpy().astype(array.dtype)

    def rank_zero_first(self, work: Callable[[], T]) -> T:
        """Does the work in process 0, then in the others, which find its results in the cache."""
        if self.rank:
            self.broadcast(None)
        result = work()
        if not self.rank:
            self.broadcast(None)
        return result


def alone(device: torch.device) -> Group:
    """A group of this process only."""
    return Group(0, 1, device)


def join(device_name: str) -> Group:
    """Joins the processes that torchrun started. device_name: as for `choose_device`. Raises ConfigError."""
    rank, size, local = (int(os.environ[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if device_name in ("auto", "cuda") and torch.cuda.is_available():
        device_name = f"cuda:{local}"
    device = choose_device("cpu" if device_name == "auto" else device_name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)
        if rank:
            console.silence()
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    return Group(rank, size, device)


def check_batches(group: Group, batches: list[tuple[str, int]]) -> None:
    """Raises ConfigError for a task's batch that the processes cannot share equally."""
    for task, batch in batches:
        if batch % group.size:
            raise ConfigError(
                f"{task}: train.batch={batch} cannot be shared by {group.size} processes; "
                "take a number of processes that divides it"
            )
