"""The optimiser step and the evaluation that every run uses, in the fastest gear that works.

A step: gradients of the batch, slice by slice, into one flat tensor; `reduce`, when the batch is shared by several
processes; clipping and AdamW.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lra.config.schema import Train
from lra.console import say
from lra.hashing import seed_of
from lra.training.batches import Samples, documents, load
from lra.training.cudagraphs import Captured, CaptureError, Record
from lra.training.device import Place
from lra.training.gears import Compiled, Eager, choose
from lra.training.optimiser import Update

T = TypeVar("T")


class Step:
    """One optimiser step. Dropout is a function of (seed, step, slice), so nothing of a generator need be saved.

    reduce: called on `update.flat`, the gradient and the loss, between the slices and clipping; changes it in place
    (data parallelism: the sum over processes). record: stands in for CUDA's, in tests.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Train,
        place: Place,
        seed: int,
        reduce: Callable[[Tensor], None] | None = None,
        record: Record | None = None,
    ):
        self.model, self.config, self.place, self.seed, self.reduce = model, config, place, seed, reduce
        self.update = Update([p for p in model.parameters() if p.requires_grad], config)
        self.real_tokens = self.computed_tokens = 0
        self.looked = False
        wanted, self.cause = ("captured", "") if record is not None else choose(config, place)
        if wanted == "captured":
            self.gear: Eager = Captured(model, place, self.update, config.batch, record)
        else:
            self.gear = (Compiled if wanted == "compiled" else Eager)(model, place)
        if self.gear.name != "eager" and not self.cause:
            say(f"gear {self.gear.name}: the first step waits for the compiler; train.gear=eager starts at once")
        if self.cause:
            say(f"gear {self.gear.name}: {self.cause}")

    @property
    def gear_name(self) -> str:
        """The gear in use, and why not the one that was meant, for the record."""
        return f"{self.gear.name} ({self.cause})" if self.cause else self.gear.name

    def gradients(self, samples: Samples, rows: np.ndarray, step: int) -> None:
        """Sets `update.flat` to the gradient of the batch's mean loss, and to this loss."""

        def reseed(number: int) -> None:
            torch.manual_seed(seed_of(self.seed, "dropout", step, number))

        def whole() -> int:
            self.update.flat.zero_()
            return self.gear.gradients(samples, rows, self.update.flat, reseed)

        if not self.looked and self.gear.name != "eager":
            self.look(samples, rows[:2])
            self.looked = True
        self.computed_tokens += self.attempt(whole)
        self.real_tokens += int(samples.lengths[documents(samples, rows)].sum())

    @torch.no_grad()
    def look(self, samples: Samples, rows: np.ndarray) -> None:
        """Runs the model as it is written, so that its own errors come before the compiler's, or instead of silence."""
        ids, keep, _ = load(samples, rows, self.place)
        with self.place.autocast():
            self.model(ids, keep)

    def __call__(self, samples: Samples, rows: np.ndarray, step: int) -> Tensor:
        """Step number `step` (from 0) on these rows; returns the batch's mean loss, on the device, until the next."""
        self.gradients(samples, rows, step)
        if self.reduce is not None:
            self.reduce(self.update.flat)
        self.attempt(lambda: self.move(step))
        return self.update.loss

    def move(self, step: int) -> None:
        """Clips the gradient and moves the parameters."""
        if isinstance(self.gear, Captured):
            self.gear.finish()
        else:
            self.update.prepare(step)
            self.update.run()

    def evaluate(self, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """Predicted classes of these rows, uint8 in their order, and the mean loss."""
        return self.attempt(lambda: self.gear.evaluate(samples, rows))

    def attempt(self, work: Callable[[], T]) -> T:
        """Does the work; when a faster gear fails, in the next, after one line that says why."""
        try:
            return work()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            if self.gear.name == "eager":
                raise
            self.fall_back(error)
            return self.attempt(work)

    def fall_back(self, error: Exception) -> None:
        """To compiled after what only a graph refuses, else to eager, since what is captured is compiled.

        Where kernels were combined, first to the same gear without.
        """
        gear, refused = self.gear, isinstance(error, CaptureError)
        what, why = gear.name, next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        if isinstance(gear, Compiled) and gear.combined and not refused:
            what = "combined kernels"
            gear.separate()
        else:
            if isinstance(gear, Captured):
                self.update.set_static(False)
            self.gear = (Compiled if refused else Eager)(self.model, self.place)
            self.gear.compile_seconds = gear.compile_seconds
        self.cause = f"{what} failed: {type(error).__name__}: {why}"[:200]
        say(f"gear {self.gear.name}: {self.cause}")


def evaluate(model: nn.Module, samples: Samples, rows: np.ndarray, place: Place) -> tuple[np.ndarray, float]:
    """Predicted classes of these rows, uint8 in their order, and the mean loss, in the eager gear."""
    return Eager(model, place).evaluate(samples, rows)
