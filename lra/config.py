"""Configuration: a protocol file, its `base:` files, its section for a task and `--set` become one frozen `Config`.

YAML files and overrides merge as plain dicts; jsonargparse turns the result into typed dataclasses; every mistake is
one line with the path of the key and the nearest key there is.
"""

import difflib
import itertools
import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from lra.errors import ConfigError
from lra.record import identity_of

PROTOCOLS = Path(__file__).parent / "protocols"


def _check(section: Any, name: str, least: float, most: float, *keys: str) -> None:
    for key in keys:
        value = getattr(section, key)
        if not least <= value <= most:
            between = f"at least {least}" if most == math.inf else f"{least} to {most}"
            raise ConfigError(f"{name}.{key} must be {between}, not {value}")


@dataclass(frozen=True, kw_only=True)
class Model:
    """The encoder around the attention. Sizes of 0 mean: as the task has them."""

    layers: int
    dim: int
    heads: int
    mlp: int  # hidden width of the block's MLP
    head: int  # hidden width of the classifier
    dropout: float  # after the embedding, after the attention, in the MLP
    attention_dropout: float = 0.0  # on attention weights, where a mechanism has them
    positions: Literal["learned", "sincos", "rope", "none"] = "learned"
    embedding_std: float = 0.02
    vocab: int = 0  # rows of the embedding
    length: int = 0  # rows of the position table; with pool_over_padding also the padded length
    grid: bool = False  # let mechanisms see an image as rows and columns; LRA's rule is a flat sequence of pixels
    zero_is_padding: bool = False  # quirk: every id 0 is masked, black pixels too
    pool_over_padding: bool = False  # quirk: the mean divides by the padded length, not by the number of real tokens

    def __post_init__(self):
        _check(self, "model", 1, math.inf, "layers", "dim", "heads", "mlp", "head")
        _check(self, "model", 0, math.inf, "vocab", "length", "embedding_std")
        _check(self, "model", 0, 1, "dropout", "attention_dropout")


@dataclass(frozen=True, kw_only=True)
class Train:
    """The optimiser (AdamW), its schedule and the choice of a checkpoint."""

    steps: int
    batch: int
    lr: float  # the peak, reached after `warmup` steps
    warmup: int
    evaluate_every: int  # steps
    start_lr: float = 0.0  # at the first step, as a fraction of the peak
    end_lr: float = 0.0  # after the last step, as a fraction of the peak
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    weight_decay: float = 0.0
    cycle_beta1: bool = False  # quirk: OneCycleLR's momentum, 0.95 -> 0.85 at the peak -> 0.95
    clip: Literal["norm", "value", "none"] = "norm"
    clip_at: float = 1.0
    validation_batches: int = 0  # quirk: that many batches of an endless reshuffled loader; 0 = all of validation
    drop_last: bool = False  # quirk: validation and test lose their last, incomplete batch
    select_after: float = 0.0  # quirk: no checkpoint before this fraction of the steps, though the maximum is tracked
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: float32, on CUDA bfloat16 autocast
    deterministic: bool = False  # bit-equal runs on CUDA too, slower

    def __post_init__(self):
        _check(self, "train", 1, math.inf, "steps", "batch", "evaluate_every")
        _check(self, "train", 0, self.steps, "warmup")
        _check(self, "train", 0, math.inf, "lr", "eps", "weight_decay", "clip_at", "validation_batches", "select_after")
        _check(self, "train", 0, 1, "start_lr", "end_lr", "beta1", "beta2")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One resolved cell; `data` is the task's own settings."""

    model: Model
    train: Train
    data: Any


def protocols() -> list[str]:
    """Names of the shipped protocols."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.yaml"))


def read_protocol(name: str) -> dict[str, Any]:
    """A shipped protocol by name, or a file by path, merged over its bases. Raises ConfigError."""
    return _read(_path_of(name), ())


def about_protocol(name: str) -> str:
    """The first sentence of a shipped protocol's comment."""
    lines = (PROTOCOLS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in itertools.takewhile(lambda line: line.startswith("#"), lines))
    return re.split(r"(?<=\.) (?=[A-Z])", comment)[0]


