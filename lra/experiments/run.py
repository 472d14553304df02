"""One cell: an attention, a task and a seed under one configuration; the model it stands for, and its record.

torch comes with the first function that builds, so that planning a grid and its messages stay fast.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import attention_zoo
import tasks
from lra.config import resolve as configuration
from lra.config.resolve import Config
from lra.errors import ConfigError
from lra.hashing import identity_of
from lra.results.record import RESULTS_VERSION, Record, budget_of

if TYPE_CHECKING:
    import torch

    from lra.backbones.flat import Encoder
    from lra.training.device import Place


CLASSES = 256  # a prediction is a byte


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One attention, task and seed under one resolved configuration."""

    task: str
    attention: attention_zoo.Entry
    options: dict[str, Any]
    spec: str  # as the user typed it
    row: str  # the name in tables, here of all cells that were asked for together
    protocol: str  # with its overrides
    config: Config
    seed: int
    precision: str = "float32"
    tuning: dict[str, Any] = field(default_factory=dict)  # as in `Record`
    matched: dict[str, Any] = field(default_factory=dict)  # as in `Record`
    deviations: dict[str, str] = field(default_factory=dict)  # as in `Record`

    def identity(self, data_hash: str) -> str:
        """Hash of everything that changes the result."""
        return identity_of(
            {
                "task": self.task,
                "data": data_hash,
                "config": configuration.hash_of(self.config),
                "attention": [
                    self.attention.name,
                    self.all_options(),
                    self.attention.source_hash,
                    self.attention.padding,
                ],
                "seed": self.seed,
                "precision": self.precision,
                "results_version": RESULTS_VERSION,
                **({"tuning": budget} if (budget := budget_of(self.tuning)) else {}),
            }
        )

    @property
    def data_key(self) -> str:
        """Equal for cells of one task whose `data` settings are equal: they share their data."""
        return f"{self.task} {self.config.data}"

    def length(self, spec: tasks.Spec) -> int:
        """Tokens of the longest sequence the model is built for."""
        return self.config.model.length or spec.length

    def all_options(self) -> dict[str, Any]:
        return self.attention.all_options(self.options)


def make_place(cell: Cell, spec: tasks.Spec, device: torch.device) -> Place:
    """Where and how a cell computes, and how the task's samples become its ids."""
    from lra.training.device import Place

    return Place(
        device,
        precision=cell.precision,
        length=cell.length(spec),
        whole=cell.attention.padding == "fixed",
        padded=spec.padded,
        zero_is_padding=cell.config.model.zero_is_padding,
    )


def make_model(cell: Cell, spec: tasks.Spec) -> Encoder:
    """The encoder of a cell, initialised, on the CPU.

    Raises SpecError when the mechanism refuses the sizes, ConfigError when the model is too small for the task.
    """
    from lra.backbones.flat import Encoder, initialise

    model = cell.config.model
    encoder = Encoder(
        attention_maker(cell, spec),
        vocab=model.vocab or spec.vocab,
        classes=spec.classes,
        length=cell.length(spec),
        layers=model.layers,
        dim=model.dim,
        mlp=model.mlp,
        head=model.head,
        dropout=model.dropout,
        positions=model.positions,
        pool=model.pool,
        pool_over_padding=model.pool_over_padding,
        pair=spec.pair,
    )
    initialise(encoder, seed=cell.seed, embedding_std=model.embedding_std)
    return encoder


def attention_maker(cell: Cell, spec: tasks.Spec) -> Callable[[int], attention_zoo.Attention]:
    """Layer number -> a fresh attention, its own parameters drawn from the seed and the layer."""
    import torch

    from lra.hashing import seed_of

    model = cell.config.model
    if spec.classes > CLASSES:
        raise ConfigError(f"{cell.task} has {spec.classes} classes; predictions are kept for at most {CLASSES}")
    if spec.vocab > (model.vocab or spec.vocab) or spec.length > cell.length(spec):
        raise ConfigError(
            f"{cell.task} has {spec.vocab} ids and up to {spec.length} tokens: more than model.vocab={model.vocab}, "
            f"model.length={model.length}"
        )
    if model.zero_is_padding and spec.padded:
        raise ConfigError(f"model.zero_is_padding: {cell.task} has an id of its own for padding")
    if model.grid and (spec.grid is None or model.pool == "cls"):
        raise ConfigError(f"model.grid: the tokens of {cell.task} form no grid (with pool: cls never)")
    try:
        dims = attention_zoo.Dims(
            dim=model.dim,
            heads=model.heads,
            length=cell.length(spec) + (model.pool == "cls"),
            grid=spec.grid if model.grid else None,
            dropout=model.attention_dropout,
            rope=model.positions == "rope",
        )
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error

    def make(layer: int) -> attention_zoo.Attention:
        torch.manual_seed(seed_of(cell.seed, "attention", layer))
        attention = cell.attention.build(replace(dims, layer=layer), cell.options)
        if dims.rope and getattr(type(attention), "project", None) is not attention_zoo.QKVAttention.project:
            raise attention_zoo.SpecError(f"attention {cell.row} does not take positions: rope")
        return attention

    return make


def describe(cell: Cell, data: tasks.Data, **results: Any) -> Record:
    """A record of this cell with these results; its row is named as if no other file's had the same name.

    So that the cell is found again whatever stands beside it; tables tell such rows apart themselves.
    """
    entry, own = cell.attention, tasks.file_of(cell.task)
    return Record(
        identity=cell.identity(data.hash),
        task=cell.task,
        row=cell.row.replace(f"@{entry.source_hash[:4]}", ""),
        protocol=cell.protocol,
        seed=cell.seed,
        precision=cell.precision,
        deviations=cell.deviations,
        attention={
            "name": entry.name,
            "title": entry.title,
            "paper": entry.paper,
            "options": cell.all_options(),
            "cost": entry.cost,
            "padding": entry.padding,
            "fidelity": entry.fidelity(cell.config.model.grid),
            "source_hash": entry.source_hash,
            "builtin": entry.builtin,
            "address": entry.address,
            "control": entry.control,
            **({} if entry.builtin else {"path": str(entry.path), "source": entry.source}),
            **({"beside": entry.beside} if entry.beside else {}),
            **({"reads": entry.data} if entry.data else {}),
        },
        config=configuration.as_dict(cell.config),
        config_hash=configuration.hash_of(cell.config),
        tuning=cell.tuning,
        matched=cell.matched,
        data={"hash": data.hash, **data.about, **({"file": str(own), "code": tasks.code_of(cell.task)} if own else {})},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **results,
    )
