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
    """UTF-8. What is no Unicode in a path (a folder named in Latin-1) is written as an escape."""
    return text.encode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """The same text, as a table, a page or a data frame can hold it; see `encoded`."""
    return text if text.isascii() else encoded(text).decode()


def write_atomically(path: Path, content: bytes) -> None:
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
    """Write the file that an option names; of a link, the file that it leads to. Raises WorkError."""
    try:
        write_atomically(path.resolve(), content)
    except OSError as error:
        raise WorkError(f"cannot write {path}: {error.strerror}; give another file to {option}") from error


def write_all(contents: Mapping[str, bytes], folder: Path, ours: tuple[str, str]) -> list[Path]:
    """Write every name below the folder, each file atomically, and return the paths.

    The caller has computed all contents before, so that a fault in one leaves the files of last time together. ours:
    a file's name and a text in it, by which the folder is known as one that was written so before. Raises WorkError,
    also where files of these names are there and the folder is none.
    """
    there = [name for name in contents if (folder / name).exists()]
    if there and not _holds(folder / ours[0], ours[1]):
        raise WorkError(f"{folder / there[0]} is there, and is none that this command has written; give another --out")
    try:
        for place in {(folder / name).parent for name in contents}:
            remove_leftovers(place.glob(".*"))
        for name in sorted(contents, key=lambda name: name != ours[0]):  # that one first: the rest may be cut short
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / name, contents[name])
    except OSError as error:
        raise WorkError(f"cannot write to the output folder {folder}: {error.strerror}; give another --out") from error
    return [folder / name for name in contents]


def remove_leftovers(files: Iterable[Path]) -> None:
    """Removes those that a killed process has left behind: its number is in their names, or the token of a claim.

    Another machine may use the same folder, so a file that changed in the last hour stays.
    """
    for file in files:
        named = re.fullmatch(r"\.(probe-(\d{1,9})|.+\.(\d{1,9}|[0-9a-f]{32})\.tmp)", file.name)
        with contextlib.suppress(OSError):  # another process may have removed it
            if named and time.time() - file.stat().st_mtime > 3600 and not _in_use(named[2] or named[3]):
                file.unlink()


def _in_use(owner: str) -> bool:
    """Is this the number of a process that runs? The file of a token, 32 digits, lives for a moment."""
    return len(owner) <= 9 and is_running(int(owner))


def is_running(process: int) -> bool:
    """Is there a process of this number on this machine? True where that cannot be known."""
    if os.name == "nt":  # there signal 0 is Ctrl-C, not a question
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def check_replaceable(path: Path, mark: str, option: str) -> None:
    """Raises WorkError for a file that is there and is not what the command writes, whose text has this mark."""
    if path.exists() and path.stat().st_size and not _holds(path, mark):
        raise WorkError(f"{path} is there, and is none that {option} has written: delete it, or give {option} another")


def _holds(path: Path, text: str) -> bool:
    """Is there such a text in the file?"""
    try:
        return encoded(text) in path.read_bytes()
    except OSError:
        return False


def writable(folder: Path) -> None:
    """Make the folder, and remove what killed processes left. Raises WorkError when nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers([*folder.glob(".*"), *folder.glob(f"{WORK}/*/.*")])
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # a process in another container may have the same number
    except OSError as error:
        raise WorkError(f"cannot write to the output folder {folder}: {error.strerror}; give another --out") from error
