"""The Pathfinder ladder: scores of readers that see only grey levels, only the markers, or lit paths between them.

The readers find the markers on the image itself. The first is the cell whose marker-shaped neighbourhood has the
highest minimum; the second is the best such cell that is further away than one marker is wide. Decisions are learned
on training images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from tasks import _ladders
from tasks._threads import in_threads
from tasks.pathfinder.tables import constants

if TYPE_CHECKING:
    from tasks._data import Data, Split

PIXELS = 1 << 26  # most pixels read of a split: 65,536 images of 32 pixels, 16,384 of 64, 4,096 of 128, 1,024 of 256
LEVELS = (1, 32, 64, 96, 128, 160)  # grey levels from which a cell counts as lit; training images choose one
FULL = 250  # grey level of a marker's inner cells
RIDGE = 1e-2  # per training image


def climb(data: Data) -> dict[str, float]:
    """Constant, linear model of the grey histogram, distance of the markers, lit path between the markers.

    Of large images only the first PIXELS / length of a split are read.
    """
    size = data.spec.grid[0] if data.spec.grid else 0
    train, test = _describe(data.train, size), _describe(data.test, size)
    commonest = int(np.bincount(train["labels"], minlength=2).argmax())
    path = max(range(len(LEVELS)), key=lambda level: _agree(train["joined"][:, level], train["labels"]))
    flip = _agree(train["joined"][:, path], train["labels"]) < 0.5
    return {
        "constant": float((test["labels"] == commonest).mean()),
        "grey histogram": _by_histogram(train, test),
        "marker distance": _by_distance(train, test, commonest, size),
        "lit path": float(_agree(test["joined"][:, path] != flip, test["labels"])),
    }


def _agree(answers: np.ndarray, labels: np.ndarray) -> float:
    return float((answers.astype(np.int64) == labels).mean())


def _describe(split: Split, size: int) -> dict[str, np.ndarray]:
    """What the rungs read of the first images: labels, histograms (R, 256), distances (R,), joined (R, levels)."""
    rows = min(len(split.labels), PIXELS // size**2)
    marker = constants()[f"{size}"]["marker"]
    core = np.argwhere(marker >= FULL) - len(marker) // 2
    found = {
        "labels": np.asarray(split.labels[:rows]),
        "histograms": np.zeros((rows, 256), np.float64),
        "distances": np.zeros(rows, np.int64),
        "joined": np.zeros((rows, len(LEVELS)), np.bool_),
    }
    step = (1 << 24) // size**2
    for first in range(0, rows, step):
        images = np.asarray(split.values[first : min(first + step, rows)])

        def work(part: slice, images: np.ndarray = images, first: int = first) -> None:
            target = slice(first + part.start, first + part.stop)
            read = (found["histograms"][target], found["distances"][target], found["joined"][target])
            read_images(images[part], size, core, np.array(LEVELS), *read)

        in_threads(work, len(images))
    return found


def _by_distance(train: dict[str, np.ndarray], test: dict[str, np.ndarray], commonest: int, size: int) -> float:
    """Accuracy of answering the commoner label of the training images whose markers are as many pixels apart."""
    counts = np.zeros((2 * size, 2), np.int64)
    np.add.at(counts, (train["distances"], train["labels"]), 1)
    answers = np.where(counts[:, 0] == counts[:, 1], commonest, counts.argmax(1))
    return _agree(answers[test["distances"]], test["labels"])


def _by_histogram(train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> float:
    """Accuracy of a logistic regression of the standardised histograms."""
    mean, spread = train["histograms"].mean(0), train["histograms"].std(0) + 1e-9
    x, test_x = (np.c_[(part["histograms"] - mean) / spread, np.ones(len(part["labels"]))] for part in (train, test))
    weights = _ladders.logistic(lambda: [(x, train["labels"])], x.shape[1], RIDGE * len(x))
    return _agree(test_x @ weights > 0, test["labels"])


@njit(cache=True, nogil=True)
def read_images(images, size, core, levels, histograms, distances, joined):
    """Reads images (R, size ** 2) into histograms (R, 256), distances (R,) in pixels, joined (R, levels)."""
    stack = np.empty(size * size, np.int64)
    for row in range(len(images)):
        image = images[row].reshape(size, size)
        for value in images[row]:
            histograms[row, value] += 1
        first = find_marker(image, core, -size, -size)
        second = find_marker(image, core, first // size, first % size)
        y, x = first // size - second // size, first % size - second % size
        distances[row] = np.int64(np.sqrt(np.float64(y * y + x * x)) + 0.5)
        for level in range(len(levels)):
            joined[row, level] = are_joined(image, levels[level], first, second, stack)


@njit(cache=True, nogil=True)
def find_marker(image, core, other_y, other_x):
    """The cell, row * side + column, whose core (C, 2) has the highest minimum, away from the other marker."""
    size = len(image)
    apart = 1
    for cell in range(len(core)):
        apart = max(apart, 2 * abs(core[cell, 0]))
    best, place = -1, 0
    for y in range(size):
        for x in range(size):
            if image[y, x] <= best or max(abs(y - other_y), abs(x - other_x)) <= apart:
                continue
            least = 255
            for cell in range(len(core)):
                at_y, at_x = y + core[cell, 0], x + core[cell, 1]
                inside = 0 <= at_y < size and 0 <= at_x < size
                least = min(least, np.int64(image[at_y, at_x])) if inside else 0
                if least <= best:
                    break
            if least > best:
                best, place = least, y * size + x
    return place


@njit(cache=True, nogil=True)
def are_joined(image, level, first, second, stack):
    """Does a path of cells of at least this level, diagonal steps included, connect the two cells?"""
    size, open_cells = len(image), 1
    lit = image >= level
    stack[0] = first
    while open_cells:
        open_cells -= 1
        cell = stack[open_cells]
        if cell == second:
            return True
        for y in range(max(cell // size - 1, 0), min(cell // size + 2, size)):
            for x in range(max(cell % size - 1, 0), min(cell % size + 2, size)):
                if lit[y, x]:
                    lit[y, x] = False
                    stack[open_cells] = y * size + x
                    open_cells += 1
    return False
