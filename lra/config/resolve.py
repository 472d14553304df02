"""Configuration: a protocol file, its `base:` files, its section for a task and `--set` become one frozen `Config`.

YAML files and overrides merge as plain dicts; jsonargparse turns the result into typed dataclasses; every mistake is
one line with the path of the key and the nearest key there is.
"""

import difflib
import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from lra.config.protocol import merge, parse_override, protocols, read_protocol, suggestion
from lra.errors import ConfigError
from lra.hashing import identity_of


def _check(section: Any, name: str, least: float, most: float, *keys: str, below: bool = False) -> None:
    """Raises ConfigError for a value outside; below: `most` itself is outside, too."""
    for key in keys:
        value = getattr(section, key)
        if not least <= value <= most or value == math.inf or (below and value == most):
            between = f"{least} to{' below' * below} {most}"
            if most == math.inf:
                between = f"at least {least}" + " and finite" * (value == most)
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
    length: int = 0  # the longest sequence: rows of the position table, Dims.length, the divisor of pool_over_padding
    pool: Literal["mean", "cls", "first"] = "mean"  # over real tokens; of a learned token in front; of the first token
    grid: bool = False  # let mechanisms see an image as rows and columns; LRA's rule is a flat sequence of pixels
    zero_is_padding: bool = False  # quirk: every id 0 is masked, black pixels too
    pool_over_padding: bool = False  # quirk: the mean divides by the padded length, not by the number of real tokens

    def __post_init__(self):
        _check(self, "model", 1, math.inf, "layers", "dim", "heads", "mlp", "head")
        _check(self, "model", 0, math.inf, "vocab", "length", "embedding_std")
        _check(self, "model", 0, 1, "dropout", "attention_dropout", below=True)


@dataclass(frozen=True, kw_only=True)
class Train:
    """The optimiser (AdamW), its schedule and the choice of a checkpoint."""

    steps: int
    batch: int
    lr: float  # the peak, reached after `warmup` steps; of rsqrt the factor
    warmup: int
    evaluate_every: int  # steps
    # linear: up to lr, then down; cosine: up to lr, then half a cosine; rsqrt: lr * min(1, t / W) / sqrt(max(t, W))
    schedule: Literal["linear", "cosine", "rsqrt"] = "linear"
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
    select: Literal["best", "last"] = "best"  # the checkpoint that is tested: best on validation, or the last
    select_after: float = 0.0  # quirk: no checkpoint before this fraction of the steps, though the maximum is tracked
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: float32, on CUDA bfloat16 autocast
    deterministic: bool = False  # bit-equal runs on CUDA too, slower
    gear: Literal["auto", "eager", "compiled", "captured"] = "auto"  # how a step is computed, not what

    def __post_init__(self):
        _check(self, "train", 1, math.inf, "steps", "batch", "evaluate_every")
        # Google's Retrieval ends inside its warm-up
        _check(self, "train", 0, math.inf, "warmup")
        if self.schedule != "rsqrt" and self.warmup > self.steps:
            raise ConfigError(f"train.warmup={self.warmup} must not exceed train.steps={self.steps}: set both")
        _check(self, "train", 0, math.inf, "lr", "eps", "weight_decay", "clip_at", "validation_batches")
        _check(self, "train", 0, 1, "start_lr", "end_lr", "select_after")
        _check(self, "train", 0, 1, "beta1", "beta2", below=True)
        if self.clip != "none" and self.clip_at == 0:
            raise ConfigError("train.clip_at=0 would set every gradient to 0; train.clip=none leaves them as they are")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One resolved cell; `data` is the task's own settings."""

    model: Model
    train: Train
    data: Any


def resolve(
    protocol: str, task: str, overrides: list[str], data_type: type, section: dict[str, Any] | None = None
) -> Config:
    """Protocol name or path + task + ["train.lr=3e-4", ...] -> Config. Raises ConfigError.

    section: stands in for the task's section where the protocol has none.
    """
    merged = read_protocol(protocol)
    sections = merged.get("tasks") or {}
    if not isinstance(sections, dict):
        raise ConfigError(f"protocol {protocol}: tasks: expected task names and their sections, found {sections!r}")
    if task not in sections and not section:
        raise ConfigError(f"protocol {protocol} has no section for task {task!r}; it has: {', '.join(sections)}")
    plain = merge({key: merged.get(key) or {} for key in ("model", "train", "data")}, sections.get(task, section))
    for override in overrides:
        plain = merge(plain, parse_override(override))
    return _typed(plain, data_type, f"protocol {protocol}, task {task}")


def label_of(protocol: str, config: Config, plain: Config) -> str:
    """The protocol's name in tables: 'standard', with what was set, 'standard[train.lr=0.001]'.

    plain: the configuration without overrides. A file of one's own that is called like a shipped one keeps its ending.
    """
    path = Path(protocol)
    name = path.name if path.suffix and path.stem in protocols() else path.stem
    changed = [
        f"{section}.{key}={value}"
        for section, values in as_dict(config).items()
        for key, value in values.items()
        if value != as_dict(plain)[section][key] and key != "gear"
    ]
    return f"{name}[{','.join(changed)}]" if changed else name


def as_dict(config: Config) -> dict[str, Any]:
    """The plain form that records keep."""
    return asdict(config)


def hash_of(config: Config) -> str:
    """12 hexadecimal digits over what differs from the defaults; a later field with a neutral default leaves it alone.

    The precision and the gear are left out: records keep the ones that were chosen.
    """
    sections = {field.name: getattr(config, field.name) for field in fields(config)}
    changed = {
        name: {f.name: getattr(section, f.name) for f in fields(section) if getattr(section, f.name) != f.default}
        for name, section in sections.items()
    }
    for name in ("precision", "gear"):
        changed["train"].pop(name, None)
    return identity_of(changed)


def from_dict(plain: dict[str, Any], data_type: type) -> Config:
    """The inverse of `as_dict`. Raises ConfigError when it does not fit this version."""
    return _typed(plain, data_type, "recorded configuration")


def _typed(plain: dict[str, Any], data_type: type, where: str) -> Config:
    from jsonargparse import ArgumentParser

    sections = {"model": Model, "train": Train, "data": data_type}
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
