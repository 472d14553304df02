"""The random number generators of this process, seeded so that every run draws what it would draw alone."""

import random

import numpy as np
import torch

SEEDS = 2**32  # numpy's generator takes seeds below this


def seed_everything(seed: int) -> None:
    """Seeds PyTorch, and the global generators of numpy and Python, from which a user's attention may draw."""
    torch.manual_seed(seed)
    np.random.seed(seed % SEEDS)
    random.seed(seed)
