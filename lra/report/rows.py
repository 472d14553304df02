"""Finds rows by the names that a user types, and reduces a table to chosen rows."""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

from lra.report.render import Table


def named(words: str, rows: Sequence[str]) -> str:
    """The row of this name, empty if there is none; 'pola:alpha=5' also names 'pola:alpha=5.0'."""
    if words in rows:
        return words
    return next((row for row in rows if same(row, words)), "")


def same(row: str, spec: str) -> bool:
    """Do they name one mechanism? 'pola:alpha=5.0' and 'pola:alpha=5', `True` and `true`, options in any order."""
    return _plain(row) == _plain(spec)


def _plain(row: str) -> str:
    """A row with sorted options, their numbers written as floats, and `true` for `True`."""
    return re.sub(r":((?:[^+*()\s]|\+(?=\d))+)", lambda match: f":{','.join(_sorted(match[1]))}", row)


def _sorted(options: str) -> list[str]:
    pairs = [option.partition("=") for option in options.split(",")]
    return sorted(f"{name}={_number(value)}" for name, _, value in pairs)


def _number(text: str) -> str:
    try:
        return repr(float(text))
    except ValueError:
        return text.lower() if text in ("True", "False") else text


def only(table: Table, wanted: Collection[str], rows: Collection[str]) -> Table:
    """The table with only the wanted rows, or with all if `wanted` is empty.

    rows: all of the table's rows; other lines, such as 'best trivial', stay. Bold cells and verdicts remain those of
    the whole table.
    """
    if not wanted:
        return table
    kept = [i for i, line in enumerate(table.body) if line[0] not in rows or line[0] in wanted]
    position = {old: new for new, old in enumerate(kept)}
    bold = frozenset((position[row], column) for row, column in table.bold if row in position)
    return replace(table, body=tuple(table.body[i] for i in kept), bold=bold)
