"""Compiled loops over rows, one range per thread. These are plain threads: numba's own layers do not survive forks."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from numba.core import config


def in_threads(work: Callable[[slice], None], items: int) -> None:
    """Calls work(rows) on consecutive slices that cover `items`. `work` releases the GIL and shares nothing.

    There are as many threads as cores that the process may use, or NUMBA_NUM_THREADS.
    """
    threads = min(config.NUMBA_NUM_THREADS, items)  # pyright: ignore[reportAttributeAccessIssue]
    bounds = [items * part // max(threads, 1) for part in range(threads + 1)]
    ranges = [slice(first, last) for first, last in pairwise(bounds)]
    if len(ranges) <= 1:
        for rows in ranges:
            work(rows)
        return
    with ThreadPoolExecutor(len(ranges)) as pool:
        list(pool.map(work, ranges))
