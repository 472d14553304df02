r"""A table for a paper: booktabs at \small, cut into several where it is wider than a text column of 5.5 inches."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from lra.report.escape import one_line
from lra.report.format import CIRCLE, DASH, MINUS, TIMES
from lra.report.render import RAISED, Table

COLUMN = 5.5 * 72.27  # points: the text width of most conferences
GAP = 6.0  # points between two columns: twice \tabcolsep as set below
# Characters in our cells that pdfLaTeX does not print as they are in text
SIGNS = {
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "†": r"$^{\dagger}$",
    TIMES: r"$\times$",
    CIRCLE: r"$\circ$",
    MINUS: "$-$",
    DASH: "--",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
} | {raised: rf"\textsuperscript{{{letter}}}" for letter, raised in RAISED.items()}
# Widths of characters in Computer Modern, in font sizes; others count as capitals
WIDTHS = dict.fromkeys("0123456789abcdeghknopquvxyz+_-/*\N{EN DASH}", 0.52) | dict.fromkeys("frst()[] †○", 0.42)
WIDTHS |= dict.fromkeys(".,:;!'ijl", 0.3) | dict.fromkeys(RAISED.values(), 0.4)
SMALL, SCRIPT, BOLD = 9.2, 7.6, 1.13  # font sizes in points, a factor: Computer Modern is a little wider at small sizes


def latex(table: Table, label: str) -> str:
    r"""Table environments for \usepackage{booktabs}, each with a caption and label, label-2, ...; text is escaped."""
    parts = list(_parts(table))
    texts = []
    for number, part in enumerate(parts, 1):
        title = table.title if number == 1 else f"{table.title} (continued)"
        titled = replace(part, title=title, note=table.note if number == 1 else "")
        texts.append(_environment(titled, label if number == 1 else f"{label}-{number}"))
    return "% needs \\usepackage{booktabs}\n" + "\n".join(texts)


def _parts(table: Table) -> Iterator[Table]:
    """The whole table if it fits the text width; else its parts, cut at breaks and where a part would be too wide.

    A part that begins because the part before was full is not cut at breaks. A last part of one column takes another
    from the part before if there is room.
    """
    if _width(table) <= COLUMN:
        yield table
        return
    names = list(range(table.left))
    *before, last = _cuts(table, names)
    if before and len(last) == 1 and len(before[-1]) > 2:
        last.insert(0, before[-1].pop())
        if _width(table.part([*names, *last])) > COLUMN:
            before[-1].append(last.pop(0))
    for columns in (*before, last):
        yield table.part([*names, *columns])


def _cuts(table: Table, names: list[int]) -> Iterator[list[int]]:
    """The columns of each part, without the left-aligned ones, which every part repeats."""
    taken: list[int] = []
    full = False
    for column in range(table.left, len(table.header)):
        overflows = _width(table.part([*names, *taken, column])) > COLUMN
        if taken and (overflows or (column in table.breaks and not full)):
            yield taken
            taken, full = [], overflows
        taken.append(column)
    yield taken


def _width(table: Table) -> float:
    """An upper estimate of the printed width, in points."""
    widest = [_text_width(heading, SMALL) for heading in table.header]
    for row, line in enumerate(table.body):
        for column, cell in enumerate(line):
            first, rest = _halves(cell) if table.small and column else (cell, "")
            bold = BOLD if (row, column) in table.bold else 1.0
            widest[column] = max(widest[column], bold * _text_width(first, SMALL) + _text_width(rest, SCRIPT))
    return sum(widest) + GAP * (len(widest) - 1)


def _text_width(text: str, size: float) -> float:
    return size * sum(WIDTHS.get(sign, 0.8) for sign in text)


def _halves(cell: str) -> tuple[str, str]:
    """The parts of a cell in full size and in small print: '42.9 ±2.5†' -> '42.9', ' ±2.5†'; words stay whole."""
    first, space, rest = cell.partition(" ")
    return (first, space + rest) if first[:1].isdigit() else (cell, "")


def _environment(table: Table, label: str) -> str:
    columns = [str(i) for i in range(len(table.header))]  # numbered, because headings may repeat
    body = [[_cell(table, row, column) for column in range(len(line))] for row, line in enumerate(table.body)]
    styler = pd.DataFrame(body, columns=columns, dtype=object).style.hide(axis="index")
    styler.format_index(lambda i: escape(table.header[int(i)]), axis="columns")
    text = styler.to_latex(
        hrules=True,
        column_format="@{}" + "l" * table.left + "r" * (len(columns) - table.left) + "@{}",
        caption=" ".join(escape(text.rstrip(".") + ".") for text in (table.title, table.note) if text),
        label="tab:" + re.sub(r"[^\w.=-]", "-", label),
        position="t",
        position_float="centering",
    )
    return text.replace("\\begin{tabular}", "\\small\\setlength{\\tabcolsep}{3pt}\n\\begin{tabular}", 1)


def _cell(table: Table, row: int, column: int) -> str:
    r"""'42.9 ±2.5†' -> '\textbf{42.9}{\scriptsize\,$\pm$2.5$^{\dagger}$}' in a table with small print."""
    first, rest = _halves(table.body[row][column]) if table.small and column else (table.body[row][column], "")
    text = f"\\textbf{{{escape(first)}}}" if (row, column) in table.bold else escape(first)
    return text + (f"{{\\scriptsize\\,{escape(rest.strip())}}}" if rest else "")


def escape(text: str) -> str:
    """Plain text -> LaTeX."""
    text = one_line(text)
    special = {"\\": r"\textbackslash ", "~": r"\textasciitilde ", "^": r"\textasciicircum "}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    escaped = re.sub(r"[\\~^&%$#_{}]", lambda match: special[match[0]], text)
    return "".join(SIGNS.get(sign, sign) for sign in escaped)
