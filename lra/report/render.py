"""A table of texts with its caption, and its Markdown; `latex` writes the same table for a paper."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tabulate import tabulate

from lra.report.escape import inert
from lra.report.format import DASH

RAISED = dict(zip("abcdefghijklmnop", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ", strict=True))  # superscripts, for notes


@dataclass(frozen=True)
class Table:
    """Texts in rows and columns.

    left: how many columns are aligned to the left; the others are aligned to the right. bold: (row, column) of cells
    in the body. breaks: columns before which LaTeX may cut a table that is too wide. small: LaTeX sets what follows a
    cell's first word in a smaller size.
    """

    title: str
    header: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    left: int = 1
    bold: frozenset[tuple[int, int]] = frozenset()
    note: str = ""
    breaks: tuple[int, ...] = ()
    small: bool = False

    def trimmed(self) -> "Table":
        """The same table without the columns in which every cell is a dash; those aligned to the left stay."""
        columns = range(len(self.header))
        return self.part([i for i in columns if i < self.left or any(line[i] != DASH for line in self.body)])

    def part(self, columns: Sequence[int]) -> "Table":
        """The same table with these columns only."""
        position = {old: new for new, old in enumerate(columns)}
        return replace(
            self,
            header=tuple(self.header[i] for i in columns),
            body=tuple(tuple(line[i] for i in columns) for line in self.body),
            bold=frozenset((row, position[column]) for row, column in self.bold if column in position),
            breaks=tuple(position[column] for column in self.breaks if column in position),
        )


def table(
    title: str,
    header: Sequence[str],
    body: Iterable[Sequence[str]],
    left: int = 1,
    note: str = "",
    breaks: Sequence[int] = (),
) -> Table:
    """A table without bold cells, from lists."""
    return Table(title, tuple(header), tuple(tuple(line) for line in body), left, note=note, breaks=tuple(breaks))


def markdown(table: Table, bold: bool = True) -> str:
    """The table in Markdown, without title and note; empty for a table without rows.

    bold: mark bold cells, and escape `*`, as in 'pola*2+softmax', for a Markdown file; a terminal needs neither.
    """
    if not table.body:
        return ""
    stars = r"\*" if bold else "*"
    cells = [[inert(cell).replace("|", r"\|") for cell in line] for line in (table.header, *table.body)]
    lines = [[cell.replace("*", stars) for cell in line] for line in cells]
    for row, column in table.bold if bold else ():
        lines[row + 1][column] = f"**{lines[row + 1][column]}**"
    align = ["left"] * table.left + ["right"] * (len(table.header) - table.left)
    return tabulate(lines[1:], lines[0], tablefmt="pipe", colalign=align, disable_numparse=True) + "\n"


def matrix(corner: str, columns: Mapping[str, str], cells: Mapping[tuple[str, str], str]) -> str:
    """A table in Markdown: a line for each row of the cells, in their order, and a dash where a cell is missing.

    columns: column -> heading. cells: (row, column) -> text.
    """
    rows = dict.fromkeys(row for row, _ in cells)
    body = [[row, *(cells.get((row, column), DASH) for column in columns)] for row in rows]
    return markdown(table("", [corner, *columns.values()], body))
