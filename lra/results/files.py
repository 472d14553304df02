"""Files that are written whole or not at all."""

import os
from pathlib import Path

from lra.errors import WorkError


def write_atomically(path: Path, content: bytes) -> None:
    """All or nothing, also when the machine stops in the middle. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def writable(folder: Path) -> None:
    """Makes the folder. Raises WorkError when it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise WorkError(f"cannot write to the output folder {folder}: {error.strerror}; give another --out") from error
