"""The ListOps ladder: what a reader scores that sees the first k levels of a tree and draws the rest at random.

A reader of k levels knows every operator and digit down to nesting k, and the operators of the subtrees just below. It
replaces each of these subtrees by a draw from the values that subtrees of the same operator at the same depth have in
the training split, and it answers the commonest result of 101 draws. The definition is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from tasks._random import GOLDEN, below, mix, start_of, stream_of
from tasks._threads import in_threads
from tasks.listops.kernels import CLOSE, NESTING, OPERATOR, apply, evaluate

if TYPE_CHECKING:
    from tasks._data import Data, Split

DRAWS = 101
LEVELS = 5
ANY = 4  # in place of an operator's number: a subtree of unknown operator
HIDDEN = CLOSE + 1  # the code of a hidden subtree is HIDDEN + its operator's number


def constant_and_root(data: Data) -> dict[str, float]:
    """Accuracy of the training split's commonest label, overall and for each operator at the root."""
    train, test = data.train, data.test
    roots, test_roots = train.groups["root operator"][1], test.groups["root operator"][1]
    table = np.zeros((4, 10), np.int64)
    np.add.at(table, (roots, train.labels), 1)
    constant = int(table.sum(0).argmax())
    return {
        "constant": float((test.labels == constant).mean()),
        "root operator": float((test.labels == table.argmax(1)[test_roots]).mean()),
    }


def levels(data: Data) -> dict[str, float]:
    """Accuracy of readers of root operator + digits, 1 level, 2 levels ..., while some subtrees stay hidden."""
    table, nesting = _subtree_values(data.train)
    rungs = {"root operator + digits": _accuracy(data.test, table, 1, hide_operators=True)} if nesting > 1 else {}
    for level in range(1, min(LEVELS, nesting - 1) + 1):
        name = "1 level" if level == 1 else f"{level} levels"
        rungs[name] = _accuracy(data.test, table, level, hide_operators=False)
    return rungs


def _subtree_values(train: Split) -> tuple[np.ndarray, int]:
    """Counts (5, NESTING, 10) of subtrees by operator (4: any), operators above and value; the deepest nesting."""
    parts = []

    def work(rows: slice) -> None:
        part = np.zeros((5, NESTING, 10), np.int64)
        count_subtrees(train.values[rows], train.lengths[rows], part)
        parts.append(part)  # summed below: two threads adding to one array would lose counts

    in_threads(work, len(train.lengths))
    table = np.sum(parts, axis=0)
    table[ANY] = table[:ANY].sum(0)
    return table, int(table[ANY].any(1).sum())


def _accuracy(test: Split, table: np.ndarray, level: int, *, hide_operators: bool) -> float:
    answers = np.empty(len(test.lengths), np.int64)
    stream = stream_of(f"listops ladder {level} {hide_operators}")

    def work(rows: slice) -> None:
        part = (test.values[rows], test.lengths[rows], answers[rows])
        answer(stream, rows.start, level, hide_operators, table[:, level], *part)

    in_threads(work, len(answers))
    return float((answers == test.labels).mean())


@njit(cache=True, nogil=True)
def count_subtrees(values, lengths, table):
    """Adds the value of every operator's subtree to table (5, NESTING, 10) at its operator and its level."""
    operators, counts = np.empty(NESTING, np.int64), np.empty((NESTING, 10), np.int64)
    for row in range(len(lengths)):
        level = -1
        for at in range(lengths[row]):
            token = np.int64(values[row, at])
            if OPERATOR <= token < CLOSE:
                level += 1
                operators[level] = token
                counts[level] = 0
                continue
            if token == CLOSE:
                token = apply(operators[level], counts[level])
                table[operators[level] - OPERATOR, level, token] += 1
                level -= 1
            if level >= 0:
                counts[level, token] += 1


@njit(cache=True, nogil=True)
def hide(tokens, length, level, hide_operators, kept):
    """Copies a tree to `kept`, with each subtree below `level` operators as one HIDDEN code -> its length."""
    size, depth = 0, 0
    for at in range(length):
        token = np.int64(tokens[at])
        if token == CLOSE:
            depth -= 1
        if depth < level or (depth == level and token < OPERATOR):
            kept[size] = token
            size += 1
        elif depth == level and token != CLOSE:
            kept[size] = HIDDEN + (ANY if hide_operators else token - OPERATOR)
            size += 1
        if OPERATOR <= token < CLOSE:
            depth += 1
    return size


@njit(cache=True, nogil=True)
def answer(stream, first, level, hide_operators, table, values, lengths, answers):
    """The commonest of DRAWS results per row -> answers (R,). table (5, 10): values of subtrees at this level."""
    operators, counts = np.empty(NESTING, np.int64), np.empty((NESTING, 10), np.int64)
    kept, drawn = np.empty(values.shape[1], np.uint8), np.empty(values.shape[1], np.uint8)
    totals = table.sum(1)
    for row in range(len(lengths)):
        size = hide(values[row], lengths[row], level, hide_operators, kept)
        state, votes = start_of(stream, first + row), np.zeros(10, np.int64)
        for _ in range(DRAWS):
            for at in range(size):
                drawn[at] = kept[at]
                if kept[at] >= HIDDEN:
                    state += GOLDEN
                    kind = kept[at] - HIDDEN
                    drawn[at] = _draw_value(mix(state), table[kind], totals[kind])
            votes[evaluate(drawn, size, operators, counts)] += 1
        answers[row] = votes.argmax()


@njit(cache=True, nogil=True)
def _draw_value(word, counts, total):
    """A digit drawn with the frequencies in counts (10,), or uniformly where nothing was counted."""
    if total == 0:
        return below(word, 10)
    rank = below(word, total)
    for digit in range(9):
        rank -= counts[digit]
        if rank < 0:
            return np.int64(digit)
    return np.int64(9)
