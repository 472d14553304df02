"""The plainest gear: runs the model as it is written. The others execute the same steps in other ways."""

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lra.training.batches import Samples, micro_batches, sizes
from lra.training.device import Device, Padding
from lra.training.distributed import alone
from lra.training.loading import load, to_device
from lra.training.objective import loss_sum, predict
from lra.training.optimiser import FlatAdamW
from lra.training.turns import Turns


class Eager:
    """Runs the model as it is written. compile_seconds: the seconds spent on compiling, 0 here."""

    name = "eager"

    def __init__(self, model: nn.Module, device: Device, padding: Padding):
        self.model, self.device, self.padding, self.forward = model, device, padding, model
        self.compile_seconds = 0.0

    def logits(self, samples: Samples, rows: np.ndarray) -> tuple[Tensor, Tensor, int]:
        """What the model returns, logits (B, classes) or losses (B,), in float32; labels (B,); the tokens computed."""
        ids, keep, labels = load(samples, rows, self.padding, self.device.torch_device)
        with self.device.autocast():
            return self.forward(ids, keep).float(), labels, ids.numel()

    def compiling(self, what: str) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002
        """Surrounds work that may compile something, for the purpose `what`."""
        return contextlib.nullcontext()

    def prepare(self, samples: Samples, rows: np.ndarray) -> None:
        """Makes whatever the gear needs before its first step."""

    def gradients(self, samples: Samples, rows: np.ndarray, turns: Turns, reseed: Callable[[int], None]) -> None:
        """Adds to `turns.flat` the batch's mean loss and its gradient, of each micro-batch that `turns` hands out.

        reseed: called with the number of each micro-batch before it runs, so that each draws a different dropout mask.
        """
        self.model.train()
        assert turns.flat is not None
        parts = micro_batches(sizes(samples, rows), self.padding, self.device.kind)
        for number in turns.hand_out(len(parts)):
            reseed(number)
            with self.compiling("training"):
                logits, labels, tokens = self.logits(samples, rows[parts[number]])
                loss = loss_sum(logits, labels) / len(rows)
                loss.backward()
            turns.flat[-1] += loss.detach()
            turns.tokens.append(tokens)

    def move(self, optimiser: FlatAdamW, step: int) -> None:
        """Clips the gradient and moves the parameters, at the rate of step `step`."""
        optimiser.schedule(step)
        optimiser.move()

    @torch.no_grad()
    def evaluate(
        self,
        samples: Samples,
        rows: np.ndarray,
        turns: Turns | None = None,
        reseed: Callable[[int], None] = lambda _: None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predicted classes (R,) uint8 of these rows (R,), and the sum of the losses of each micro-batch (M,).

        turns: hands out the micro-batches; without it this process computes all of them. Both results are 0 for a
        micro-batch that another process computes. The sum is NaN if a logit of the micro-batch is not finite: its row
        has no prediction, although argmax names a class.
        """
        self.model.eval()
        device = self.device.torch_device
        turns = turns or Turns(alone(device))
        parts = micro_batches(sizes(samples, rows), self.padding, self.device.kind, training=False)
        predictions = torch.zeros(len(rows), dtype=torch.uint8, device=device)
        losses = torch.zeros(len(parts), device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        for number in turns.hand_out(len(parts)):
            part = parts[number]
            reseed(number)
            with self.compiling("evaluation"):
                logits, labels, _ = self.logits(samples, rows[part])
            logits, labels = logits[: len(part)], labels[: len(part)]
            loss = loss_sum(logits, labels)
            losses[number] = torch.where(logits.isfinite().all(), loss, torch.nan)
            predictions[to_device(part, device)] = predict(logits)
        return predictions.cpu().numpy(), losses.cpu().numpy()
