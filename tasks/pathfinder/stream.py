"""Images that are made when they are read, behind the interface of an array of stored images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tasks.pathfinder.images import Generator


class Streamed:
    """The images 0 ... R - 1 of a generator as (R, L) uint8, read as `values[rows]` or `values[rows, columns]`.

    `rows` is a number, a slice or an array; columns, a slice or an array. Nothing is kept: reading an image twice
    draws it twice.
    """

    dtype = np.dtype(np.uint8)
    ndim = 2

    def __init__(self, generator: Generator, rows: int):
        self.generator = generator
        self.shape = (rows, generator.tables[0].size ** 2)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Raises IndexError for a row that does not exist."""
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        indices = np.arange(len(self))[rows]
        images = self.generator.images(np.atleast_1d(indices))
        return (images if indices.ndim else images[0])[..., columns]
