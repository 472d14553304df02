"""Seeded ListOps trees in blocks, distinct over all splits: the loop around the compiled kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tasks._data import DataError, Split
from tasks._random import stream_of
from tasks._threads import in_threads
from tasks.listops import kernels

if TYPE_CHECKING:
    from tasks.listops.settings import Settings

BATCH = 65_536  # candidates drawn at a time; does not change which trees are accepted
LEAST = BATCH // 1000  # new trees that a batch must yield


def generate(settings: Settings, split: str, rows: int, seen: set[int]) -> Iterator[Split]:
    """Yields `rows` accepted trees in blocks, none with a hash in `seen`, and adds their hashes to it.

    Each split has a separate random stream. Raises DataError when the settings accept almost no tree.
    """
    stream = stream_of(f"listops 1 {settings.seed} {split}")
    found, first = 0, 0
    while found < rows:
        lengths, hashes = _scan(settings, stream, first)
        accepted = np.flatnonzero(lengths)
        fresh = _unseen(accepted, hashes, seen, rows - found)
        found += len(fresh)
        if found < rows and len(fresh) < LEAST:
            raise DataError(_complaint(settings, split, len(accepted), found))
        if len(fresh):
            yield _fill(settings, stream, first + fresh)
        first += BATCH


def _scan(settings: Settings, stream: np.uint64, first: int) -> tuple[np.ndarray, np.ndarray]:
    lengths, hashes = np.empty(BATCH, np.int32), np.empty(BATCH, np.uint64)
    limits = (settings.min_length + 1, settings.max_length - 1, settings.max_depth, settings.max_args)

    def work(rows: slice) -> None:
        kernels.scan(stream, first + rows.start, *limits, lengths[rows], hashes[rows])

    in_threads(work, BATCH)
    return lengths, hashes


def _unseen(accepted: np.ndarray, hashes: np.ndarray, seen: set[int], wanted: int) -> np.ndarray:
    """The first `wanted` accepted candidates whose tree has not been seen before."""
    fresh = []
    for index, code in zip(accepted.tolist(), hashes[accepted].tolist(), strict=True):
        if len(fresh) == wanted:
            break
        if code not in seen:
            seen.add(code)
            fresh.append(index)
    return np.array(fresh, np.int64)


def _fill(settings: Settings, stream: np.uint64, indices: np.ndarray) -> Split:
    rows = len(indices)
    values = np.zeros((rows, settings.max_length - 1), np.uint8)
    lengths, labels = np.empty(rows, np.int32), np.empty(rows, np.int64)
    shape = (settings.brackets, settings.max_depth, settings.max_args)

    def work(part: slice) -> None:
        kernels.fill(stream, indices[part], *shape, values[part], lengths[part], labels[part])

    in_threads(work, rows)
    return Split(values, lengths, labels)


def _complaint(settings: Settings, split: str, accepted: int, found: int) -> str:
    if accepted < LEAST:
        return (
            f"listops: only {accepted} of {BATCH} random trees have more than {settings.min_length} and fewer than "
            f"{settings.max_length} tokens: widen data.min_length and data.max_length, or change data.max_depth="
            f"{settings.max_depth} and data.max_args={settings.max_args}"
        )
    return (
        f"listops: only {found} further distinct trees found for {split} with fewer than {settings.max_length} tokens: "
        f"lower data.{split}_rows or raise data.max_length"
    )
