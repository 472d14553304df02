"""Reads records from files and folders into a flat table with a row per run: `lra.records` and runs.csv."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from lra.errors import RecordError
from lra.results.files import printable
from lra.results.find import find_records
from lra.results.record import Record

IDENTITY = ("task", "row", "title", "protocol", "seed", "precision", "status", "reason", "data", "data_hash")
NOT_SHOWN = ("schema_version", "predictions", "correct")


def read(paths: Sequence[Path]) -> tuple[pd.DataFrame, list[str]]:
    """The runs in files and folders as a DataFrame, and one line for each unreadable file."""
    records, problems = find_records(paths)
    return frame(list(records.values()), list(records)), problems


def none_found(paths: Sequence[Path], problems: Sequence[str]) -> RecordError:
    """The error to raise when `find_records` found none."""
    names = ", ".join(map(str, paths))
    absent = not any(path.exists() for path in paths)
    unreadable = f"; {len(problems)} unreadable, the first: {problems[0]}" if problems and not absent else ""
    reason = f": no such file or folder{'s' if len(paths) > 1 else ''}" if absent else unreadable
    return RecordError(f"no records in {names}{reason}; train some first, or name the files or folders where they are")


def frame(records: Sequence[Record], paths: Sequence[Path] = ()) -> pd.DataFrame:
    """One row per record, in the order given; accuracies are fractions of 1, times seconds, sizes bytes.

    Nested values become columns: `parameters_total`, `seconds_train`, `config.train.lr`, `torch`,
    `ladder.root operator`, `accuracy.root operator.MAX`. Bytes of a path that are no UTF-8 are escaped.
    """
    rows = [_row(record) for record in records]
    for row, path in zip(rows, paths, strict=False):
        row["path"] = path.as_posix()
    rows = [{key: printable(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows]
    return pd.DataFrame(rows, columns=None if rows else [*IDENTITY, "test_accuracy", "path"])


def flat(prefix: str, nested: dict[str, Any]) -> dict[str, Any]:
    """'prefix.', {'a': {'b': 1}} -> {'prefix.a.b': 1}."""
    plain = {}
    for key, value in nested.items():
        plain |= flat(f"{prefix}{key}.", value) if isinstance(value, dict) else {f"{prefix}{key}": value}
    return plain


def _row(record: Record) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in fields(record) if field.name not in NOT_SHOWN}
    plain = {name: value for name, value in values.items() if not isinstance(value, dict | list)}
    plain["title"] = record.attention.get("title", "")
    plain["data"], plain["data_hash"] = record.data.get("label", ""), record.data.get("hash", "")
    row = {name: plain.pop(name) for name in IDENTITY} | plain
    row["last_step"] = record.curve[-1].get("step") if record.curve else None
    row |= {f"parameters_{key}": record.parameters.get(key) for key in ("total", "without_embeddings", "attention")}
    row |= {f"seconds_{key}": record.seconds.get(key) for key in ("train", "evaluate", "compile")}
    machine = {key: value for key, value in flat("", record.environment).items() if key not in row}
    row |= {"path": "", "device": None, "commit": None} | machine
    row |= flat("attention.", {k: v for k, v in record.attention.items() if k not in ("title", "source")})
    row |= flat("data.", {k: v for k, v in record.data.items() if k not in ("label", "hash")})
    row |= flat("tuning.", record.tuning) | flat("config.", record.config) | flat("ladder.", record.ladder)
    return row | flat("accuracy.", record.accuracy_by)
