"""Makes docs/settings.md from the configuration's fields and their comments; `protocol keys` prints it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lra.commands import environment
from lra.commands.zoo_page import lowered, plain

HEAD = """\
# Settings

Every key that `--set KEY=VALUE` takes, and that a protocol file has in its sections. `run_lra.py protocol keys --page
docs/settings.md` makes this page from the comments beside the fields (`lra/config/schema.py`, the `Settings` of
`tasks/`, the docstrings of `lra/backbones`): edit those.

    python run_lra.py --attn pola --task listops --set train.lr=3e-4 model.layers=4
    python run_lra.py protocol show standard --task listops    # every value that a task has under a protocol
    python run_lra.py protocol diff standard skyformer         # where two protocols differ

The first of these that sets a key decides its value: `--set`; the protocol's section for the task; the protocol's
sections for all tasks; the same two sections of the protocol that it names as its `base:`, then of that one's base, and
so on; the default. A key that does not exist, or a value outside its range, is an error of one line. Every protocol
sets the keys without a default; the page shows standard's value. The last column names the shipped protocols with
another value, and that value, which is left out where there are many; *by task* means that the value depends on the
task. A key whose meaning begins with "quirk" is a habit or a fault of an earlier suite; [quirks.md](quirks.md) says
what the faults do. A backbone or a task in a file of yours adds keys of its own.
"""
STANDARD = "standard"
BY_TASK = "*by task*"
MOST = 90  # longest text of the last column, in characters
Values = Mapping[tuple[str, str], Mapping[str, Mapping[str, Any]]]  # (protocol, task) -> section -> key -> value


@dataclass(frozen=True)
class Key:
    """One key of a section. default: MISSING where every protocol has to give a value."""

    name: str
    kind: Any
    default: Any
    meaning: str


def page() -> str:
    """The whole page, in Markdown."""
    import tasks
    from lra.backbones import registry
    from lra.config.schema import Model, Train

    values = resolved()
    parts = [HEAD, section("model", "The model around the attention.", keys_of(Model), values)]
    for name in registry.names():
        backbone = registry.read_builtin(name)
        meanings = registry.meanings(name)
        keys = [Key(key, kind, default, meanings[key]) for key, (kind, default) in backbone.keys.items()]
        title = f"### The backbone {name}\n\n{backbone.title}, `model.backbone={name}`, adds these keys.\n"
        parts.append(f"{title}\n{table('model', keys, values)}")
    parts.append(
        section("train", "The optimiser (AdamW), its schedule, and the choice of a checkpoint.", keys_of(Train), values)
    )
    parts.append("## data\n\nThe data of a task. `--seed` of a run changes none of it.\n")
    for kind, names in settings_of_tasks().items():
        titles = ", ".join(tasks.find(name).title for name in names)
        here = {place: sections for place, sections in values.items() if place[1] in names}
        parts.append(f"### {', '.join(names)}\n\n{titles}.\n\n{table('data', keys_of(kind), here)}")
    return "\n".join([*parts, environment.section()])


def settings_of_tasks() -> dict[type, list[str]]:
    """Settings class -> the built-in tasks that use it, small images first. The arena's classes come first."""
    import tasks

    task_names: dict[type, list[str]] = {}
    for name in dict.fromkeys([*tasks.ARENA, *tasks.names()]):
        task_names.setdefault(tasks.find(name).settings, []).append(name)
    return {kind: sorted(names, key=lambda name: tasks.find(name).size) for kind, names in task_names.items()}


def keys_of(kind: type) -> list[Key]:
    """The fields of a section's dataclass."""
    from lra.config.descriptions import descriptions

    meanings, types = descriptions(kind), get_type_hints(kind)
    return [Key(field.name, types[field.name], field.default, meanings[field.name]) for field in fields(kind)]


def resolved() -> Values:
    """Every configuration that a shipped protocol gives to a built-in task."""
    import tasks
    from lra.config import protocol
    from lra.config.resolve import as_dict
    from lra.experiments.data import resolve_for

    places = [
        (name, task)
        for name in protocol.protocols()
        for task in protocol.read_protocol(name)["tasks"]
        if task in tasks.names()
    ]
    return {(name, task): as_dict(resolve_for(task, name, [])) for name, task in places}


def section(name: str, about: str, keys: Sequence[Key], values: Values) -> str:
    return f"## {name}\n\n{about}\n\n{table(name, keys, values)}"


def table(section: str, keys: Iterable[Key], values: Values) -> str:
    """A line for each key of a section."""
    lines = ["| key | takes | default | meaning | other values in |", "|---|---|---|---|---|"]
    for key in keys:
        given = {place: at[section].get(key.name, key.default) for place, at in values.items()}
        shown, usual = default_of(key, given)
        others = elsewhere(usual, given)
        lines.append(f"| `{section}.{key.name}` | {takes(key.kind)} | {shown} | {plain(key.meaning)} | {others} |")
    return "\n".join(lines) + "\n"


def default_of(key: Key, given: Mapping[tuple[str, str], Any]) -> tuple[str, Mapping[str, Any]]:
    """The default in words, and the usual value for each task: the default, or without one standard's value."""
    names = {task for _, task in given}
    if key.default is not MISSING:
        return word(key.default), dict.fromkeys(names, key.default)
    usual = {task: value for (name, task), value in given.items() if name == STANDARD}
    values = set(usual.values())
    return f"none; {STANDARD}: {word(values.pop()) if len(values) == 1 else BY_TASK}", usual


def elsewhere(usual: Mapping[str, Any], given: Mapping[tuple[str, str], Any]) -> str:
    """The protocols whose values differ from a task's usual one: 'deep: `6`; google: *by task*'."""
    protocols: dict[str, list[str]] = {}  # value in words -> the protocols that have it
    for name in dict.fromkeys(name for name, _ in given):
        values = {task: value for (protocol, task), value in given.items() if protocol == name}
        unusual = {task: value for task, value in values.items() if value != usual[task]}
        if not unusual:
            continue
        text = word(next(iter(unusual.values()))) if len(set(unusual.values())) == 1 else BY_TASK
        if len(unusual) < len(values) and text != BY_TASK:
            text += f" on {', '.join(unusual)}" if len(unusual) <= 2 else f" on {len(unusual)} of {len(values)} tasks"
        protocols.setdefault(text, []).append(name)
    text = "; ".join(f"{', '.join(names)}: {value}" for value, names in protocols.items())
    return text if len(text) <= MOST else ", ".join(name for names in protocols.values() for name in names)


def takes(kind: Any) -> str:
    """A type in words: 'a number', '`best` or `last`'."""
    if get_origin(kind) is Literal:
        *first, last = (f"`{choice}`" for choice in get_args(kind))
        return f"{', '.join(first)} or {last}"
    words = {bool: "`true` or `false`", int: "a whole number", float: "a number", str: "text"}
    return words.get(kind, "whole numbers: `[1,2,1]`")


def word(value: Any) -> str:
    """A value as `--set` takes it."""
    from lra.config import resolve

    return f"`{lowered(resolve.as_override(value))}`"
