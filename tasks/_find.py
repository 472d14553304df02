"""Names of tasks: a file of this folder, or a user's own file by its path."""

import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tasks._task import DataError, Task

HERE = Path(__file__).parent
ARENA = ("listops", "text", "retrieval", "image", "pathfinder")  # the five tasks of Long Range Arena
_own: dict[str, tuple[Path, Task, str]] = {}  # of users' files: path, task and text, by name
_texts: dict[str, str] = {}  # of modules, as they were imported


def names() -> list[str]:
    """The tasks: a file, or a folder with a file task.py."""
    places = [*HERE.glob("*.py"), *(path.parent for path in HERE.glob("*/task.py"))]
    return sorted(path.stem for path in places if not path.stem.startswith("_"))


def find(spec: str) -> Task:
    """The task of this name, or of this file; a file's task can then be found by its name, too.

    Raises DataError, with the nearest match, for an unknown one, and for a file that holds none.
    """
    if spec.endswith(".py"):
        return _load(Path(spec).expanduser().resolve())
    if spec in _own:
        return _own[spec][1]
    if spec not in names():
        close = difflib.get_close_matches(spec, names(), n=1, cutoff=0.5)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise DataError(
            f"unknown task {spec!r}{hint}; there are: {', '.join(names())}; a file of yours goes by its path: ./mine.py"
        )
    module = f"tasks.{spec}.task" if (HERE / spec).is_dir() else f"tasks.{spec}"
    return importlib.import_module(module).task


def expand(names: Sequence[str]) -> list[str]:
    """Names and files of tasks, or `all` for the five of ARENA -> the tasks' names, each once. Raises DataError."""
    expanded = [task for name in names for task in (ARENA if name == "all" else [find(name).name])]
    return list(dict.fromkeys(expanded))


def file_of(name: str) -> Path | None:
    """The user's file a task came from; None for a task of ours."""
    return _own[name][0] if name in _own else None


def code_of(name: str) -> str | None:
    """The text of this file as it was imported; None for a task of ours."""
    return _own[name][2] if name in _own else None


def _load(path: Path) -> Task:
    if not path.is_file():
        raise DataError(f"no task file at {path}")
    module_name = f"lra_task_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        _texts[module_name] = path.read_text(encoding="utf-8", errors="replace")
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[module_name]
            raise DataError(f"{path} fails to import: {type(error).__name__}: {error}") from error
    task = getattr(sys.modules[module_name], "task", None)
    if not isinstance(task, Task):
        raise DataError(f"{path} holds no task: end it with `task = MyTask()`, a subclass of tasks.Task")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", task.name):
        raise DataError(f"{path}: a name is lower-case letters, digits and _, not {task.name!r}")
    if task.name in names() or (file_of(task.name) or path) != path:
        raise DataError(f"{path}: the name {task.name!r} is taken by another task; choose another")
    _own[task.name] = (path, task, _texts[module_name])
    return task
