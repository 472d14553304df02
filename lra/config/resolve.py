"""From a protocol, a task and `--set` to one frozen `Config`, its label in tables and its hash.

Protocol files and overrides merge as plain dicts, and jsonargparse turns the result into typed dataclasses. Every
mistake is an error of one line, with the path of the key and the nearest existing key.
"""

import contextlib
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol

from lra.config.protocol import merge, parse_override, protocols, read_protocol, sections_of
from lra.config.schema import Config, Keys, Model, Train, model_with
from lra.errors import ConfigError, suggestion
from lra.hashing import identity_of

MOST_KEPT = 1000  # configurations in `_made`, which is emptied beyond that
_made: dict[tuple[Any, ...], Config] = {}
IN_WORDS = {  # jsonargparse's name of a type -> ours
    "int": "a whole number",
    "float": "a number, as in 3e-4",
    "bool": "true or false",
    "tuple": "a list, as in [2,4]",
}


class Backbone(Protocol):
    """What a configuration needs of a backbone: the value of `model.backbone`, and the keys that it adds to `model`."""

    @property
    def value(self) -> str: ...
    @property
    def keys(self) -> Keys: ...


def resolve(
    protocol: str,
    task: str,
    overrides: list[str],
    data_type: type,
    section: dict[str, Any] | None,
    find_backbone: Callable[[str], Backbone],
    owners: Mapping[str, str],
) -> Config:
    """The configuration of a task under a protocol (a name or a path) with overrides such as "train.lr=3e-4".

    section: the task's section where the protocol has none for it. find_backbone: finds the backbone that a name or a
    path in `model.backbone` means. owners: key of a backbone -> the backbone's name, for messages. Raises ConfigError.
    """
    merged = read_protocol(protocol)
    sections = sections_of(protocol, merged)
    if task not in sections and not section:
        known = ", ".join(sections) or "none"
        remedy = "; a line `base: standard` adds all" if Path(protocol).suffix else ""
        raise ConfigError(f"protocol {protocol} has no section for task {task!r}; it has: {known}{remedy}")
    plain = merge({key: merged.get(key) or {} for key in ("model", "train", "data")}, sections.get(task, section))
    merged, changes = plain, {}
    for change in map(parse_override, overrides):
        merged, changes = merge(merged, change), merge(changes, change)
    merged = _cut_warmup(plain, merged, changes)
    keys: Keys = {}
    if isinstance(merged["model"], dict):
        backbone = find_backbone(str(merged["model"].get("backbone", Model.backbone)))
        merged, keys = merge(merged, {"model": {"backbone": backbone.value}}), backbone.keys
        for key in merged["model"]:
            if key in owners and key not in keys:
                raise ConfigError(f"model.{key} is a key of the backbone {owners[key]}: --backbone {owners[key]}")
    return _typed(merged, data_type, keys, f"protocol {protocol}, task {task}")


