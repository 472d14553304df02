"""The Retrieval ladder: what readers score that look at one document, at counts of bytes, or at shared rare words.

The rungs are ours. Popularity shows how far one can get without comparing the documents at all.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from tasks import _ladders

if TYPE_CHECKING:
    from tasks._data import Data, Split

WORD = re.compile(rb"[a-z]{3,}")
WIDTH = 2**12  # words share this many columns, by hash
RIDGE = 1e-3  # per sample
BLOCK = 8192  # pairs held in memory at a time


def climb(data: Data) -> dict[str, float]:
    """Rung -> accuracy on the test split. All is learned on train, except popularity's threshold, on validation.

    The byte histograms are standardised over all documents, which needs no label.
    """
    train, test = data.train, data.test
    return {
        "constant": _ladders.constant(data),
        "popularity of document 2": popularity(data),
        "byte histograms": byte_histograms(train, test),
        "idf cosine": idf_cosine(train, test),
    }


def popularity(data: Data) -> float:
    """Accuracy of answering `cited` when train cites document 2 at least as often as a threshold."""
    train = data.train
    cited = np.bincount(_pairs(train)[train.labels == 1, 1], minlength=len(train.lengths))
    scores = [cited[_pairs(split)[:, 1]] for split in (data.validation, data.test)]
    return _by_threshold(scores[0], data.validation.labels, scores[1], data.test.labels)


def byte_histograms(train: Split, test: Split) -> float:
    """Accuracy of a logistic regression on the share of each byte in both documents and their absolute difference."""
    shares = np.stack([np.bincount(row[:size], minlength=256) / size
                       for row, size in zip(train.values, train.lengths, strict=True)])  # fmt: skip
    shares = np.sqrt(shares[:, shares.any(0)]).astype(np.float32)
    shares = (shares - shares.mean(0)) / np.maximum(shares.std(0), 1e-6)

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for pairs, labels in zip(_blocks(_pairs(train)), _blocks(train.labels), strict=True):
            yield _features(shares, pairs), labels

    weights = _ladders.logistic(blocks, 3 * shares.shape[1] + 1, RIDGE * len(train.labels))
    answers = [_features(shares, part) @ weights > 0 for part in _blocks(_pairs(test))]
    return float((np.concatenate(answers) == test.labels).mean())


def idf_cosine(train: Split, test: Split) -> float:
    """Accuracy of answering `cited` for a large cosine of the word counts, weighted by each word's rarity in train."""
    words = np.zeros((len(train.lengths), WIDTH), np.float32)
    columns: dict[bytes, int] = {}
    for row, size, into in zip(train.values, train.lengths, words, strict=True):
        for word, count in Counter(WORD.findall(row[:size].tobytes().lower())).items():
            column = columns.get(word)
            if column is None:
                column = columns[word] = zlib.crc32(word) % WIDTH
            into[column] += count
    np.log1p(words, out=words)
    known = np.unique(_pairs(train))
    holders = sum((words[part] > 0).sum(0) for part in _blocks(known))
    words *= np.log((1 + len(known)) / (1 + holders)).astype(np.float32)
    words /= np.maximum(np.sqrt(np.einsum("uw,uw->u", words, words)), 1e-6)[:, None]
    cosines = [
        np.concatenate([np.einsum("rw,rw->r", words[part[:, 0]], words[part[:, 1]]) for part in _blocks(_pairs(split))])
        for split in (train, test)
    ]
    return _by_threshold(cosines[0], train.labels, cosines[1], test.labels)


def _features(shares: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Features (R, 3F + 1) of pairs: both documents, their absolute difference, and 1."""
    first, second = shares[pairs[:, 0]], shares[pairs[:, 1]]
    return np.concatenate([first, second, np.abs(first - second), np.ones((len(pairs), 1), np.float32)], axis=1)


def _pairs(split: Split) -> np.ndarray:
    assert split.pairs is not None
    return split.pairs


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[first : first + BLOCK] for first in range(0, len(rows), BLOCK)]


def _by_threshold(scores: np.ndarray, labels: np.ndarray, test_scores: np.ndarray, test_labels: np.ndarray) -> float:
    """Test accuracy of answering `cited` from a threshold on, the score with the most right answers to `labels`."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    below = np.concatenate([[0], np.cumsum(np.where(labels[order] == 1, -1, 1))])  # right answers gained by a cut here
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))  # no cut between equal scores
    threshold = ordered[starts[below[starts].argmax()]]
    return float(((test_scores >= threshold) == test_labels).mean())
