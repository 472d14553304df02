"""What a mechanism is made of: the modules that its file imports, and a hash of their code."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from attention_zoo._same_numbers import RECORDED

HERE = Path(__file__).parent
PUBLIC = {  # names that `attention_zoo` imports on first use, since most need torch -> their modules
    "Attention": "_base",
    "QKVAttention": "_base",
    "Dims": "_dims",
    "LocalConv": "_parts",
    "linear_attention": "_parts",
    "softmax_attention": "_parts",
}
FINDING = {
    f"_{name}" for name in ("entry", "options", "plugin", "process", "registry", "same_numbers", "source", "stack")
}  # modules that find mechanisms and compute nothing; an edit of them changes no source hash
EMPTY = (None, [])


def read(path: Path) -> str:
    """The text of a Python file, as Python itself decodes it. Raises SyntaxError or OSError."""
    return importlib.util.decode_source(path.read_bytes())


def file_at(text: str) -> Path | None:
    """The file that a user names, with ~ replaced; None if there is no such file, or the text cannot be a path."""
    try:
        path = Path(text).expanduser()
        return path.resolve() if path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # too long a name, an unknown user, a NUL
        return None


@functools.cache
def code_of(text: str) -> str:
    """The code in a text, without comments, docstrings and calls of `register`, the same in every Python version.

    Raises SyntaxError.
    """
    tree = ast.parse(text)
    registers = set(_names_of_register(tree))
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.ClassDef):
            calls = (d for d in node.decorator_list if isinstance(d, ast.Call))
            ours = [call for call in calls if ast.unparse(call.func) in registers]
            node.decorator_list = [d for d in node.decorator_list if d not in ours]
    return _written(tree)


def _written(node: object) -> str:
    """A syntax tree as text; ast.dump and ast.unparse differ between versions of Python."""
    if isinstance(node, list):
        return f"[{','.join(map(_written, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 ends some with an empty part
        node.values = [value for value in node.values if not (isinstance(value, ast.Constant) and value.value == "")]
    fields = (
        f"{key}={_written(value)}" for key, value in ast.iter_fields(node) if value not in EMPTY and key != "kind"
    )
    return f"{type(node).__name__}({','.join(fields)})"


def _names_of_register(tree: ast.AST) -> Iterator[str]:
    """What the file calls our `register`: 'register', 'attention_zoo.register', or the names it gave them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "attention_zoo" and not node.level:
            yield from (alias.asname or alias.name for alias in node.names if alias.name == "register")
        elif isinstance(node, ast.Import):
            names = (alias.asname or alias.name for alias in node.names if alias.name == "attention_zoo")
            yield from (f"{name}.register" for name in names)


def hash_of(sources: Iterable[tuple[str, str | bytes]]) -> str:
    """12 hexadecimal digits over pairs (name, source); of a text its code is hashed, of bytes all of them.

    Code that computes the same numbers as recorded code counts as that code; see `_same_numbers`.
    """
    digest = hashlib.sha256()
    for name, source in sources:
        content = source if isinstance(source, bytes) else _code_or_text(source).encode("utf-8", "surrogatepass")
        each = hashlib.sha256(content).digest()
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + RECORDED.get(each, each))
    return digest.hexdigest()[:12]


def _code_or_text(text: str) -> str:
    try:
        return code_of(text)
    except SyntaxError:  # a module may be imported later, or never
        return text


@functools.cache
def imports(text: str, package: str) -> tuple[str, ...]:
    """Dotted names that a module of `package` imports, also inside functions: of `from a import b` both a and a.b.

    Raises SyntaxError.
    """
    return tuple(name for node in ast.walk(ast.parse(text)) for name in _imported(node, package))


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
            if alias.name == "attention_zoo":  # any part of it may be used
                yield from (f"attention_zoo.{name}" for name in PUBLIC)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: 1 - node.level or None] if node.level else []
        module = ".".join([*above, *filter(None, [node.module])])
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)
    elif name := imported_by_call(node):
        yield name


def imported_by_call(node: ast.AST) -> str:
    """'a.b' of importlib.import_module('a.b'); else ''."""
    if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).split(".")[-1] == "import_module":
        first = node.args[0]
        return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""
    return ""


def closure(
    starts: Iterable[str], find: Callable[[str], Path | None], text_of: Callable[[Path], str]
) -> dict[Path, str]:
    """File -> dotted name, of these modules and of all that they import, directly or through one another.

    find: dotted name -> the file, or None for a module that is not to be followed. text_of: file -> its text.
    """
    found: dict[Path, str] = {}
    left = list(starts)
    while left:
        name = left.pop()
        if "." in name:
            left.append(name.rpartition(".")[0])  # importing a module runs the packages around it
        path = find(name)
        if path is None or path in found:
            continue
        found[path] = name
        if path.suffix == ".py":
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            try:
                left += imports(text_of(path), package)
            except SyntaxError:
                continue  # importing it will raise the same error
    return found


def find_in_zoo(name: str) -> Path | None:
    """'attention_zoo._parts' or 'attention_zoo.LocalConv' -> its file; None for a module that changes no result."""
    top, _, rest = name.partition(".")
    module = PUBLIC.get(rest, rest)
    path = HERE / f"{module}.py"
    return path if top == "attention_zoo" and module and module not in FINDING and path.is_file() else None


@functools.cache
def read_zoo(path: Path) -> str:
    """The text of a shared file of the zoo, as it was when it was first read."""
    return read(path)


def of_builtin(name: str, text: str) -> str:
    """The source hash of a built-in: of its code and that of the shared files that it imports."""
    own = HERE / f"{name}.py"
    files = closure([f"attention_zoo.{name}"], find_in_zoo, lambda path: text if path == own else read_zoo(path))
    shared = sorted(path for path in files if path != own)
    return hash_of([("", text), *((path.name, read_zoo(path)) for path in shared)])
