"""The gear that runs the model compiled by torch.compile."""

import contextlib
import logging
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._dynamo import config as dynamo
from torch._dynamo import utils as dynamo_utils
from torch._functorch import config as functorch

from lra.console import say
from lra.training.batches import Samples, micro_batches, sizes
from lra.training.device import Device, Padding
from lra.training.eager import Eager
from lra.training.inductor import inductor_for
from lra.training.loading import load
from lra.training.objective import loss_sum

# torch limits the compilations of the encoder in a process: the graphs that it keeps (8 by default, which the fifth run
# of a grid would exceed), and all graphs that it ever made (which a grid of every row on every task would exceed).
COMPILATIONS, ALL_COMPILATIONS = 256, 1 << 16
FEW = 4  # graphs of the encoder that training, or evaluation, may need before lengths are rounded; one is usual
SIZES = 4  # sizes that a compiled gear rounds lengths up to when it has compiled more than FEW times

# Fuse small neighbouring kernels (e.g. autocast's weight casts) on these devices: a third fewer launches. The generated
# code was checked with torch 2.13.
COMBINED, SINCE = ("cuda",), (2, 13)

# The fewest tokens of a compiled micro-batch: a few attentions have windows or tables of 2 to 4 tokens, and would be
# compiled separately for sequences that fit into one.
SHORTEST = 8
ALIGNED = 16  # CUDA's attention with a mask is compiled separately for lengths that are no multiple of 8


class RecompileError(RuntimeError):
    """A model is compiled again and again, which would cost more than a faster step saves."""


class Compiled(Eager):
    """One compilation for training and one for evaluation, for every number of rows and every length.

    A micro-batch has at least 2 rows and SHORTEST tokens, because smaller sizes would be compiled separately; rows that
    are added for this have no label. backend: torch.compile's. combined: are small kernels fused? `separate` compiles
    again without that. rounded: are lengths rounded up to a few sizes, because the model is compiled anew for each?
    """

    name, sizes = "compiled", SIZES

    def __init__(self, model: nn.Module, device: Device, padding: Padding, backend: Any = "inductor"):
        super().__init__(model, device, padding)
        self.backend, self.made, self.graphs = backend, set[str](), Counter[str]()
        self.rounded = False
        self.combined = backend == "inductor" and device.kind in COMBINED and torch_release() >= SINCE
        self.compile()

    def compile(self) -> None:
        former = not hasattr(dynamo, "recompile_limit")  # the names before torch 2.7
        setattr(dynamo, "cache_size_limit" if former else "recompile_limit", COMPILATIONS)
        setattr(dynamo, f"accumulated_{'cache_size' if former else 'recompile'}_limit", ALL_COMPILATIONS)
        options: Any = {"combo_kernels": True} if self.combined else None
        adapted = self.backend == "inductor" and self.device.kind == "cpu"
        backend = inductor_for(self.model) if adapted else self.backend
        self.forward = torch.compile(self.model, fullgraph=True, backend=backend, options=options)
        self.made.clear()
        self.graphs.clear()

    def prepare(self, samples: Samples, rows: np.ndarray) -> None:
        """Compiles for training and for evaluation, with a micro-batch of these rows.

        Every process uses the same rows, because the code may depend on the first sizes that the compiler sees.
        """
        parts = micro_batches(sizes(samples, rows), self.padding, self.device.kind)
        part = rows[parts[len(parts) // 2]]
        self.model.train()
        with self.compiling("training"):
            logits, labels, _ = self.logits(samples, part)
            loss_sum(logits, labels).backward()
        self.model.eval()
        with torch.no_grad(), self.compiling("evaluation"):
            self.logits(samples, part)

    def separate(self) -> None:
        """Starts again without combined kernels."""
        self.combined = False
        self.compile()

    def logits(self, samples: Samples, rows: np.ndarray) -> tuple[Tensor, Tensor, int]:
        longest = self.padding.length if self.padding.to_full_length else int(sizes(samples, rows).max())
        if self.rounded:
            longest = self.round_up(longest, self.sizes)
        elif self.device.kind == "cuda":
            longest = min(-(-longest // ALIGNED) * ALIGNED, self.padding.length)
        shortest = SHORTEST * getattr(self.model, "merged", 1)  # SHORTEST are left after tokens are merged
        shape = max(2, len(rows)), max(2, min(shortest, self.padding.length), longest)
        ids, keep, labels = load(samples, rows, self.padding, self.device.torch_device, shape)
        return self.compute(ids, keep), labels, ids.numel()

    def round_up(self, longest: int, count: int) -> int:
        """The smallest that fits of about `count` lengths, which are multiples of 16 and the task's longest."""
        unit = -(-self.padding.length // count // 16) * 16 or 16
        return min(-(-longest // unit) * unit, self.padding.length)

    def compute(self, ids: Tensor, keep: Tensor | None) -> Tensor:
        """ids (B, N) or (B, 2, N) -> logits (B, classes), or losses (B,), in float32."""
        for tensor in (ids, keep):
            if tensor is not None:
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
                if self.padding.lengths_vary:  # otherwise the length is a constant, as the sides of a grid are
                    torch._dynamo.maybe_mark_dynamic(tensor, tensor.ndim - 1)
        with self.device.autocast(), backward_as_written():
            return self.forward(ids, keep).float()

    @contextlib.contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """Counts the seconds and graphs compiled within the context. Raises RecompileError for far too many graphs."""
        started, before = time.monotonic(), graphs_compiled()
        first = what not in self.made
        with quiet() if first else contextlib.nullcontext():
            yield
        self.made.add(what)
        if compiled := graphs_compiled() - before:
            self.count_graphs("evaluation" if what == "evaluation" else "training", compiled)
        if first or compiled:
            self.compile_seconds += time.monotonic() - started

    def count_graphs(self, purpose: str, compiled: int) -> None:
        """When the encoder has been compiled more than FEW times, prints why, and rounds lengths from then on.

        Raises RecompileError when lengths do not vary, or when the encoder is compiled again although they are rounded.
        """
        self.graphs[purpose] += compiled
        if self.graphs[purpose] <= FEW + (self.sizes if self.rounded else 0):
            return
        why = (
            f"{attention_names(self.model)} compiled {self.graphs[purpose]} times for {purpose} ({recompile_reason()})"
        )
        if self.rounded or not self.padding.lengths_vary:
            raise RecompileError(why)
        self.rounded = True
        self.graphs.clear()
        say(f"gear {self.name}: {why}; lengths are now rounded up to {self.sizes} sizes")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses the compiler's warnings and log lines, which are about the compiler itself."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def graphs_compiled() -> int:
    """Graphs that torch.compile has made in this process."""
    return dynamo_utils.counters["stats"]["unique_graphs"]


def recompile_reason() -> str:
    """What torch says about its last compilation: the guard that failed, in one line."""
    metrics = dynamo_utils.get_compilation_metrics()
    reason = getattr(metrics[-1], "recompile_reason", None) if metrics else None
    return " ".join((reason or "torch gives no reason").split())[:200]


def attention_names(model: nn.Module) -> str:
    """Class names of the model's attentions, or of the model if it has no `attentions`."""
    attentions = getattr(model, "attentions", None)
    return " + ".join(dict.fromkeys(type(m).__name__ for m in (attentions() if attentions else [model])))


def backward_as_written() -> contextlib.AbstractContextManager[None]:
    """Compiles backward passes outside of autocast, as eager ones run: under autocast long sums become bfloat16."""
    if not hasattr(functorch, "backward_pass_autocast"):
        return contextlib.nullcontext()
    return functorch.patch(backward_pass_autocast="off")


def torch_release() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)
