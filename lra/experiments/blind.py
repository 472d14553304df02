"""The baseline of a pretraining: how well masked inputs are predicted from their positions alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lra.hashing import seed_of
from lra.training.batches import Samples, documents, order
from lra.training.device import Padding

VALUES = 256  # a stored value is a byte
COUNTED = 50_000_000  # values of the training split counted, at most; padding included, rows drawn at random
CHUNK = 4_000_000  # values processed at a time


def blind_scores(
    train: Samples, validation: Samples, rows: np.ndarray, padding: Padding, seed: int
) -> dict[str, float]:
    """Predicts tokens from their positions alone. Each score is a mean over a sample's real tokens, then over samples.

    loss: the cross-entropy (nats) when a token is predicted by the frequencies of values at its position in the
    training split, with add-one smoothing over the values that occur in the split. loss_anywhere: the same with the
    frequencies over all positions, which predict better where the split is small. accuracy: the share of tokens that
    equal the most frequent value at their position. rows: samples of the validation split. seed: draws the training
    rows that are counted where the split is large.
    """
    counts = count_values(train, padding, seed)
    commonest, sums = counts.argmax(axis=1), {"loss": [], "loss_anywhere": [], "accuracy": []}
    losses = {"loss": surprise(counts), "loss_anywhere": surprise(counts.sum(axis=0, keepdims=True))}
    for values, real in chunks(validation, rows, padding):
        position = np.broadcast_to(np.arange(padding.length), values.shape)
        weight = real / np.maximum(real.sum(axis=1, keepdims=True), 1)
        scores = {name: table[position % len(table), values] for name, table in losses.items()}
        for name, score in (scores | {"accuracy": values == commonest}).items():
            sums[name].append((score * weight).sum(axis=1))
    return {name: float(np.concatenate(parts).mean()) for name, parts in sums.items()}


def surprise(counts: np.ndarray) -> np.ndarray:
    """counts (N, VALUES) -> -log of smoothed frequencies (N, VALUES), nats; a value that never occurs counts once."""
    known = counts.any(axis=0)
    total = (counts + known).sum(axis=1, keepdims=True)
    return np.where(known, np.log(total) - np.log(np.maximum(counts + known, 1)), np.log(total + 1))


def count_values(train: Samples, padding: Padding, seed: int) -> np.ndarray:
    """How often each value is a real token at each position of the (sampled) training split, (N, VALUES)."""
    length, count = padding.length, len(train.labels)
    counted = max(1, min(count, COUNTED // (length * (1 if train.pairs is None else 2))))
    rows = order(count, counted, seed_of(seed, "counted"), 0) if counted < count else np.arange(count)
    counts = np.zeros(length * VALUES, dtype=np.int64)
    for values, real in chunks(train, rows, padding):
        bins = np.arange(length) * VALUES + values
        counts += np.bincount(bins[real], minlength=length * VALUES)
    return counts.reshape(length, VALUES)


def chunks(samples: Samples, rows: np.ndarray, padding: Padding) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the documents of these samples in chunks: values (R, N) int64, and real (R, N), True at real tokens."""
    step = max(1, CHUNK // padding.length)
    wanted = documents(samples, rows)
    for start in range(0, len(wanted), step):
        part = wanted[start : start + step]
        stored = np.asarray(samples.values[part, : padding.length]).astype(np.int64)
        values = np.pad(stored, ((0, 0), (0, padding.length - stored.shape[1])))
        real = np.arange(padding.length) < np.asarray(samples.lengths[part])[:, None]
        yield values, real & (values != 0) if padding.zero_is_padding else real
