"""ListOps trees as tokens: draw them and evaluate them; compiled with numba, integers only.

The distribution is that of Google's generator (Tay et al. 2020, https://arxiv.org/abs/2011.04006,
`lra_benchmarks/data/listops.py`). Candidate i of a stream is a pure function of (stream, i), so bytes depend neither
on the machine nor on threads. Tokens: 0-9 digits, 10-13 `[MIN [MAX [MED [SM`, 14 `]`.
"""

import numpy as np
from numba import njit

from tasks._random import GOLDEN, below, mix, start_of

OPERATOR, CLOSE = 10, 14
NESTING = 256  # operators within operators that evaluation has room for
U2, U3 = np.uint64(2), np.uint64(3)
FNV = np.uint64(0x100000001B3)


@njit(cache=True, nogil=True)
def draw(state, longest, depths, arguments, pending, tokens):
    """Draws one tree into tokens -> its length, or 0 when it exceeds `longest`. Scratch: pending (depths,)."""
    size = np.int64(1)  # the length of the finished tree if every open argument became a digit
    if size > longest:
        return np.int64(0)
    at, level = 0, 0
    pending[0] = 1
    while True:
        if pending[level] == 0:
            if level == 0:
                return size
            tokens[at] = CLOSE
            at, level = at + 1, level - 1
            continue
        pending[level] -= 1
        state += GOLDEN
        word = mix(state)
        if level + 1 < depths and word & U3 == 0:
            count = 2 + below(word, arguments - 1)
            size += count + 1
            if size > longest:
                return np.int64(0)
            tokens[at] = OPERATOR + ((word >> U2) & U3)
            level += 1
            pending[level] = count
        else:
            tokens[at] = below(word, 10)
        at += 1


@njit(cache=True, nogil=True)
def apply(operator, counts):
    """The value of an operator over arguments given as counts (10,); MED of an even number rounds down."""
    total, summed = np.int64(0), np.int64(0)
    for digit in range(10):
        total += counts[digit]
        summed += digit * counts[digit]
    if operator == OPERATOR + 3:
        return summed % 10
    first, second = np.int64(0), np.int64(0)
    if operator == OPERATOR + 1:
        first = second = total - 1
    elif operator == OPERATOR + 2:
        first, second = (total - 1) // 2, total // 2
    return (_ranked(counts, first) + _ranked(counts, second)) // 2


@njit(cache=True, nogil=True)
def _ranked(counts, rank):
    """The digit at `rank` (from 0) among the sorted arguments."""
    for digit in range(10):
        rank -= counts[digit]
        if rank < 0:
            return digit
    return 9


@njit(cache=True, nogil=True)
def evaluate(tokens, length, operators, counts):
    """The value of an expression, or -1 when it is malformed. Scratch: operators (D,), counts (D, 10)."""
    level = -1
    for at in range(length):
        token = np.int64(tokens[at])
        if OPERATOR <= token < CLOSE:
            level += 1
            if level == len(operators):
                return np.int64(-1)
            operators[level] = token
            counts[level] = 0
            continue
        if level < 0:
            return np.int64(-1)
        if token == CLOSE:
            if not counts[level].any():
                return np.int64(-1)
            token = apply(operators[level], counts[level])
            level -= 1
            if level < 0:
                return token if at == length - 1 else np.int64(-1)
        counts[level, token] += 1
    return np.int64(-1)


@njit(cache=True, nogil=True)
def scan(stream, first, shortest, longest, depths, arguments, lengths, hashes):
    """Draws candidates first, first + 1, ...: lengths (C,) int32, 0 when not accepted; hashes (C,) uint64."""
    tokens, pending = np.empty(longest, np.uint8), np.empty(depths, np.int64)
    for item in range(len(lengths)):
        length = draw(start_of(stream, first + item), longest, depths, arguments, pending, tokens)
        if length < shortest:
            lengths[item] = 0
            continue
        code = np.uint64(0)
        for at in range(length):
            code = (code ^ np.uint64(tokens[at] + 1)) * FNV
        lengths[item], hashes[item] = length, mix(code)


@njit(cache=True, nogil=True)
def fill(stream, indices, brackets, depths, arguments, values, lengths, labels):
    """Draws the candidates of these indices (R,) again into values (R, L), lengths (R,), labels (R,)."""
    longest = values.shape[1]
    tokens, pending = np.empty(longest, np.uint8), np.empty(depths, np.int64)
    operators, counts = np.empty(depths, np.int64), np.empty((depths, 10), np.int64)
    for row in range(len(indices)):
        length = draw(start_of(stream, indices[row]), longest, depths, arguments, pending, tokens)
        labels[row] = evaluate(tokens, length, operators, counts)
        kept = 0
        for at in range(length):
            if brackets or tokens[at] != CLOSE:
                values[row, kept] = tokens[at]
                kept += 1
        lengths[row] = kept
