"""What each key of a section means: the comment beside its field in the dataclass, or the lines of comment above it."""

import ast
import inspect
import itertools
import textwrap
import tokenize
from dataclasses import fields, is_dataclass


def descriptions(section: type) -> dict[str, str]:
    """Key -> its meaning, '' where the dataclass has no comment for it.

    A field that a subclass repeats without a comment keeps the comment of its base.
    """
    known: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        if is_dataclass(kind):
            known |= _comments_in(kind)
    return {field.name: known.get(field.name, "") for field in fields(section)}


def _comments_in(kind: type) -> dict[str, str]:
    """Field -> its comment, for the fields that the class itself defines; its bases are not read."""
    text = textwrap.dedent(inspect.getsource(kind))
    beside: dict[int, str] = {}
    alone: dict[int, str] = {}  # comments that have a line to themselves
    for token in tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__):
        if token.type == tokenize.COMMENT:
            line = alone if token.line.lstrip().startswith("#") else beside
            line[token.start[0]] = token.string.lstrip("#").strip()
    meanings = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above = list(itertools.takewhile(alone.__contains__, range(node.lineno - 1, 0, -1)))
            lines = [alone[line] for line in reversed(above)]
            lines += [beside[line] for line in range(node.lineno, (node.end_lineno or 0) + 1) if line in beside]
            if lines:
                meanings[node.target.id] = " ".join(lines)
    return meanings
