"""PyTorch's settings as in a new process, for the time of a run.

In a grid, a user's file may have changed any of them, at import or in an earlier run, and so may a notebook; every run
must compute what it would compute alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from attention_zoo import process


@contextlib.contextmanager
def fresh_state(threads: int = 0) -> Iterator[None]:
    """Within the block PyTorch's settings are those of a new process, and afterwards what they were before.

    threads: within the block; 0 for as many as there are. Whether algorithms are deterministic, and which attention
    kernels may be used, is for `set_backends` to say, within the block.
    """
    before = process.look()
    process.restore(process.as_new(before) | ({"the number of threads": threads} if threads else {}))
    try:
        yield
    finally:
        process.restore(before)
