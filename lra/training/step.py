"""The optimiser step and the evaluation that every run uses, alone or shared by several processes.

A step adds up the gradient of the batch, micro-batch by micro-batch (why: see `batches`), in one flat tensor (why: see
`optimiser`), then clips it and applies AdamW. All that it draws is a function of (seed, step), so a checkpoint needs no
state of a random generator, and a resumed run draws what an undisturbed one draws.
"""

from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from lra.config.schema import Train
from lra.console import say
from lra.hashing import seed_of
from lra.training.batches import Samples, documents, sizes
from lra.training.captured import Recorder
from lra.training.device import Device, Padding
from lra.training.distributed import Group, alone
from lra.training.gearbox import GearBox
from lra.training.process import seed_everything
from lra.training.turns import Turns


class Step:
    """Executes this process's part of optimiser steps and evaluations.

    On a CPU the processes take turns at the micro-batches. On GPUs the rows are sorted by falling length and each
    process gets every `size`-th, so that the shares take equally long. real_tokens, computed_tokens: of all processes,
    without and with padding, since the trainer last set them to 0. recorder: stands in for CUDA graphs, in tests.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Train,
        device: Device,
        padding: Padding,
        seed: int,
        group: Group | None = None,
        recorder: Recorder | None = None,
    ):
        self.model, self.config, self.device, self.padding = model, config, device, padding
        self.group = group or alone(device.torch_device)
        self.shares = 1 if self.group.takes_turns else self.group.size
        self.seed = seed_of(seed, "process", self.group.rank) if self.group.rank and self.shares > 1 else seed
        self.gears = GearBox(model, replace(config, batch=config.batch // self.shares), device, padding, recorder)
        self.optimiser = self.gears.optimiser
        self.training, self.evaluation = Turns(self.group, self.optimiser.flat), Turns(self.group)
        self.real_tokens = self.computed_tokens = self.number = 0
        self.updated: list[str] = []  # names of the buffers that process 0 broadcasts after each step

    def share(self, samples: Samples, rows: np.ndarray) -> np.ndarray:
        """Positions of the rows that this process computes; of all rows where the processes take turns."""
        if self.shares == 1:
            return np.arange(len(rows))
        return np.argsort(-sizes(samples, rows), kind="stable")[self.group.rank :: self.shares]

    def reseed(self, micro_batch: int) -> None:
        """Makes dropout, and whatever else is drawn, a function of (seed, step, micro-batch)."""
        seed_everything(seed_of(self.seed, "dropout", self.number, micro_batch))

    def __call__(self, samples: Samples, rows: np.ndarray, number: int) -> Tensor:
        """Executes step `number` (from 0) on these rows.

        Returns the batch's mean loss, a scalar on the device that the next step overwrites.
        """
        self.number, turns = number, self.training
        share = rows[self.share(samples, rows)]
        if self.gears.updated_buffers is None:
            self.try_model(samples, share)
        turns.begin()
        done = False
        while not done:  # until a gear works
            buffers = self.gears.buffers()
            try:
                self.gears.gear.gradients(samples, share, turns, self.reseed)
                done = True
            except Exception as error:
                self.gears.fall_back(error)
                if buffers is not None:
                    buffers.restore()
        self.computed_tokens += turns.add_up()
        self.broadcast_buffers()
        self.real_tokens += int(samples.lengths[documents(samples, rows)].sum())
        self.move(number)
        return self.optimiser.loss

    def broadcast_buffers(self) -> None:
        """Broadcasts process 0's buffers that training updates (running statistics): each process saw other rows."""
        buffers = dict(self.gears.model.named_buffers()) if self.updated else {}
        for name in self.updated:
            self.group.broadcast_tensor(buffers[name])

    def try_model(self, samples: Samples, rows: np.ndarray) -> None:
        """Tries the model, and finds the buffers that training updates: processes cannot take turns at them."""
        moving = self.gears.try_model(samples, rows)
        if moving and self.group.takes_turns:
            say(f"{min(moving)} is updated by every micro-batch in order, so one process computes them all")
            self.training.undivided = self.evaluation.undivided = True
        if self.shares > 1:  # only buffers in the checkpoint: others may have another size in each process
            self.updated = self.group.broadcast(sorted(moving & self.gears.names))
        self.prepare(samples)

    def shift_up(self, samples: Samples, compiled: bool, refused: str) -> None:
        """Changes to the compiled gear. compiled: the code is in the cache. refused: why the run stays eager, or ''."""
        self.gears.shift_up(refused)
        if self.gears.updated_buffers is None:
            self.try_model(samples, np.arange(min(2, len(samples.labels))))
        else:
            self.prepare(samples, compiled)

    def prepare(self, samples: Samples, compiled: bool = False) -> None:
        """Lets the gear compile. On a CPU process 0 compiles first, and the others find its code in the cache."""
        if self.gears.gear.name == "eager":
            return

        def prepare() -> None:
            self.gears.prepare(samples, np.arange(min(self.config.batch, len(samples.labels))))

        if compiled or self.shares > 1:
            prepare()
        else:
            self.group.rank_zero_first(prepare)

    def move(self, number: int) -> None:
        """Clips the gradient and moves the parameters, in a slower gear if this one fails."""
        try:
            self.gears.gear.move(self.optimiser, number)
        except Exception as error:
            self.gears.fall_back(error)
            self.move(number)

    def evaluate(self, samples: Samples, rows: np.ndarray, seed: int = 0) -> tuple[np.ndarray, float]:
        """Predicted classes (R,) uint8 of these rows (R,), and the mean loss, which is NaN if a logit is not finite.

        Every process gets all predictions. seed: for attentions that draw in evaluation. Raises LateError.
        """
        self.gears.check_parameters()
        share = self.share(samples, rows)
        predictions, losses = np.zeros(len(rows), dtype=np.uint8), np.zeros(1)
        self.evaluation.begin()
        done = not len(share)
        while not done:
            try:
                predictions[share], losses = self.gears.gear.evaluate(
                    samples, rows[share], self.evaluation, lambda number: seed_everything(seed_of(seed, number))
                )
                done = True
            except Exception as error:
                self.gears.fall_back(error)
        return self.group.add(predictions), self.evaluation.total(losses) / len(rows)
