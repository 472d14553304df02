"""The command line. Standard library only until something has to be computed, so that messages come at once."""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import io
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from lra.commands import NAMES
from lra.commands.run import EXAMPLES
from lra.errors import UserError, suggestion

NEEDED = ("torch", "numpy", "scipy", "numba", "datasets", "pandas", "matplotlib", "tqdm", "yaml", "jsonargparse",
          "safetensors", "tabulate", "jinja2")  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent


class Store(argparse._StoreAction):
    """Stores; an option that takes several words and is given again adds to them, any other is a mistake."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *rest: Any):
        held = getattr(namespace, self.dest, self.default)
        if held is not self.default and self.option_strings:
            if not isinstance(held, list):
                parser.error(f"{self.option_strings[0]} is given twice")
            values = [*held, *values]
        super().__call__(parser, namespace, values, *rest)


class Parser(argparse.ArgumentParser):
    """One line on stderr and exit code 2, without the usage block."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.register("action", None, Store)

    def error(self, message: str):
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if wrong:
            close = difflib.get_close_matches(wrong[1], re.findall(r"\w+", wrong[2]), n=1, cutoff=0.5)
            message += f", did you mean {close[0]!r}?" if close else ""
        raise UserError(f"{message}; see `{self.prog} --help`")


def build_parser() -> argparse.ArgumentParser:
    """The parser; `run` is the command when none is named."""
    parser = Parser(
        description="Long Range Arena for efficient attention. Without a command: run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar=f"{{{','.join(NAMES)}}}")
    for name in NAMES:
        module = command(name)
        module.add(commands.add_parser(name, help=module.__doc__))
    return parser


def command(name: str) -> ModuleType:
    return importlib.import_module(f"lra.commands.{name.replace('-', '_')}")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: done. 1: a cell failed, nothing could run or a record is unreadable. 2: a mistake of the user."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["run", *arguments]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a table must not die of an old code page
    try:
        if not {"-h", "--help"} & set(arguments):
            check_installation()
        check_words(arguments)
        parsed = build_parser().parse_args(arguments)
        check_set(getattr(parsed, "set", []))
        if getattr(parsed, "accept_mirror", False):
            os.environ["LRA_ACCEPT_MIRROR"] = "1"
        # torch's threads spin while they wait: on two cores with another process beside it a step took 15 times as long
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
        cache = Path(os.environ.get("LRA_CACHE") or "~/.cache/lra").expanduser()
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "inductor"))  # a shape is compiled once, ever
        return command(parsed.command).main(parsed)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    except Exception as error:
        if not is_users(error):
            raise
        if os.environ.get("TORCHELASTIC_RUN_ID") is None or os.environ.get("RANK") == "0":  # not once for each process
            print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2


def check_words(arguments: list[str]) -> None:
    """Raises UserError for a command or an option that there is not, with the nearest; argparse would list them all."""
    name, *words = arguments
    if name.startswith("-"):
        return
    if name not in NAMES:
        raise UserError(f"unknown command {name!r}{suggestion(name, NAMES)}; there are {', '.join(NAMES)}")
    own = Parser()
    command(name).add(own)
    known = [option for action in own._actions for option in action.option_strings if option.startswith("--")]
    for word in words:
        option = word.partition("=")[0]
        if len(option) > 2 and option.startswith("--") and not any(there.startswith(option) for there in known):
            raise UserError(f"{name} has no option {option}{suggestion(option, known)}; see `run_lra.py {name} --help`")


def check_set(texts: list[str]) -> None:
    """Raises UserError for a key with two values, of which one would be dropped unseen."""
    keys = [text.partition("=")[0].strip() for text in texts]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"--set {key} is given {keys.count(key)} times; one value a key, or --sweep {key}=A,B")


def check_installation() -> None:
    """Raises UserError when packages are missing, or another package has the name of one of ours."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        ready = "; or enter the one there: source .venv/bin/activate" if (ROOT / ".venv" / "ready").exists() else ""
        raise UserError(f"missing {', '.join(missing)}: install with `pip install -e .` in {ROOT}{ready}")
    for name in ("attention_zoo", "tasks"):
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None or Path(found.origin).resolve().parent != ROOT / name:
            raise UserError(
                f"`import {name}` finds {found and found.origin}, not ours in {ROOT}: rename or move that one"
            )


def is_users(error: Exception) -> bool:
    """Is this a mistake a person can mend? The zoo and the tasks have error classes of their own."""
    if isinstance(error, UserError):
        return True
    from attention_zoo import SpecError
    from tasks import DataError

    return isinstance(error, SpecError | DataError)
