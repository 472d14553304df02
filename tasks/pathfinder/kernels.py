"""Pathfinder images: two long snakes grown paddle by paddle, short ones, markers; compiled with numba, integers only.

The procedure is that of Linsley et al. 2018 (https://arxiv.org/abs/1805.08315, https://github.com/drewlinsley/pathfinder
`snakes2.py` at ab9c130) with the parameters of Tay et al. 2020. Image i of a stream is a pure function of (stream, i).
A place is a flat index into a padded image; a snake is an array of rows (place, angle), part of `Work.paddles`. The
retry limits decide the speed: in hard images of 32 x 32 pixels 1 of 27 attempts to grow a pair succeeds (290 paddles
are tried for an image), in those of 64 x 64 pixels 1 of 1,350 (11,700 paddles).
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from tasks._random import GOLDEN, below, mix
from tasks.pathfinder.tables import FREE
from tasks.pathfinder.vectors import WIDTH, take, take_greater

RETRIES = 2  # of a paddle or a seed
DISTRACTOR_RETRIES = 4
LEAST = 1671  # the least total weight of a paddle's candidates: 1e-4 in units of 65,536 * 255
GUESSES = 256  # random cells tried before all free cells are listed
# Without _nrt=False every call would raise and lower the reference counts of the forty arrays in its arguments, by an
# atomic instruction each, which would take two thirds of the time. The option is safe, because nothing here allocates.
hot: Any = njit(cache=True, nogil=True, forceinline=True, _nrt=False)  # pyright: ignore[reportCallIssue]


class Work(NamedTuple):
    """Working memory for one thread; the first five arrays are padded images."""

    mask: np.ndarray  # the cells that paddles cover, as seen by the snakes now growing
    dilated: np.ndarray  # the same, dilated by the margin
    kept_mask: np.ndarray  # `mask` without the snakes now growing: an attempt that fails restores `mask` from it
    kept_dilated: np.ndarray  # the same for `dilated`
    canvas: np.ndarray  # the visible image, in tenths of a grey level
    paddles: np.ndarray  # (2 + distractors, paddles, 2) places and angles
    pivots: np.ndarray  # (2 + distractors,)
    sums: np.ndarray  # cumulated weights of candidates
    random: np.ndarray  # (1,) uint64, the generator's state


@hot
def draw_below(random, bound):
    """A uniform draw from 0 ... bound - 1; advances the generator."""
    random[0] += GOLDEN
    return below(mix(random[0]), bound)


@hot
def cover(pieces, stamp, place, target):
    """Merges a stamp into an image by maximum."""
    for piece in range(pieces.first[stamp], pieces.first[stamp + 1]):
        take_greater(target, place + pieces.offsets[piece], pieces.values, piece * WIDTH)  # pyright: ignore[reportCallIssue]


@hot
def copy_stamp(pieces, stamp, place, source, target):
    """Copies the cells that a stamp may have changed, and some to the right of them."""
    for piece in range(pieces.first[stamp], pieces.first[stamp + 1]):
        at = place + pieces.offsets[piece]
        take(target, at, source, at)  # pyright: ignore[reportCallIssue]


@hot
def copy_snake(tables, paddles, source, target, source_dilated, target_dilated):
    """Copies the cells that a snake's paddles (K, 2) may have changed."""
    for paddle in range(len(paddles)):
        place, stamp = paddles[paddle, 0], tables.stamps[paddles[paddle, 1]]
        copy_stamp(tables.masks, stamp, place, source, target)
        copy_stamp(tables.dilated, stamp, place, source_dilated, target_dilated)


@hot
def collides(tables, mask, stamp, place):
    """Would the sum of mask and paddle reach 1.8 (`SUM`) in any cell?"""
    for cell in range(tables.hits.first[stamp], tables.hits.first[stamp + 1]):
        if mask[place + tables.hits.offsets[cell]] >= tables.hits.values[cell]:
            return True
    return False


@hot
def seed_snake(tables, work, snake, y, x, angle):
    """Sets a snake's first paddle with its tail at (y, x) unless head or pivot leave the image -> whether it is set."""
    size, pad, stride = tables.size, tables.pad, tables.stride
    head_y, head_x = y + tables.heads[angle, 0], x + tables.heads[angle, 1]
    pivot_y, pivot_x = head_y + tables.pivots[angle, 0], head_x + tables.pivots[angle, 1]
    if not (0 <= head_y < size and 0 <= head_x < size and 0 <= pivot_y < size and 0 <= pivot_x < size):
        return False
    work.paddles[snake, 0, 0], work.paddles[snake, 0, 1] = (y + pad) * stride + x + pad, angle
    work.pivots[snake] = (pivot_y + pad) * stride + pivot_x + pad
    return True


