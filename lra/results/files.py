"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from lra.errors import WorkError
from lra.results.layout import WORK


def encoded(text: str) -> bytes:
    """The text in UTF-8; characters that UTF-8 cannot encode (from a folder named in Latin-1) are escaped."""
    return text.encode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """The text as a table, page or data frame can hold it: with the escapes of `encoded`."""
    return text if text.isascii() else encoded(text).decode()


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write the whole file or nothing, even when the machine stops in the middle. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_named(path: Path, content: bytes, option: str) -> None:
    """Write the file that an option names; a symbolic link stays, and its target is written. Raises WorkError."""
    try:
        write_atomically(path.resolve(), content)
    except OSError as error:
        raise WorkError(f"cannot write {path}: {error.strerror}; give another file to {option}") from error


def write_all(contents: Mapping[str, bytes], folder: Path, ours: tuple[str, str]) -> list[Path]:
    """Write each content to its name below the folder, every file atomically, and return the paths.

    The caller has computed all contents before, so that a fault in one of them leaves the previous files as they were.
    ours: the name of a file and a text in it that identify a folder written by the same command. Raises WorkError when
    a file cannot be written, or when files of these names exist in a folder that `ours` does not identify.
    """
    existing = [name for name in contents if (folder / name).exists()]
    if existing and not _holds(folder / ours[0], ours[1]):
        raise WorkError(f"{folder / existing[0]} exists and was not written by this command; give another --out")
    try:
        for parent in {(folder / name).parent for name in contents}:
            remove_leftovers(parent.glob(".*"))
        # The identifying file first, so that the next call accepts the folder even if this one stops halfway
        for name in sorted(contents, key=lambda name: name != ours[0]):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / name, contents[name])
    except OSError as error:
        raise WorkError(f"cannot write to the output folder {folder}: {error.strerror}; give another --out") from error
    return [folder / name for name in contents]


def remove_leftovers(files: Iterable[Path]) -> None:
    """Removes temporary files of killed processes, which have a process number or the token of a claim in their names.

    A file that changed in the last hour stays, because another machine may be using the same folder.
    """
    for file in files:
        match = re.fullmatch(r"\.(probe-(\d{1,9})|.+\.(\d{1,9}|[0-9a-f]{32})\.tmp)", file.name)
        with contextlib.suppress(OSError):  # another process may have removed it
            if match and time.time() - file.stat().st_mtime > 3600 and not _in_use(match[2] or match[3]):
                file.unlink()


def _in_use(owner: str) -> bool:
    """Is this the number of a running process? A token (32 digits) is not: its file is needed for a moment only."""
    return len(owner) <= 9 and is_running(int(owner))


def is_running(process: int) -> bool:
    """Does a process with this number run on this machine? True where that cannot be known."""
    if os.name == "nt":  # on Windows signal 0 is Ctrl-C, not a test
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # the process belongs to another user
        return True
    return True


def check_replaceable(path: Path, mark: str, option: str) -> None:
    """Raises WorkError for a file that is not empty and lacks the mark, a text in all files that `option` writes."""
    if path.exists() and path.stat().st_size and not _holds(path, mark):
        raise WorkError(f"{path} exists and was not written by {option}: delete it, or give {option} another file")


def _holds(path: Path, text: str) -> bool:
    """Does the file contain the text? False if it cannot be read."""
    try:
        return encoded(text) in path.read_bytes()
    except OSError:
        return False


def writable(folder: Path) -> None:
    """Make the folder, and remove what killed processes left there. Raises WorkError if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers([*folder.glob(".*"), *folder.glob(f"{WORK}/*/.*")])
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # a process in another container may have the same number
    except OSError as error:
        raise WorkError(f"cannot write to the output folder {folder}: {error.strerror}; give another --out") from error
