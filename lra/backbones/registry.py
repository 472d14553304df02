"""The registry of backbones: their names, and the keys that each adds to the section `model`.

A built-in is a file of this folder. Its title and its keys are read with `ast`, which needs no torch, and its module is
imported when a model is built.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

if TYPE_CHECKING:
    from lra.backbones.classifier import Classifier

Keys = dict[str, tuple[Any, Any]]  # name -> type, default

HERE = Path(__file__).parent
LARGEST = 2**63  # no record can hold a whole number as large as this
SHARED = ("classifier", "denoiser", "layers", "registry", "weights")  # files here that are no backbone
ANNOTATIONS = {"Literal": Literal}  # names that the types of a built-in's keys may use, besides Python's own


class BackboneError(ValueError):
    """A backbone that cannot be registered or built; its message is one line for the user."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A registered backbone.

    name: on the command line. title: in texts. paper: its URL. keys: what it adds to the section `model`, with type and
    default. Only for a user's backbone: source, the text of its file; source_hash, of all that it is made of; beside,
    its other files -> their texts; data, files that it reads -> hashes; notes, what the user should know.
    """

    name: str
    path: Path
    title: str
    paper: str = ""
    keys: Keys = field(default_factory=dict)
    source: str = ""
    source_hash: str = ""
    beside: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def builtin(self) -> bool:
        return self.path.parent == HERE

    @property
    def value(self) -> str:
        """The value of `model.backbone`; a user's contains a hash, so that an edited one is another backbone."""
        return self.name if self.builtin else f"{self.name}@{self.source_hash[:8]}"

    @property
    def address(self) -> str:
        """The text by which it is found again: its name, and before it the path of a user's file."""
        return self.name if self.builtin else f"{self.path}:{self.name}"


classes: dict[tuple[Path, str], type[Classifier]] = {}  # every class registered so far, by file and name
registered: dict[tuple[Path, str], Backbone] = {}


def register(name: str, *, title: str = "", paper: str = "") -> Callable[[type[Classifier]], type[Classifier]]:
    """Class decorator that gives a backbone its name on the command line; see `Backbone`.

    Raises BackboneError when the title is missing, the name is malformed or taken, or the class is no Classifier.
    """
    if isinstance(name, type) or not title:
        raise BackboneError("a backbone needs a name and a title: @register('mine', title='Mine') above its class")

    def add(cls: type[Classifier]) -> type[Classifier]:
        from lra.backbones.classifier import Classifier  # the file that registers a class has imported torch already

        path = Path(inspect.getfile(cls)).resolve()
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise BackboneError(f"{path}: a name is lower-case letters, digits and _, not {name!r}")
        if path.parent != HERE and name in names():
            raise BackboneError(f"{path}: the name {name!r} is taken by a built-in backbone; choose another")
        if not isinstance(title, str) or not isinstance(paper, str):
            raise BackboneError(f"{path}: title and paper of @register must be strings")
        if not issubclass(cls, Classifier):
            raise BackboneError(f"{path}: {cls.__name__} must extend lra.backbones.Classifier")
        classes[path, name] = cls
        registered[path, name] = Backbone(name=name, path=path, title=title, paper=paper, keys=keys_of(cls, path))
        return cls

    return add


def keys_of(cls: type[Classifier], path: Path) -> Keys:
    """The keyword-only arguments of `build_body`. Raises BackboneError for one without a type or a default."""
    hints, keys = get_type_hints(cls.build_body), {}
    for argument in inspect.signature(cls.build_body).parameters.values():
        if argument.kind is inspect.Parameter.KEYWORD_ONLY:
            if argument.default is inspect.Parameter.empty or argument.name not in hints:
                raise BackboneError(f"{path}: {argument.name} of build_body needs a type and a default")
            if not _is_value(argument.default):
                wanted = "a finite number, True, False, None, a string or a tuple of them"
                raise BackboneError(f"{path}: the default of {argument.name} must be {wanted}, not {argument.default}")
            keys[argument.name] = (hints[argument.name], argument.default)
    return keys


def _is_value(default: Any) -> bool:
    """Can a configuration hold this, and a record?"""
    if isinstance(default, tuple):
        return all(map(_is_value, default))
    if isinstance(default, int | float):
        return abs(default) < LARGEST  # False for nan
    return default is None or isinstance(default, str)


def names() -> list[str]:
    """The names of the built-in backbones."""
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in SHARED and path.stem[0] != "_")


@functools.cache
def read_builtin(name: str) -> Backbone:
    """A built-in, read from the text of its file: `@register(...)` and the signature of `build_body`."""
    node, about = _class_in(HERE / f"{name}.py")
    given = {key.arg: ast.literal_eval(key.value) for key in about.keywords if key.arg}
    return Backbone(name=name, path=HERE / f"{name}.py", keys=_keys_in(node), **given)


def meanings(name: str) -> dict[str, str]:
    """Keys of a built-in -> what the docstring of its class says of them, after `key: `; '' where it says nothing."""
    keys = read_builtin(name).keys
    text = " ".join((ast.get_docstring(_class_in(HERE / f"{name}.py")[0]) or "").split())
    parts = re.split(rf"\b({'|'.join(keys)}): ", text) if keys else []
    return dict.fromkeys(keys, "") | {key: said.strip(" .") for key, said in zip(parts[1::2], parts[2::2], strict=True)}


def _class_in(path: Path) -> tuple[ast.ClassDef, ast.Call]:
    """The class that a file registers, and the call of `register` above it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        calls = [call for call in getattr(node, "decorator_list", []) if isinstance(call, ast.Call)]
        about = [call for call in calls if ast.unparse(call.func) == "register"]
        if about and isinstance(node, ast.ClassDef):
            return node, about[0]
    raise BackboneError(f"{path} registers no backbone")


def _keys_in(node: ast.ClassDef) -> Keys:
    arguments = next(f.args for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "build_body")
    return {
        argument.arg: (eval(ast.unparse(argument.annotation), dict(ANNOTATIONS)), ast.literal_eval(default))
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if argument.annotation is not None and default is not None
    }


def class_of(backbone: Backbone) -> type[Classifier]:
    """The class of a built-in, or of a user's whose file has been imported."""
    if backbone.builtin:
        importlib.import_module(f"lra.backbones.{backbone.name}")
    return classes[backbone.path, backbone.name]
