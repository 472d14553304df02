"""The state of this process that a run depends on: random number generators and PyTorch's settings.

In a grid, a user's file may have changed either, at import or in an earlier run; every run must compute what it would
compute alone.
"""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

SEEDS = 2**32  # numpy's generator takes seeds below this


def seed_everything(seed: int) -> None:
    """Seeds PyTorch, and the global generators of numpy and Python, from which a user's attention may draw."""
    torch.manual_seed(seed)
    np.random.seed(seed % SEEDS)
    random.seed(seed)


@contextlib.contextmanager
def fresh_state(threads: int = 0) -> Iterator[None]:
    """PyTorch's settings as in a new process, before the block and after it.

    threads: within the block; 0 for as many as there were. Whether algorithms are deterministic is for `set_backends`
    to say.
    """
    before = torch.get_num_threads()
    _reset(threads or before)
    try:
        yield
    finally:
        _reset(before)


def _reset(threads: int) -> None:
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_float32_matmul_precision("highest")
    torch.set_grad_enabled(True)
    torch.autograd.set_detect_anomaly(False)
    torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = False
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
