"""The micro-batches of a step, handed out to the processes that share a run, and the sum of their gradients.

Whichever process is free takes the next micro-batch, so that all end together whatever a micro-batch costs and however
fast a core is. The gradients are then added up in the order of the micro-batches. So neither the number of processes,
nor who computed what, changes a bit of the sum: it is that of one process.

On a GPU each process computes its own share of the rows, and one all-reduce turns the shares' means into the batch's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lra.training.distributed import Group


class Turns:
    """Hands out the micro-batches of one step, or of one evaluation, after the other.

    flat: (K,) float32, where each micro-batch of a step adds its gradient and its loss, and where `add_up` leaves their
    sum; None for evaluations.
    """

    def __init__(self, group: Group, flat: Tensor | None = None):
        self.group, self.flat = group, flat
        self.undivided = False  # process 0 computes everything, because what it computes depends on what came before
        width = 0 if flat is None else -(-len(flat) // group.size) * group.size
        self.slots = torch.empty(0, width)  # the result of each turn taken
        self.begin()

    def begin(self) -> None:
        """Call it before each step and each evaluation."""
        self.taken: list[int] = []
        self.tokens: list[int] = []  # computed in each turn taken
        self.count = 0
        self.group.begin_turns()

    def hand_out(self, count: int) -> Iterator[int]:
        """Numbers of the turns that this process takes, of `count` in all; `flat` is where each adds its result.

        Start again where a turn has failed: those taken so far then come first. A process alone, or on a GPU, takes
        all.
        """
        again, self.taken, self.tokens, self.count = self.taken, [], [], count
        if self.flat is not None:
            self.flat.zero_()
        if not self.group.takes_turns:
            yield from range(count)
            return
        for number in itertools.chain(again, self.new(count)):
            self.taken.append(number)
            yield number
            if self.flat is not None:
                self.keep(self.flat)

    def new(self, count: int) -> Iterator[int]:
        """Takes turns until there are none left."""
        if self.undivided and self.group.rank > 0:
            return
        while (number := self.group.take_turn()) < count:
            yield number

    def keep(self, flat: Tensor) -> None:
        """Moves the result of the turn just taken out of `flat`."""
        if len(self.slots) < len(self.taken):
            more = self.slots.new_zeros(max(8, 2 * len(self.slots)), self.slots.shape[1])
            more[: len(self.slots)] = self.slots
            self.slots = more
        self.slots[len(self.taken) - 1, : len(flat)] = flat
        flat.zero_()

    def total(self, losses: np.ndarray) -> float:
        """The sum over all turns, in their order. losses: of the turns that this process took, and 0 for the others."""
        if self.group.takes_turns:
            return float(self.group.add(losses).sum())
        return float(self.group.add(losses.sum(keepdims=True))[0])

    def add_up(self) -> int:
        """Leaves in `flat` the sum over all turns of all processes; returns how many tokens they computed."""
        group, size, flat = self.group, self.group.size, self.flat
        assert flat is not None
        if not group.takes_turns:
            group.average(flat)
            return sum(self.tokens) * size
        table = np.zeros((2, self.count), dtype=np.int64)
        table[0, self.taken], table[1, self.taken] = group.rank, self.tokens
        owners, tokens = group.add(table)
        counts = np.bincount(owners, minlength=size).tolist()
        chunk = self.slots.shape[1] // size  # each process adds up one chunk of the parameters
        sent = self.slots[: len(self.taken)].view(-1, size, chunk).transpose(0, 1).contiguous()
        received = sent.new_empty(self.count, chunk)
        dist.all_to_all_single(received, sent.view(-1, chunk), counts, [len(self.taken)] * size)
        place = np.argsort(np.argsort(owners, kind="stable"), kind="stable")  # where a turn lies among the received
        total = received[place[0]].clone()
        for number in place[1:]:
            total += received[number]
        whole = sent.new_empty(size * chunk)
        dist.all_gather(list(whole.split(chunk)), total)
        flat.copy_(whole[: len(flat)])
        return int(tokens.sum())
