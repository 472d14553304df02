r"""A table for a paper: booktabs at \small, cut into several where it is wider than a text column of 5.5 inches."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from lra.report.format import CIRCLE, DASH, MINUS, TIMES
from lra.report.render import RAISED, Table

COLUMN = 5.5 * 72.27  # points: the text width of most conferences
GAP = 6.0  # points between two columns: twice \tabcolsep as set below
# What our cells hold beyond ASCII and pdfLaTeX's text does not know
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
# Widths in Computer Modern over the size of the font; other signs are taken for capitals
WIDTHS = dict.fromkeys("0123456789abcdeghknopquvxyz+_-/*\N{EN DASH}", 0.53) | dict.fromkeys("fijlrst.,:;!'()[] ", 0.42)
SMALL, SCRIPT = 9.2, 7.6  # points; Computer Modern is a little wider at small sizes


def latex(table: Table, label: str) -> str:
    r"""Table environments for \usepackage{booktabs}, each with a caption and label, label-2, ...; text is escaped."""
    parts = list(_parts(table))
    texts = []
    for number, part in enumerate(parts, 1):
        title = table.title if number == 1 else f"{table.title} (continued)"
        named = replace(part, title=title, note=table.note if number == 1 else "")
        texts.append(_environment(named, label if number == 1 else f"{label}-{number}"))
    return "% needs \\usepackage{booktabs}\n" + "\n".join(texts)


def _parts(table: Table) -> Iterator[Table]:
    """The table whole if it fits the column; else cut at its breaks, and then wherever a part is still too wide."""
    if _width(table) <= COLUMN:
        yield table
        return
    names = list(range(table.left))
    ends = [*table.breaks, len(table.header)]
    for start, end in zip([table.left, *table.breaks], ends, strict=True):
        taken: list[int] = []
        for column in range(start, end):
            if taken and _width(table.part([*names, *taken, column])) > COLUMN:
                yield table.part([*names, *taken])
                taken = []
            taken.append(column)
        if taken:
            yield table.part([*names, *taken])


def _width(table: Table) -> float:
    """An upper estimate of the printed width, in points."""
    columns = zip(*(table.header, *table.body), strict=True)
    return sum(
        max(_cell_width(cell, table.small and place > 0) for cell in column) + GAP
        for place, column in enumerate(columns)
    )


def _cell_width(cell: str, small: bool) -> float:
    first, space, rest = cell.partition(" ") if small else (cell, "", "")
    return _text_width(first, SMALL) + _text_width(space + rest, SCRIPT)


def _text_width(text: str, size: float) -> float:
    return size * sum(WIDTHS.get(sign, 0.8) for sign in text)


def _environment(table: Table, label: str) -> str:
    columns = [str(i) for i in range(len(table.header))]  # headings may repeat, so numbers stand for them
    words = pd.DataFrame([list(line) for line in table.body], columns=columns, dtype=object)
    bold = pd.DataFrame("", index=words.index, columns=columns)
    for row, column in table.bold:
        bold.iat[row, column] = "textbf:--rwrap;"
    styler = words.style.hide(axis="index").apply(lambda _: bold, axis=None)
    for place, column in enumerate(columns):
        styler.format(_small if table.small and place else escape, subset=[column])
    styler.format_index(lambda i: escape(table.header[int(i)]), axis="columns")
    text = styler.to_latex(
        hrules=True,
        column_format="l" * table.left + "r" * (len(columns) - table.left),
        caption=" ".join(escape(text.rstrip(".") + ".") for text in (table.title, table.note) if text),
        label=f"tab:{label}",
        position="t",
        position_float="centering",
    )
    return text.replace("\\begin{tabular}", "\\small\\setlength{\\tabcolsep}{3pt}\n\\begin{tabular}", 1)


def _small(cell: str) -> str:
    r"""'42.9 ± 2.5†' -> '42.9{\scriptsize{} $\pm$ 2.5$^{\dagger}$}'; a cell of words stays as it is."""
    first, space, rest = cell.partition(" ")
    if not space or not first[:1].isdigit():
        return escape(cell)
    return f"{escape(first)}{{\\scriptsize{{}} {escape(rest)}}}"


def escape(text: str) -> str:
    """Plain text -> LaTeX."""
    special = {"\\": r"\textbackslash ", "~": r"\textasciitilde ", "^": r"\textasciicircum "}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    escaped = re.sub(r"[\\~^&%$#_{}]", lambda found: special[found[0]], text)
    return "".join(SIGNS.get(sign, sign) for sign in escaped)