def resolve(protocol: str, task: str, overrides: list[str], data_type: type) -> Config:
    """Protocol name or path + task + ["train.lr=3e-4", ...] -> Config. Raises ConfigError."""
    merged = read_protocol(protocol)
    sections = merged.get("tasks") or {}
    if task not in sections:
        raise ConfigError(f"protocol {protocol} has no section for task {task!r}; it has: {', '.join(sections)}")
    plain = _merge({key: merged.get(key) or {} for key in ("model", "train", "data")}, sections[task])
    for override in overrides:
        plain = _merge(plain, _parse_override(override))
    return _typed(plain, data_type, f"protocol {protocol}, task {task}")


def as_dict(config: Config) -> dict[str, Any]:
    """The plain form that records keep."""
    return asdict(config)


def hash_of(config: Config) -> str:
    """12 hexadecimal digits over what differs from the defaults, so that a new field with a neutral default keeps it."""
    sections = {field.name: getattr(config, field.name) for field in fields(config)}
    changed = {
        name: {f.name: getattr(section, f.name) for f in fields(section) if getattr(section, f.name) != f.default}
        for name, section in sections.items()
    }
    return identity_of(changed)


def from_dict(plain: dict[str, Any], data_type: type) -> Config:
    """The inverse of `as_dict`. Raises ConfigError when it does not fit this version."""
    return _typed(plain, data_type, "recorded configuration")


def suggestion(word: str, known: list[str]) -> str:
    """', did you mean ...?' or nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def _path_of(name: str) -> Path:
    if name.endswith((".yaml", ".yml")):
        return Path(name).expanduser()
    if name not in protocols():
        raise ConfigError(
            f"unknown protocol {name!r}{suggestion(name, protocols())}; there are {', '.join(protocols())}, "
            "and files by path: ./mine.yaml"
        )
    return PROTOCOLS / f"{name}.yaml"


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    import yaml  # here, so that `--help` needs no third-party package

    if path in seen:
        raise ConfigError(f"{path}: its base: leads back to itself")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"protocol file {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"protocol file {path} holds no mapping")
    allowed = ["base", "model", "train", "data", "tasks"]
    for key in content:
        if key not in allowed:
            raise ConfigError(f"{path}: unknown key {key!r}{suggestion(str(key), allowed)}")
    base = content.pop("base", None)
    if base is None:
        return content
    below = path.parent / base if str(base).endswith((".yaml", ".yml")) else _path_of(str(base))
    return _merge(_read(below, (*seen, path)), content)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` wins, key by key, in nested dicts."""
    if not isinstance(above, dict):
        raise ConfigError(f"expected keys and values, found {above!r}")
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _merge(below[key], value) if isinstance(below.get(key), dict) else value
    return merged


def _parse_override(text: str) -> dict[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise ConfigError(f"--set takes section.key=value, as in train.lr=3e-4, not {text!r}")
    try:
        nested: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        nested = value
    for part in reversed(path):
        nested = {part: nested}
    return nested


def _typed(plain: dict[str, Any], data_type: type, where: str) -> Config:
    from jsonargparse import ArgumentParser

    sections = {"model": Model, "train": Train, "data": data_type}
    for section, values in plain.items():
        if section not in sections:
            raise ConfigError(f"{where}: unknown key {section!r}{suggestion(section, list(sections))}")
        known = [field.name for field in fields(sections[section])]
        for key in values if isinstance(values, dict) else [values]:
            if key not in known:
                near = suggestion(str(key), known)
                raise ConfigError(f"{where}: unknown key {section}.{key}{near or ', known: ' + ', '.join(known)}")
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


def _plainly(message: str) -> str:
    """jsonargparse's words as one line."""
    wrong = re.search(r'Parser key "([\w.]+)":\s+Expected a (.+?)\. Got value: (.*)', message, re.DOTALL)
    if wrong:
        key, kind, value = wrong.groups()
        kind = re.sub(r"<class '(\w+)'>", r"\1", kind).replace("typing.Literal", "one of ")
        return f"{key} must be {kind}, not {value.strip()}"
    missing = re.search(r"arguments are required: (.*)", message)
    return f"missing {missing.group(1)}" if missing else " ".join(message.split())
