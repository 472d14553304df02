"""What a step minimises, from what the model returns.

A classifier returns logits (B, classes), and its loss is their cross-entropy with the labels. A model that makes its
own targets, as in pretraining, returns the loss of each sample, (B,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lra.training.loading import UNLABELLED


def loss_sum(outputs: Tensor, labels: Tensor) -> Tensor:
    """outputs (B, classes) or (B,), labels (B,) -> the sum of the losses of all rows that have a label."""
    if outputs.ndim == 1:
        return torch.where(labels == UNLABELLED, 0, outputs).sum()
    return F.cross_entropy(outputs, labels, reduction="sum")


def predict(outputs: Tensor) -> Tensor:
    """outputs (B, classes) -> classes (B,) uint8; 0 where the outputs are losses (B,)."""
    if outputs.ndim == 1:
        return torch.zeros_like(outputs, dtype=torch.uint8)
    return outputs.argmax(-1).to(torch.uint8)
