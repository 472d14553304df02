"""Reads JSON files from untrusted sources into a dataclass: every fault becomes a RecordError that names the file.

A file must be regular and of a bounded size, its numbers finite, and its values of the types that the dataclass
declares; its digest, if it has one, must match the other fields.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import stat
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from lra.errors import RecordError
from lra.hashing import identity_of

MOST_BYTES = 32 * 2**20  # of a file; a record of 20,000 test rows takes 25,000, and a user's source may be long
DEEPEST = 24  # levels of nested brackets
LARGEST = 2**63  # beyond it an integer fits no column of a table
PRECISIONS = ("float32", "bfloat16")


class Stored(Protocol):
    """A dataclass that is stored as one file.

    kind_of_file: what messages call the file, such as 'a record'. shapes: field -> a TypedDict with the known keys of a
    field that is declared as dict[str, Any].
    """

    kind_of_file: ClassVar[str]
    shapes: ClassVar[Mapping[str, Any]]

    def wrong_values(self) -> list[str]:
        """Names of the fields whose values have the right type but are impossible."""
        ...


T = TypeVar("T", bound=Stored)


def read_record(cls: type[T], path: Path, version: int) -> T:
    """The dataclass from its JSON file, every field checked against the annotation of the class.

    version: the newest `schema_version` that this code reads. Raises RecordError with the file's name.
    """
    try:
        fields = parse(content_of(path))
        schema = fields["schema_version"]
        if type(schema) is not int or schema < 1:
            raise ValueError("bad schema_version")
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such file or folder") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordError(f"{path} is not {cls.kind_of_file}: {str(error)[:200]}") from error
    if schema > version:
        raise RecordError(f"{path} has schema {schema}; this version reads up to {version}: upgrade lra")
    digest = fields.pop("digest", None)
    try:
        record = cls(**fields)
    except TypeError as error:
        raise RecordError(f"{path} is not {cls.kind_of_file}: {str(error)[:200]}") from error
    if wrong := wrong_fields(record, fields):
        raise RecordError(f"{path} is not {cls.kind_of_file}: bad {', '.join(wrong)[:200]}")
    if digest is not None and digest != digest_of(fields):  # older records have none
        raise RecordError(f"{path} is damaged: it has changed since it was written")
    return record


def wrong_fields(record: Stored, fields: Mapping[str, Any]) -> list[str]:
    """Names of the fields with a wrong type or an impossible value. fields: those of the record, as in its file."""
    return list(_wrong_types(type(record), fields)) or record.wrong_values()


def content_of(path: Path) -> bytes:
    """The content of a regular file of at most MOST_BYTES; a pipe does not block it. Raises OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
    return content


def parse(content: bytes) -> Any:
    """The value of a JSON text. Raises ValueError for a number that is not finite or too large, and deep nesting."""
    value = json.loads(content.decode("utf-8"))
    _check_numbers(value, ())
    return value


def _check_numbers(value: Any, keys: tuple[str, ...]) -> None:
    """Raises ValueError for bad numbers and deep nesting. keys: those that lead to the value, for the message."""
    wrong = len(keys) > DEEPEST or (isinstance(value, float) and not math.isfinite(value))
    if wrong or (isinstance(value, int) and not -LARGEST <= value < LARGEST):
        raise ValueError(f"bad {'.'.join(keys[:2])}")
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        _check_numbers(item, (*keys, str(key)))


def is_name(text: str) -> bool:
    """Could this be the name of a task? It becomes part of file names."""
    return re.fullmatch(r"[a-z][a-z0-9_]{0,99}", text) is not None


def is_line(text: str) -> bool:
    """Is this one line of text, without control characters?"""
    return bool(text) and not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", text)


def encode_record(fields: dict[str, Any]) -> bytes:
    """The content of a record's file: these fields and, last, their digest."""
    return (json.dumps(fields | {"digest": digest_of(fields)}, indent=1) + "\n").encode()


def digest_of(fields: dict[str, Any]) -> str:
    """16 hexadecimal digits over JSON-able fields, independent of their order."""
    return identity_of(fields, digits=16)


def _wrong_types(cls: type, fields: Mapping[str, Any]) -> typing.Iterator[str]:
    """Names of the fields, nested ones as 'attention.title', whose values do not have the declared types."""
    annotations, shapes = _annotations(cls), getattr(cls, "shapes", {})
    for name, value in fields.items():
        if not fits(value, annotations[name]):
            yield name
        elif name in shapes:
            known = _annotations(shapes[name])
            yield from (f"{name}.{key}" for key in known if key in value and not fits(value[key], known[key]))


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
    if typing.is_typeddict(annotation):
        known = _annotations(annotation)
        return isinstance(value, dict) and all(fits(value[key], known[key]) for key in known if key in value)
    if kind is dict:
        return isinstance(value, dict) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    if kind is list:
        return isinstance(value, list) and all(fits(item, parts[0]) for item in value)
    if kind in (int, float):
        return not isinstance(value, bool) and isinstance(value, int | kind)
    return isinstance(value, kind or type(None))
