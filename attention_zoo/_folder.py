"""Makes a user's folder a package with a name of its own, so that two folders may each have a `kernel.py`.

In `/home/me/a/mine.py` the statement `import kernel` is compiled as `from lra_user_1a2b3c4d import kernel` when there
is a `/home/me/a/kernel.py`; an import inside a function, which runs later, gets the same module.

`tasks/_user.py` has the same rule for tasks, which need no torch; neither package imports the other. A fault that is
found here is likely there, too.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from attention_zoo._process import seeded
from attention_zoo._source import HERE, find_in_zoo, imported_by_call, read, read_zoo

OURS = ("attention_zoo", "lra", "tasks")
PREFIX = "lra_user_"
INSTALLED = {Path(path).resolve() for key, path in sysconfig.get_paths().items() if key.endswith("lib")}


class Folder(importlib.abc.MetaPathFinder):
    """A user's folder as a package: finds its modules, and keeps each text as it was when it was first read."""

    def __init__(self, root: Path):
        self.root, self.texts = root, dict[Path, str]()
        self.readings: list[tuple[str, Path]] = []  # (module of this folder, data file that it opened)
        self.touched: list[str] = []  # generators that modules of this folder have seeded or drawn from
        self.name = f"{PREFIX}{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"
        package = ModuleType(self.name)
        package.__path__ = [str(root)]
        sys.modules[self.name] = package
        sys.meta_path.insert(0, self)

    def text(self, path: Path) -> str:
        """The text of a module of the folder, or of the zoo. Raises SyntaxError or OSError."""
        if path.parent == HERE:
            return read_zoo(path)
        if path not in self.texts:
            self.texts[path] = read(path)
        return self.texts[path]

    def modules(self) -> dict[str, ModuleType]:
        """The modules of this folder that have been imported, by their names within its package."""
        names = [name for name in sys.modules if name.startswith(f"{self.name}.")]
        return {name.partition(".")[2]: sys.modules[name] for name in names}

    def forget(self, known: set[Path]) -> None:
        """Drops the texts of files that are neither known nor imported, so that they are read again once mended."""
        files = known | {Path(str(getattr(module, "__file__", ""))) for module in self.modules().values()}
        self.texts = {path: text for path, text in self.texts.items() if path in files}

    def take_touched(self) -> list[str]:
        """The names that `touched` has gathered since the last call, each once."""
        touched, self.touched = self.touched, []
        return list(dict.fromkeys(touched))

    def has(self, name: str) -> bool:
        """Does `import name` mean a module of this folder? An installed package wins over a folder without code."""
        top = name.partition(".")[0]
        if top in OURS or top in sys.builtin_module_names:
            return False
        path = locate(self.root, top)
        return path is not None and (path.is_file() or _elsewhere(top, self.root) is None)

    def find(self, name: str) -> Path | None:
        """Dotted name -> the file, of a user's module here or elsewhere, or of the zoo; None for what is installed."""
        if name.startswith("attention_zoo."):
            return find_in_zoo(name)
        base = self.root if self.has(name) else _elsewhere(name.partition(".")[0], self.root)
        path = None if base is None else walk(base, name)
        if path is None or path.is_dir() or is_installed(path) or name.partition(".")[0] in OURS:
            return None
        return path

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG002
        top, _, inside = fullname.partition(".")
        if top != self.name or not inside:
            return None
        place = walk(self.root, inside)
        if place is None:
            return None
        if place.is_dir():
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(place)]
            return spec
        loader = Loader(self, fullname, str(place)) if place.suffix == ".py" else None
        return importlib.util.spec_from_file_location(fullname, place, loader=loader)


class Loader(importlib.machinery.SourceFileLoader):
    """Runs a module of a folder; its imports of the folder's other modules mean those of the folder's package.

    Each module starts from the same random numbers, so that it draws the same ones whatever was imported before.
    """

    def __init__(self, folder: Folder, fullname: str, path: str):
        super().__init__(fullname, path)
        self.folder = folder

    def exec_module(self, module: ModuleType) -> None:
        with seeded(0, 0) as used:
            super().exec_module(module)
        self.folder.touched += used

    def get_code(self, fullname: str) -> Any:  # noqa: ARG002
        tree = ast.parse(self.folder.text(Path(self.path)), filename=self.path)
        tree = ast.fix_missing_locations(Local(self.folder, self.name, self.is_package(self.name)).visit(tree))
        return compile(tree, self.path, "exec", dont_inherit=True)


class Local(ast.NodeTransformer):
    """Rewrites one module's imports of its folder's modules as imports from the folder's package."""

    def __init__(self, folder: Folder, name: str, is_package: bool):
        inside = name.split(".")[1:]
        self.folder, self.depth = folder, len(inside) - (not is_package)  # number of packages around the module
        self.own = inside[0] if self.depth == 0 else ""  # a `json.py` that imports json does not mean itself

    def has(self, name: str) -> bool:
        return name.partition(".")[0] != self.own and self.folder.has(name)

    def visit_Import(self, node: ast.Import) -> Any:
        statements: list[ast.stmt] = []
        for alias in node.names:
            top, _, rest = alias.name.partition(".")
            if not self.has(top):
                statements.append(ast.Import([alias]))
                continue
            package, _, last = f"{self.folder.name}.{alias.name}".rpartition(".")
            statements.append(ast.ImportFrom(package, [ast.alias(last, alias.asname or top)], 0))
            if rest and not alias.asname:  # `import a.b` imports a.b and binds a
                statements.append(ast.ImportFrom(self.folder.name, [ast.alias(top)], 0))
        return [ast.copy_location(statement, node) for statement in statements]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        if node.level > self.depth:
            better = ast.ImportFrom(node.module, node.names, 0) if node.module else ast.Import(node.names)
            message = f"a relative import has no package here: write `{ast.unparse(better)}`, not `{ast.unparse(node)}`"
            error = ast.Call(ast.Name("ImportError", ast.Load()), [ast.Constant(message)], [])
            return ast.copy_location(ast.Raise(error), node)
        if not node.level and node.module and self.has(node.module):
            node.module = f"{self.folder.name}.{node.module}"
        return node

    def visit_Call(self, node: ast.Call) -> Any:
        if (name := imported_by_call(node)) and self.has(name):
            node.args[0] = ast.copy_location(ast.Constant(f"{self.folder.name}.{name}"), node.args[0])
        return self.generic_visit(node)


def locate(base: Path, name: str) -> Path | None:
    """The file of a module in a folder, or the folder of a package without `__init__.py`; else None."""
    files = [base / name / "__init__.py", *(base / f"{name}{s}" for s in importlib.machinery.EXTENSION_SUFFIXES)]
    found = next((path for path in [*files, base / f"{name}.py"] if path.is_file()), None)
    return found or (base / name if (base / name).is_dir() else None)


def walk(base: Path, name: str) -> Path | None:
    """As `locate`, for a dotted name."""
    place: Path | None = base
    for part in name.split("."):
        place = None if place is None else locate(place.parent if place.name == "__init__.py" else place, part)
    return place


def is_installed(path: Path) -> bool:
    """Does a file belong to Python or to an installed package, which have versions?"""
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or not INSTALLED.isdisjoint(path.parents)


def _elsewhere(top: str, root: Path) -> Path | None:
    """The folder on sys.path, other than `root`, that holds a module of this name; None if no folder does."""
    try:
        spec = importlib.machinery.PathFinder.find_spec(
            top, [path for path in sys.path if Path(path).resolve() != root]
        )
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).resolve()
    return path.parents[1] if path.name == "__init__.py" else path.parent
