"""Which rows a step reads, and how a batch is cut into micro-batches that hold hardly any padding.

Why micro-batches: a batch padded to its longest sample is mostly padding. So a batch keeps its samples but is sorted by
length and cut, and each micro-batch is padded only to its own longest sample. Their gradients add up to the batch's
gradient.

Why no loader: the rows of step t are a pure function of (seed, t), so a resumed run reads the rows that an undisturbed
one reads.
"""

from typing import Protocol

import numpy as np
import torch

from lra.config.schema import Train
from lra.hashing import seed_of
from lra.training.device import Padding

# The most tokens of a micro-batch, and how much padding among them justifies the overhead of one more micro-batch. On a
# CPU the activations of a micro-batch should stay in cache.
MICRO_BATCH_TOKENS = {"cpu": 4_096, "cuda": 131_072, "mps": 65_536}
MICRO_BATCH_PADDING = {"cpu": 512, "cuda": 16_384, "mps": 16_384}
# Processes on a CPU take turns at micro-batches. So that they end together, a micro-batch may hold an eighth of the
# tokens that are left, but never less than a quarter of the most ("guided self-scheduling", Polychronopoulos and Kuck,
# 1987). The cut is the same for every number of processes, one included, and so are a run's results.
LEFT = 8
SMALLEST = 4
ROWS = 2  # at least, in a micro-batch: a graph that is compiled for every number of rows does not serve 1


class Samples(Protocol):
    """A split of a task: values (R, L) uint8, lengths (R,) int32, labels (R,) int64; for pairs, see `sizes`."""

    @property
    def values(self) -> np.ndarray: ...
    @property
    def lengths(self) -> np.ndarray: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def pairs(self) -> np.ndarray | None: ...
    @property
    def groups(self) -> dict[str, tuple[list[str], np.ndarray]]: ...


def order(rows: int, batch: int, seed: int, step: int) -> np.ndarray:
    """Rows (batch,) of a step, from 0: positions step * batch + i of the concatenated permutations of all epochs."""
    parts, start, need = [], step * batch, batch
    while need:
        epoch, offset = divmod(start, rows)
        part = permutation(rows, seed, epoch)[offset : offset + need]
        parts.append(part)
        start, need = start + len(part), need - len(part)
    return np.concatenate(parts)


_last_permutation: dict[tuple[int, int, int], np.ndarray] = {}


def permutation(rows: int, seed: int, epoch: int) -> np.ndarray:
    """The row order of one epoch, a pure function; the latest is cached, because every step asks for it."""
    key = (rows, seed, epoch)
    if key not in _last_permutation:
        generator = torch.Generator().manual_seed(seed_of(seed, "order", epoch))
        _last_permutation.clear()
        _last_permutation[key] = torch.randperm(rows, generator=generator).numpy()
    return _last_permutation[key]


def evaluation_rows(config: Train, rows: int) -> np.ndarray:
    """All rows of a split; the quirk `drop_last` leaves out the last, incomplete batch, unless it is the only one."""
    return np.arange(rows - rows % config.batch if config.drop_last and rows >= config.batch else rows)


def validation_rows(config: Train, rows: int, seed: int, evaluation: int) -> np.ndarray:
    """Rows of an evaluation, from 0: all, or `validation_batches` (a quirk) batches of an endless reshuffled loader."""
    if not config.validation_batches:
        return evaluation_rows(config, rows)
    return order(rows, config.validation_batches * config.batch, seed_of(seed, "validation"), evaluation)


def documents(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Rows of `values` that these samples read: (B,), for pairs (2B,)."""
    return rows if samples.pairs is None else samples.pairs[rows].ravel()


def sizes(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Lengths by which a batch is sorted, (B,): for a pair, the length of the longer document."""
    if samples.pairs is None:
        return samples.lengths[rows]
    return samples.lengths[samples.pairs[rows]].max(axis=1)


def micro_batches(lengths: np.ndarray, padding: Padding, kind: str, training: bool = True) -> list[np.ndarray]:
    """Positions of rows, in micro-batches that suit a device of this kind.

    An evaluation keeps no activations, so its micro-batches are larger.
    """
    if padding.to_full_length:
        lengths = np.full_like(lengths, padding.length)
    factor = 1 if training else 4
    most = factor * MICRO_BATCH_TOKENS[kind]
    return cut(lengths, most, factor * MICRO_BATCH_PADDING[kind], most // SMALLEST if kind == "cpu" else most)


def cut(lengths: np.ndarray, most: int, padding: int, least: int) -> list[np.ndarray]:
    """Positions by falling length, in parts of `least` to `most` tokens, at most `padding` of them padding.

    Parts become smaller as fewer tokens are left, unless all tokens fit into `most`, which is too little to share. Each
    part has at least ROWS rows, however long they are, unless the batch has fewer.
    """
    falling_order = np.argsort(-lengths, kind="stable")
    falling = lengths[falling_order].astype(np.int64)
    left = np.cumsum(falling[::-1])[::-1]
    least = most if falling.sum() <= most else least
    parts, start = [], 0
    while start < len(falling_order):
        longest, size = falling[start], min(most, max(least, left[start] // LEFT))
        ahead = np.arange(1, min(len(falling_order) - start, max(ROWS, size // longest)) + 1)
        padded = longest * ahead - np.cumsum(falling[start : start + len(ahead)])
        end = start + max(int(np.searchsorted(padded, padding, side="right")), min(ROWS, len(ahead)))
        if len(falling_order) - end < ROWS:
            end = len(falling_order)
        parts.append(falling_order[start:end])
        start = end
    return parts
