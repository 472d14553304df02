"""Lines on stderr that do not tear a progress bar."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

# tqdm's own lock is a semaphore of the system, which a process that is killed leaves behind; no two of ours share a bar
tqdm.set_lock(threading.RLock())
_shown = {"bars": True, "lines": True}
OFTEN = 0.5  # seconds between two messages of `draw`


class _Parent:
    """The process that prints for this one, if there is one."""

    send: Callable[[dict[str, Any]], None] | None = None
    bars = False  # does it draw them?
    drawn = 0.0  # when it was last told how far a run is


def say(message: str) -> None:
    """Writes a line to stderr without tearing a bar."""
    if not _shown["lines"]:
        return
    if _Parent.send is not None:
        _Parent.send({"line": message})
    else:
        tqdm.write(message, file=sys.stderr)


@functools.cache
def say_once(message: str) -> None:
    """The same, the first time that this process is to say it."""
    say(message)


def relay(send: Callable[[dict[str, Any]], None] | None, bars: bool = False) -> None:
    """Lets another process print what this one says. bars: it also draws how far a run is, see `draw`.

    `send` gets {"line": ...} for a line, and what `draw` makes. None: this process prints for itself again.
    """
    _Parent.send, _Parent.bars, _Parent.drawn = send, bars, 0.0


def draw(step: int, steps: int, words: str, phase: str = "") -> bool:
    """Tells the process that prints for this one how far its run is. False where nobody draws it."""
    if _Parent.send is None or not _shown["lines"]:
        return False
    if step == steps or time.monotonic() - _Parent.drawn > OFTEN:
        _Parent.drawn = time.monotonic()
        _Parent.send({"step": step, "steps": steps, "words": words, "phase": phase})
    return _Parent.bars


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