@hot
def extend(tables, work, snake, paddle):
    """Adds paddle number `paddle` to a snake, and the paddle before it to the masks -> whether it succeeded."""
    previous, angle = work.paddles[snake, paddle - 1, 0], work.paddles[snake, paddle - 1, 1]
    pivot = work.pivots[snake] + tables.steps[angle]
    total = np.int64(0)
    for choice in range(tables.counts[angle]):
        free = 255 - np.int64(work.dilated[pivot + tables.spots[angle, choice]])
        total += tables.weights[angle, choice] * free
        work.sums[choice] = total
    if total < LEAST:
        return False
    for _ in range(1 + RETRIES):
        drawn = draw_below(work.random, total)
        choice = 0
        while work.sums[choice] <= drawn:
            choice += 1
        place, turn = pivot + tables.spots[angle, choice], tables.turns[angle, choice]
        if not collides(tables, work.mask, tables.stamps[turn], place):
            cover(tables.masks, tables.stamps[angle], previous, work.mask)
            cover(tables.dilated, tables.stamps[angle], previous, work.dilated)
            work.paddles[snake, paddle, 0], work.paddles[snake, paddle, 1] = place, turn
            work.pivots[snake] = pivot
            return True
    return False


@hot
def seed_pair(tables, work):
    """Places the first paddles of the two long snakes, without a check for collisions -> whether it succeeded."""
    first, y, x = tables.first, np.int64(0), np.int64(0)
    trial = 0
    while trial <= RETRIES:
        angle = draw_below(work.random, 360)
        cells = first[angle, 2] * first[angle, 3]
        if cells == 0:
            return False
        cell = draw_below(work.random, cells)
        y, x = first[angle, 0] + cell // first[angle, 3], first[angle, 1] + cell % first[angle, 3]
        if seed_snake(tables, work, 0, y, x, angle):
            break
        trial += 1
    if trial > RETRIES:
        return False
    for _ in range(1 + RETRIES):
        angle, away = draw_below(work.random, 360), draw_below(work.random, 360)
        double_y, double_x = 2 * y + tables.away[away, 0], 2 * x + tables.away[away, 1]
        second_y = (double_y >> 1) + (double_y & (double_y >> 1) & 1)  # halves go to the even neighbour
        second_x = (double_x >> 1) + (double_x & (double_x >> 1) & 1)
        if seed_snake(tables, work, 1, second_y, second_x, angle):
            return True
    return False


@hot
def grow_pair(tables, work, length):
    """Tries once to grow the two long snakes, paddle by paddle in turn -> whether it succeeded."""
    if not seed_pair(tables, work):
        return False
    for paddle in range(1, length):
        for snake in range(2):
            if not extend(tables, work, snake, paddle):
                for grown in range(2):
                    done = work.paddles[grown, :paddle]
                    copy_snake(tables, done, work.kept_mask, work.mask, work.kept_dilated, work.dilated)
                return False
    return True


@hot
def is_free(tables, mask, stamp, place):
    """May a snake start with this paddle? Only if the cells of its core, shifted by one (`Tables.cores`), are free."""
    for cell in range(tables.cores.first[stamp], tables.cores.first[stamp + 1]):
        if mask[place + tables.cores.offsets[cell]] > FREE:
            return False
    return True


@hot
def find_free(tables, work, stamp):
    """A free cell of the image, drawn uniformly: row * side + column, or -1. Guesses, then lists all free cells."""
    size, pad, stride = tables.size, tables.pad, tables.stride
    for _ in range(GUESSES):
        cell = draw_below(work.random, size * size)
        if is_free(tables, work.mask, stamp, (cell // size + pad) * stride + cell % size + pad):
            return cell
    found = 0
    for cell in range(size * size):
        found += is_free(tables, work.mask, stamp, (cell // size + pad) * stride + cell % size + pad)
    wanted = draw_below(work.random, found) if found else -1
    for cell in range(size * size if found else 0):
        wanted -= is_free(tables, work.mask, stamp, (cell // size + pad) * stride + cell % size + pad)
        if wanted < 0:
            return cell
    return -1


@hot
def grow_distractor(tables, work, snake, length):
    """Tries once to grow a short snake anywhere -> whether it succeeded; otherwise the masks are restored."""
    seeded = False
    for _ in range(1 + RETRIES):
        angle = draw_below(work.random, 360)
        if draw_below(work.random, 100) >= tables.seeded:
            return False
        cell = find_free(tables, work, tables.stamps[angle])
        if cell < 0:
            return False
        if seed_snake(tables, work, snake, cell // tables.size, cell % tables.size, angle):
            seeded = True
            break
    if not seeded:
        return False
    for paddle in range(1, length):
        if not extend(tables, work, snake, paddle):
            done = work.paddles[snake, :paddle]
            copy_snake(tables, done, work.kept_mask, work.mask, work.kept_dilated, work.dilated)
            return False
    keep(tables, work, snake, length, True)
    return True


@hot
def keep(tables, work, snake, length, last):
    """Adds a grown snake, with or without its last paddle, to the masks that later attempts start from."""
    if last:
        place, angle = work.paddles[snake, length - 1, 0], work.paddles[snake, length - 1, 1]
        cover(tables.masks, tables.stamps[angle], place, work.mask)
        cover(tables.dilated, tables.stamps[angle], place, work.dilated)
    done = work.paddles[snake, :length]
    copy_snake(tables, done, work.mask, work.kept_mask, work.dilated, work.kept_dilated)
