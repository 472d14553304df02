"""Names of mechanisms: `find(spec)` turns what a user types into an `Entry`; no torch is imported for built-ins.

A spec is `name`, `name:alpha=3,conv=7`, `path/file.py`, `path/file.py:name`, `path/file.py:name:alpha=3`, or a name
that an installed package advertises under the entry-point group `lra.attention`. A built-in is a file of this folder:
its title and options are read with `ast`, its module is imported when it is built. A user's file is imported at once.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_zoo._options import TYPES, Options, SpecError, Value, nearest, options_of, read_options

if TYPE_CHECKING:
    from attention_zoo._base import Attention
    from attention_zoo._dims import Dims

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A registered mechanism. `options` maps each option to (type, default)."""

    name: str
    path: Path
    title: str
    paper: str = ""
    cost: str = ""
    adapted: str = ""  # how the published form for images was brought to sequences; empty: it was made for them
    padding: str = "masked"  # "fixed": always padded to Dims.length, because the mechanism cannot mask
    expected_failures: dict[str, str] = field(default_factory=dict)  # check of the contract -> reason
    options: Options = field(default_factory=dict)
    builtin: bool = True

    @property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def source_hash(self) -> str:
        """Hash of the code without comments and docstrings: 12 hexadecimal digits."""
        tree = ast.parse(self.source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
                node.body = node.body[1:] or [ast.Pass()]
        return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]

    def load(self) -> type[Attention]:
        """The class; imports the file on first use."""
        if (self.path, self.name) not in _classes:
            _import_file(self.path)
        return _classes[self.path, self.name]

    def build(self, dims: Dims, options: dict[str, Value] | None = None) -> Attention:
        """A module of these sizes. Raises SpecError when the mechanism refuses them."""
        try:
            return self.load()(dims, **(options or {}))
        except ValueError as error:
            raise SpecError(f"attention {self.row(options or {})}: {error}") from error
        except Exception as error:
            if self.builtin:
                raise
            raise SpecError(f"{self.path}: {self.name} cannot be built: {type(error).__name__}: {error}") from error

    def row(self, options: dict[str, Value]) -> str:
        """The name in tables: the registered name and the options that differ from their defaults."""
        changed = [f"{key}={value}" for key, value in options.items() if value != self.options[key][1]]
        return ":".join([self.name, ",".join(changed)]) if changed else self.name


_classes: dict[tuple[Path, str], type[Attention]] = {}
_entries: dict[tuple[Path, str], Entry] = {}


def register(
    name: str,
    *,
    title: str,
    paper: str = "",
    cost: str = "",
    adapted: str = "",
    padding: str = "masked",
    expected_failures: dict[str, str] | None = None,
) -> Callable[[type[Attention]], type[Attention]]:
    """Class decorator that gives a mechanism its name on the command line; see `Entry` for the fields.

    Raises SpecError when the name is malformed or taken.
    """

    def add(cls: type[Attention]) -> type[Attention]:
        path = Path(inspect.getfile(cls)).resolve()
        builtin = path.parent == HERE
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise SpecError(f"{path}: a name is lower-case letters, digits and _, not {name!r}")
        if not builtin and (HERE / f"{name}.py").exists():
            raise SpecError(f"{path}: the name {name!r} is taken by a built-in attention; choose another")
        if padding not in ("masked", "fixed"):
            raise SpecError(f"{path}: padding is 'masked' or 'fixed', not {padding!r}")
        _classes[path, name] = cls
        _entries[path, name] = Entry(
            name=name,
            title=title,
            paper=paper,
            cost=cost,
            adapted=adapted,
            padding=padding,
            expected_failures=expected_failures or {},
            options=options_of(cls),
            path=path,
            builtin=builtin,
        )
        return cls

    return add


def names() -> list[str]:
    """The built-in mechanisms, by file."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def advertised() -> dict[str, Any]:
    """Mechanisms of installed packages: name -> entry point of the group `lra.attention`."""
    return {point.name: point for point in entry_points(group="lra.attention")}


def find(spec: str) -> tuple[Entry, dict[str, Value]]:
    """Spec -> the entry and the typed options. Raises SpecError, with the nearest match, for anything unknown."""
    found = re.match(r"^(.*?\.py)(?::(.*))?$", spec)
    if found:
        path, rest = found.groups()
        head, *more = (rest or "").split(":", 1)
        if "=" in head:
            head, more = "", [rest]
        entry = _entry_of_file(Path(path).expanduser(), head)
        return entry, read_options(more[0] if more else "", entry.options, entry.name)
    name, _, options = spec.partition(":")
    if name in names():
        entry = _read_builtin(name)
    elif name in (points := advertised()):
        cls = points[name].load()
        entry = _entry_of_file(Path(inspect.getfile(cls)), name)
    else:
        raise SpecError(
            f"unknown attention {name!r}{nearest(name, names() + list(points))}; "
            f"`list` shows all, a file of your own goes by its path: ./mine.py"
        )
    return entry, read_options(options, entry.options, entry.name)


def _entry_of_file(path: Path, name: str) -> Entry:
    if not path.is_file():
        raise SpecError(f"no attention file at {path}")
    path = path.resolve()
    if not any(where == path for where, _ in _classes):
        _import_file(path)
    found = {entry.name: entry for (where, _), entry in _entries.items() if where == path}
    if not found:
        raise SpecError(f"{path} registers no attention: put @register('name', title='...') above its class")
    if not name and len(found) > 1:
        raise SpecError(f"{path} registers {', '.join(found)}: choose one with {path.name}:{next(iter(found))}")
    name = name or next(iter(found))
    if name not in found:
        raise SpecError(f"{path} registers no {name!r}{nearest(name, list(found))}; it has {', '.join(found)}")
    return found[name]


def _import_file(path: Path) -> None:
    if path.parent == HERE:
        importlib.import_module(f"attention_zoo.{path.stem}")
        return
    module_name = f"lra_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    sys.path.insert(0, str(path.parent))  # so that the file may import its neighbours
    try:
        spec.loader.exec_module(module)
    except SpecError:
        raise
    except Exception as error:
        raise SpecError(f"{path} fails to import: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent))


def _read_builtin(name: str) -> Entry:
    """The entry of a built-in file, read from its text: `@register(...)` and the signature of `__init__`."""
    path = HERE / f"{name}.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        calls = [d for d in node.decorator_list if isinstance(d, ast.Call) and ast.unparse(d.func) == "register"]
        if not calls:
            continue
        about = {key.arg: ast.literal_eval(key.value) for key in calls[0].keywords if key.arg}
        inits = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
        options: Options = {"conv": (int, 0)}  # what QKVAttention's own constructor has
        if inits:
            arguments = inits[0].args
            options = {
                argument.arg: (TYPES[ast.unparse(argument.annotation)], ast.literal_eval(default))
                for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
                if argument.annotation is not None and default is not None
            }
        return Entry(name=name, path=path, options=options, **about)
    raise SpecError(f"{path} registers no attention")
