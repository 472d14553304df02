"""Files that are written whole or not at all, and files that are read against a dataclass."""

from __future__ import annotations

import functools
import json
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from lra.errors import RecordError, WorkError


class Stored(Protocol):
    """A dataclass that is stored as one file."""

    kind_of_file: ClassVar[str]  # for messages: 'a record'

    def wrong_values(self) -> list[str]:
        """Names of the fields whose values have the right type and still cannot be."""
        ...


T = TypeVar("T", bound=Stored)


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


def write_all(contents: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Write every name below the folder, each file atomically, and return the paths.

    The caller has computed all contents before, so that a fault in one leaves the files of last time together.
    Raises WorkError.
    """
    try:
        for name, content in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / name, content)
    except OSError as error:
        raise WorkError(f"cannot write to the output folder {folder}: {error.strerror}; give another --out") from error
    return [folder / name for name in contents]


def writable(folder: Path) -> None:
    """Make the folder. Raises WorkError when nothing can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise WorkError(f"cannot write to the output folder {folder}: {error.strerror}; give another --out") from error


def read_record(cls: type[T], path: Path, version: int) -> T:
    """The dataclass from its JSON file, every field checked against the annotation of the class.

    version: the newest `schema_version` that this code reads. Raises RecordError with the file's name.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        found = int(fields["schema_version"])
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such file or folder") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is not {cls.kind_of_file}: {error}") from error
    if found > version:
        raise RecordError(f"{path} has schema {found}; this version reads up to {version}: upgrade lra")
    try:
        record = cls(**fields)
    except TypeError as error:
        raise RecordError(f"{path} is not {cls.kind_of_file}: {error}") from error
    annotations = _annotations(cls)
    wrong = [name for name in fields if not fits(fields[name], annotations[name])] or record.wrong_values()
    if wrong:
        raise RecordError(f"{path} is not {cls.kind_of_file}: bad {', '.join(wrong)}")
    return record


@functools.cache
def _annotations(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value from JSON has the annotated type: str, int, dict[str, float], list[float], float | None.

    As in JSON, an integer is also a float; True is no number.
    """
    kind, parts = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if annotation is Any:
        return True
    if kind in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if kind is dict:
        return isinstance(value, dict) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    if kind is list:
        return isinstance(value, list) and all(fits(item, parts[0]) for item in value)
    if kind in (int, float):
        return not isinstance(value, bool) and isinstance(value, int | kind)
    return isinstance(value, kind or type(None))
