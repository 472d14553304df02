"""Gives a run PyTorch's settings as they are in a new process, and a caller its random numbers back.

A user's file may have changed any of them, at import or in an earlier run of the grid, and so may a notebook; but every
run must compute what it would compute alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from attention_zoo import process


@contextlib.contextmanager
def fresh_state(threads: int = 0) -> Iterator[None]:
    """Within the block PyTorch's settings are those of a new process, and afterwards what they were before.

    threads: their number within the block; 0 leaves it as it is. Call `set_backends` within the block to choose whether
    algorithms are deterministic and which attention kernels may be used.
    """
    before = process.look()
    process.restore(process.as_new(before) | ({"the number of threads": threads} if threads else {}))
    try:
        yield
    finally:
        process.restore(before)


@contextlib.contextmanager
def kept_generators() -> Iterator[None]:
    """Restores the generators of random numbers at the end: PyTorch's on the CPU and on CUDA, numpy's and Python's.

    For a library call that seeds them, because the caller's program may draw from them.
    """
    import torch

    cards = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(cards), process.seeded(0, 0):
        yield
    if torch.cuda.is_available() and not torch.cuda.is_initialized():  # CUDA takes its last seed when it starts
        torch.cuda.manual_seed_all(torch.initial_seed())
