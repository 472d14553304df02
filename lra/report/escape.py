"""Escapes text from records for HTML, Markdown, LaTeX and CSV."""

import re
from dataclasses import fields, replace
from typing import Any, TypeVar

import pandas as pd

from lra.results.bench_record import Bench
from lra.results.files import printable
from lra.results.record import Record

T = TypeVar("T", Record, Bench)
TEXTS = ("source", "code", "beside")  # keys of whole files, which no table shows


def shown(record: T) -> T:
    """The same record with each of its strings printable and on one line, except the texts of whole files."""
    return replace(record, **{field.name: _on_one_line(getattr(record, field.name)) for field in fields(record)})


def _on_one_line(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, dict):
        return {one_line(key): item if key in TEXTS else _on_one_line(item) for key, item in value.items()}
    return [_on_one_line(item) for item in value] if isinstance(value, list) else value


def one_line(text: str) -> str:
    """The same text without control characters and line breaks; characters that UTF-8 cannot encode are escaped."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", printable(text))


def inert(text: str) -> str:
    """The text for Markdown, changed so that it starts neither HTML nor a link nor a new line."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", one_line(text)).replace("](", r"]\(")


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The same table for a spreadsheet: a text or heading that would be a formula (= + - @) gets an apostrophe."""

    def harmless(value: Any) -> Any:
        formula = isinstance(value, str) and len(value) > 1 and value[0] in "=+-@\t\r"
        return f"'{value}" if formula else value

    texts = [name for name, kind in table.dtypes.items() if kind.kind == "O"]
    changed = table.assign(**{str(name): table[name].map(harmless) for name in texts})
    return changed.rename(columns=harmless)
