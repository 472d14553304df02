"""The third gear: a whole training step as CUDA graphs, replayed without host involvement.

There is one graph for each length of a micro-batch, which gathers its samples on the device and adds to static
gradients; one more graph clips, sets the rate and moves the parameters. The host only sends the row numbers and the
seed of each micro-batch.
"""

import contextlib
import functools
import pickle
import random
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lra.training.batches import MICRO_BATCH_TOKENS, Samples, sizes
from lra.training.buffers import Buffers
from lra.training.compiled import Compiled
from lra.training.device import Device, Padding
from lra.training.loading import gather, resident, to_device
from lra.training.objective import loss_sum
from lra.training.optimiser import FlatAdamW
from lra.training.turns import Turns

PARTS = 4  # micro-batches of a batch whose sequences differ in length
LENGTHS = 8  # lengths of micro-batches are multiples of 1 / LENGTHS of the longest, rounded up to a multiple of 16


class CaptureError(RuntimeError):
    """Work that can be compiled but not captured as a graph."""


class Recorder(Protocol):
    """Turns a function without arguments into a replay of it.

    It may call the function any number of times; afterwards it restores the tensors in `touched`.
    """

    def __call__(self, function: Callable[[], None], touched: list[Tensor]) -> Callable[[], None]: ...


class Captured(Compiled):
    """Replays CUDA graphs, one for each length of a micro-batch: `graphs_by_length`.

    rows: how many each micro-batch has; missing rows are filled and have no label.
    """

    name, sizes = "captured", LENGTHS

    def __init__(
        self,
        model: nn.Module,
        device: Device,
        padding: Padding,
        optimiser: FlatAdamW,
        batch: int,
        recorder: Recorder | None = None,
    ):
        super().__init__(model, device, padding)
        self.optimiser, self.batch, self.recorder = optimiser, batch, recorder or CUDARecorder()
        wanted = -(-batch // PARTS) if padding.lengths_vary else batch
        fitting = max(2, MICRO_BATCH_TOKENS[device.kind] // max(1, padding.length))
        self.rows = max(2, min(wanted, fitting))
        self.indices = torch.full((self.rows,), -1, device=device.torch_device)
        self.graphs_by_length: dict[int, Callable[[], None]] = {}
        self.last: Callable[[], None] | None = None
        optimiser.set_static(True)

    def prepare(self, samples: Samples, rows: np.ndarray) -> None:
        """Does nothing: graphs are captured when they are needed."""

    def separate(self) -> None:
        super().separate()
        self.graphs_by_length.clear()

    def length(self, longest: int) -> int:
        """The length of a micro-batch's graph."""
        return self.round_up(longest, LENGTHS) if self.padding.lengths_vary else self.padding.length

    def gradients(self, samples: Samples, rows: np.ndarray, turns: Turns, reseed: Callable[[int], None]) -> None:
        self.model.train()
        assert turns.flat is not None
        if len(rows) != self.batch:
            raise ValueError(f"a batch of {len(rows)} rows, captured for {self.batch}")
        lengths = sizes(samples, rows)
        order = np.argsort(-lengths, kind="stable")
        table = np.full((-(-len(rows) // self.rows), self.rows), -1, dtype=np.int64)
        table.flat[: len(rows)] = rows[order]
        indices = to_device(table, turns.flat.device)
        longest = lengths[order][:: self.rows]
        for number in turns.hand_out(len(table)):
            length = self.length(int(longest[number]))
            if length not in self.graphs_by_length:
                self.add_graph(samples, length)
            self.indices.copy_(indices[number])
            reseed(number)
            self.graphs_by_length[length]()
            turns.tokens.append(self.rows * length * (1 if samples.pairs is None else 2))

    def add_graph(self, samples: Samples, length: int) -> None:
        """Captures the graph of a length.

        Raises CaptureError when the split is not on the device, or a buffer is replaced instead of written to.
        """
        table = resident(samples, self.device.torch_device)
        if table is None:
            raise CaptureError("the training split is not held on the device: it is too large, or made as it is read")
        parameters = self.optimiser.parameters

        def run() -> None:
            ids, keep, labels = gather(table, self.indices, self.padding, length)
            loss = loss_sum(self.compute(ids, keep), labels) / self.batch
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            pairs = [(p.grad, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
            sums, parts = map(list, zip(*pairs, strict=True))
            # one kernel for all parameters, where backward() launches one for each
            torch._foreach_add_(sums, parts)  # pyright: ignore[reportPrivateImportUsage]
            self.optimiser.loss += loss.detach()

        buffers = Buffers(self.model)
        touched = [*self.optimiser.tensors(), *self.model.buffers(), self.indices]
        with self.compiling(f"length {length}"):
            graph = self.recorder(run, touched)
        if replaced := buffers.replaced():
            buffers.restore()
            raise CaptureError(f"buffer {replaced[0]} is replaced by a new tensor; a graph needs it updated in place")
        self.graphs_by_length[length] = graph

    def move(self, optimiser: FlatAdamW, step: int) -> None:  # noqa: ARG002
        """Replays the optimiser's graph, which counts the steps and looks up the rate by itself."""
        if self.last is None:
            with self.compiling("optimiser"):
                self.last = self.recorder(optimiser.move, optimiser.tensors())
        self.last()


class CUDARecorder:
    """Captures functions as CUDA graphs that share one memory pool: no result in it is needed after its replay."""

    def __init__(self):
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], None], touched: list[Tensor]) -> Callable[[], None]:
        saved = [tensor.clone() for tensor in touched]
        with torch.cuda.device(touched[0].device):
            current, side = torch.cuda.current_stream(), side_stream(touched[0].device)
            side.wait_stream(current)
            try:
                with torch.cuda.stream(side):
                    for _ in range(2):  # to compile, choose kernels and make lazy state
                        function()
                    if draws_on_the_host(function):
                        raise CaptureError(
                            "it draws random numbers on the host, and a graph would repeat the first draw"
                        )
                return self.capture(function, side)
            finally:
                current.wait_stream(side)
                for tensor, value in zip(touched, saved, strict=True):
                    tensor.copy_(value)

    def capture(self, function: Callable[[], None], side: torch.cuda.Stream) -> Callable[[], None]:
        """Captures the function on stream `side`. Raises CaptureError after undoing what a failed capture leaves."""
        current, graph = torch.cuda.current_stream(), torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[side.device.index]
        spare = generator.clone_state()
        # NCCL's threads may query events meanwhile, which the default mode forbids in every thread
        mode = "thread_local" if dist.is_available() and dist.is_initialized() else "global"
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=side, capture_error_mode=mode):
                function()
        except Exception as error:
            # After a failed capture its stream is still current, the generator refuses to draw outside of a graph, the
            # allocator refuses to release its cache, and the error raised hides the cause.
            if torch.cuda.current_stream() != current:  # else it has ended normally, as when memory runs out
                torch.cuda.set_stream(current)
                with contextlib.suppress(Exception):
                    torch._C._cuda_endAllocateToPool(side.device.index, self.pool)
                with contextlib.suppress(Exception):  # or the pool, which the capture also held, is never freed
                    torch._C._cuda_releasePool(side.device.index, self.pool)
            generator.graphsafe_set_state(spare)
            cause = error.__context__ or error
            raise CaptureError(f"{type(cause).__name__}: {cause}") from error
        return graph.replay


def draws_on_the_host(function: Callable[[], None]) -> bool:
    """Does a call draw from the generators of Python, NumPy or PyTorch on the CPU, which a replay does not advance?"""

    def states() -> bytes:
        return pickle.dumps((random.getstate(), np.random.get_state(), torch.get_rng_state().numpy()))

    before = states()
    function()
    return states() != before


@functools.cache
def side_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream to warm up and capture all graphs: cuBLAS keeps 32 MiB for each stream and thread that it meets."""
    return torch.cuda.Stream(device)
