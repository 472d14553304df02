"""The micro-batches of a step, handed out to the processes that share a run, and the sum of their gradients.

Whichever process is free takes the next micro-batch, so that all end together whatever a micro-batch costs and however
fast a core is. The gradients are then added up in the order of the micro-batches. So neither the number of processes,
nor who computed what, changes a bit of the sum: it is that of one process. An attention that the compiler compiles
again and again is an exception: each process then begins to round lengths, or to run eagerly, by its own count.

On a GPU each process computes its own share of the rows, and one all-reduce turns the shares' means into the batch's.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lra.training.distributed import Group


class Turns:
    """Hands out the micro-batches of one step after the other, or of one evaluation after the other.

    flat: (K,) float32, where each micro-batch of a step adds its gradient and its loss, and where `add_up` leaves their
    sum; None for evaluations.
    """

    def __init__(self, group: Group, flat: Tensor | None = None):
        self.group, self.flat = group, flat
        self.undivided = False  # process 0 computes everything, because each micro-batch depends on those before
        self.slots: Tensor | None = None  # results of the turns, and their sum, in memory that the processes share
        self.begin()

    def begin(self) -> None:
        """Call it before each step and each evaluation."""
        self.taken: list[int] = []
        self.tokens: list[int] = []  # computed in each turn taken
        self.count = 0
        self.group.begin_turns()

    def hand_out(self, count: int) -> Iterator[int]:
        """Numbers of the turns that this process takes, of `count` in all; the caller adds each result to `flat`.

        After a turn has failed, call it again: it first repeats the turns that this process has taken. A process that
        is alone, or on a GPU, takes all turns.
        """
        again, self.tokens, self.count = list(self.taken), [], count
        if self.flat is not None:
            self.flat.zero_()
        if not self.group.takes_turns:
            yield from range(count)
            return
        slots = self.room(count, self.flat) if self.flat is not None else torch.empty(0)
        for number in itertools.chain(again, self.new(count)):
            yield number
            if self.flat is not None:
                slots[number] = self.flat
                self.flat.zero_()

    def new(self, count: int) -> Iterator[int]:
        """Takes turns until there are none left."""
        if self.undivided and self.group.rank > 0:
            return
        while (number := self.group.take_turn()) < count:
            self.taken.append(number)
            yield number

    def room(self, count: int, flat: Tensor) -> Tensor:
        """A slot for the result of each turn, and one for their sum."""
        if self.slots is None or len(self.slots) <= count:
            self.slots = in_common(self.group, count + 1, len(flat))
        return self.slots

    def total(self, losses: np.ndarray) -> float:
        """The sum over all turns, in their order. losses: of the turns that this process took, and 0 for the others."""
        if self.group.takes_turns:
            return float(self.group.add(losses).sum())
        return float(self.group.add(losses.sum(keepdims=True))[0])

    def add_up(self) -> int:
        """Leaves in `flat` the sum over all turns of all processes; returns how many tokens they computed."""
        group, flat, slots = self.group, self.flat, self.slots
        assert flat is not None
        if not group.takes_turns or slots is None:
            group.average(flat)
            return sum(self.tokens) * group.size
        tokens = group.add(np.array(sum(self.tokens)))  # waits for all, so that all slots are filled
        chunk = -(-len(flat) // group.size)
        columns = slots[:, group.rank * chunk : (group.rank + 1) * chunk]  # each process adds up some columns
        columns[-1] = columns[0]
        for number in range(1, self.count):
            columns[-1] += columns[number]
        group.meet()
        flat.copy_(slots[-1])
        return int(tokens)


def in_common(group: Group, rows: int, columns: int) -> Tensor:
    """A float32 tensor (rows, columns) of zeros in memory that the processes of a group, on one machine, share."""
    file, path = -1, ""
    if group.rank == 0:
        if hasattr(os, "memfd_create"):  # Linux: not limited by /dev/shm, which is often small in a container
            file = os.memfd_create("turns")
            path = f"/proc/{os.getpid()}/fd/{file}"
        else:
            file, path = tempfile.mkstemp()
        os.ftruncate(file, 4 * rows * columns)
    array = np.memmap(group.broadcast(path), dtype=np.float32, mode="r+", shape=(rows, columns))
    group.meet()
    if group.rank == 0:
        os.close(file)
        if not hasattr(os, "memfd_create"):
            Path(path).unlink()
    return torch.from_numpy(array)
