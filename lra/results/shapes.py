"""The known keys, with their types, of the sections of a record that are declared as dict[str, Any].

A section may lack any of them, as older records do, and hold others, which are shown but not computed with.
"""

from typing import Any, TypedDict

Scalar = str | int | float | bool | None
Setting = Scalar | list[Any]  # such as model.stages


class Mechanism(TypedDict, total=False):
    """The sections `attention` and `backbone`."""

    name: str
    title: str
    paper: str
    cost: str
    padding: str
    fidelity: str
    source_hash: str
    address: str
    path: str
    source: str
    builtin: bool
    control: bool
    by_stage: bool
    options: dict[str, str | int | float | bool]
    beside: dict[str, str]
    reads: dict[str, str]
    suffix: str
    parts: list["Mechanism"]


class Data(TypedDict, total=False):
    """The section `data`."""

    task: str
    title: str
    label: str
    hash: str
    source: str
    terms: str
    split_rule: str
    revision: str | None
    rows: dict[str, int]
    settings: dict[str, Any]
    sha256: dict[str, str]
    leakage: dict[str, dict[str, float]]
    file: str
    code: str | None


class ModelSection(TypedDict, total=False):
    """The section `config.model`."""

    backbone: str
    layers: int
    dim: int
    heads: int
    mlp: int


class TrainSection(TypedDict, total=False):
    """The section `config.train`."""

    steps: int
    batch: int
    lr: float
    warmup: int
    validation_batches: int


class Config(TypedDict, total=False):
    """The section `config`."""

    model: ModelSection
    train: TrainSection
    data: dict[str, Any]


class Tuning(TypedDict, total=False):
    """The section `tuning`."""

    values: dict[str, list[Setting]]
    pilots: int
    pilot: bool
    pilot_seed: int
    select: str
    config_hash: str
    chosen: dict[str, Setting]
    validation_accuracy: list[dict[str, Setting]]


class Matched(TypedDict, total=False):
    """The section `matched`."""

    to: str
    mlp: int
    protocol_mlp: int
    difference: float
    config_hash: str


class Pretraining(TypedDict, total=False):
    """The section `pretraining`."""

    identity: str
    by: str
    shared: bool
    share: float
    steps: int
    seconds: dict[str, float]
    tokens: int
    curve: list[dict[str, float]]
    blind: dict[str, Any]
    gear: str
    weights: str
    reason: str


class Environment(TypedDict, total=False):
    """The section `environment`."""

    device: str | None
    device_name: str | None
    commit: str | None
    dirty: bool | None
    torch: str | None
    numpy: str | None
    python: str | None
    cuda: str | None
    platform: str | None
    gear: str | None
    threads: int | None
    processes: int | None
    cores: int | None