def _cut_warmup(plain: dict[str, Any], merged: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Scales the protocol's warm-up with the steps if overrides set only `steps`, below the warm-up; not with rsqrt."""
    before, after, changed = (part.get("train") for part in (plain, merged, changes))
    if not isinstance(before, dict) or not isinstance(after, dict) or not isinstance(changed, dict):
        return merged  # mistakes, which `_typed` reports
    if "steps" not in changed or "warmup" in changed or after.get("schedule") == "rsqrt":
        return merged
    numbers = [value for value in (before.get("warmup"), before.get("steps"), after.get("steps")) if type(value) is int]
    if len(numbers) < 3 or min(numbers) <= 0 or numbers[0] <= numbers[2]:
        return merged
    return merge(merged, {"train": {"warmup": warmup_share(*numbers)}})


def warmup_share(warmup: int, of_steps: int, steps: int) -> int:
    """The warm-up, at least 1, that has the same share of `steps` as `warmup` has of `of_steps`."""
    return max(1, round(warmup * steps / of_steps))


def has_cut_warmup(config: Config, plain: Config) -> bool:
    """Did `_cut_warmup` scale the warm-up? plain: the configuration without overrides."""
    train, before = config.train, plain.train
    if train.schedule == "rsqrt" or train.warmup == before.warmup:  # a run with rsqrt may end inside its warm-up
        return False
    return train.steps < before.warmup and train.warmup == warmup_share(before.warmup, before.steps, train.steps)


def label_of(protocol: str, config: Config, plain: Config) -> str:
    """The protocol's name in tables: 'standard', or with what was set 'standard[train.lr=0.001]'.

    plain: the configuration without overrides. A user's file with the name of a shipped protocol keeps its suffix. A
    warm-up that was scaled with the steps is not listed.
    """
    path = Path(protocol)
    name = path.name if path.suffix and path.stem in protocols() else path.stem
    hidden = {"train.gear", *(["train.warmup"] if has_cut_warmup(config, plain) else [])}
    before = as_dict(plain)
    defaults = {f.name: f.default for f in fields(config.model)}  # of keys that the plain backbone does not have
    changed = [
        f"{section}.{key}={as_override(value)}"
        for section, values in as_dict(config).items()
        for key, value in values.items()
        if value != before[section].get(key, defaults.get(key)) and f"{section}.{key}" not in hidden
    ]
    return f"{name}[{','.join(changed)}]" if changed else name


def as_override(value: Any) -> Any:
    """A value as `--set` takes it."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple | list) else value


def as_dict(config: Config) -> dict[str, Any]:
    """The plain form that records keep."""
    return asdict(config)


def config_hash(config: Config) -> str:
    """12 hexadecimal digits over the fields that differ from their defaults, so a new neutral field does not change it.

    The precision and the gear are left out: records keep the ones that were chosen.
    """
    changed = {field.name: set_fields(getattr(config, field.name)) for field in fields(config)}
    for name in ("precision", "gear"):
        changed["train"].pop(name, None)
    return identity_of(changed)


def set_fields(section: Any) -> dict[str, Any]:
    """The fields of a section that differ from their defaults."""
    return {f.name: getattr(section, f.name) for f in fields(section) if getattr(section, f.name) != f.default}


def from_dict(plain: dict[str, Any], data_type: type, keys: Keys) -> Config:
    """The inverse of `as_dict`. keys: of the backbone. Raises ConfigError when it does not fit this version."""
    return _typed(plain, data_type, keys, "recorded configuration")


def _typed(plain: dict[str, Any], data_type: type, keys: Keys, where: str) -> Config:
    """The typed configuration. Making it takes 30 ms, so callers share one if it is frozen, and so hashable."""
    sections = {"model": model_with(keys), "train": Train, "data": data_type}
    try:
        key = (repr(plain), *sections.values())
    except (ValueError, RecursionError):  # repr fails on a number of thousands of digits, on lists in lists
        return _make(plain, sections, where)
    if key in _made:
        return _made[key]
    config = _make(plain, sections, where)
    with contextlib.suppress(TypeError):  # a user's settings that are not frozen have no hash
        hash(config)
        if len(_made) > MOST_KEPT:
            _made.clear()
        _made[key] = config
    return config


def _make(plain: dict[str, Any], sections: dict[str, type], where: str) -> Config:
    from jsonargparse import ArgumentParser

    _check_keys(plain, sections, where)
    parser = ArgumentParser(exit_on_error=False)
    for section, kind in sections.items():
        parser.add_argument(f"--{section}", type=kind, default={})
    try:
        made = parser.instantiate(parser.parse_object(plain))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{where}: {_plainly(str(error))}") from error
    return Config(**{section: getattr(made, section) for section in sections})


def _check_keys(plain: dict[str, Any], sections: dict[str, type], where: str) -> None:
    """Raises ConfigError for a section or a key that does not exist, with the nearest one that does."""
    for section, values in plain.items():
        if section not in sections:
            keys = {f.name: f"{name}.{f.name}" for name, kind in sections.items() for f in fields(kind)}
            close = difflib.get_close_matches(section, [*sections, *keys], n=1)
            near = f", did you mean {keys.get(close[0], close[0])!r}?" if close else ""
            raise ConfigError(f"{where}: unknown key {section!r}{near}")
        known = [field.name for field in fields(sections[section])]
        for key in values if isinstance(values, dict) else [values]:
            if key not in known:
                near = suggestion(f"{section}.{key}", [f"{section}.{name}" for name in known])
                raise ConfigError(f"{where}: unknown key {section}.{key}{near or ', known: ' + ', '.join(known)}")


def _plainly(message: str) -> str:
    """jsonargparse's message as one line in our words."""
    wrong = re.search(r'Parser key "([\w.]+)":\s+Expected a (.+?)\. Got value: (.*)', message, re.DOTALL)
    if wrong:
        key, kind, value = wrong.groups()
        kind = re.sub(r"<class '(\w+)'>", r"\1", kind)
        if kind.startswith("typing.Literal["):
            kind = "one of " + re.sub(r"[\[\]']", "", kind.removeprefix("typing.Literal"))
        return f"{key} must be {IN_WORDS.get(kind, kind)}, not {value.strip()}"
    missing = re.search(r"arguments are required: (.*)", message)
    return f"missing {missing.group(1)}" if missing else " ".join(message.split())
