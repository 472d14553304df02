"""Pathfinder's constants: parameters of each size, and the committed stamps and angles as tables for the kernels.

Parameters: docstrings of https://github.com/google-research/long-range-arena `lra_benchmarks/data/pathfinder.py`.
What was drawn or computed in floating point is in `tables.json`, written by `stamps.py`; everything derived from it
here is integer arithmetic. Positions are flat indices into arrays with a border of `pad` cells.
"""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.pathfinder.vectors import Pieces, in_pieces

FILE = Path(__file__).with_suffix(".json")
DEGREE = 10_000  # units of an angle
COSINE_STEP = 1000  # units between two entries of the table of squared cosines
FREE = 76  # 0.3 of 255: a cell of the mask counts as free up to here
SUM = 459  # 1.8 of 255: the sum of mask and paddle must stay below


@dataclass(frozen=True)
class Parameters:
    """One size of the images, lengths in pixels, contrasts in tenths."""

    size: int
    margins: tuple[int, ...]  # one is drawn per image
    paddle: int
    thickness: float
    radius: float  # of a marker
    seed_distance: int
    continuity: int  # in tenths
    padding: int
    target: int  # contrast of the two long snakes, paddle_contrast * snake_contrast
    distractor: int  # contrast of the short ones, snake_contrast alone
    seeded: int = 100  # percent of the searches for a short snake's seed that do not fail at once

    @property
    def reach(self) -> int:
        """Half the side of a stamp, without the margin."""
        return self.paddle + int(np.ceil(self.thickness))

    @property
    def pad(self) -> int:
        """Cells around an image that a snake's pivot, candidates and stamps may touch."""
        return self.reach + 4 * max(self.margins) + 3


# `seeded`: in the original code, run with stand-ins for the SciPy of its day, 92 % of the searches for a seed fail at
# 32 pixels, so about one of five distractors is drawn; the paper does not mention this. Here the failures are drawn at
# random, whatever the direction, because lit fraction and grey levels then agree with those measured.
PARAMETERS = {
    32: Parameters(32, (1,), 2, 0.5, 1.5, 7, 10, 1, 15, 20, seeded=8),
    64: Parameters(64, (1,), 5, 1.0, 2.5, 12, 18, 1, 8, 8),
    128: Parameters(128, (2, 3), 5, 1.5, 3.0, 20, 18, 1, 9, 9),
    256: Parameters(256, (3,), 5, 2.0, 5.0, 27, 18, 22, 10, 10),
}


class Cells(NamedTuple):
    """Cells of every stamp: those of stamp s are first[s] ... first[s + 1] - 1, an offset and a value each."""

    first: np.ndarray
    offsets: np.ndarray
    values: np.ndarray


class Tables(NamedTuple):
    """All that a kernel needs for one size and margin. A angles: 360 whole degrees from -180, then one per candidate.

    `steps` (A,) moves the pivot; `stamps` (A,) is the stamp of each angle; an angle's candidates are `counts` (A,)
    entries of `spots`, `turns`, `weights` (A, C): offset from the pivot, index of the new angle, weight in 1 / 65,536.
    """

    size: int  # side of an image
    pad: int
    stride: int  # side of a padded image
    target: int  # contrasts, in tenths
    distractor: int
    seeded: int  # percent of searches for a seed that do not fail at once
    frame: np.ndarray  # (stride ** 2,) the mask an image starts with
    frame_dilated: np.ndarray  # the same, dilated by the margin; 255 outside the image
    first: np.ndarray  # (360, 4) top, left, rows, columns of the cells free for the first tail
    heads: np.ndarray  # (360, 2) rows and columns from a seed's tail to its head
    pivots: np.ndarray  # (360, 2) from the head to the pivot
    away: np.ndarray  # (360, 2) from the first tail to the second, times 2
    steps: np.ndarray
    stamps: np.ndarray
    counts: np.ndarray
    spots: np.ndarray
    turns: np.ndarray
    weights: np.ndarray
    lines: Cells  # what is seen of a paddle
    masks: Pieces  # what it covers
    dilated: Pieces  # the same, dilated by the margin
    hits: Cells  # cells of a paddle that can collide, with the least mask that does
    cores: Cells  # the fully covered cells, as the search for a seed sees them
    marker: Cells


def pack(array: np.ndarray) -> dict[str, Any]:
    """An array as a dictionary that JSON can hold; `unpack` is the inverse."""
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
    return {"dtype": array.dtype.str, "shape": list(array.shape), "zlib": data}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    data = zlib.decompress(base64.b64decode(packed["zlib"]))
    return np.frombuffer(data, packed["dtype"]).reshape(packed["shape"])


