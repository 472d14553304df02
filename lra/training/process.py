"""The random number generators of this process, seeded so that every run draws what it would draw alone."""

import functools
import random

import numpy as np
import torch

from lra.training.device import devices

SEEDS = 2**32  # numpy's generator takes seeds below this


def seed_everything(seed: int) -> None:
    """Seeds PyTorch, and the global generators of numpy and Python, from which a user's attention may draw."""
    if has_accelerator():
        torch.manual_seed(seed)
    else:  # torch.manual_seed would format the stack for absent devices, at every micro-batch
        torch.default_generator.manual_seed(seed)
    np.random.seed(seed % SEEDS)
    random.seed(seed)


@functools.cache
def has_accelerator() -> bool:
    return devices() != ["cpu"]
