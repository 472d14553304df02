"""Finds the backbone that `model.backbone` names, which may be a user's file. Built-ins are found without torch."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lra.backbones import registry
from lra.backbones.registry import Backbone
from lra.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from lra.backbones import Classifier

DEFAULT = "flat"
_users: dict[str, Backbone] = {}  # users' backbones found in this process, by their value of `model.backbone`


def owners() -> dict[str, str]:
    """Each key that a built-in backbone adds to the section `model` -> the name of the backbone."""
    return {key: name for name in registry.names() for key in registry.read_builtin(name).keys}


def find_backbone(spec: str) -> Backbone:
    """The backbone of a spec: `pyramid`, `./mine.py`, `./mine.py:name`, or a `model.backbone`. Raises ConfigError."""
    if spec in registry.names():
        return registry.read_builtin(spec)
    if spec in _users:
        return _users[spec]
    if match := re.match(r"^(.*\.py)(?::(.*))?$", spec):
        return _of_file(match[1], match[2] or "")
    raise ConfigError(
        f"unknown backbone {spec!r}{suggestion(spec, registry.names())}; there are {', '.join(registry.names())}, and "
        "files of yours by path: ./mine.py"
    )


def _of_file(text: str, name: str) -> Backbone:
    from attention_zoo import SpecError, file_at, load_file

    path = file_at(text)
    if path is None:
        raise ConfigError(f"no backbone file at {Path(text[:300])}: check the path, or see docs/add-a-backbone.md")
    try:
        plugin = load_file(path)
    except SpecError as error:
        raise ConfigError(str(error).replace("BackboneError: ", "")) from error
    backbones = {key: backbone for (where, key), backbone in registry.registered.items() if where == path}
    if not backbones:
        raise ConfigError(f"{path} registers no backbone: put @register('name', title='...') above its class")
    name = name or next(iter(backbones))
    if name not in backbones:
        raise ConfigError(
            f"{path} registers no {name!r}{suggestion(name, list(backbones))}; it has {', '.join(backbones)}"
        )
    backbone = replace(
        backbones[name],
        source=plugin.text,
        source_hash=plugin.source_hash,
        beside=plugin.beside,
        data=plugin.data,
        notes=plugin.notes,
    )
    _users[backbone.value] = backbone
    return backbone


def import_class(backbone: Backbone) -> type[Classifier]:
    """The class of a backbone. Raises ConfigError when a user's file has changed since the backbone was found."""
    if not backbone.builtin and find_backbone(backbone.address).source_hash != backbone.source_hash:
        raise ConfigError(f"{backbone.path} has changed since the command started; start it again")
    return registry.class_of(backbone)
