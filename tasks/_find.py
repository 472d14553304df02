"""Names of tasks: a file or a folder of this package, or a user's file by its path."""

import dataclasses
import difflib
import hashlib
import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from tasks._data import DataError
from tasks._files import readable
from tasks._task import Task
from tasks._user import import_file

HERE = Path(__file__).parent
ARENA = ("listops", "text", "retrieval", "image", "pathfinder")  # the five tasks of the Long Range Arena, in its order
_users: dict[str, tuple[Path, Task, str]] = {}  # name -> path, task and text of a user's file


def names() -> list[str]:
    """The built-in tasks: each is a file, or a folder with a file task.py."""
    places = [*HERE.glob("*.py"), *(path.parent for path in HERE.glob("*/task.py"))]
    return sorted(path.stem for path in places if not path.stem.startswith("_"))


def expand(names: Sequence[str]) -> list[str]:
    """Names of tasks, each once: `all` becomes the five of the arena, a path the name of the task in that file.

    Raises DataError for a name or a file that is no task.
    """
    expanded = [name for spec in names for name in (ARENA if spec == "all" else (find(spec).name,))]
    return list(dict.fromkeys(expanded))


def find(spec: str) -> Task:
    """The task of this name or in this file; a file's task can be found by its name afterwards, too.

    Raises DataError, with the nearest match, for an unknown name, and for a file that holds no task.
    """
    if spec.endswith(".py"):
        return _load(Path(os.path.expanduser(spec)))  # noqa: PTH111 - pathlib's raises for an unknown user
    if spec in _users:
        return _users[spec][1]
    if spec not in names():
        close = difflib.get_close_matches(spec, names(), n=1, cutoff=0.5)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise DataError(
            f"unknown task {spec[:200]!r}{hint}; there are: {', '.join(names())}; "
            f"name a file of yours by its path: ./mine.py"
        )
    module = f"tasks.{spec}.task" if (HERE / spec).is_dir() else f"tasks.{spec}"
    return importlib.import_module(module).task


def file_of(name: str) -> Path | None:
    """The user's file that a task came from; None for a built-in task."""
    return _users[name][0] if name in _users else None


def code_of(name: str) -> str | None:
    """The text of a user's task file as it was imported; None for a built-in task."""
    return _users[name][2] if name in _users else None


def _load(path: Path) -> Task:
    with readable(path):
        if "\0" in str(path) or not path.is_file():
            raise DataError(f"no task file at {path}: check the path; docs/add-a-task.md shows a whole file")
        path = path.resolve()
    try:
        module, text = import_file(path)
    except (Exception, SystemExit) as error:
        raise DataError(f"{path} fails to import: {type(error).__name__}: {error}") from error
    task = getattr(module, "task", None)
    if not isinstance(task, Task):
        raise DataError(f"{path} holds no task: end it with `task = MyTask()`, a subclass of tasks.Task")
    for field, example in (("name", '"mine"'), ("title", '"Mine"'), ("settings", "Settings")):
        if not hasattr(task, field):
            raise DataError(f"{path}: {type(task).__name__} has no {field}: add the line `{field} = {example}`")
    if not isinstance(task.title, str):
        raise DataError(f"{path}: title must be a text in quotes, not {task.title!r}")
    if not (isinstance(task.settings, type) and dataclasses.is_dataclass(task.settings)):
        raise DataError(f"{path}: settings must be a dataclass, not {task.settings!r}")
    if not isinstance(task.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", task.name):
        raise DataError(f"{path}: a name is lower-case letters, digits and _, not {task.name!r}")
    if task.name in names() or (file_of(task.name) or path) != path:
        raise DataError(f"{path}: the name {task.name!r} is taken by another task; choose another")
    task.file_hash = hashlib.sha256(text.encode()).hexdigest()[:12]
    _users[task.name] = (path, task, text)
    return task
