"""The names below a figure: in columns, or, where colours are by family, a block of lines for each family."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lra.report import conventions
from lra.report.figures.style import MUTED, Palette

LINE_HEIGHT = 0.19  # inches
SMALL = 8.0  # points, of the names of a block
HEADING, SAMPLE, LETTER = 0.95, 0.42, 0.063  # inches: a family's name, a line with its gaps, a letter of a name


@dataclass(frozen=True)
class Legend:
    """The legend of these rows. letters: of the longest name. most: the most columns without blocks."""

    rows: Sequence[str]
    palette: Palette
    width: float  # inches, of the figure
    letters: int
    most: int

    @property
    def columns(self) -> int:
        if not self.palette.by_family:
            return max(1, min(self.most, 84 // (8 + self.letters)))
        return max(1, int((self.width - HEADING - 0.1) / (SAMPLE + LETTER * self.letters)))

    @property
    def blocks(self) -> dict[str, list[str]]:
        """Family -> its rows, in the order in which they are shown."""
        blocks: dict[str, list[str]] = {}
        for row in sorted(self.rows, key=lambda row: conventions.family_order(self.palette.family(row))):
            blocks.setdefault(self.palette.family(row), []).append(row)
        return blocks

    @property
    def height(self) -> float:
        """Inches that the legend takes below the axes."""
        blocks = self.blocks.values() if self.palette.by_family else [self.rows]
        return 0.2 + LINE_HEIGHT * sum(math.ceil(len(rows) / self.columns) for rows in blocks)

    def draw(self, figure: Figure, axes: Axes) -> None:
        """Write the names of what the axes show; each name gets the gid of its row, as its line has."""
        handles, labels = axes.get_legend_handles_labels()
        if self.palette.by_family:
            self._draw_blocks(figure, {str(h.get_gid()): (h, label) for h, label in zip(handles, labels, strict=True)})
            return
        legend = figure.legend(handles, labels, loc="lower center", ncols=self.columns)
        for handle, line, text in zip(handles, legend.legend_handles, legend.get_texts(), strict=True):
            text.set_gid(handle.get_gid())
            if line is not None:
                line.set_gid(handle.get_gid())

    def _draw_blocks(self, figure: Figure, handles: dict[str, tuple[object, str]]) -> None:
        height, step = figure.get_figheight(), (self.width - HEADING - 0.1) / self.columns
        text_style = {"fontsize": SMALL, "va": "center", "ha": "left"}
        line = self.height - 0.1 - LINE_HEIGHT / 2
        for family, rows in self.blocks.items():
            figure.text(
                0.1 / self.width, line / height, words(family), color=MUTED, gid=f"family {words(family)}", **text_style
            )
            for number, row in enumerate(rows):
                if number and number % self.columns == 0:
                    line -= LINE_HEIGHT
                handle, label = handles.get(f"row {row}", (None, ""))
                if isinstance(handle, Line2D):
                    left = (HEADING + step * (number % self.columns)) / self.width
                    sample = Line2D([left, left + (SAMPLE - 0.12) / self.width], [line / height] * 2)
                    sample.update_from(handle)
                    sample.set_transform(figure.transFigure)
                    sample.set_gid(f"row {row}")
                    sample.set_clip_box(None)  # `update_from` copied that of the axes
                    figure.add_artist(sample)
                    text_at = left + (SAMPLE - 0.06) / self.width
                    figure.text(text_at, line / height, label, gid=f"row {row}", **text_style)
            line -= LINE_HEIGHT


def words(family: str) -> str:
    """A family as figures and pages write it: 'low rank', or 'other' for the family ''."""
    return family.replace("_", " ") or "other"
