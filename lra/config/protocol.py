"""Protocol files: YAML with a section per task, which may name another protocol as its `base:`.

Files merge as plain dicts. A file's values for one task override its values for all tasks, and both override its
base. `deviations:` lists how a protocol differs from the source it is named after, a line of text each; records keep
them.
"""

import copy
import itertools
import re
import stat
from collections.abc import Collection
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from lra.errors import ConfigError, suggestion

PROTOCOLS = Path(__file__).parent.parent / "protocols"
ODD = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")  # what YAML reads as octal or base 60
NO_NUMBER = "is not accepted as a number: write it without a leading 0 and without colons, or in quotes"
MOST_BYTES, MOST_VALUES = 10**6, 10_000  # of a protocol file; ours have 3,000 and 100
SECTIONS = ("model", "train", "data")
KEYS = ["base", "deviations", *SECTIONS, "tasks"]


def protocols() -> list[str]:
    """Names of the shipped protocols."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.yaml"))


def read_protocol(name: str) -> dict[str, Any]:
    """A shipped protocol by name, or a file by path, merged over its bases. Raises ConfigError."""
    return _read(_path_of(name), ())


def sections_of(name: str, content: dict[str, Any]) -> dict[str, Any]:
    """Task -> its section. content: what `read_protocol(name)` returned. Raises ConfigError."""
    tasks = content.get("tasks", {})
    if not all(isinstance(task, str) for task in tasks):
        raise ConfigError(f"protocol {name}: tasks: expected task names and their sections, found {str(tasks)[:200]}")
    return tasks


def deviations_of(name: str) -> dict[str, str]:
    """How a protocol differs from its source: a word for tables -> the explanation. Raises ConfigError."""
    deviations = read_protocol(name).get("deviations") or {}
    if not isinstance(deviations, dict) or not all(isinstance(text, str) for text in deviations.values()):
        raise ConfigError(
            f"protocol {name}: deviations: expected words and their explanations, "
            f"as in `sizes: wider than the paper's`, found {deviations!r}"
        )
    return {str(word): " ".join(text.split()) for word, text in deviations.items()}


def about_protocol(name: str) -> str:
    """The first sentence of a protocol's comment."""
    return re.split(r"(?<=\.) (?=[A-Z])", comment_of(name))[0]


def comment_of(name: str) -> str:
    """The first comment of a protocol's file, where its settings come from; empty without one. Raises ConfigError."""
    path = _path_of(name)
    try:
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"protocol file {path}: {error}") from error
    return " ".join(line.lstrip("# ") for line in itertools.takewhile(lambda line: line.startswith("#"), lines))


def _path_of(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        try:
            return Path(name).expanduser()
        except RuntimeError as error:
            raise ConfigError(f"no protocol file at {name}: {error}") from error
    if name not in protocols():
        raise ConfigError(
            f"unknown protocol {name!r}{suggestion(name, protocols())}; there are {', '.join(protocols())}, "
            "and files by path: ./mine.yaml"
        )
    return PROTOCOLS / f"{name}.yaml"


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """A protocol file merged over its base. seen: the files whose `base:` led here. Raises ConfigError."""
    content, place = _parse(path), path.resolve()
    if place in seen:
        raise ConfigError(f"{path}: its base: leads back to itself; name another file there")
    for key in content:
        if key not in KEYS:
            raise ConfigError(f"{path}: unknown key {key!r}{suggestion(str(key), KEYS)}")
    content |= _mappings(content, (*SECTIONS, "tasks"), f"{path}: ")
    for task, section in content.get("tasks", {}).items():
        content["tasks"] |= _mappings({task: section}, (task,), f"{path}: tasks.")
        content["tasks"][task] |= _mappings(content["tasks"][task], SECTIONS, f"{path}: tasks.{task}.")
    base = content.pop("base", None)
    if base is None:
        return content
    below = _read(path.parent / base if str(base).endswith((".yaml", ".yml")) else _path_of(str(base)), (*seen, place))
    # A file's values for all tasks override even its base's values for one task.
    general = {key: content[key] for key in SECTIONS if content.get(key)}
    below["tasks"] = {task: merge(section, general) for task, section in below.get("tasks", {}).items()}
    return merge(below, content)


def _mappings(content: dict[str, Any], keys: Collection[str], where: str) -> dict[str, dict[str, Any]]:
    """The mappings at those `keys` that `content` has; {} for an empty key. Raises ConfigError for anything else."""
    mappings = {key: {} if content[key] is None else content[key] for key in keys if key in content}
    for key, value in mappings.items():
        if not isinstance(value, dict):
            raise ConfigError(f"{where}{key}: expected keys and values, found {str(value)[:200]}")
    return mappings


def _parse(path: Path) -> dict[str, Any]:
    import yaml  # here, so that `--help` needs no third-party package

    try:
        content = plain_yaml(read_text(path))
    except FileNotFoundError as error:
        raise ConfigError(f"no protocol file at {path}; there are: {', '.join(protocols())}, or a path") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"protocol file {str(path)[:300]}: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"protocol file {path} has no keys and values; write lines such as `base: quick` and `train: {{lr: 3e-4}}`"
        )
    return content


