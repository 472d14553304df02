"""Compiles a run's model in a process beside it, so that the first step need not wait for the compiler.

The process leaves the compiled code in the compiler's cache, where the run finds it when it shifts to that gear.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

import tasks
from lra.console import clock
from lra.errors import WorkError
from lra.experiments.packed import PackedRun
from lra.experiments.run import Run
from lra.experiments.spawn import CONTEXT, follow_parent

if TYPE_CHECKING:
    from lra.training.batches import Samples


@dataclass(frozen=True)
class CompileOrder:
    """What the process is to compile: the model of a run, for batches of this size."""

    run: PackedRun
    sizes: tasks.Spec
    samples: tasks.Split  # a batch
    pretraining: bool = False  # compile the model that pretrains the encoder


class BackgroundCompiler:
    """The process; it ends with the context. busy: it still compiles. refused: why it has no compiled code, or ''."""

    def __init__(self, run: Run, sizes: tasks.Spec, train: Samples, pretraining: bool = False):
        order = CompileOrder(PackedRun.of(run), sizes, first_rows(train, run.config.train.batch), pretraining)
        self.pipe, child_end = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=compile_model, args=(child_end, order))
        self.began, self._refused = time.monotonic(), ""
        self.process.start()
        child_end.close()

    @property
    def busy(self) -> bool:
        return not self._refused and self.process.is_alive()

    @property
    def activity(self) -> str:
        return f"compiling, {clock(time.monotonic() - self.began)} so far" if self.busy else ""

    @property
    def refused(self) -> str:
        if not self._refused and not self.busy and self.process.exitcode != 0:
            try:
                self._refused = self.pipe.recv()
            except EOFError:
                self._refused = f"the compiler's process ended with exit code {self.process.exitcode}"
        return self._refused

    def __enter__(self) -> BackgroundCompiler:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.process.terminate()
        self.process.join()


def first_rows(split: Samples, rows: int) -> tasks.Split:
    """The first `rows` samples of a split as a split of their own, with only the documents that they use."""
    labels = split.labels[:rows]
    if split.pairs is None:
        return tasks.Split(np.array(split.values[:rows]), np.array(split.lengths[:rows]), labels)
    documents = split.pairs[:rows].ravel()
    pairs = np.arange(len(documents), dtype=np.int32).reshape(-1, 2)
    return tasks.Split(np.array(split.values[documents]), np.array(split.lengths[documents]), labels, pairs=pairs)


def compile_model(pipe: Connection, order: CompileOrder) -> None:
    """The main function of the process: compiles the model for training and evaluation, or sends why it cannot."""
    import torch

    from lra import console
    from lra.experiments.build import make_denoiser, make_model, padding_of
    from lra.experiments.fresh_state import fresh_state
    from lra.training.cores import threads_per_process
    from lra.training.device import Device, set_backends
    from lra.training.step import Step

    follow_parent()
    console.show(bars=False, lines=False)
    try:
        run = order.run.unpack()
    except WorkError as error:
        pipe.send(str(error))
        raise SystemExit(1) from error
    config = replace(run.config.train, gear="compiled")
    device = Device(torch.device("cpu"), run.precision)
    with fresh_state(threads_per_process()):  # the key of the cache includes PyTorch's settings
        set_backends(config.deterministic)
        model = (make_denoiser if order.pretraining else make_model)(run, order.sizes)
        step = Step(model, config, device, padding_of(run, order.sizes), run.seed)
        step.try_model(order.samples, np.arange(len(order.samples.labels)))
    if step.gears.gear.name != "compiled":
        pipe.send(step.gears.cause.removeprefix("compiled failed: "))
        raise SystemExit(1)
