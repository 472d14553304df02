"""The optimiser step and the evaluation that every run uses.

A step: gradients of the batch, slice by slice, into one flat tensor; `reduce`, when the batch is shared by several
processes; clipping; AdamW.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lra.config import Train
from lra.encoder import seed_of
from lra.place import Place
from lra.schedule import learning_rate, momentum
from lra.slices import Samples, documents, load, sizes, slices_of


class Step:
    """One optimiser step. Dropout is a function of (seed, step, slice), so nothing of a generator need be saved.

    gradient: (parameters,) float32, every parameter's .grad in order, as one tensor.
    reduce: called on `gradient` between the slices and clipping; changes it in place (data parallelism: the sum over
    processes).
    """

    def __init__(
        self, model: nn.Module, config: Train, place: Place, seed: int, reduce: Callable[[Tensor], None] | None = None
    ):
        self.model, self.config, self.place, self.seed, self.reduce = model, config, place, seed, reduce
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.gradient = flatten_gradients(self.parameters)
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=place.device.type in ("cpu", "cuda"),
        )
        self.real_tokens = self.computed_tokens = 0

    def gradients(self, samples: Samples, rows: np.ndarray, step: int) -> Tensor:
        """Sets `gradient` to that of the batch's mean loss, slice by slice, and returns this loss, on the device."""
        self.model.train()
        self.gradient.zero_()
        total = torch.zeros((), device=self.place.device)
        for number, part in enumerate(slices_of(sizes(samples, rows), self.place)):
            torch.manual_seed(seed_of(self.seed, "dropout", step, number))
            ids, keep, labels = load(samples, rows[part], self.place)
            with self.place.autocast():
                logits = self.model(ids, keep)
            loss = F.cross_entropy(logits.float(), labels, reduction="sum") / len(rows)
            loss.backward()
            total += loss.detach()
            self.computed_tokens += ids.numel()
        self.real_tokens += int(samples.lengths[documents(samples, rows)].sum())
        return total

    def __call__(self, samples: Samples, rows: np.ndarray, step: int) -> Tensor:
        """Step number `step` (from 0) on these rows; returns the batch's mean loss, on the device."""
        config, group = self.config, self.optimizer.param_groups[0]
        group["lr"] = learning_rate(config, step)
        group["betas"] = (momentum(config, step), config.beta2)
        loss = self.gradients(samples, rows, step)
        if self.reduce is not None:
            self.reduce(self.gradient)
        clip(self.gradient, config)
        self.optimizer.step()
        return loss


def flatten_gradients(parameters: list[nn.Parameter]) -> Tensor:
    """Gives the parameters gradients of 0 that are views of one tensor, and returns it; backward adds into it."""
    flat = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)
    return flat


def clip(gradient: Tensor, config: Train) -> None:
    """Limits the flat gradient in place, by its norm (as clip_grad_norm_ does) or by value, without a host wait."""
    if config.clip == "norm":
        norm = torch.linalg.vector_norm(gradient)
        gradient.mul_((config.clip_at / (norm + 1e-6)).clamp(max=1.0))
    elif config.clip == "value":
        gradient.clamp_(-config.clip_at, config.clip_at)


@torch.inference_mode()
def evaluate(model: nn.Module, samples: Samples, rows: np.ndarray, place: Place) -> tuple[np.ndarray, float]:
    """Predicted classes of these rows, uint8 in their order, and the mean loss."""
    model.eval()
    predictions = np.empty(len(rows), dtype=np.uint8)
    total = torch.zeros((), device=place.device, dtype=torch.float64 if place.device.type != "mps" else torch.float32)
    for part in slices_of(sizes(samples, rows), place):
        ids, keep, labels = load(samples, rows[part], place)
        with place.autocast():
            logits = model(ids, keep).float()
        total += F.cross_entropy(logits, labels, reduction="sum")
        predictions[part] = logits.argmax(-1).cpu().numpy()
    return predictions, float(total) / len(rows)
