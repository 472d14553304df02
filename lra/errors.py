"""Mistakes that a person can mend: each message is one line that says what is wrong and what to do."""

import difflib
import shlex
from collections.abc import Sequence
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "run_lra.py"  # an installed package has none


class UserError(Exception):
    """A mistake of the user. The command line prints its message and exits with code 2."""


class ConfigError(UserError, ValueError):
    """A protocol, key, value or device that cannot be used."""


class RecordError(UserError, ValueError):
    """A file that is not a record, or a record that cannot be written."""


class WorkError(UserError):
    """An output folder or a checkpoint that cannot be used."""


class BusyError(WorkError):
    """Another process holds the run, or the device of a bench."""


class CountError(UserError, ValueError):
    """Operations that cannot be counted, or a declared cost that cannot be read."""


def to_type(*words: object) -> str:
    """A command line that can be pasted into a shell: ('report', 'my runs') -> "python run_lra.py report 'my runs'".

    An installed package has no such file: "python -m lra report 'my runs'".
    """
    start = ["run_lra.py"] if SCRIPT.exists() else ["-m", "lra"]
    return shlex.join(["python", *start, *map(str, words)])


def typed(text: str) -> str:
    """A text with commands that start with `python run_lra.py`, each as `to_type` writes it."""
    return text.replace("python run_lra.py", to_type())


def in_one_line(error: BaseException, most: int = 500) -> str:
    """The class and the message of an error, cut to `most` characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:most]


def first_line(error: BaseException) -> str:
    """The first non-empty line of an error's message; those of a compiler can run to pages."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def suggestion(word: str, known: Sequence[str], cutoff: float = 0.5) -> str:
    """', did you mean ...?' with the nearest known word, or nothing. cutoff: the least similarity, from 0 to 1."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return f", did you mean {close[0]!r}?" if close else ""
