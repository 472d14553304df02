"""What the registry keeps of a mechanism: its names, options and code, and how it is built."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from attention_zoo._options import Options, SpecError, Value

if TYPE_CHECKING:
    from attention_zoo._base import Attention
    from attention_zoo._dims import Dims

HERE = Path(__file__).parent
classes: dict[tuple[Path, str], type[Attention]] = {}  # of every file imported so far, by file and name


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A registered mechanism, with its source as it was when it was found: a later edit is another mechanism."""

    name: str
    path: Path
    title: str
    paper: str = ""
    cost: str = ""
    adapted: str = ""  # how the published form for images was brought to sequences; empty: it was made for them
    differs: str = ""  # from the published form, wherever it runs
    padding: str = "masked"  # "fixed": always padded to Dims.length, because the mechanism cannot mask
    ordered: bool | None = None  # does it see the order of tokens? None: it depends on the options, or was not said
    expected_failures: dict[str, str] = field(default_factory=dict)  # check of the contract -> reason
    options: Options = field(default_factory=dict)  # name -> type, default
    source: str = ""
    source_hash: str = ""  # of the file, and of the files beside it that a user's file imports

    @property
    def builtin(self) -> bool:
        return self.path.parent == HERE

    @property
    def address(self) -> str:
        """A spec that finds it again."""
        return self.name if self.builtin else f"{self.path}:{self.name}"

    def fidelity(self, grid: bool = False) -> str:
        """'official', 'own' of a user's, or 'adapted: ...' with how; grid: with rows and columns, as its authors'."""
        if not self.builtin:
            return "own"
        found = self.differs or ("" if grid else self.adapted)
        return f"adapted: {found}" if found else "official"

    def all_options(self, options: dict[str, Value]) -> dict[str, Value]:
        """These options and the defaults of the others."""
        return {name: default for name, (_, default) in self.options.items()} | options

    def load(self) -> type[Attention]:
        """The class; imports the file on first use."""
        if (self.path, self.name) not in classes:
            import_file(self.path)
        return classes[self.path, self.name]

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
        changed = [
            f"{key}={options[key]}"
            for key, (_, default) in self.options.items()
            if options.get(key, default) != default
        ]
        return ":".join([self.name, ",".join(changed)]) if changed else self.name


def hash_of(*sources: str) -> str:
    """12 hexadecimal digits over the code: without comments, docstrings and what decorators say of a class."""
    digest = hashlib.sha256()
    for source in sources:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
                node.body = node.body[1:] or [ast.Pass()]
            if isinstance(node, ast.ClassDef):
                node.decorator_list = []
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()[:12]


def with_neighbours(path: Path) -> list[Path]:
    """A file, and the files beside it that it imports, directly or through one another."""
    found = [path]
    for file in found:  # which grows
        with contextlib.suppress(SyntaxError):  # the import will tell
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8", errors="replace"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
                beside = [path.with_name(f"{name.split('.')[0]}.py") for name in names]
                found += [other for other in dict.fromkeys(beside) if other.is_file() and other not in found]
    return [path, *sorted(found[1:])]


def import_file(path: Path) -> None:
    """Imports a mechanism's file. Raises SpecError."""
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
    except SpecError as error:
        raise SpecError(error if str(path) in str(error) else f"{path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise SpecError(f"{path} fails to import: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent))
