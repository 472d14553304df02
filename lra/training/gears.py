"""Two ways to compute a batch's gradients and the logits of an evaluation: eager, and compiled by torch.compile.

The third, captured as CUDA graphs, is in `lra.capture`. All give the same gradients; dropout's draws may differ.
"""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo import config as dynamo
from torch._functorch import config as functorch

from lra.config.schema import Train
from lra.training.batches import Samples, load, sizes, slices_of, to_device
from lra.training.device import Place

# Work after which the compiler's time is earned back. On CUDA a small step is launches, so steps count: a minute of
# compiling, some 15 ms of a step. On a CPU work counts, in tokens, padded: 2 to 3 minutes, a quarter of a step.
EARNED_STEPS = 4_000
EARNED_TOKENS = 100_000_000

# Compilations of the encoder in a process, torch's cap; its default, 8, refuses the fifth mechanism of a grid.
COMPILATIONS = 256

# Devices on which small kernels next to each other, such as autocast's casts of every weight, are made one: a third
# fewer launches. Looked through in what this version of torch, or later, makes of our models.
COMBINED, SINCE = ("cuda",), (2, 13)

ALIGNED = 16  # CUDA's attention with a mask is compiled apart for lengths that are no multiple of 8


class Eager:
    """Runs the model as it is written. compile_seconds: spent on making the gear, none here."""

    name = "eager"

    def __init__(self, model: nn.Module, place: Place):
        self.model, self.place, self.forward = model, place, model
        self.compile_seconds = 0.0

    def logits(self, samples: Samples, rows: np.ndarray) -> tuple[Tensor, Tensor, int]:
        """Logits (B, classes) in float32, labels (B,) and how many tokens were computed."""
        ids, keep, labels = load(samples, rows, self.place)
        with self.place.autocast():
            return self.forward(ids, keep).float(), labels, ids.numel()

    def first(self, what: str) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002
        """Around work that may make something for the first time."""
        return contextlib.nullcontext()

    def gradients(self, samples: Samples, rows: np.ndarray, flat: Tensor, reseed: Callable[[int], None]) -> int:
        """Adds the gradient of the batch's mean loss, and the loss, to `flat`; returns how many tokens were computed.

        reseed: called with the number of each slice before it, so that its dropout is its own.
        """
        self.model.train()
        computed = 0
        for number, part in enumerate(slices_of(sizes(samples, rows), self.place)):
            reseed(number)
            with self.first("training"):
                logits, labels, tokens = self.logits(samples, rows[part])
                loss = F.cross_entropy(logits, labels, reduction="sum") / len(rows)
                loss.backward()
            flat[-1] += loss.detach()
            computed += tokens
        return computed

    @torch.no_grad()
    def evaluate(self, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """Predicted classes of these rows, uint8 in their order, and the mean loss."""
        self.model.eval()
        device = self.place.device
        predictions = torch.empty(len(rows), dtype=torch.uint8, device=device)
        total = torch.zeros((), device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        for part in slices_of(sizes(samples, rows), self.place, training=False):
            with self.first("evaluation"):
                logits, labels, _ = self.logits(samples, rows[part])
            total += F.cross_entropy(logits, labels, reduction="sum")
            predictions[to_device(part, device)] = logits[: len(part)].argmax(-1).to(torch.uint8)
        return predictions.cpu().numpy(), float(total) / len(rows)


class Compiled(Eager):
    """One compilation for training and one for evaluation, for every number of rows and every length.

    A slice has at least 2 rows and 2 tokens, because 0 and 1 would be compiled apart; further rows have no label.
    backend: of torch.compile. combined: are small kernels made one, which `separate` takes back?
    """

    name = "compiled"

    def __init__(self, model: nn.Module, place: Place, backend: Any = "inductor"):
        super().__init__(model, place)
        self.backend, self.made = backend, set[str]()
        self.combined = backend == "inductor" and place.device.type in COMBINED and torch_release() >= SINCE
        self.compile()

    def compile(self) -> None:
        setattr(dynamo, "recompile_limit" if hasattr(dynamo, "recompile_limit") else "cache_size_limit", COMPILATIONS)
        options: Any = {"combo_kernels": True} if self.combined else None
        self.forward = torch.compile(self.model, fullgraph=True, backend=self.backend, options=options)
        self.made.clear()

    def separate(self) -> None:
        """Starts anew without combined kernels."""
        self.combined = False
        self.compile()

    def logits(self, samples: Samples, rows: np.ndarray) -> tuple[Tensor, Tensor, int]:
        longest = self.place.length if self.place.whole else int(sizes(samples, rows).max())
        if self.place.device.type == "cuda":
            longest = min(-(-longest // ALIGNED) * ALIGNED, self.place.length)
        ids, keep, labels = load(samples, rows, self.place, (max(2, len(rows)), max(2, longest)))
        return self.compute(ids, keep), labels, ids.numel()

    def compute(self, ids: Tensor, keep: Tensor | None) -> Tensor:
        """ids (B, N) or (B, 2, N) -> logits (B, classes) in float32."""
        for tensor in (ids, keep):
            if tensor is not None:
                torch._dynamo.maybe_mark_dynamic(tensor, 0)
                if self.place.padded and not self.place.whole:  # else a constant, as the sides of a grid are
                    torch._dynamo.maybe_mark_dynamic(tensor, tensor.ndim - 1)
        with self.place.autocast(), backward_as_written():
            return self.forward(ids, keep).float()

    @contextlib.contextmanager
    def first(self, what: str) -> Iterator[None]:
        if what in self.made:
            yield
            return
        started = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's, about itself
            yield
        self.made.add(what)
        self.compile_seconds += time.monotonic() - started


def backward_as_written() -> contextlib.AbstractContextManager[None]:
    """Compiles backward passes outside of autocast, where eager ones run; else their long sums become bfloat16."""
    if not hasattr(functorch, "backward_pass_autocast"):
        return contextlib.nullcontext()
    return functorch.patch(backward_pass_autocast="off")


def torch_release() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def choose(config: Train, place: Place) -> tuple[str, str]:
    """The gear to start with, and why it is not the one that was asked for, if it is not.

    auto: where the run is long enough to earn the compiler's time back, captured on CUDA and compiled on a CPU; else,
    and for bit-equal runs, eager.
    """
    wanted, device = config.gear, place.device.type
    if wanted == "auto":
        long = {"cuda": config.steps >= EARNED_STEPS}
        long["cpu"] = config.steps * config.batch * place.length >= EARNED_TOKENS
        fast = long.get(device, False) and not config.deterministic
        wanted = ("captured" if device == "cuda" else "compiled") if fast else "eager"
    if wanted == "captured" and device != "cuda":
        return "compiled", "CUDA graphs need a CUDA device"
    if wanted == "captured" and config.cycle_beta1:
        return "compiled", "train.cycle_beta1 changes what a CUDA graph holds as a constant"
    return wanted, ""
