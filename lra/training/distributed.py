"""The group of processes that share a run; often this process is alone in it.

The command starts the processes itself (`experiments.local`), or torchrun does. The rows of a batch and their order do
not depend on the number of processes. On a CPU the processes take turns at the micro-batches (`lra.training.turns`); on
GPUs each takes its share of the rows. After a step every process has the same gradient, so weights never differ and
need not be sent. Evaluations are shared, too. Process 0 alone writes records, checkpoints and the log, and shows
progress.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

from lra import console
from lra.errors import ConfigError
from lra.training.device import choose_device

T = TypeVar("T")
HERE = "127.0.0.1"
PATIENCE = datetime.timedelta(hours=12)  # others wait while process 0 prepares data


@dataclass(frozen=True)
class Group:
    """This process, number `rank` of `size` processes, and its device. In a group of one, nothing is sent.

    store: through it the processes of a larger group share counters. serial: numbers the steps and evaluations that
    were shared in turns.
    """

    rank: int
    size: int
    device: torch.device
    store: Store | None = None
    serial: Iterator[int] = field(default_factory=itertools.count)
    turn: list[str] = field(default_factory=list)  # the key of the counter that hands out turns

    @property
    def takes_turns(self) -> bool:
        """Do the processes take turns at the micro-batches? Otherwise each has its share of the rows."""
        return self.size > 1 and self.device.type == "cpu"

    def begin_turns(self) -> None:
        """Starts to count turns from 0. Every process must call it equally often."""
        if self.takes_turns and self.store is not None:
            last, self.turn[:] = self.turn[:], [f"turn {next(self.serial)}"]
            for key in last if self.rank == 0 else []:
                self.store.delete_key(key)

    def take_turn(self) -> int:
        """Takes the next turn that no process has taken, and returns its number."""
        assert self.store is not None
        return self.store.add(self.turn[0], 1) - 1

    def broadcast(self, value: T | None) -> T:
        """Returns process 0's value in every process."""
        box = [value]
        if self.size > 1:
            dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]  # pyright: ignore[reportReturnType]

    def meet(self) -> None:
        """Waits until every process is here."""
        if self.size > 1:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; the answer is the same in every process."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))  # on the CPU, so that no GPU is waited for
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def average(self, flat: Tensor) -> None:
        """Replaces the tensor by its mean over the processes."""
        if self.size > 1:
            dist.all_reduce(flat)
            flat /= self.size

    def broadcast_tensor(self, tensor: Tensor) -> None:
        """Replaces the tensor by that of process 0."""
        if self.size > 1:
            dist.broadcast(tensor, src=0)

    def add(self, array: np.ndarray) -> np.ndarray:
        """Returns the sum of the processes' arrays in every process."""
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
    elif os.environ.get("LOCAL_WORLD_SIZE", str(size)) != str(size):
        raise ConfigError("on CPUs a run is shared by processes of one machine; on several machines use --shard")
    if not dist.is_initialized():
        store, _, _ = next(rendezvous("env://", timeout=PATIENCE))
        start(device, store, rank, size)
        atexit.register(dist.destroy_process_group)
        if rank:
            console.show(bars=False, lines=False)
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
        _joined[:] = [store]
    return Group(rank, size, device, PrefixStore(f"turns {next(_times)}", _joined[0]))


_joined: list[Store] = []
_times = itertools.count()  # numbers the groups joined: each counts its turns under keys of its own


def start(device: torch.device, store: Store, rank: int, size: int) -> None:
    """Starts torch.distributed in this process: gloo on a CPU, NCCL for GPUs."""
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)


def open_store() -> TCPStore:
    """The store at which the processes that this one starts on this machine meet; it lives as long as the object."""
    return TCPStore(HERE, 0, is_master=True, wait_for_workers=False)


@contextlib.contextmanager
def together(port: int, name: str, rank: int, size: int) -> Iterator[Group]:
    """A group of processes on the CPU, within the context. port: of their store. name: no other group there has it."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    store = PrefixStore(name, TCPStore(HERE, port, is_master=False))
    start(torch.device("cpu"), store, rank, size)
    try:
        yield Group(rank, size, torch.device("cpu"), PrefixStore("turns", store))
    finally:
        dist.destroy_process_group()


def check_batches(group: Group, batches: list[tuple[str, int]], key: str = "train.batch") -> None:
    """Raises ConfigError for a task's batch that GPUs cannot share equally."""
    for task, batch in batches:
        if not group.takes_turns and batch % group.size:
            raise ConfigError(
                f"{task}: {key}={batch} cannot be shared by {group.size} processes; "
                "take a number of processes that divides it"
            )