@cache
def constants() -> dict[str, dict[str, np.ndarray]]:
    """The committed constants: section -> name -> array."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    return {section: {name: unpack(part) for name, part in parts.items()} for section, parts in stored.items()}


@cache
def load(size: int, margin: int) -> Tables:
    """The tables of one size and margin."""
    form = PARAMETERS[size]
    stored = {**constants()[f"{size}"], **constants()[f"{size}-{margin}"]}
    stride = size + 2 * form.pad
    row = np.array([stride, 1])
    reach = form.reach + margin
    masks = stored["masks"].astype(np.int64)
    cores = _shifted_cores(masks, reach, form.paddle + margin)
    counts, turns, weights = _choices(stored["angles"], form.continuity)
    frame, frame_dilated = (_frame(form, form.padding + more, outside) for more, outside in ((0, 0), (margin, 255)))
    return Tables(
        size=size,
        pad=form.pad,
        stride=stride,
        target=form.target,
        distractor=form.distractor,
        seeded=form.seeded,
        frame=frame,
        frame_dilated=frame_dilated,
        first=_first_tails(form, cores, stored["stamps"]),
        heads=stored["heads"].astype(np.int64),
        pivots=stored["pivots"].astype(np.int64),
        away=stored["away"].astype(np.int64),
        steps=stored["steps"] @ row,
        stamps=stored["stamps"].astype(np.int64),
        counts=counts,
        spots=(stored["candidates"] @ row)[turns - 360],
        turns=turns,
        weights=weights,
        lines=_cells(stored["lines"], 0, row, reach),
        masks=in_pieces(np.where(masks > FREE, masks, 0), row, reach),
        dilated=in_pieces(dilate(masks, margin), row, reach + margin),
        hits=_hits(masks, row, reach),
        cores=_cells(cores, 0, row, reach + 1),
        marker=_cells(stored["marker"][None], 0, row, stored["marker"].shape[0] // 2),
    )


def _cells(stamps: np.ndarray, above: int, row: np.ndarray, reach: int) -> Cells:
    """The cells above a value of stamps (S, side, side) whose origin is at (reach, reach)."""
    stamp, y, x = np.nonzero(stamps > above)
    first = np.searchsorted(stamp, np.arange(len(stamps) + 1))
    return Cells(first, np.stack([y - reach, x - reach], 1) @ row, stamps[stamp, y, x].astype(np.int64))


def _hits(masks: np.ndarray, row: np.ndarray, reach: int) -> Cells:
    cells = _cells(masks, SUM - 256, row, reach)
    return cells._replace(values=SUM - cells.values)


def dilate(stamps: np.ndarray, margin: int) -> np.ndarray:
    """Stamps (S, side, side) dilated by a disc of radius `margin`, and larger by `margin` on every side."""
    side = stamps.shape[1]
    wide = np.zeros((len(stamps), side + 2 * margin, side + 2 * margin), stamps.dtype)
    for y in range(2 * margin + 1):
        for x in range(2 * margin + 1):
            if (y - margin) ** 2 + (x - margin) ** 2 <= margin**2:
                part = wide[:, y : y + side, x : x + side]
                np.maximum(part, stamps, out=part)
    return wide


def _shifted_cores(masks: np.ndarray, reach: int, window: int) -> np.ndarray:
    """The structuring element of the search for seeds, origin at reach + 1: cells of 255 only, one cell further down
    and to the right than the paddle is drawn, cut to a window of half side `window`: as the original has it."""
    cores = np.zeros((len(masks), *(2 * reach + 3,) * 2), np.int64)
    cores[:, 2:, 2:] = masks == 255
    inside = np.abs(np.arange(2 * reach + 3) - reach - 1) <= window
    return cores * (inside[:, None] & inside)


def _first_tails(form: Parameters, cores: np.ndarray, stamps: np.ndarray) -> np.ndarray:
    """Per angle (360, 4): the rectangle of tails whose core is at least 2 seed distances from every border."""
    near, far = 2 * form.seed_distance, form.size - 2 * form.seed_distance - 1
    boxes = np.empty((360, 4), np.int64)
    for angle in range(360):
        offsets = np.argwhere(cores[stamps[angle]]) - cores.shape[1] // 2
        low, high = near - np.minimum(offsets.min(0), 0), far - np.maximum(offsets.max(0), 0)
        boxes[angle] = *low, *np.maximum(high - low + 1, 0)
    return boxes


def _frame(form: Parameters, width: int, outside: int) -> np.ndarray:
    """A padded image, flat: 255 in a frame of this width, 0 within."""
    frame = np.full((form.size + 2 * form.pad,) * 2, outside, np.uint8)
    image = frame[form.pad : -form.pad, form.pad : -form.pad]
    image[:] = 255
    image[width:-width, width:-width] = 0
    return frame.ravel()


def _choices(candidates: np.ndarray, continuity: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates of positive weight cos(min(c * turn, 90 degrees)) ** 2 of each angle: counts, turns, weights."""
    cosines = constants()["all"]["squared_cosines"].astype(np.int64)
    angles = np.concatenate([np.arange(-180, 180) * DEGREE, candidates]).astype(np.int64)
    turn = np.abs(angles[:, None] - candidates)
    turn = np.minimum(np.minimum(turn, 360 * DEGREE - turn) * continuity // 10, 90 * DEGREE)
    entry, rest = np.divmod(turn, COSINE_STEP)
    after = cosines[np.minimum(entry + 1, len(cosines) - 1)]
    weights = (cosines[entry] * (COSINE_STEP - rest) + after * rest) // COSINE_STEP
    counts = (weights > 0).sum(1)
    order = np.argsort(weights == 0, axis=1, kind="stable")[:, : counts.max()]
    return counts, order + 360, np.take_along_axis(weights, order, 1)
