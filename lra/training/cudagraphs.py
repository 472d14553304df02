"""The third gear: a whole training step as CUDA graphs, replayed without a word from the host.

One graph for each length of a slice gathers its samples on the device and adds into static gradients; one more clips,
moves the parameters and sets the rate. The host only says which samples, and the seed of each slice.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from lra.training.batches import SLICE_TOKENS, Samples, gather, resident, sizes, to_device
from lra.training.device import Place
from lra.training.gears import Compiled
from lra.training.optimiser import Update

SLICES = 4  # of a batch whose sequences differ in length
LENGTHS = 8  # a slice's length is a multiple of the longest by 1 / LENGTHS, rounded up to a multiple of 16


class CaptureError(RuntimeError):
    """What the compiler takes and a graph does not."""


class Record(Protocol):
    """Makes something to replay of a function without arguments; may call it, after which `touched` is as before."""

    def __call__(self, function: Callable[[], None], touched: list[Tensor]) -> Callable[[], None]: ...


class Captured(Compiled):
    """Replays graphs. rows: of every slice; missing ones have no label. shapes: lengths that have a graph."""

    name = "captured"

    def __init__(self, model: nn.Module, place: Place, update: Update, batch: int, record: Record | None = None):
        super().__init__(model, place)
        self.update, self.batch, self.record = update, batch, record or CUDARecord()
        wanted = -(-batch // SLICES) if place.padded and not place.whole else batch
        fitting = max(2, SLICE_TOKENS[place.device.type] // max(1, place.length))
        self.rows = max(2, min(wanted, fitting))
        self.indices = torch.full((self.rows,), -1, device=place.device)
        self.graphs: dict[int, Callable[[], None]] = {}
        self.last: Callable[[], None] | None = None
        update.set_static(True)

    def separate(self) -> None:
        super().separate()
        self.graphs.clear()

    @property
    def shapes(self) -> list[int]:
        return sorted(self.graphs)

    def length(self, longest: int) -> int:
        """The length of a slice's graph."""
        if self.place.whole or not self.place.padded:
            return self.place.length
        unit = -(-self.place.length // LENGTHS // 16) * 16 or 16
        return min(-(-longest // unit) * unit, self.place.length)

    def gradients(self, samples: Samples, rows: np.ndarray, flat: Tensor, reseed: Callable[[int], None]) -> int:
        self.model.train()
        if len(rows) != self.batch:
            raise ValueError(f"a batch of {len(rows)} rows, captured for {self.batch}")
        lengths = sizes(samples, rows)
        order = np.argsort(-lengths, kind="stable")
        table = np.full((-(-len(rows) // self.rows), self.rows), -1, dtype=np.int64)
        table.flat[: len(rows)] = rows[order]
        indices = to_device(table, flat.device)
        computed = 0
        for number, longest in enumerate(lengths[order][:: self.rows]):
            length = self.length(int(longest))
            if length not in self.graphs:
                self.add_graph(samples, length)
            self.indices.copy_(indices[number])
            reseed(number)
            self.graphs[length]()
            computed += self.rows * length * (1 if samples.pairs is None else 2)
        return computed

    def add_graph(self, samples: Samples, length: int) -> None:
        """Raises CaptureError when the split is not on the device."""
        table = resident(samples, self.place.device)
        if table is None:
            raise CaptureError("the training split does not fit on the device")

        parameters = self.update.parameters

        def run() -> None:
            ids, keep, labels = gather(table, self.indices, self.place, length)
            loss = F.cross_entropy(self.compute(ids, keep), labels, reduction="sum") / self.batch
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            pairs = [(p.grad, g) for p, g in zip(parameters, found, strict=True) if g is not None]
            sums, parts = map(list, zip(*pairs, strict=True))
            # one kernel, where backward() takes one for each
            torch._foreach_add_(sums, parts)  # pyright: ignore[reportPrivateImportUsage]
            self.update.loss += loss.detach()

        with self.first(f"length {length}"):
            self.graphs[length] = self.record(run, [*self.update.tensors(), self.indices])

    def finish(self) -> None:
        """Clips, moves the parameters, counts: the last graph of a step."""
        if self.last is None:
            with self.first("optimiser"):
                self.last = self.record(self.update.run, self.update.tensors())
        self.last()


class CUDARecord:
    """Captures a function as a CUDA graph; all share one pool of memory, which no result of theirs outlives."""

    def __init__(self):
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], None], touched: list[Tensor]) -> Callable[[], None]:
        saved = [tensor.clone() for tensor in touched]
        with torch.cuda.device(touched[0].device):
            current, side = torch.cuda.current_stream(), side_stream(touched[0].device)
            side.wait_stream(current)
            try:
                with torch.cuda.stream(side):
                    for _ in range(3):  # compiles, chooses kernels, makes lazy state
                        function()
                return self.capture(function, side)
            finally:
                current.wait_stream(side)
                for tensor, value in zip(touched, saved, strict=True):
                    tensor.copy_(value)

    def capture(self, function: Callable[[], None], side: torch.cuda.Stream) -> Callable[[], None]:
        """Raises CaptureError, after which work can go on as if nothing had been tried."""
        current, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[side.device.index]
        spare = generator.clone_state()
        # NCCL's threads may ask for events meanwhile, which the default mode forbids every thread
        mode = "thread_local" if dist.is_available() and dist.is_initialized() else "global"
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=side, capture_error_mode=mode):
                function()
        except Exception as error:
            # A failed capture leaves its stream current, the generator refusing to draw outside of a graph and the
            # allocator refusing to give back what it caches, and ends with an error of its own, which hides the cause.
            torch.cuda.set_stream(current)
            with contextlib.suppress(Exception):
                torch._C._cuda_endAllocateToPool(side.device.index, self.pool)
            generator.graphsafe_set_state(spare)
            cause = error.__context__ or error
            raise CaptureError(f"{type(cause).__name__}: {cause}") from error
        return graph.replay


@functools.cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """For warm-up and capture, one for all graphs: cuBLAS keeps 32 MiB for every stream and thread that it has seen."""
    return torch.cuda.Stream(device)
