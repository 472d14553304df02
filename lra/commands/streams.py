"""Standard output and standard error that survive a closed pipe or a full disk.

A log line that cannot be written must not end a training. A result that cannot be printed is an error of one line.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from lra.errors import UserError


class ReaderGone(Exception):  # noqa: N818 - not an error: the reader has seen enough
    """The reader of standard output, such as `head`, has closed it."""


class Stream:
    """A standard stream that discards all further output once a write has failed.

    needed: a failed write also raises: ReaderGone for a closed pipe, UserError for anything else, such as a full disk.
    """

    def __init__(self, stream: TextIO, needed: bool):
        self._stream, self._needed = stream, needed

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked of a copy that has no `_stream` yet; looking for it would recurse
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
        """Redirects the descriptor to os.devnull, so that Python's last flush succeeds. Raises if `needed`.

        A non-blocking pipe that is full for a moment is not redirected: only this write is lost, or raises.
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
    """Within the block, a failed write to standard output raises as `Stream` says; one to standard error does not."""
    before: tuple[Any, Any] = sys.stdout, sys.stderr
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:  # replaces a stream that was closed at the start
        sys.stdout, sys.stderr = Stream(before[0] or nowhere, needed=True), Stream(before[1] or nowhere, needed=False)
        try:
            yield
            sys.stdout.flush()
        finally:
            sys.stdout, sys.stderr = before
