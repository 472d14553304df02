"""Signals that ask a command to stop. What is under way is saved first, and the exit code says that nothing failed.

SIGTERM, SIGUSR1 and SIGHUP come from schedulers, from other programs and from a terminal that closes, SIGINT is Ctrl-C.
As long as something would be lost (`held`) a signal is only noted, and the training loop saves and stops after its
step; at any other time `Stopped` is raised at once, as KeyboardInterrupt is. Ctrl-C a second time always raises it.
Should Python drop it, as it does with what is raised while an object is freed, the signal stays noted.
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

UNFINISHED = 75  # exit code: EX_TEMPFAIL of sysexits.h; nothing failed, and the same command goes on
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
NUMBERS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]  # Windows lacks the last two
TWICE = 0.3  # seconds within which a second SIGINT is the first one, because `timeout` and others pass it on twice
HINT = b"\nsaves after this step, then stops; Ctrl-C again stops at once\n"


class Stopped(KeyboardInterrupt):
    """The command stops because of a signal. code: its exit code."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = INTERRUPTED if number == signal.SIGINT else UNFINISHED


class _State:
    number = 0  # of the signal that has asked to stop; 0: none has
    since = 0.0  # when it did
    holds = 0  # blocks in which signals are noted
    terminals: ClassVar[list[int]] = []  # descriptors of output that were terminals at first


@contextlib.contextmanager
def caught(hint: bytes = HINT) -> Iterator[None]:
    """Answers the signals within the block. hint: printed when the first Ctrl-C is noted.

    Does nothing outside the main thread, where Python does not allow it. Ctrl-C and SIGHUP that are ignored, as under
    nohup, stay so.
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
                os.write(2, hint)  # print may be what the signal interrupts

    before = {number: signal.getsignal(number) for number in NUMBERS}
    ignorable = (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT))
    _State.number, _State.terminals = 0, [output for output in (1, 2) if os.isatty(output)]
    try:
        for number, handler in before.items():
            if not (handler is signal.SIG_IGN and number in ignorable):
                signal.signal(number, answer)
        yield
    except SystemError as error:  # Python 3.11's parser makes one of a Stopped that is raised in it
        if _State.number:
            raise Stopped(_State.number) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.number = 0


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Within the block something is under way that would be lost: signals are noted, see `asked`."""
    _State.holds += 1
    try:
        yield
    finally:
        _State.holds -= 1


def ask(number: int = signal.SIGTERM) -> None:
    """Notes the wish to stop that has come by another way than a signal."""
    _State.number = _State.number or number
    leave_closed_terminals()


def leave_closed_terminals() -> None:
    """What is printed goes nowhere from now on, because writing to a terminal that has closed would be an error."""
    for output in _State.terminals:
        if not os.isatty(output):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, output)
            os.close(nowhere)


def forget() -> None:
    """Takes the wish back: it has been fulfilled, and the process goes on with something else."""
    _State.number = 0


def asked() -> bool:
    """Has a signal asked to stop?"""
    return _State.number != 0


def stopped() -> Stopped:
    """What to raise when everything is saved."""
    return Stopped(_State.number or signal.SIGTERM)
