"""Signals that ask a command to stop. It first saves the run under way, and its exit code says that nothing failed.

Schedulers, other programs and a terminal that closes send SIGTERM, SIGUSR1 and SIGHUP; Ctrl-C sends SIGINT. Inside a
`held` block, where work would be lost, a signal is only noted, and the training loop saves and stops after its step;
elsewhere `Stopped` is raised at once, as KeyboardInterrupt is. A second Ctrl-C always raises `Stopped`. If Python drops
the exception, as it does when one is raised while an object is freed, the signal stays noted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import ClassVar

UNFINISHED = 75  # exit code: EX_TEMPFAIL of sysexits.h; nothing failed, and the same command continues
INTERRUPTED = 130  # exit code after Ctrl-C, as in shells
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
NUMBERS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]  # Windows lacks the last two
TWICE = 0.3  # seconds within which a second SIGINT counts as the first: `timeout` and others pass it on twice
HINT = b"\nsaves after this step, then stops; Ctrl-C again stops at once\n"


class Stopped(KeyboardInterrupt):
    """The command stops because of a signal. code: its exit code."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = INTERRUPTED if number == signal.SIGINT else UNFINISHED


class _State:
    number = 0  # of the signal that asked to stop; 0: none did
    since = 0.0  # when that signal came, by time.monotonic
    holds = 0  # number of `held` blocks that are open
    terminals: ClassVar[list[int]] = []  # of 1 and 2, those that were terminals when `caught` began


@contextlib.contextmanager
def caught(hint: bytes = HINT) -> Iterator[None]:
    """Handles the signals within the block. hint: printed when the first Ctrl-C is noted.

    Does nothing outside the main thread, where Python does not allow handlers. SIGINT and SIGHUP stay ignored where
    they already are, as under nohup.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def answer(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        now, first = time.monotonic(), not _State.number
        again = number == signal.SIGINT and not first and now - _State.since > TWICE
        if first:
            _State.number, _State.since = number, now
        leave_closed_terminals()
        if again or not _State.holds:
            raise Stopped(number)
        if first and number == signal.SIGINT and hint:
            with contextlib.suppress(OSError):
                os.write(2, hint)  # not print, which the signal may have interrupted

    before = {number: signal.getsignal(number) for number in NUMBERS}
    ignorable = (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT))
    _State.number, _State.terminals = 0, [output for output in (1, 2) if os.isatty(output)]
    try:
        for number, handler in before.items():
            if not (handler is signal.SIG_IGN and number in ignorable):
                signal.signal(number, answer)
        yield
    except SystemError as error:  # Python 3.11's parser turns a Stopped that is raised in it into this
        if _State.number:
            raise Stopped(_State.number) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.number = 0


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Within the block signals are only noted, because work would be lost; see `asked`."""
    _State.holds += 1
    try:
        yield
    finally:
        _State.holds -= 1


def ask(number: int = signal.SIGTERM) -> None:
    """Notes a request to stop that did not come as a signal."""
    _State.number = _State.number or number
    leave_closed_terminals()


def leave_closed_terminals() -> None:
    """Redirects the output of a closed terminal to os.devnull, because writing to the terminal would be an error."""
    for output in _State.terminals:
        if not os.isatty(output):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, output)
            os.close(nowhere)


def forget() -> None:
    """Clears a request to stop that has been carried out; the process continues with other work."""
    _State.number = 0


def asked() -> bool:
    """Has a signal asked to stop?"""
    return _State.number != 0


def stopped() -> Stopped:
    """The exception to raise when everything is saved."""
    return Stopped(_State.number or signal.SIGTERM)
