"""Lines on stderr that do not tear a progress bar."""

from __future__ import annotations

import sys
import threading

from tqdm import tqdm

# tqdm's own lock is a semaphore of the system, which a process that is killed leaves behind; no two of ours share a bar
tqdm.set_lock(threading.RLock())
_shown = {"bars": True, "lines": True}


def say(message: str) -> None:
    """Writes a line to stderr without tearing a bar."""
    if _shown["lines"]:
        tqdm.write(message, file=sys.stderr)


def bars() -> bool:
    """May progress bars be drawn?"""
    return _shown["bars"]


def show(*, bars: bool, lines: bool) -> None:
    """What this process writes from now on.

    No bars where several processes would tear each other's on one terminal; no lines where another speaks for this one.
    """
    _shown.update(bars=bars, lines=lines)


def clock(seconds: float) -> str:
    """A duration in words: 45 s, 12 min, 3 h 24 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
