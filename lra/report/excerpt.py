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
from pathlib import Path

from lra.errors import RecordError, suggestion
from lra.report import columns
from lra.report.groups import Group
from lra.report.render import Table, markdown
from lra.report.tables import comparison
from lra.results.files import encoded

START = re.compile(r"<!-- table (?P<protocol>[^\s:]+)(?: (?P<precision>\w+))?(?P<rows>:[^\n]*?)? -->\n")
END = "<!-- end of table -->"


def fill_file(path: Path, groups: Sequence[Group]) -> bytes:
    """The content of a Markdown file with its tables made anew. Raises RecordError for one that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise RecordError(f"cannot read {path}, the Markdown file that --into names: {why}") from error
    if not START.search(text):
        raise RecordError(f"{path} has no place for a table: write <!-- table PROTOCOL --> and {END} where it goes")
    return encoded(fill(text, groups))


def fill(text: str, groups: Sequence[Group]) -> str:
    """The text with every such table made anew. Raises RecordError for a table that the records do not have."""
    parts, place = [], 0
    for start in START.finditer(text):
        end = text.find(END, start.end())
        if end < 0 or START.search(text, start.end(), end):
            raise RecordError(f"{start[0].strip()} has no {END} after it")
        parts += [text[place : start.end()], _table(start, groups)]
        place = end
    return "".join([*parts, text[place:]])


def _table(start: re.Match[str], groups: Sequence[Group]) -> str:
    """The comparison table that a comment asks for, without the columns beside accuracies; its note below it."""
    group, rows = _asked_for(start["protocol"], start["precision"], groups), (start["rows"] or ":")[1:].split()
    if unknown := [row for row in rows if row not in group.rows]:
        raise RecordError(f"no row {unknown[0]!r} in {group.heading}{suggestion(unknown[0], group.rows)}")
    table = comparison.comparison(group)
    width = len(table.header) - len(columns.shown_in(columns.COMPARISON))
    kept = [line for line in table.body if not rows or line[0] not in group.rows or line[0] in rows]
    places = {table.body.index(line): i for i, line in enumerate(kept)}
    bold = frozenset((places[row], column) for row, column in table.bold if row in places)
    cut = Table(table.title, table.header, tuple(kept), bold=bold).part(range(width))
    note = textwrap.fill(f"{group.heading}. {table.note}.", 120, break_long_words=False, break_on_hyphens=False)
    return f"\n{markdown(cut)}\n{note}\n\n"


def _asked_for(protocol: str, precision: str | None, groups: Sequence[Group]) -> Group:
    """The newest table of a protocol and a precision. Raises RecordError for none, and for several precisions."""
    found = [group for group in groups if group.protocol == protocol and not group.apart]
    if not found:
        known = list(dict.fromkeys(group.protocol for group in groups))
        raise RecordError(
            f"no table of protocol {protocol!r}{suggestion(protocol, known)}; there are {', '.join(known)}"
        )
    there = sorted({group.precision for group in found})
    if precision and precision not in there:
        raise RecordError(f"no table of protocol {protocol} in {precision}; there is {' and '.join(there)}")
    found = [group for group in found if precision in (None, group.precision)]
    newest = max(group.results_version for group in found)
    chosen = {group.precision: group for group in found if group.results_version == newest}
    if len(chosen) > 1:
        names = sorted(chosen)
        raise RecordError(
            f"protocol {protocol} has records in {' and '.join(names)}: <!-- table {protocol} {names[0]} -->"
        )
    return chosen.popitem()[1]
