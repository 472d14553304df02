"""A table of words with its caption, and how it reads in Markdown and in LaTeX (booktabs, by pandas Styler)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from tabulate import tabulate

DASH = "\N{EN DASH}"  # no value
# What stands in our cells beyond ASCII and has no place in pdfLaTeX's text
SIGNS = {
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "†": r"$^{\dagger}$",
    "\N{MINUS SIGN}": "$-$",
    DASH: "--",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


@dataclass(frozen=True)
class Sheet:
    """`left`: so many columns to the left, the others to the right. `bold`: (row, column) of the body."""

    title: str
    header: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    left: int = 1
    bold: frozenset[tuple[int, int]] = frozenset()
    note: str = ""

    def trimmed(self) -> "Sheet":
        """The same table less the columns without a single entry."""
        kept = [i for i in range(len(self.header)) if i < self.left or any(line[i] != DASH for line in self.body)]
        place = {old: new for new, old in enumerate(kept)}
        bold = frozenset((row, place[column]) for row, column in self.bold if column in place)
        body = tuple(tuple(line[i] for i in kept) for line in self.body)
        return Sheet(self.title, tuple(self.header[i] for i in kept), body, self.left, bold, self.note)


def sheet(title: str, header: Sequence[str], body: Iterable[Sequence[str]], left: int = 1, note: str = "") -> Sheet:
    """A sheet without bold cells, from lists."""
    return Sheet(title, tuple(header), tuple(tuple(line) for line in body), left, note=note)


def markdown(table: Sheet, bold: bool = True) -> str:
    """The table alone, without title and note; a table without rows is empty text."""
    if not table.body:
        return ""
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (table.header, *table.body)]
    for row, column in table.bold if bold else ():
        lines[row + 1][column] = f"**{lines[row + 1][column]}**"
    align = ["left"] * table.left + ["right"] * (len(table.header) - table.left)
    return tabulate(lines[1:], lines[0], tablefmt="pipe", colalign=align, disable_numparse=True) + "\n"


def latex(table: Sheet, label: str) -> str:
    r"""A table environment for \usepackage{booktabs}, with caption and label; text is escaped."""
    columns = [str(i) for i in range(len(table.header))]  # names may repeat, so numbers stand for them
    words = pd.DataFrame([list(line) for line in table.body], columns=columns, dtype=object)
    bold = pd.DataFrame("", index=words.index, columns=columns)
    for row, column in table.bold:
        bold.iat[row, column] = "textbf:--rwrap;"
    styler = words.style.hide(axis="index").apply(lambda _: bold, axis=None)
    styler.format(_signs, escape="latex")
    styler.format_index(lambda i: escape(table.header[int(i)]), axis="columns")
    text = styler.to_latex(
        hrules=True,
        column_format="l" * table.left + "r" * (len(columns) - table.left),
        caption=" ".join(escape(text.rstrip(".") + ".") for text in (table.title, table.note) if text),
        label=f"tab:{label}",
        position="t",
        position_float="centering",
    )
    return "% needs \\usepackage{booktabs}\n" + text


def escape(text: str) -> str:
    """Plain text -> LaTeX."""
    special = {"\\": r"\textbackslash ", "~": r"\textasciitilde ", "^": r"\textasciicircum "}
    special |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return _signs(re.sub(r"[\\~^&%$#_{}]", lambda found: special[found[0]], text))


def _signs(escaped: str) -> str:
    return "".join(SIGNS.get(sign, sign) for sign in escaped)
