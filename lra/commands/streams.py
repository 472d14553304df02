"""Standard output and error of a command, where nobody may read them any more, or the disk under them may be full.

A log that cannot be written must not end a training. A result that cannot be printed is an error of one line.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from lra.errors import UserError


class ReaderGone(Exception):  # noqa: N818 - no error: who reads has seen enough
    """Who reads standard output has closed it."""


class Stream:
    """A standard stream. Once it cannot be written, what is written to it goes nowhere.

    needed: then raises, too: ReaderGone, or UserError where it is anything else, such as a full disk.
    """

    def __init__(self, stream: TextIO, needed: bool):
        self._stream, self._needed = stream, needed

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of a copy, which has no stream yet
            raise AttributeError(name)
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._leave(error)
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._leave(error)

    def _leave(self, error: OSError) -> None:
        """Turns the descriptor to nowhere, so that Python finds nothing wrong with the stream when it ends.

        A pipe that is full for a moment is no reason to.
        """
        if isinstance(error, BlockingIOError):
            if self._needed:
                raise error
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if self._needed and isinstance(error, BrokenPipeError):
            raise ReaderGone from error
        if self._needed:
            raise UserError(f"cannot print what was asked for: {error.strerror}") from error


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """Within the block, standard output raises in words when it cannot be written, and standard error never does."""
    before: tuple[Any, Any] = sys.stdout, sys.stderr
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:  # instead of one that was closed at the start
        sys.stdout, sys.stderr = Stream(before[0] or nowhere, needed=True), Stream(before[1] or nowhere, needed=False)
        try:
            yield
            sys.stdout.flush()
        finally:
            sys.stdout, sys.stderr = before
