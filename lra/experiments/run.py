"""A run: one attention, task and seed under one configuration; its identity, its file name and its record.

Nothing here imports torch, so that planning a grid and its messages stay fast.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

import attention_zoo
import tasks
from lra.backbones.registry import Backbone
from lra.config.resolve import as_dict, config_hash
from lra.config.schema import Config
from lra.hashing import identity_of
from lra.results.record import RESULTS_VERSION, Record, budget_of, file_name


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One attention, task and seed under one resolved configuration."""

    task: str
    attention: attention_zoo.Entry
    options: dict[str, Any]
    spec: str  # as the user typed it
    row: str  # the name in tables, unique among the runs of one request
    protocol: str  # the protocol's name in tables, overrides included
    config: Config
    backbone: Backbone  # that of `config.model.backbone`
    seed: int
    precision: str = "float32"
    tuning: dict[str, Any] = field(default_factory=dict)  # as in `Record`
    matched: dict[str, Any] = field(default_factory=dict)  # as in `Record`
    deviations: dict[str, str] = field(default_factory=dict)  # as in `Record`
    planned: Record | None = None  # the record without results that another machine has sent; it has the paths there

    def identity(self, data_hash: str) -> str:
        """Hash of everything that changes the result."""
        return identity_of(
            {
                "task": self.task,
                "data": data_hash,
                "config": config_hash(self.config),
                "attention": self.mechanism(),
                "seed": self.seed,
                "precision": self.precision,
                "results_version": RESULTS_VERSION,
                **({"tuning": budget} if (budget := budget_of(self.tuning)) else {}),
            }
        )

    def mechanism(self) -> list[Any]:
        """The part of an identity that comes from the attention."""
        entry = self.attention
        return [entry.name, self.all_options(), entry.source_hash, entry.padding]

    def name(self, data_hash: str) -> str:
        """The name of the run's record and of its folder, without an ending."""
        return file_name(self.task, self.recorded_row, self.protocol, self.seed, self.identity(data_hash))

    @property
    def recorded_row(self) -> str:
        """The row without an `@hash` suffix, so that a file name does not depend on what else was requested.

        The report adds the suffix where two sources share a name.
        """
        return self.row.replace(f"@{self.attention.source_hash[:4]}", "")

    @property
    def data_key(self) -> str:
        """Equal for runs of one task whose `data` settings are equal: they share their data."""
        return f"{self.task} {self.config.data}"

    def length(self, spec: tasks.Spec) -> int:
        """Tokens of the longest sequence the model is built for."""
        return self.config.model.length or spec.length

    @property
    def key(self) -> tuple[str, str, int, str]:
        """Task, row, seed and protocol: they identify a run within a grid."""
        return self.task, self.row, self.seed, self.protocol

    def about(self) -> dict[str, Any]:
        """The task, row, protocol, seed and steps of the run, for `status`."""
        about = {"task": self.task, "row": self.recorded_row, "protocol": self.protocol, "seed": self.seed}
        return about | {"steps": self.config.train.steps}

    def all_options(self) -> dict[str, Any]:
        return self.attention.all_options(self.options)


def make_record(run: Run, data: tasks.Data, **results: Any) -> Record:
    """The record of a run with these results."""
    file = tasks.file_of(run.task)
    users_file = {"file": str(file), "code": tasks.code_of(run.task)} if file else {}
    attention, backbone = describe_attention(run), describe_backbone(run.backbone)
    if run.planned is not None:
        attention, backbone = run.planned.attention, run.planned.backbone
        users_file |= {"file": run.planned.data["file"]} if file else {}
    return Record(
        identity=run.identity(data.hash),
        task=run.task,
        row=run.recorded_row,
        protocol=run.protocol,
        seed=run.seed,
        precision=run.precision,
        deviations=run.deviations,
        attention=attention,
        backbone=backbone,
        config=as_dict(run.config),
        config_hash=config_hash(run.config),
        tuning=run.tuning,
        matched=run.matched,
        data={"hash": data.hash, "title": tasks.find(run.task).title, **data.about, **users_file},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **results,
    )


def describe_attention(run: Run) -> dict[str, Any]:
    """The record's entry for the attention: what a table needs, and a user's source, to build it again."""
    entry = run.attention
    about = {
        "name": entry.name,
        "title": entry.title,
        "paper": entry.paper,
        "options": run.all_options(),
        "cost": entry.cost,
        "padding": entry.padding,
        "family": entry.family,
        "control": entry.control,
        "fidelity": entry.fidelity(run.config.model.grid, run.options),
        "source_hash": entry.source_hash,
        "builtin": entry.builtin,
        "address": entry.address,
    }
    if isinstance(entry, attention_zoo.Stack) and entry.by_stage:
        about["by_stage"] = True
    if isinstance(entry, attention_zoo.Stack) and not entry.builtin:
        about["parts"] = [
            {
                "name": part.name,
                "title": part.title,
                "paper": part.paper,
                "builtin": part.builtin,
                "source_hash": part.source_hash,
                "suffix": part.row(options).removeprefix(part.name),
            }
            | texts_of(part)
            for part, options in entry.parts
        ]
    return about | texts_of(entry)


def describe_backbone(backbone: Backbone) -> dict[str, Any]:
    """The record's entry for the backbone, with a user's source."""
    about = {"name": backbone.name, "title": backbone.title, "paper": backbone.paper, "builtin": backbone.builtin}
    return about | {"source_hash": backbone.source_hash, "address": backbone.address} | texts_of(backbone)


def texts_of(entry: attention_zoo.Entry | Backbone) -> dict[str, Any]:
    """A user's file, the files beside it that it uses, and the hashes of the data that it reads; {} for a built-in."""
    if entry.builtin:
        return {}
    texts: dict[str, Any] = {"path": str(entry.path), "source": entry.source}
    return texts | {name: value for name, value in (("beside", entry.beside), ("reads", entry.data)) if value}
