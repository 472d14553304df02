"""Lines on stderr that do not tear a progress bar."""

from __future__ import annotations

import sys

from tqdm import tqdm

_shown = {"bars": True, "lines": True}


def say(message: str) -> None:
    """Writes a line to stderr without tearing a bar."""
    if _shown["lines"]:
        tqdm.write(message, file=sys.stderr)


def bars() -> bool:
    """May progress bars be drawn?"""
    return _shown["bars"]


def lines_only() -> None:
    """Draws no bars from now on: several processes on one terminal would tear them."""
    _shown["bars"] = False


def silence() -> None:
    """Writes nothing from now on: another process speaks for this one."""
    _shown.update(bars=False, lines=False)


def clock(seconds: float) -> str:
    """A duration in words: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
