"""Finds mechanisms: `find(spec)` turns what a user types into an `Entry`, without torch if it is a built-in.

A spec is `name`, `name:alpha=3,conv=7`, `path/file.py`, `path/file.py:name`, `path/file.py:name:alpha=3`, a name that
an installed package advertises under the entry-point group `lra.attention`, or several of these joined by plus signs,
which alternate layer by layer; with numbers, as in `pola*3+softmax*1`, each serves that many stages. A built-in is a
file of this folder; its title and options are read with `ast`, and its module is imported when the mechanism is built.
A user's file is imported at once.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import fields, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_zoo import _plugin, _source
from attention_zoo._entry import FAMILIES, Entry, classes
from attention_zoo._options import TYPES, Options, SpecError, Value, nearest, options_of, read_options
from attention_zoo._plugin import Plugin
from attention_zoo._source import HERE, file_at, of_builtin, read
from attention_zoo._stack import repeated, split, stack

if TYPE_CHECKING:
    from attention_zoo._base import Attention
    from attention_zoo._dims import Dims

_entries: dict[tuple[Path, str], Entry] = {}


def register(
    name: str,
    *,
    title: str = "",
    paper: str = "",
    cost: str = "",
    adapted: str = "",
    adapted_where: dict[str, str] | None = None,
    differs: str = "",
    padding: str = "masked",
    ordered: bool | None = None,
    family: str = "",
    state: str = "",
    blind: str = "",
    control: bool = False,
    departs: dict[str, str] | None = None,
    expected_failures: dict[str, str] | None = None,
) -> Callable[[type[Attention]], type[Attention]]:
    """Class decorator that gives a mechanism its name on the command line; see `Entry` for the fields.

    control=True is short for family="control". Raises SpecError when the title is missing, the name is malformed or
    taken, the class does not extend Attention, or the family is unknown.
    """
    if isinstance(name, type) or not title:
        raise SpecError("a mechanism needs a name and a title: @register('mine', title='Mine') above its class")
    if control and family not in ("", "control"):
        raise SpecError(f"{name} is of the family {family!r}, so it is no control: leave control=True out")
    family = "control" if control else family

    def add(cls: type[Attention]) -> type[Attention]:
        path = Path(inspect.getfile(cls)).resolve()
        _check(name, path, cls, padding, family)
        entry = Entry(
            name=name,
            path=path,
            title=title,
            paper=paper,
            cost=cost,
            adapted=adapted,
            adapted_where=adapted_where or {},
            differs=differs,
            padding=padding,
            ordered=ordered,
            family=family,
            state=state,
            blind=blind,
            departs=departs or {},
            expected_failures=expected_failures or {},
            options=options_of(cls),
        )
        _check_texts(entry)
        classes[path, name], _entries[path, name] = cls, entry
        return cls

    return add


def _check(name: str, path: Path, cls: type, padding: str, family: str) -> None:
    from attention_zoo._base import Attention  # the file that registers a class has imported torch already

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise SpecError(f"{path}: a name is lower-case letters, digits and _, not {name!r}")
    if path.parent != HERE and (HERE / f"{name}.py").exists():
        raise SpecError(f"{path}: the name {name!r} is taken by a built-in attention; choose another")
    if (path, name) in classes and classes[path, name].__qualname__ != cls.__qualname__:
        raise SpecError(f"{path}: the name {name!r} is taken by {classes[path, name].__qualname__} in the same file")
    if not issubclass(cls, Attention):
        raise SpecError(f"{path}: {cls.__name__} must extend QKVAttention (q, k, v -> y) or Attention (x -> y)")
    if padding not in ("masked", "fixed"):
        raise SpecError(f"{path}: padding is 'masked' or 'fixed', not {padding!r}")
    if family and family not in FAMILIES:
        raise SpecError(f"{path}: {_unknown(family)}")


def _check_texts(entry: Entry) -> None:
    """Raises SpecError if an argument of `register` that a record keeps or a command prints is not made of strings."""
    for field in fields(Entry):
        value = getattr(entry, field.name)
        if field.type == "str" and not isinstance(value, str):
            raise SpecError(f"{entry.path}: {field.name} of @register must be a text in quotes, not {value!r:.100}")
        texts = [*value, *value.values()] if isinstance(value, dict) else [None]
        if field.type == "dict[str, str]" and not all(isinstance(text, str) for text in texts):
            wanted = f"{field.name} of @register must be texts by name, such as {{'name': 'why'}}"
            raise SpecError(f"{entry.path}: {wanted}, not {value!r:.100}")


def _unknown(family: str) -> str:
    return f"unknown family {family[:200]!r}{nearest(family, list(FAMILIES))}; there are {', '.join(FAMILIES)}"


def names(family: str = "") -> list[str]:
    """The names of the built-in mechanisms, or of those of one family. Raises SpecError for an unknown family."""
    known = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    if family and family not in FAMILIES:
        raise SpecError(_unknown(family))
    return [name for name in known if not family or _read_builtin(name).family == family]


def advertised() -> dict[str, Any]:
    """Mechanisms of installed packages: name -> entry point of the group `lra.attention`."""
    return {point.name: point for point in entry_points(group="lra.attention")}


def find(spec: str) -> tuple[Entry, dict[str, Value]]:
    """Spec -> the entry and the typed options. Raises SpecError with the nearest match for anything unknown."""
    if len(parts := split(spec)) > 1 or repeated(parts[0])[1]:
        return stack(parts, _find_one), {}
    return _find_one(spec)


def build(spec: str, dims: Dims) -> Attention:
    """One attention by its spec: x (B, N, D), keep (B, N) or None -> (B, N, D), with N up to dims.length.

    Its parameters are as its constructor makes them; `lra.prepare` builds a whole encoder. Raises SpecError for an
    unknown spec, and for sizes that the mechanism refuses.
    """
    entry, options = find(spec)
    return entry.build(dims, options)


def _find_one(spec: str) -> tuple[Entry, dict[str, Value]]:
    found = re.match(r"^(.*?\.py)(?::(.*))?$", spec)
    if found:
        path, rest = found.groups()
        name, *more = (rest or "").split(":", 1)
        if "=" in name:
            name, more = "", [rest]
        entry, options = _entry_of_file(path, name), more[0] if more else ""
    else:
        name, _, options = spec.partition(":")
        if name in names():
            entry = _read_builtin(name)
        elif name in (points := advertised()):
            entry = _entry_of_point(points[name])
        else:
            file = Path(f"{name}.py")
            here = f", did you mean {file if file.is_absolute() else f'./{file}'}?" if file_at(str(file)) else ""
            raise SpecError(
                f"unknown attention {name[:200]!r}{here or nearest(name, names() + list(points))}; "
                f"`list` shows all; give a file of your own by its path: ./mine.py"
            )
    return entry, read_options(options, entry.options, entry.name)


def _entry_of_file(text: str, name: str) -> Entry:
    path = file_at(text)
    if path is None:
        raise SpecError(f"no attention file at {text[:300]}: check the path, or start one with `new-attention NAME`")
    plugin = _plugin.load(path)
    found = {entry.name: _with(entry, plugin) for (where, _), entry in _entries.items() if where == path}
    if not found:
        _plugin.forget(path)
        raise SpecError(f"{path} registers no attention: put @register('name', title='...') above its class")
    if not name and len(found) > 1:
        raise SpecError(f"{path} registers {', '.join(found)}: choose one with {path.name}:{next(iter(found))}")
    name = name or next(iter(found))
    if name not in found:
        raise SpecError(f"{path} registers no {name!r}{nearest(name, list(found))}; it has {', '.join(found)}")
    return found[name]


def _with(entry: Entry, plugin: Plugin) -> Entry:
    return replace(
        entry,
        source=plugin.text,
        source_hash=plugin.source_hash,
        beside=plugin.beside,
        data=plugin.data,
        notes=plugin.notes,
    )


def _entry_of_point(point: Any) -> Entry:
    """The mechanism that an installed package advertises."""
    try:
        path, plugin = _plugin.load_installed(point)
        return _with(_entries[path, point.name], plugin)
    except (Exception, SystemExit) as error:
        raise SpecError(f"attention {point.name!r} of {point.value} fails: {type(error).__name__}: {error}") from error


def _read_builtin(name: str) -> Entry:
    """The entry of a built-in, read from the text of its file: `@register(...)` and the signature of `__init__`."""
    return _described(name, read(HERE / f"{name}.py"), _source.read_zoo)


@functools.lru_cache(1000)
def _described(name: str, source: str, _: Callable[[Path], str]) -> Entry:
    """The entry of a built-in from its file's text. _: the reader of shared files, a part of the cache's key."""
    path = HERE / f"{name}.py"
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        calls = [d for d in node.decorator_list if isinstance(d, ast.Call) and ast.unparse(d.func) == "register"]
        if not calls:
            continue
        about = {key.arg: ast.literal_eval(key.value) for key in calls[0].keywords if key.arg}
        if about.pop("control", False):
            about["family"] = "control"
        inits = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
        options: Options = {"conv": (int, 0)}  # of QKVAttention's own constructor
        if inits:
            arguments = inits[0].args
            options = {
                argument.arg: (TYPES[ast.unparse(argument.annotation)], ast.literal_eval(default))
                for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
                if argument.annotation is not None and default is not None
            }
        return Entry(
            name=name, path=path, options=options, source=source, source_hash=of_builtin(name, source), **about
        )
    raise SpecError(f"{path} registers no attention")
