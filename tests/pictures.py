"""Reports and inspections without their pictures, for tests that do not look at them."""

from typing import Any

import pytest


def leave_undrawn(patch: pytest.MonkeyPatch, *kinds: str) -> None:
    """Figures are made, but files of these kinds ('svg', 'pdf', 'png') hold an empty SVG; without kinds, all files do.

    Drawing them takes most of the time of a report.
    """
    from matplotlib.figure import Figure

    draw = Figure.savefig

    def savefig(figure: Figure, content: Any, **settings: Any) -> None:
        if kinds and settings["format"] not in kinds:
            draw(figure, content, **settings)
        else:
            content.write(b"<svg></svg>")

    patch.setattr(Figure, "savefig", savefig)
