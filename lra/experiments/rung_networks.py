"""Small networks that are trained as rungs of a ladder: how much of an image task is local?

Tasks know no torch, so they name a network and this module builds it. `patches` is an MLP that sees one patch at a time
and averages its features, so it knows what an image holds but not where. `convolutions` has five layers of 3 x 3 with
two poolings between them; the last layers see nearly all of an image of 32 pixels. Both were designed for this suite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

if TYPE_CHECKING:
    import tasks

PIXELS = 1 << 26  # pixels read of each split, at most: 65,536 images of 32 x 32, 16,384 of 64 x 64
SIDE = 32  # the first convolution's stride reduces larger images to about this side
BLOCK = 512  # images tested at a time
LOOKS = 5  # evaluations on the validation split, evenly over the steps


class Averaged(nn.Module):
    """Features (B, F, rows, columns) averaged over rows and columns, then a linear layer."""

    def __init__(self, features: nn.Module, width: int, classes: int):
        super().__init__()
        self.features, self.out = features, nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.features(x).mean((2, 3)))


def make(network: tasks.Network, side: int, classes: int) -> nn.Module:
    """Images (B, 1, side, side) -> logits (B, classes)."""
    width, stride = network.width, max(side // SIDE, 1)
    if network.kind == "patches":
        size = 8 * stride
        layers = [*layer(1, width, size, size // 2), *layer(width, width, 1, 1)]
        return Averaged(nn.Sequential(*layers), width, classes)
    layers = layer(1, width, 2 * stride + 1, stride, stride)
    for inside in (width, 2 * width):
        layers += [nn.MaxPool2d(2), *layer(inside, 2 * inside, 3, 1, 1)]
    layers += [*layer(4 * width, 4 * width, 3, 1, 1), *layer(4 * width, 4 * width, 3, 1, 1)]
    return Averaged(nn.Sequential(*layers), 4 * width, classes)


def layer(inside: int, outside: int, kernel: int, stride: int, padding: int = 0) -> list[nn.Module]:
    """A convolution, normalised over the batch, and ReLU."""
    return [nn.Conv2d(inside, outside, kernel, stride, padding), nn.BatchNorm2d(outside), nn.ReLU()]


def accuracy(network: tasks.Network, data: tasks.Data, title: str = "") -> float:
    """Test accuracy of a network trained on these images, when its validation accuracy was best; fixed by its seed.

    Only the first PIXELS / length images of a split are read.
    """
    assert data.spec.grid, "a network reads images"
    side, classes = data.spec.grid[0], data.spec.classes
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(network.seed)
        model = make(network, side, classes)
        order = torch.Generator().manual_seed(network.seed)
        train, validation, test = (read(split, data.spec.grid) for split in (data.train, data.validation, data.test))
        best, tested = -1.0, 0.0
        for _ in fit(model, network, train, order, title):
            score = share_right(model, validation)
            if score > best:
                best, tested = score, share_right(model, test)
    return tested


def read(split: tasks.Split, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Images (R, 1, side, side) uint8 and labels (R,)."""
    rows = min(len(split.labels), max(PIXELS // (grid[0] * grid[1]), 1))
    return torch.tensor(split.values[:rows]).view(rows, 1, *grid), torch.tensor(split.labels[:rows])


def fit(model: nn.Module, network: tasks.Network, train: tuple[Tensor, Tensor], order: torch.Generator, title: str):
    """Trains by AdamW under a one-cycle schedule, on random batches; yields LOOKS times, for the caller to evaluate."""
    images, labels = train
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, network.lr, total_steps=network.steps)
    for step in trange(1, network.steps + 1, desc=title, unit=" steps", disable=None, leave=False):
        rows = torch.randint(len(labels), (network.batch,), generator=order)
        model.train()
        optimiser.zero_grad()
        F.cross_entropy(model(images[rows] / 255), labels[rows]).backward()
        optimiser.step()
        schedule.step()
        if step * LOOKS // network.steps > (step - 1) * LOOKS // network.steps:
            yield step


@torch.no_grad()
def share_right(model: nn.Module, split: tuple[Tensor, Tensor]) -> float:
    """Accuracy on images (R, 1, side, side) uint8 and labels (R,)."""
    model.eval()
    parts = zip(*(tensor.split(BLOCK) for tensor in split), strict=True)
    return sum(int((model(images / 255).argmax(1) == labels).sum()) for images, labels in parts) / len(split[1])
