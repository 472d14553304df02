"""Files: whether one has changed, its hash, writing one whole or not at all, and the lock of a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks._data import DataError

SCRIPT = Path(__file__).resolve().parent.parent / "run_lra.py"  # an installed package has none
PREPARE = f"python {'run_lra.py' if SCRIPT.exists() else '-m lra'} data prepare --task"
BOM = b"\xef\xbb\xbf"  # the UTF-8 byte order mark that some editors put in front of a text
Stamp = tuple[str, int, int]  # path, bytes, time in nanoseconds


def stamps(files: Iterable[Path]) -> list[Stamp]:
    """Path, size and time of each file, which counts as unchanged while all three are the same. Raises DataError."""
    with readable():
        stats = [(path.resolve(), path.stat()) for path in files]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


@contextmanager
def readable(what: object = None) -> Iterator[None]:
    """Turns an OSError in the block into the DataError `cannot read FILE: reason`. what: FILE, else the error's own."""
    try:
        yield
    except OSError as error:
        name = error.filename if what is None else what
        raise DataError(f"cannot read {name}: {error.strerror or error}") from error


def changed(path: Path) -> int:
    """When the file changed, in nanoseconds; 0 where another process has just replaced or deleted it."""
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return 0


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Another path to write to, which becomes `path` at the end of the block: the file is whole or absent."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Waits for the folder's lock and holds it in the block; a dying process frees it. Yields False without locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a network file system without locks; renaming still keeps the result whole
            yield False
            return
        yield True
