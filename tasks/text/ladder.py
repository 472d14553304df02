"""The Text ladder: how well the bytes and short runs of bytes of a review predict its label, without their order."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from tasks._data import Data, Split
from tasks._ladders import sklearn_logistic

COLUMNS = 2**18  # columns that runs of bytes are hashed to
FACTOR = 0x9E3779B97F4A7C15  # an odd number near 2^64 / golden ratio: multiplying by it spreads the codes


def linear_rungs(data: Data) -> dict[str, float]:
    """Byte counts, then counts of runs of 1 to 3 bytes; log(1 + count), each review scaled to norm 1."""
    labels = data.train.labels, data.test.labels
    rungs = {}
    for name, longest in (("bag of bytes", 1), ("bag of byte 3-grams", 3)):
        train, test = counts(data.train, longest), counts(data.test, longest)
        strength = 10.0 if longest > 1 else 100.0
        rungs[name] = sklearn_logistic(train, labels[0], test, labels[1], strength)
    return rungs


def counts(split: Split, longest: int) -> csr_matrix:
    """Features (R, 256) of single bytes, or (R, 2^18) of all runs of 1 to `longest` bytes, hashed."""
    columns, values, ends = [], [], [0]
    for row, length in enumerate(split.lengths.tolist()):
        codes, times = np.unique(runs(split.values[row, :length], longest), return_counts=True)
        logs = np.log1p(times).astype(np.float32)
        columns.append(codes.astype(np.int32))
        values.append(logs / np.linalg.norm(logs))
        ends.append(ends[-1] + len(codes))
    shape = (len(split.lengths), 256 if longest == 1 else COLUMNS)
    return csr_matrix((np.concatenate(values), np.concatenate(columns), np.array(ends)), shape)


def runs(text: np.ndarray, longest: int) -> np.ndarray:
    """The column of each run of 1 to `longest` bytes of a text (N,)."""
    if longest == 1:
        return text
    codes = []
    code = np.zeros(len(text) + 1, np.uint64)
    for size in range(1, min(longest, len(text)) + 1):
        code = code[:-1] * np.uint64(257) + text[size - 1 :] + np.uint64(1)
        codes.append(code)
    return (np.concatenate(codes) * np.uint64(FACTOR)) >> np.uint64(46)
