"""Data files that a user's file reads: those that its code opens, and those beside it that its text names."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from attention_zoo._folder import PREFIX, is_installed

CODE = (".py", ".pyc", ".so", ".pyd", ".dll", ".dylib")
# Files here are read by a compiler or the system, and differ from machine to machine.
SYSTEM = [
    Path(path).expanduser().resolve()
    for path in ("/proc", "/sys", "/dev", "/etc", "/usr", "~/.cache", "~/.triton", tempfile.gettempdir(), sys.prefix)
]
Reading = tuple[str, Path]  # the user's module that reads, itself or through a library; and the file
_watchers: list[list[Reading]] = []  # one for each user's file that is being imported or built
_hooked: list[bool] = []


@contextlib.contextmanager
def opened() -> Iterator[list[Reading]]:
    """The files that users' modules open for reading within this context, themselves or through a library."""
    if not _hooked:
        sys.addaudithook(_see)  # an audit hook cannot be removed; it costs a comparison per event
        _hooked.append(True)
    readings: list[Reading] = []
    _watchers.append(readings)
    try:
        yield readings
    finally:
        _watchers.pop()


def _see(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not _watchers:
        return
    name, mode, flags = arguments
    writes = (
        mode[:1] in ("w", "a", "x") if isinstance(mode, str) else bool(int(str(flags)) & (os.O_WRONLY | os.O_CREAT))
    )
    if writes or not isinstance(name, str | bytes | os.PathLike):
        return
    frame, module = sys._getframe(1), ""
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        name_here = str(frame.f_globals.get("__name__"))
        module = name_here if name_here.startswith(PREFIX) else module
        frame = frame.f_back
    if module:  # otherwise Python imports a file, or a library reads one when it is imported
        _watchers[-1].append((module, Path(os.fsdecode(name)).absolute()))


def data_of(root: Path, seen: Iterable[Path], texts: dict[Path, str]) -> dict[str, str]:
    """Name -> hash of the content, of the data files among those seen open and those that a text names beside it.

    root: the user's folder. texts: the user's files -> their texts.
    """
    named = [file for path, text in texts.items() if path.suffix == ".py" for file in _named(path.parent, text)]
    files = {Path(os.path.abspath(file)) for file in [*seen, *named]}  # noqa: PTH100  (links keep their names)
    return {name_of(file, root): _hash(file) for file in sorted(files) if is_data(file, root)}


def is_data(file: Path, root: Path) -> bool:
    """Is this a file of the user's that holds no code?"""
    if file.suffix in CODE or not file.is_file() or is_installed(file):
        return False
    return root in file.parents or not any(folder in file.parents for folder in SYSTEM)


def name_of(file: Path, root: Path) -> str:
    """The path of a file below the folder `root`, or the whole path of a file from elsewhere."""
    return file.relative_to(root).as_posix() if root in file.parents else file.as_posix()


def _named(folder: Path, text: str) -> Iterator[Path]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 200:
            with contextlib.suppress(OSError, ValueError):
                if (folder / node.value).is_file():
                    yield folder / node.value


def _hash(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:12]
