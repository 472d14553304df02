"""Whole Pathfinder images, row by row: label, snakes, markers, and the stretch to 8 bits; compiled with numba."""

from __future__ import annotations

import numpy as np
from numba import njit

from tasks._random import GOLDEN, U31, U32, mix, start_of, stream_of
from tasks._threads import in_threads
from tasks.pathfinder.kernels import DISTRACTOR_RETRIES, Work, draw_below, grow_distractor, grow_pair, keep
from tasks.pathfinder.tables import FREE, PARAMETERS, load

U63 = U31 + U32
SCARCE = 100  # distractors stop when fewer than 1 / SCARCE of all cells are free


class Generator:
    """The images of one size, seed and split. `paddles`: number of paddles in a long and in a short snake."""

    def __init__(self, size: int, seed: int, split: str, paddles: tuple[int, int], distractors: int):
        self.stream = stream_of(f"pathfinder 1 {size} {seed} {split}")
        self.tables = [load(size, margin) for margin in PARAMETERS[size].margins]
        self.paddles, self.snakes = paddles, 2 + distractors

    def labels(self, rows: int) -> np.ndarray:
        """The labels of images 0 ... rows - 1 (R,) int64; draws no image."""
        labels = np.empty(rows, np.int64)
        fill_labels(self.stream, labels)
        return labels

    def images(self, indices: np.ndarray) -> np.ndarray:
        """The images of these indices (R,) -> (R, side ** 2) uint8."""
        values = np.empty((len(indices), self.tables[0].size ** 2), np.uint8)
        indices = np.ascontiguousarray(indices, np.int64)

        def work(rows: slice) -> None:
            tables = self.tables[0], self.tables[-1]
            fill_images(self.stream, indices[rows], *tables, self.scratch(), *self.paddles, values[rows])

        in_threads(work, len(indices))
        return values

    def scratch(self) -> Work:
        """Working memory for one thread."""
        cells, choices = self.tables[0].frame.size, max(tables.weights.shape[1] for tables in self.tables)
        mask, dilated, kept_mask, kept_dilated = (np.zeros(cells, np.uint8) for _ in range(4))
        return Work(
            mask=mask,
            dilated=dilated,
            kept_mask=kept_mask,
            kept_dilated=kept_dilated,
            canvas=np.zeros(cells, np.uint16),
            paddles=np.zeros((self.snakes, self.paddles[0], 2), np.int64),
            pivots=np.zeros(self.snakes, np.int64),
            sums=np.zeros(choices, np.int64),
            random=np.zeros(1, np.uint64),
        )


@njit(cache=True, nogil=True)
def fill_labels(stream, labels):
    """Fills labels (R,) of images 0, 1, ...: the first bit that each image draws."""
    for index in range(len(labels)):
        labels[index] = mix(start_of(stream, index) + GOLDEN) >> U63


@njit(cache=True, nogil=True)
def fill_images(stream, indices, tables, other, work, long, short, values):
    """Draws the images of these indices (R,) into values (R, side ** 2)."""
    ends = np.empty(2, np.int64)
    for row in range(len(indices)):
        draw_image(stream, indices[row], tables, other, work, long, short, ends, values[row])


@njit(cache=True, nogil=True)
def draw_image(stream, index, tables, other, work, long, short, ends, image):
    """Draws one image with the tables of one of two margins -> 0 or 1 for the margin, the number of short snakes.

    `ends` (2,) receives the places of the markers.
    """
    work.random[0] = start_of(stream, index)
    label, margin = draw_below(work.random, 2), draw_below(work.random, 2)
    if margin:
        tables = other
    for cells, start in ((work.mask, tables.frame), (work.dilated, tables.frame_dilated)):
        cells[:] = start
    work.kept_mask[:], work.kept_dilated[:] = tables.frame, tables.frame_dilated
    while not grow_pair(tables, work, long):
        pass
    keep(tables, work, 0, long, False)  # the original forgets the last paddle of the first snake
    keep(tables, work, 1, long, True)
    found = add_distractors(tables, work, short)
    marked = draw_below(work.random, 2)
    ends[0] = work.paddles[marked, 0, 0]
    ends[1] = work.paddles[marked if label else 1 - marked, long - 1, 0]
    work.canvas[:] = 0
    for snake in range(2 + found):
        contrast = tables.target if snake < 2 else tables.distractor
        for paddle in range(long if snake < 2 else short):
            stamp = tables.stamps[work.paddles[snake, paddle, 1]]
            paint(tables.lines, stamp, work.paddles[snake, paddle, 0], contrast, work.canvas)
    for end in ends:
        paint(tables.marker, 0, end, 10, work.canvas)
    stretch(tables, work.canvas, image)
    return margin, found


@njit(cache=True, nogil=True)
def add_distractors(tables, work, length):
    """Grows short snakes until there are enough or few cells are free -> their number."""
    found = 0
    for _ in range(len(work.paddles) - 2):
        if free_cells(tables, work.mask) * SCARCE < tables.size**2:
            break
        for _ in range(1 + DISTRACTOR_RETRIES):
            if grow_distractor(tables, work, 2 + found, length):
                found += 1
                break
    return found


@njit(cache=True, nogil=True)
def free_cells(tables, mask):
    count = 0
    for row in range(tables.pad, tables.pad + tables.size):
        for column in range(tables.pad, tables.pad + tables.size):
            count += mask[row * tables.stride + column] <= FREE
    return count


@njit(cache=True, nogil=True)
def paint(cells, stamp, place, contrast, canvas):
    """Paints a stamp of this contrast, in tenths, onto the canvas; the brighter value remains."""
    for cell in range(cells.first[stamp], cells.first[stamp + 1]):
        at = place + cells.offsets[cell]
        canvas[at] = max(canvas[at], cells.values[cell] * contrast)


@njit(cache=True, nogil=True)
def stretch(tables, canvas, image):
    """Stretches the image, so that its least and greatest values become 0 and 255; halves are rounded up."""
    size, stride, start = tables.size, tables.stride, tables.pad * (tables.stride + 1)
    least, most = canvas[start], canvas[start]
    for row in range(size):
        for at in range(start + row * stride, start + row * stride + size):
            least, most = min(least, canvas[at]), max(most, canvas[at])
    span = np.uint32(most - least)
    for row in range(size):
        for column in range(size):
            value = canvas[start + row * stride + column] - least
            image[row * size + column] = (np.uint32(value) * np.uint32(510) + span) // (2 * span) if value else 0
