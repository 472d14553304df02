"""A user's task file, imported as part of a package that is named after its folder.

So the file may import its neighbours, and where two folders each hold a `grammar.py`, each file gets its own: in
`/home/me/a/mine.py` the statement `import grammar` is compiled as `from lra_tasks_1a2b3c4d import grammar`. An import
inside a function, which runs later, reaches the same module.

`attention_zoo/_folder.py` has the same rule for attentions, and neither package imports the other: look there, too, for
a fault that is found here.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

PREFIX = "lra_tasks_"
OURS = ("attention_zoo", "lra", "tasks")


def import_file(path: Path) -> tuple[ModuleType, str]:
    """The module of a file, and its text when it was imported; later calls return both again. Raises its errors."""
    name = f"{_package(path.parent)}.{_module(path.stem)}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path, loader=Loader(name, str(path)))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        with _all_or_nothing(name.partition(".")[0]):
            sys.modules[name] = module
            spec.loader.exec_module(module)
    module = sys.modules[name]
    return module, module.__dict__["__lra_text__"]


def _package(folder: Path) -> str:
    """The name of the package of a folder, which is made at the first call."""
    name = f"{PREFIX}{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"
    if name not in sys.modules:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)
    return name


def _module(stem: str) -> str:
    """The name of the module of a file: the stem, or, if that is no name, one that no other file of the folder has."""
    name = re.sub(r"[^0-9A-Za-z_]", "_", stem)
    return name if name == stem else f"{name}_{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}"


@contextmanager
def _all_or_nothing(package: str) -> Iterator[None]:
    """If the import in the block fails, forgets the package's modules that it imported, so that it can be retried."""
    before = set(sys.modules)
    try:
        yield
    except BaseException:
        for name in [name for name in sys.modules if name.startswith(f"{package}.") and name not in before]:
            del sys.modules[name]
        raise


class Finder:
    """Finds the modules of the packages that `_package` makes."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname.startswith(PREFIX) else None
        if spec and spec.origin and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(fullname, spec.origin)
        return spec


FINDER: Any = Finder()


class Loader(SourceFileLoader):
    """Runs a module of such a package, after `Local` has rewritten its imports; keeps its text."""

    def get_code(self, fullname: str) -> Any:
        text = importlib.util.decode_source(Path(self.path).read_bytes())
        tree = ast.parse(text, filename=self.path)
        sys.modules[fullname].__dict__["__lra_text__"] = text
        tree = ast.fix_missing_locations(Local(fullname, self.is_package(fullname)).visit(tree))
        return compile(tree, self.path, "exec", dont_inherit=True)


class Local(ast.NodeTransformer):
    """Rewrites the imports of one module, so that the folder's other modules are imported from its package."""

    def __init__(self, fullname: str, is_package: bool):
        self.package, *inside = fullname.split(".")
        self.folder = Path(sys.modules[self.package].__path__[0])
        self.depth = len(inside) - (not is_package)  # number of packages that hold this module
        self.itself = inside[0] if self.depth == 0 else ""  # a `json.py` that imports json does not mean itself

    def has(self, name: str) -> bool:
        """Is this a module of the folder? A subfolder without code counts unless a package of its name is installed."""
        top = name.partition(".")[0]
        if top in (self.itself, *OURS, *sys.builtin_module_names):
            return False
        if any((self.folder / file).is_file() for file in (f"{top}.py", f"{top}/__init__.py")):
            return True
        return (self.folder / top).is_dir() and PathFinder.find_spec(top) is None

    def visit_Import(self, node: ast.Import) -> Any:
        statements: list[ast.stmt] = []
        for alias in node.names:
            top, _, rest = alias.name.partition(".")
            if not self.has(top):
                statements.append(ast.Import([alias]))
                continue
            package, _, last = f"{self.package}.{alias.name}".rpartition(".")
            statements.append(ast.ImportFrom(package, [ast.alias(last, alias.asname or top)], 0))
            if rest and not alias.asname:  # `import a.b` imports a.b and binds a
                statements.append(ast.ImportFrom(self.package, [ast.alias(top)], 0))
        return [ast.copy_location(statement, node) for statement in statements]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        if node.level > self.depth:
            better = ast.ImportFrom(node.module, node.names, 0) if node.module else ast.Import(node.names)
            message = f"a relative import has no package here: write `{ast.unparse(better)}`, not `{ast.unparse(node)}`"
            error = ast.Call(ast.Name("ImportError", ast.Load()), [ast.Constant(message)], [])
            return ast.copy_location(ast.Raise(error), node)
        if not node.level and node.module and self.has(node.module):
            node.module = f"{self.package}.{node.module}"
        return node
