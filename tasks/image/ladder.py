"""The Image ladder: a linear model of the pixels, and one of the responses of small filters in each quarter.

The filters are a hidden layer that is not trained: Coates, Ng and Lee 2011,
https://proceedings.mlr.press/v15/coates11a.html.
"""

from __future__ import annotations

import numpy as np

from tasks import _draws
from tasks._data import Data, Split
from tasks._ladders import sklearn_logistic

SIDE, PATCH, STRIDE = 32, 6, 2  # pixels
FILTERS = 256  # whitened patches of training images; every patch of an image is compared with all of them
SAMPLE = 20  # filters are drawn from every 20th training image
BLOCK = 500  # images at a time


def linear_rungs(data: Data) -> dict[str, float]:
    """Standardised pixels; responses of random patches, pooled over quarters."""
    labels = data.train.labels, data.test.labels
    rungs = {}
    for name, features in (("linear on pixels", pixels), ("random patches", patches)):
        train, test = features(data.train, data.train), features(data.test, data.train)
        mean, spread = train.mean(0), train.std(0) + np.float32(1e-3)
        train, test = (train - mean) / spread, (test - mean) / spread
        rungs[name] = sklearn_logistic(train, labels[0], test, labels[1], strength=1e-3)
    return rungs


def pixels(split: Split, _: Split) -> np.ndarray:
    """The pixels (R, 1024) as float32, 0 to 1."""
    return np.asarray(split.values, np.float32) / 255


def patches(split: Split, train: Split) -> np.ndarray:
    """(R, 4 FILTERS) float32: the mean response of each filter in each quarter."""
    whiten, filters = learn(train)
    blocks = []
    for first in range(0, len(split.labels), BLOCK):
        windows = cut(split.values[first : first + BLOCK])  # (images, rows, columns, PATCH²)
        responses = np.maximum((windows - whiten[0]) @ (whiten[1] @ filters.T) - 1, 0)
        half = responses.shape[1] // 2
        quarters = [responses[:, rows, columns].mean((1, 2)) for rows, columns in _quarters(half)]
        blocks.append(np.concatenate(quarters, 1))
    return np.concatenate(blocks)


def learn(train: Split) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Mean and whitening matrix of the patches, and filters (FILTERS, PATCH²): patches drawn among them, of norm 1."""
    found = cut(train.values[::SAMPLE]).reshape(-1, PATCH * PATCH)
    mean = found.mean(0)
    values, vectors = np.linalg.eigh(np.cov(found.T).astype(np.float64))
    matrix = ((vectors / np.sqrt(values + 0.1)) @ vectors.T).astype(np.float32)
    drawn = (found[_draws.shuffled("image patches 1", len(found))[:FILTERS]] - mean) @ matrix
    return (mean, matrix), drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def cut(values: np.ndarray) -> np.ndarray:
    """Images (R, 1024) -> patches (R, 14, 14, PATCH²) float32, each with mean 0 and spread 1."""
    images = values.reshape(-1, SIDE, SIDE).astype(np.float32)
    found = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), (1, 2))[:, ::STRIDE, ::STRIDE]
    found = found.reshape(*found.shape[:3], PATCH * PATCH)
    found = found - found.mean(-1, keepdims=True)
    return found / np.sqrt(found.var(-1, keepdims=True) + 10)


def _quarters(half: int) -> list[tuple[slice, slice]]:
    first, second = slice(0, half), slice(half, None)
    return [(rows, columns) for rows in (first, second) for columns in (first, second)]
