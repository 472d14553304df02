"""The command line. It imports only the standard library and the requested command, so that messages come at once."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from lra import signals
from lra.commands import NAMES, streams
from lra.commands.output import first_process
from lra.commands.parser import Parser
from lra.errors import UserError, suggestion, to_type, typed

NEEDED = ("torch", "numpy", "scipy", "numba", "loky", "datasets", "PIL", "pandas", "matplotlib", "tqdm", "yaml",
          "jsonargparse", "safetensors", "tabulate", "jinja2")  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent
HELP = ("-h", "--help")
COMPILING = ("run", "bench", "check", "audit", "gpu")  # commands that may compile a model
TRAINING = ("run", "audit", "gpu")  # commands that continue where they were stopped


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: done. 1: a run failed, nothing could run or a record is unreadable. 2: a user's mistake.

    75: some runs are not done but none failed, because a signal stopped the command or another process has the rest.
    130: after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):  # a console may lack ±, and a file name may hold bytes of no encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")
    if arguments and arguments[0] in HELP:
        print(overview())
        return 0
    name, *words = arguments if arguments and not arguments[0].startswith("-") else ["run", *arguments]
    try:
        with streams.steady():
            try:
                with signals.caught() if name in TRAINING else contextlib.nullcontext():
                    parsed = parse(name, words)
                    return command(name).main(parsed)
            except KeyboardInterrupt as stop:
                by = f" by {stop}" if isinstance(stop, signals.Stopped) else ""
                say(f"stopped{by}" + ("; the same command continues where it was" if name in TRAINING else ""))
                return stop.code if isinstance(stop, signals.Stopped) else signals.INTERRUPTED
            except Exception as error:
                if not is_users(error):
                    raise
                say(f"error: {line_of(error)}")
                return 2
    except streams.ReaderGone:  # the reader of stdout, such as `head`, has closed it
        return 0
    except UserError as error:  # the end of the output could not be printed
        say(f"error: {error}")
        return 2


def parse(name: str, words: list[str]) -> argparse.Namespace:
    """Parses the arguments of a command, and sets the environment variables that it needs. Raises UserError."""
    if not {*HELP} & set(words):
        check_installation()
    parsed = parser_of(name).parse(words)
    check_set(getattr(parsed, "set", []))
    if getattr(parsed, "accept_mirror", False):
        os.environ["LRA_ACCEPT_MIRROR"] = "1"
    # torch's threads spin while they wait: with another process on the same two cores a step took 15 times as long
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    if name in COMPILING:
        use_compiler_cache()
    return parsed


def say(line: str) -> None:
    """Prints a line on stderr; under torchrun only the first process prints."""
    if first_process():
        print(line, file=sys.stderr)


def command(name: str) -> ModuleType:
    return importlib.import_module(f"lra.commands.{name.replace('-', '_')}")


def parser_of(name: str) -> Parser:
    """The parser of one command. Raises UserError, with the nearest name, where there is no such command."""
    if name not in NAMES:
        raise UserError(f"unknown command {name!r}{suggestion(name, NAMES)}; there are {', '.join(NAMES)}")
    module = command(name)
    about = (module.__doc__ or "").rstrip(".")
    parser = Parser(prog=to_type(name), description=f"{about[:1].upper()}{about[1:]}.")
    module.add(parser)
    return parser


def overview() -> str:
    """The help of the command line as a whole. The commands' docstrings are read without importing them."""
    from lra.commands.run import EXAMPLES

    lines = []
    for name in NAMES:
        path = Path(__file__).parent / "commands" / f"{name.replace('-', '_')}.py"
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines.append(f"  {name:<14} {about.rstrip('.')}")
    return "\n".join(
        (
            f"usage: {to_type()} [COMMAND] [OPTIONS]",
            "\nLong Range Arena for efficient attention: train, measure, compare.",
            f"\ncommands (run, if none is named; `{to_type()} COMMAND --help` lists the options of one):",
            *lines,
            f"\n{typed(EXAMPLES.rstrip())}",
        )
    )


def check_set(texts: list[str]) -> None:
    """Raises UserError for a key with two values, because one of them would be dropped silently."""
    keys = [text.partition("=")[0].strip() for text in texts]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"--set {key} is given {keys.count(key)} times; give one value, or --sweep {key}=A,B")


def check_installation() -> None:
    """Raises UserError when packages are missing, or when another package has the name of one of ours."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        ready = "; or activate the existing environment: source .venv/bin/activate"
        hint = ready if (ROOT / ".venv" / "ready").exists() else ""
        raise UserError(f"missing {', '.join(missing)}: install with `pip install -e .` in {ROOT}{hint}")
    for name in ("attention_zoo", "tasks"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or Path(spec.origin).resolve().parent != ROOT / name:
            where = spec and spec.origin
            raise UserError(f"`import {name}` finds {where}, not ours in {ROOT}: rename or move that one")


def use_compiler_cache() -> None:
    """Keeps compiled code under LRA_CACHE, so that torch.compile compiles each shape only once.

    The compiler's own commands break at a space in a path. A cache with a space in its name is therefore replaced by a
    folder for temporary files, and so is one that cannot be written to. TORCHINDUCTOR_CACHE_DIR, if set, is kept.
    Raises UserError if that folder cannot be made.
    """
    if chosen := os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        try:
            Path(chosen).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"TORCHINDUCTOR_CACHE_DIR: cannot make {chosen}: {error.strerror}") from error
        return
    from tasks import cache_folder

    wanted = cache_folder() / "inductor"
    user = os.getuid() if hasattr(os, "getuid") else "user"
    temporary = [Path(folder) / f"lra-inductor-{user}" for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp")]
    folder, why = first_usable([wanted, *temporary])
    if why:
        kept = "nowhere" if folder == wanted else f"in {folder}"
        say(f"cannot write to {wanted} ({why}): compiled code is kept {kept}; set LRA_CACHE to a folder of yours")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def first_usable(folders: list[Path]) -> tuple[Path, str]:
    """The first writable folder without a space in its path, else folders[0]; why folders[0] is of no use, or ''."""
    why = ""
    for folder in folders:
        if any(character.isspace() for character in str(folder)):
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder, why
        except OSError as error:
            why = why or (error.strerror or str(error) if folder == folders[0] else "")
    return folders[0], why or "its path has a space"


def is_users(error: Exception) -> bool:
    """Is this a mistake a person can mend? The zoo and the tasks have their own error classes."""
    if isinstance(error, UserError) or (isinstance(error, PermissionError) and error.filename):
        return True
    from attention_zoo import SpecError
    from tasks import DataError

    return isinstance(error, SpecError | DataError)


def line_of(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"{error.filename}: {error.strerror}; change its permissions, or name another path"
    return " ".join(str(error).split())
