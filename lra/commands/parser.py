"""The parser of the command line: one-line errors, with the nearest option or value."""

from __future__ import annotations

import argparse
from typing import Any

from lra.errors import UserError, suggestion, typed


class Store(argparse.Action):
    """Stores a value. A repeated option that takes a list extends the list; repeating any other option is an error."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ):
        given = namespace.__dict__.setdefault("given", {})
        if self.dest in given:
            previous = getattr(namespace, self.dest)
            if not isinstance(previous, list):
                parser.error(f"{self.option_strings[0]} is given twice")
            values = [*previous, *values]
        if option:
            given[self.dest] = option
        setattr(namespace, self.dest, values)


class Flag(argparse.Action):
    """Stores True, and notes in `namespace.given` that the option was given."""

    def __init__(self, option_strings: list[str], dest: str, **settings: Any):
        super().__init__(option_strings, dest, nargs=0, default=False, **settings)

    def __call__(self, _: argparse.ArgumentParser, namespace: argparse.Namespace, *values: Any):
        namespace.__dict__.setdefault("given", {})[self.dest] = values[-1]
        setattr(namespace, self.dest, True)


class Parser(argparse.ArgumentParser):
    """Raises UserError with one line, and with the nearest option or value where there is one."""

    words: tuple[str, ...] = ()

    def __init__(self, **settings: Any):
        super().__init__(**settings, allow_abbrev=False)
        self.register("action", None, Store)
        self.register("action", "store_true", Flag)

    def parse(self, words: list[str]) -> argparse.Namespace:
        self.words = tuple(words)
        return self.parse_args(words)

    def format_help(self) -> str:
        """The help; its examples start as `to_type` does."""
        return typed(super().format_help())

    def error(self, message: str):
        """Raises UserError. Reports an unknown option first; argparse would report what is missing because of it."""
        options = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        for word in self.words:
            name = word.partition("=")[0]
            if len(name) > 2 and name.startswith("--") and name not in options:
                message = f"{self.prog.split()[-1]} has no option {name}{suggestion(name, options)}"
                break
        raise UserError(f"{message}; see `{self.prog} --help`")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            listing = f"there are {', '.join(known)}"
            raise argparse.ArgumentError(action, f"invalid choice {value!r}{suggestion(str(value), known)}; {listing}")