def read_text(path: Path) -> str:
    """The text of a regular file that is not too large for a protocol. Raises OSError or ValueError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
        raise ValueError(f"it is not a regular file of at most {MOST_BYTES:,} bytes")
    return path.read_text(encoding="utf-8")


def as_yaml(content: dict[str, Any]) -> str:
    """Keys and values as the text of a protocol file; `plain_yaml` reads it back, with tuples as lists."""
    import yaml

    return yaml.safe_dump(content, sort_keys=False, width=118, allow_unicode=True)


def plain_yaml(text: str) -> Any:
    """The value of a YAML text; each caller gets a copy. Raises YAMLError, ValueError or RecursionError.

    Nested aliases let a short text expand to an enormous value, so a value of more than MOST_VALUES parts is refused.
    """
    return copy.deepcopy(_loaded(text))


@lru_cache(256)
def _loaded(text: str) -> Any:
    """The parsed text. It is cached, because PyYAML takes 15 ms for a protocol, and a plan reads it for every task."""
    import yaml

    value = yaml.load(text, _loader())
    remaining = [value]
    for count in itertools.count():
        if not remaining:
            return value
        if count > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES:,} values")
        part = remaining.pop()
        remaining += part.values() if isinstance(part, dict) else part if isinstance(part, list | tuple | set) else ()


@cache
def _loader() -> type:
    """PyYAML's safe loader, without the readings that surprise people.

    PyYAML silently keeps the last of several equal keys, and reads 010 as 8 and 1:30 as 90. This loader refuses both.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
            node = super().compose_mapping_node(anchor)
            lines: dict[str, int] = {}
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise yaml.YAMLError(f"line {line}: {key.value!r} is already set in line {lines[key.value]}")
                lines[key.value] = line
            return node

        def construct_number(self, node: yaml.ScalarNode) -> int | float:
            if ODD.fullmatch(node.value):
                raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {node.value} {NO_NUMBER}")
            return (self.construct_yaml_int if node.tag.endswith("int") else self.construct_yaml_float)(node)

    for kind in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", Loader.construct_number)
    return Loader


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merges nested dicts key by key; `above` wins. Raises ConfigError where `above` has a value for a section."""
    if not isinstance(above, dict):
        raise ConfigError(f"expected keys and values, found {above!r}")
    merged = dict(below)
    for key, value in above.items():
        merged[key] = merge(below[key], value) if isinstance(below.get(key), dict) else value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """'train.lr=3e-4' -> {"train": {"lr": 3e-4}}. Raises ConfigError."""
    import yaml

    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path) or not value.strip() or len(path) > 2 or len(text) > 10_000:
        raise ConfigError(f"--set takes section.key=value, as in train.lr=3e-4, not {text[:200]!r}")
    try:
        nested: Any = plain_yaml(value)
    except (yaml.YAMLError, ValueError) as error:
        if NO_NUMBER in str(error):
            raise ConfigError(f"--set {text[:200]}: {' '.join(str(error).split()).partition(': ')[2]}") from error
        nested = value
    except RecursionError as error:
        raise ConfigError(f"--set {key}: its brackets are too deep") from error
    if nested is None:
        raise ConfigError(f"--set {key} has no value; to keep the protocol's value, leave the key out")
    for part in reversed(path):
        nested = {part: nested}
    return nested
