"""Lines on stderr that do not tear a progress bar."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

# tqdm's default lock is a system semaphore, which a killed process leaks; no two processes of the suite share a bar
tqdm.set_lock(threading.RLock())
_shown = {"bars": True, "lines": True}
OFTEN = 0.5  # seconds between two messages of `draw`


class _Parent:
    """The process that prints for this one, if there is one."""

    send: Callable[[dict[str, Any]], None] | None = None
    bars = False  # does that process draw progress bars?
    drawn = 0.0  # when progress was last sent to it, by time.monotonic


def say(message: str) -> None:
    """Prints a line on stderr without tearing a bar, or sends it to the process that prints for this one."""
    if not _shown["lines"]:
        return
    if _Parent.send is not None:
        _Parent.send({"line": message})
    else:
        tqdm.write(message, file=sys.stderr)


@functools.cache
def say_once(message: str) -> None:
    """As `say`, but prints each message only once per process."""
    say(message)


def relay(send: Callable[[dict[str, Any]], None] | None, bars: bool = False) -> None:
    """Lets another process print for this one. bars: it also draws the progress of the run, see `draw`.

    send: called with {"line": ...} for a line, and with the messages of `draw`; None: this process prints for itself.
    """
    _Parent.send, _Parent.bars, _Parent.drawn = send, bars, 0.0


def draw(step: int, steps: int, words: str, phase: str = "") -> bool:
    """Sends the progress of a run to the process that prints for this one. Returns whether that process draws it."""
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
    """Sets whether this process draws bars and prints lines.

    Bars are off where several processes would tear each other's on one terminal, lines where another process prints for
    this one.
    """
    _shown.update(bars=bars, lines=lines)


def clock(seconds: float) -> str:
    """A duration in words: 45 s, 12 min, 3 h 24 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
