"""The gradient of a batch in one gear and a model's predictions, for tests that compare them; a stand-in for CUDA."""

import numpy as np
import torch

from lra.config.schema import Train
from lra.training.device import Device
from lra.training.distributed import alone
from lra.training.eager import Eager
from lra.training.optimiser import FlatAdamW
from lra.training.process import seed_everything
from lra.training.turns import Turns

CPU = Device(torch.device("cpu"))


class Recorder:
    """In place of CUDA's recorder: calls the function to warm up, restores `touched`, and replays by calling it."""

    def __init__(self, warmups: int = 1):
        self.warmups, self.recorded, self.replayed = warmups, 0, 0

    def __call__(self, function, touched):
        saved = [tensor.clone() for tensor in touched]
        for _ in range(self.warmups):
            function()
        for tensor, value in zip(touched, saved, strict=True):
            tensor.copy_(value)
        self.recorded += 1

        def replay():
            self.replayed += 1
            function()

        return replay


def gradient(gear, model, samples, rows):
    optimiser = FlatAdamW(list(model.parameters()), Train(steps=1, batch=1, lr=0.0, warmup=0, evaluate_every=1))
    gear.gradients(samples, rows, Turns(alone(CPU.torch_device), optimiser.flat), seed_everything)
    return optimiser.flat


def evaluate(model, samples, rows, device, padding) -> tuple[np.ndarray, float]:
    """Predicted classes of these rows, uint8 in their order, and the mean loss, in the eager gear."""
    predictions, losses = Eager(model, device, padding).evaluate(samples, rows)
    return predictions, float(losses.sum()) / len(rows)
