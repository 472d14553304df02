"""Runs compiled loops over rows in Python threads, because numba's own threads do not work after a fork."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from numba.core import config


def in_threads(work: Callable[[slice], None], items: int) -> None:
    """Calls work(rows) on consecutive slices that cover `items`, each in a thread of its own if there are several.

    `work` must release the GIL, and no two calls may write to the same memory. There are NUMBA_NUM_THREADS threads, by
    default as many as cores that the process may use, but at most one for each item.
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
