"""One run in several processes, started by torchrun: the global batch and its order stay, each takes its share of rows.

The shares' mean gradients and losses become the batch's by one all-reduce of the flat gradient, gloo on a CPU, NCCL on
GPUs; after it every process takes the same step, so that weights never differ and need not be sent. Evaluations are
shared, too. Process 0 alone writes records, checkpoints and the log, and shows progress.
"""

from __future__ import annotations

import atexit
import datetime
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lra import console
from lra.config.schema import Train
from lra.console import say
from lra.errors import BusyError, ConfigError, WorkError
from lra.experiments.data import TaskData
from lra.experiments.job import Job, run_cell
from lra.experiments.run import Run
from lra.hashing import seed_of
from lra.training.batches import Samples, documents, sizes
from lra.training.device import Place, choose_device
from lra.training.run_folder import Work
from lra.training.step import Step

T = TypeVar("T")
PATIENCE = datetime.timedelta(hours=12)  # others wait while process 0 prepares data


@dataclass(frozen=True)
class Group:
    """This process among `size`, and its device."""

    rank: int
    size: int
    device: torch.device

    def mean(self, flat: Tensor) -> None:
        """Replaces the tensor by its mean over the processes."""
        dist.all_reduce(flat)
        flat /= self.size

    def tell(self, value: T | None) -> T:
        """Process 0's value, in every process."""
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]  # pyright: ignore[reportReturnType]

    def first(self, work: Callable[[], T]) -> T:
        """Does the work in process 0, then in the others, which find in the cache what it made."""
        if self.rank:
            self.tell(None)
        result = work()
        if not self.rank:
            self.tell(None)
        return result

    def check(self, cells: list[Run]) -> None:
        """Raises ConfigError for a batch that cannot be shared equally."""
        for cell in cells:
            if cell.config.train.batch % self.size:
                raise ConfigError(
                    f"{cell.task}: train.batch={cell.config.train.batch} cannot be shared by {self.size} processes; "
                    "take a number of processes that divides it"
                )


def join(name: str) -> Group:
    """Joins the processes that torchrun started. name: of the device, as for `choose_device`. Raises ConfigError."""
    rank, size, local = (int(os.environ[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{local}"
    device = choose_device("cpu" if name == "auto" else name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)
        if rank:
            console.silence()
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    return Group(rank, size, device)


class SharedStep(Step):
    """A step on this process's share of the batch: every `size`-th row by falling length, so that shares are alike."""

    def __init__(self, model: nn.Module, config: Train, place: Place, seed: int, group: Group):
        share = replace(config, batch=config.batch // group.size)
        own = seed_of(seed, "process", group.rank) if group.rank else seed  # for dropout
        super().__init__(model, share, place, own, reduce=group.mean)
        self.config, self.group = config, group

    def share(self, samples: Samples, rows: np.ndarray) -> np.ndarray:
        """Positions of this process's rows."""
        return np.argsort(-sizes(samples, rows), kind="stable")[self.group.rank :: self.group.size]

    def __call__(self, samples: Samples, rows: np.ndarray, step: int) -> Tensor:
        before = self.computed_tokens, self.real_tokens
        loss = super().__call__(samples, rows[self.share(samples, rows)], step)
        self.computed_tokens = before[0] + self.group.size * (self.computed_tokens - before[0])  # shares are alike
        self.real_tokens = before[1] + int(samples.lengths[documents(samples, rows)].sum())
        return loss

    def evaluate(self, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """As of one process; every process gets all predictions."""
        mine = self.share(samples, rows)
        found = np.zeros(len(rows), dtype=np.int32)
        loss = 0.0
        if len(mine):
            found[mine], loss = super().evaluate(samples, rows[mine])
        predictions, total = torch.from_numpy(found), torch.tensor([loss * len(mine)], dtype=torch.float64)
        dist.all_reduce(predictions)
        dist.all_reduce(total)
        return predictions.numpy().astype(np.uint8), float(total) / len(rows)


class SharedWork(Work):
    """A cell's folder for all processes: process 0 writes, and what it reads goes to all."""

    def __init__(self, work: Work, group: Group):
        super().__init__(work.folder, work.tracker if not group.rank else None)
        self.group = group
        if group.rank:
            self.error = work.folder / f"error-{group.rank}.txt"

    def load_state(self) -> dict[str, Any] | None:
        return self.group.tell(super().load_state() if not self.group.rank else None)

    def save_state(self, state: dict[str, Any]) -> None:
        if not self.group.rank:
            super().save_state(state)

    def open_log(self, size: int) -> None:
        if not self.group.rank:
            super().open_log(size)

    def log(self, line: dict[str, Any]) -> int:
        return 0 if self.group.rank else super().log(line)

    def save_weights(self, name: str, weights: dict[str, Tensor]) -> None:
        if not self.group.rank:
            super().save_weights(name, weights)


def fill_together(slot: Job, ready: TaskData, group: Group, title: str) -> None:
    """Runs the cell in all processes, unless it is done by now or others are at it. Raises WorkError when it fails.

    A failure ends the command, because it need not have come to every process, and the others would wait for this one.
    """
    own, slot.work = slot.work, SharedWork(slot.work, group)
    if group.rank:
        if group.tell(False):
            slot.record = run_cell(slot, ready, group.device, title, group)
    else:
        _lead(slot, own, ready, group, title)
    if slot.record is not None and slot.record.status == "failed":
        if group.rank:  # process 0 has said it
            print(f"{title}: process {group.rank} failed: {slot.record.reason}", file=sys.stderr)
        raise WorkError(f"{title} failed, and with it the command: {slot.record.reason}")


def _lead(slot: Job, own: Work, ready: TaskData, group: Group, title: str) -> None:
    try:
        with own.lock():
            slot.record = slot.read()
            if group.tell(not slot.final):
                slot.record = run_cell(slot, ready, group.device, title, group)
                slot.work.tracker.close()
                slot.keep()
            if slot.final:
                own.finish()
    except BusyError as error:
        group.tell(False)
        say(f"{title}: {error}; skipped")
