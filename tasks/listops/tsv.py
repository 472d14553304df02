"""The released ListOps files, `basic_{train,val,test}.tsv`: bytes -> tokens, every label checked.

A line is `( ( ( [MAX 3 ) 4 ) ] )<TAB>4`; the parentheses only pair tokens up and are dropped, as in all earlier suites.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numba import njit

from tasks._data import DataError, Split
from tasks._files import BOM, readable
from tasks._threads import in_threads
from tasks.listops.kernels import CLOSE, NESTING, OPERATOR, evaluate

HEADER = b"Source\tTarget"
BLOCK = 8192  # lines read at a time
CUT, UNKNOWN, MALFORMED, LABEL, WRONG = 1, 2, 3, 4, 16  # faults of a line; WRONG + value: the label is not value
COMPLAINTS = {
    CUT: "is cut short: there is no <TAB> and digit after the expression",
    UNKNOWN: "holds a token that is none of 0-9 [MIN [MAX [MED [SM ] ( )",
    MALFORMED: "is no complete expression: its brackets or parentheses do not match",
    LABEL: "has a target that is not one digit",
}
REMEDY = "unpack lra_release.gz again, or leave out --data-dir to generate the data"


class Released:
    """A released file. starts: byte offsets of its lines and one past the end. longest: tokens of the longest line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with readable(path):
            if not path.stat().st_size:
                raise DataError(f"{path} is empty: {REMEDY}")
            text = np.memmap(path, np.uint8, mode="r")
        self.text = text[len(BOM) :] if bytes(text[: len(BOM)]) == BOM else text
        first = bytes(self.text[:64]).split(b"\n")[0].rstrip(b"\r")
        if first != HEADER:
            shown = first.decode("ascii", "replace")[:40]
            raise DataError(f"{path} line 1: the header must be 'Source<TAB>Target', not {shown!r}: {REMEDY}")
        self.starts = np.empty(count_lines(self.text) + 1, np.int64)
        self.longest = int(index_lines(self.text, self.starts))
        self.starts = self.starts[1:]
        self.rows = len(self.starts) - 1
        if not self.rows:
            raise DataError(f"{path} holds no samples: {REMEDY}")

    def blocks(self, width: int, brackets: bool) -> Iterator[Split]:
        """Blocks of values (R, width). Raises DataError with the file and line of the first fault."""
        for first in range(0, self.rows, BLOCK):
            rows = min(BLOCK, self.rows - first)
            values, faults = np.zeros((rows, width), np.uint8), np.empty(rows, np.int64)
            lengths, labels = np.empty(rows, np.int32), np.empty(rows, np.int64)
            starts = self.starts[first : first + rows + 1]

            def work(part: slice, starts=starts, values=values, lengths=lengths, labels=labels, faults=faults) -> None:
                edges = starts[part.start : part.stop + 1]
                parse(self.text, edges, brackets, values[part], lengths[part], labels[part], faults[part])

            in_threads(work, rows)
            if faults.any():
                row = int(np.flatnonzero(faults)[0])
                raise DataError(self._complaint(first + row + 2, int(faults[row]), int(labels[row])))
            yield Split(values, lengths, labels)

    def _complaint(self, line: int, fault: int, label: int) -> str:
        wrong = f"has the target {label}, but the expression is {fault - WRONG}"
        return f"{self.path} line {line} {COMPLAINTS.get(fault, wrong)}: {REMEDY}"


@njit(cache=True, nogil=True)
def count_lines(text):
    """Lines of a text in bytes; the last one counts whether or not it ends in a newline."""
    lines = 0
    for at in range(len(text)):
        lines += text[at] == 10
    return lines + (text[-1] != 10)


@njit(cache=True, nogil=True)
def index_lines(text, starts):
    """Fills the start of each line and, last, one past the end -> tokens of the longest line after the header."""
    starts[0], line, tokens, longest, in_expression = 0, 1, 0, 0, False
    for at in range(len(text)):
        byte = text[at]
        if byte == 10:
            starts[line] = at + 1
            line, tokens, in_expression = line + 1, 0, True
        elif byte == 9:
            in_expression = False
        elif in_expression and (48 <= byte <= 57 or byte == 91 or byte == 93):
            tokens += 1
            longest = max(longest, tokens)
    if text[-1] != 10:
        starts[line] = len(text) + 1
    return longest


@njit(cache=True, nogil=True)
def parse(text, starts, brackets, values, lengths, labels, faults):
    """Reads lines (R + 1 starts) into values (R, L), lengths, labels and faults (R,); fault 0 means none."""
    operators, counts = np.empty(NESTING, np.int64), np.empty((NESTING, 10), np.int64)
    tokens = np.empty(values.shape[1] + 1, np.uint8)
    for row in range(len(lengths)):
        end = starts[row + 1] - 1
        if end > starts[row] and text[end - 1] == 13:
            end -= 1
        labels[row], lengths[row] = -1, 0
        length, at, fault = _read_expression(text, starts[row], end, tokens)
        if fault == 0:
            if at + 1 >= end:
                fault = CUT
            elif at + 2 < end or not 48 <= text[at + 1] <= 57:
                fault = LABEL
            else:
                labels[row] = text[at + 1] - 48
                value = evaluate(tokens, length, operators, counts)
                fault = MALFORMED if value < 0 else 0 if value == labels[row] else WRONG + value
        faults[row] = fault
        if fault == 0:
            for place in range(length):
                if brackets or tokens[place] != CLOSE:
                    values[row, lengths[row]] = tokens[place]
                    lengths[row] += 1


@njit(cache=True, nogil=True)
def _read_expression(text, at, end, tokens):
    """Reads the tokens before the tab -> their number, the position of the tab, the fault or 0."""
    length, open_pairs = 0, 0
    while at < end:
        byte = text[at]
        if byte == 9:
            return length, at, 0 if open_pairs == 0 else MALFORMED
        if byte == 40 or byte == 41:
            open_pairs += 1 if byte == 40 else -1
        elif byte != 32:
            first = at
            token, at = _read_token(text, at, end)
            if token < 0 or length == len(tokens) or (at + 1 < end and text[at + 1] != 32 and text[at + 1] != 9):
                while first < end and text[first] != 32 and text[first] != 9:
                    first += 1
                return length, at, CUT if first == end else UNKNOWN
            tokens[length] = token
            length += 1
        at += 1
    return length, at, CUT


@njit(cache=True, nogil=True)
def _read_token(text, at, end):
    """A digit, `]` or an operator -> its code or -1, and the position of its last byte."""
    byte = text[at]
    if 48 <= byte <= 57:
        return np.int64(byte - 48), at
    if byte == 93:
        return np.int64(CLOSE), at
    if byte == 91 and at + 2 < end and text[at + 1] == 83 and text[at + 2] == 77:
        return np.int64(OPERATOR + 3), at + 2
    if byte == 91 and at + 3 < end and text[at + 1] == 77:
        second, third = text[at + 2], text[at + 3]
        if second == 73 and third == 78:
            return np.int64(OPERATOR), at + 3
        if second == 65 and third == 88:
            return np.int64(OPERATOR + 1), at + 3
        if second == 69 and third == 68:
            return np.int64(OPERATOR + 2), at + 3
    return np.int64(-1), at
