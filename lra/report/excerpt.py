"""Comparison tables inside a Markdown file of the user's, such as a README, rewritten in place.

A table is between two comments, the first of which names the protocol, the precision if the records have several, and
the rows if not all are wanted:

    <!-- table quick: softmax relu elu pola -->
    <!-- end of table -->

    <!-- table standard bfloat16 -->
    <!-- end of table -->
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lra.errors import RecordError, suggestion
from lra.report import columns
from lra.report.groups import Group
from lra.report.render import markdown
from lra.report.rows import named, only
from lra.report.tables import comparison
from lra.results.files import encoded

START = re.compile(
    r"(?m)^<!-- table (?!of )(?P<protocol>[^\s:\[]+(\[[^\n]*\])?)(?: (?P<precision>\w+))?(?P<rows>:[^\n]*?)? -->\n"
)
LIKE = re.compile(r"(?m)^[ \t]*<!--\s*table(?![\w-]| of )[^\n]*")  # comments that may be meant as a START
FENCED = re.compile(r"(?ms)^(```+|~~~+).*?^\1")  # fenced code, which may show such comments as examples
END = "<!-- end of table -->"


@dataclass(frozen=True)
class Filled:
    """The new content of a file, the number of its tables, and a line for each variant that none of them shows."""

    content: bytes
    tables: int
    notes: tuple[str, ...]


def fill_file(path: Path, groups: Sequence[Group]) -> Filled:
    """The file with its tables rendered anew and its line endings kept; nothing is written.

    Raises RecordError for a file that cannot be read or has no table comment, and for a comment that is malformed or
    asks for a table or row that the records lack.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecordError(f"cannot read {path}, the Markdown file that --into names: {reason}") from error
    ends = "\r\n" if "\r\n" in text else "\n"
    text = text.replace("\r\n", "\n")
    starts = _outside(START, text)
    positions = {start.start() for start in starts}
    if malformed := [match[0] for match in _outside(LIKE, text) if match.start() not in positions]:
        raise RecordError(
            f"{path}: {malformed[0]!r} is not understood; write <!-- table PROTOCOL: ROW ROW --> on its own line"
        )
    if not starts:
        raise RecordError(f"{path} has no place for a table: write <!-- table PROTOCOL --> and {END} where it goes")
    new = fill(text, groups).replace("\n", ends)
    return Filled(
        encoded(new), len(starts), tuple(dict.fromkeys(note for start in starts for note in _others(start, groups)))
    )


def fill(text: str, groups: Sequence[Group]) -> str:
    """The text with every table rendered anew. Raises RecordError for a table without END, or not in the records."""
    parts, position = [], 0
    for start in _outside(START, text):
        end = text.find(END, start.end())
        if end < 0 or START.search(text, start.end(), end):
            raise RecordError(f"{start[0].strip()} has no {END} after it")
        parts += [text[position : start.end()], _table(start, groups)]
        position = end
    return "".join([*parts, text[position:]])


def _outside(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """The matches of a pattern outside fenced code."""
    listings = [listing.span() for listing in FENCED.finditer(text)]
    matches = pattern.finditer(text)
    return [match for match in matches if not any(start <= match.start() < end for start, end in listings)]


def _table(start: re.Match[str], groups: Sequence[Group]) -> str:
    """The comparison table that a comment asks for, without the columns beside accuracies, and its note."""
    group = _asked_for(start["protocol"], start["precision"], groups)
    rows = _rows((start["rows"] or ":")[1:].split(), group)
    table = comparison.comparison(group)
    width = len(table.header) - len(columns.shown_in(columns.COMPARISON))
    cut = only(table, rows, group.rows).part(range(width))
    note = textwrap.fill(f"{group.heading}. {table.note}.", 120, break_long_words=False, break_on_hyphens=False)
    return f"\n{markdown(cut)}\n{note}\n\n"


def _rows(words: list[str], group: Group) -> list[str]:
    """The rows that these words name; a name such as `elu (matched)` has several words. Raises RecordError."""
    rows = []
    while words:
        ends = [end for end in range(len(words), 0, -1) if named(" ".join(words[:end]), group.rows)]
        if not ends:
            raise RecordError(f"no row {words[0]!r} in {group.heading}{suggestion(words[0], group.rows)}")
        rows.append(named(" ".join(words[: ends[0]]), group.rows))
        words = words[ends[0] :]
    return rows


def _others(start: re.Match[str], groups: Sequence[Group]) -> list[str]:
    """A line for each table of the same protocol that the comment does not get, because its settings differ."""
    chosen = _asked_for(start["protocol"], start["precision"], groups)
    return [
        f"the table of {chosen.protocol} shows the variant with most runs; left out: {group.apart}"
        for group in groups
        if group.apart and (group.protocol, group.precision) == (chosen.protocol, chosen.precision)
        if group.results_version == chosen.results_version
    ]


def _asked_for(protocol: str, precision: str | None, groups: Sequence[Group]) -> Group:
    """The table of a protocol and a precision, of the newest results version and the variants with most runs.

    Raises RecordError if there is none, or if there are several because no precision is given.
    """
    candidates = [group for group in groups if group.protocol == protocol and not group.apart]
    if not candidates:
        known = list(dict.fromkeys(group.protocol for group in groups))
        raise RecordError(
            f"no table of protocol {protocol!r}{suggestion(protocol, known)}; there are {', '.join(known)}"
        )
    precisions = sorted({group.precision for group in candidates})
    if precision and precision not in precisions:
        raise RecordError(f"no table of protocol {protocol} in {precision}; there is {' and '.join(precisions)}")
    candidates = [group for group in candidates if precision in (None, group.precision)]
    newest = max(group.results_version for group in candidates)
    chosen = {group.precision: group for group in candidates if group.results_version == newest}
    if len(chosen) > 1:
        names = sorted(chosen)
        raise RecordError(
            f"protocol {protocol} has records in {' and '.join(names)}: <!-- table {protocol} {names[0]} -->"
        )
    return chosen.popitem()[1]
