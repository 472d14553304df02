"""The optimiser step and the evaluation that every run uses, alone or shared by several processes.

A step: the gradient of the batch, micro-batch by micro-batch, in one flat tensor; its average over the processes; then
clipping and AdamW. What it does is a function of (seed, step) and the weights, so no state of a random generator needs
to be saved.
"""

from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from lra.config.schema import Train
from lra.hashing import seed_of
from lra.training.batches import Samples, documents, sizes
from lra.training.cudagraphs import Recorder
from lra.training.device import Device, Padding
from lra.training.distributed import Group, alone
from lra.training.gearbox import GearBox
from lra.training.gears import Eager
from lra.training.process import seed_everything


class Step:
    """One optimiser step on this process's share of a batch.

    The share is every `size`-th row by falling length, so that the processes' shares take equally long.
    real_tokens, computed_tokens: of all steps and processes so far, without and with padding.
    recorder: stands in for CUDA graphs, in tests.
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
        self.seed = seed_of(seed, "process", self.group.rank) if self.group.rank else seed  # of dropout
        share = replace(config, batch=config.batch // self.group.size)
        self.gears = GearBox(model, share, device, padding, recorder)
        self.optimiser = self.gears.optimiser
        self.real_tokens = self.computed_tokens = self.number = 0

    def share(self, samples: Samples, rows: np.ndarray) -> np.ndarray:
        """Positions of this process's rows."""
        return np.argsort(-sizes(samples, rows), kind="stable")[self.group.rank :: self.group.size]

    def reseed(self, micro_batch: int) -> None:
        """Dropout, and whatever else is drawn, is a function of (seed, step, micro-batch)."""
        seed_everything(seed_of(self.seed, "dropout", self.number, micro_batch))

    def __call__(self, samples: Samples, rows: np.ndarray, number: int) -> Tensor:
        """Step `number` (from 0) on these rows; returns the batch's mean loss, on the device, until the next step."""
        self.number = number
        share = rows[self.share(samples, rows)]
        if self.gears.moving is None:
            self.gears.dry_run(samples, share)
        computed = None
        while computed is None:  # until a gear works
            buffers = self.gears.buffers()
            self.optimiser.flat.zero_()
            try:
                computed = self.gears.gear.gradients(samples, share, self.optimiser.flat, self.reseed)
            except Exception as error:
                self.gears.shift(error)
                if buffers is not None:
                    buffers.restore()
        self.group.average(self.optimiser.flat)
        self.move(number)
        self.computed_tokens += computed * self.group.size
        self.real_tokens += int(samples.lengths[documents(samples, rows)].sum())
        return self.optimiser.loss

    def move(self, number: int) -> None:
        """Clips the gradient and moves the parameters, in a slower gear if this one fails."""
        try:
            self.gears.gear.move(self.optimiser, number)
        except Exception as error:
            self.gears.shift(error)
            self.move(number)

    def evaluate(self, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """Predicted classes of these rows, uint8 in their order, and the mean loss; NaN if a logit is not finite.

        Every process gets all predictions. Raises LateError.
        """
        self.gears.check_parameters()
        share = self.share(samples, rows)
        predictions, total = np.zeros(len(rows), dtype=np.uint8), 0.0
        done = not len(share)
        while not done:
            try:
                predictions[share], total = self.gears.gear.evaluate(samples, rows[share])
                done = True
            except Exception as error:
                self.gears.shift(error)
        predictions, total = self.group.add(predictions), self.group.add(np.array(total))
        return predictions, float(total) / len(rows)


def evaluate(
    model: nn.Module, samples: Samples, rows: np.ndarray, device: Device, padding: Padding
) -> tuple[np.ndarray, float]:
    """Predicted classes of these rows, uint8 in their order, and the mean loss, in the eager gear."""
    predictions, total = Eager(model, device, padding).evaluate(samples, rows)
    return predictions, total / len(rows)
