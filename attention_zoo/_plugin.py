"""Imports a user's file without effects on other files, and finds out what its results depend on."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

from attention_zoo._folder import OURS, PREFIX, Folder, Loader, is_installed, locate, walk
from attention_zoo._options import SpecError
from attention_zoo._process import kept, taken_back
from attention_zoo._reads import data_of, name_of, opened
from attention_zoo._source import HERE, closure, find_in_zoo, hash_of, read

PROGRAM = "__mp_main__"  # a second name of the program, which multiprocessing enters when torch imports it
MOST_TEXT = 200_000  # characters: up to this size in all a record keeps the texts of other files


@dataclass(frozen=True)
class Plugin:
    """What a user's file is made of: its text, a hash of all that its results depend on, and what the user should know.

    beside: the other files of the user that it imports -> their texts, unless they are large. data: the files that it
    reads -> hashes of their content. notes: a line each.
    """

    text: str
    source_hash: str
    beside: dict[str, str]
    data: dict[str, str]
    notes: tuple[str, ...] = ()


_folders: dict[Path, Folder] = {}
_plugins: dict[Path, Plugin] = {}


def load(path: Path) -> Plugin:
    """Imports a user's file, once in this process: a later edit is not seen. Raises SpecError if that fails."""
    if path not in _plugins:
        if path.parent not in _folders:
            _folders[path.parent] = Folder(path.parent)
        folder = _folders[path.parent]
        known = set(folder.texts)
        try:
            _plugins[path] = _load(path, folder)
        except (Exception, SystemExit) as error:
            folder.forget(known)
            if isinstance(error, SpecError):
                raise SpecError(error if str(path) in str(error) else f"{path}: {error}") from error
            raise SpecError(f"{path} fails to import: {type(error).__name__}: {error}") from error
    return _plugins[path]


def forget(path: Path) -> None:
    """Forgets a file that registers nothing, so that it can be read again once it has been mended."""
    del _plugins[path]
    folder = _folders[path.parent]
    del sys.modules[f"{folder.name}.{_module_name(path)}"], folder.texts[path]


def _load(path: Path, folder: Folder) -> Plugin:
    name, before, search = _module_name(path), set(sys.modules), sys.path[:]
    with kept() as touched, opened() as readings:
        sys.path.insert(0, str(path.parent))  # for imports by a name that is computed when the file runs
        try:
            if name not in folder.modules():  # otherwise another file of the folder has imported it
                _run(path, folder, name)
        finally:
            sys.path.remove(str(path.parent))
            added = {path.parent, *(Path(entry).resolve() for entry in sys.path if entry not in search)}
    strangers = {name: file for name, file in _new_modules(before).items() if _home(name) in added}
    for stranger in strangers:
        del sys.modules[stranger]  # for another user's file this name may mean another module
    files = closure([name], lambda wanted: path if wanted == name else folder.find(wanted), folder.text)
    folder.readings += readings
    seen = [file for module, file in folder.readings if module.partition(".")[2] in files.values()]
    return _describe(path, folder.text, [*files, *strangers.values()], seen, [*touched, *folder.take_touched()])


def _describe(
    path: Path, text_of: Callable[[Path], str], files: Iterable[Path], seen: list[Path], touched: list[str]
) -> Plugin:
    """The `Plugin` of the file at `path`.

    files: all that it imports. seen: what it opened. touched: the settings of the process that it changed.
    """
    root, others = path.parent, sorted({file for file in files if file != path})
    contents = {file: text_of(file) if file.suffix == ".py" else file.read_bytes() for file in (path, *others)}
    texts = {file: text for file, text in contents.items() if isinstance(text, str) and file.parent != HERE}
    data = data_of(root, seen, texts)
    beside = {name_of(file, root): text for file, text in texts.items() if file != path}
    sources = [("", contents[path]), *sorted((_label(file, root), contents[file]) for file in others)]
    sources += [(_label(Path(name), root), digest.encode()) for name, digest in data.items()]
    note = taken_back(path, touched, "set it where the mechanism computes")
    return Plugin(
        text=str(contents[path]),
        source_hash=hash_of(sources),
        beside=beside if sum(map(len, beside.values())) <= MOST_TEXT else {},
        data=data,
        notes=(note,) if touched else (),
    )


def load_installed(point: EntryPoint) -> tuple[Path, Plugin]:
    """The file of an installed package's class, and its `Plugin`, which covers the modules of its package."""
    with kept() as touched:
        cls = point.load()
    path, name = Path(inspect.getfile(cls)).resolve(), cls.__module__
    root = path.parents[name.count(".") + (path.name == "__init__.py")]
    top = name.partition(".")[0]

    def find(wanted: str) -> Path | None:
        if wanted.partition(".")[0] != top:
            return find_in_zoo(wanted)
        file = walk(root, wanted)
        return file if file is not None and file.is_file() else None

    texts = functools.cache(read)
    return path, _describe(path, texts, closure([name], find, texts), [], touched)


def _label(file: Path, root: Path) -> str:
    """A file's name in the hash, which must not depend on where the user's folder or this one lies."""
    if file.parent == HERE:
        return file.name
    name = name_of(file, root) if file.is_absolute() else file.as_posix()
    return name if root in file.parents or not file.is_absolute() else file.name


def _module_name(path: Path) -> str:
    """The name of a file's module in its folder's package."""
    name = path.stem.replace(".", "_")
    return name if locate(path.parent, name) == path else f"{name}_file"  # a package beside the file has the name


def _run(path: Path, folder: Folder, name: str) -> None:
    fullname = f"{folder.name}.{name}"
    spec = importlib.util.spec_from_file_location(fullname, path, loader=Loader(folder, fullname, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[fullname] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[fullname]
        raise


def _new_modules(before: set[str]) -> dict[str, Path]:
    """The user's modules that are not in `before`, other than those of a `Folder`: name -> file."""
    names = [name for name in set(sys.modules) - before - {PROGRAM} if not name.startswith(PREFIX)]
    files = {name: Path(str(getattr(sys.modules[name], "__file__", None))) for name in names}
    # a module may give itself a `__file__` that is no file, as torch._classes does
    found = {name: file.resolve() for name, file in files.items() if file.is_absolute() and file.is_file()}
    return {name: file for name, file in found.items() if name.partition(".")[0] not in OURS and not is_installed(file)}


def _home(module: str) -> Path | None:
    """The folder that holds a module's top-level package, or the module itself."""
    places = getattr(sys.modules.get(module.partition(".")[0]), "__path__", None)
    file = next(iter(places), None) if places else getattr(sys.modules.get(module), "__file__", None)
    return Path(file).resolve().parent if file else None
