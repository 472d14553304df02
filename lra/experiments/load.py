"""From the record of a finished run back to its configuration, its weights and its model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attention_zoo
import tasks
from lra.config.resolve import from_dict
from lra.config.schema import Config
from lra.console import say
from lra.errors import ConfigError
from lra.experiments.backbone import DEFAULT, Backbone, find_backbone
from lra.experiments.data import find_task
from lra.experiments.run import Run
from lra.results.record import Record
from lra.results.record import load as load_record

if TYPE_CHECKING:
    from torch import Tensor

    from lra.backbones import Classifier


@dataclass(frozen=True)
class Loaded:
    """A finished run: `record`, its typed `config`, and `weights` of the best checkpoint by name."""

    record: Record
    config: Config
    weights: dict[str, Tensor]

    def model(self, spec: tasks.Spec) -> Classifier:
        """The trained model, for a task of these sizes. Raises SpecError when its attention cannot be had any more."""
        from lra.experiments.build import make_model

        record = self.record
        entry = find_attention(record.attention)
        run = Run(
            task=record.task,
            attention=entry,
            options=record.attention["options"],
            spec=entry.address,
            row=record.row,
            protocol=record.protocol,
            config=self.config,
            backbone=find_backbone(self.config.model.backbone),
            seed=record.seed,
        )
        model = make_model(run, spec)
        model.load_state_dict(self.weights)
        return model.eval()


def load_run(path: Path) -> Loaded:
    """The run of a record. Raises RecordError, WorkError or DataError when something is missing or damaged."""
    from lra.training.run_folder import RunFolder

    record = load_record(path)
    config = config_of(record)
    weights = RunFolder(path.parent / "work" / path.stem).load_weights("best")
    return Loaded(record, config, weights)


def config_of(record: Record) -> Config:
    """The typed configuration of a record. Raises DataError or ConfigError where its task or backbone is gone."""
    backbone = recorded_backbone(record.backbone) if record.backbone else find_backbone(DEFAULT)
    return from_dict(record.config, tasks.find(task_of(record)).settings, backbone.keys)


def recorded_backbone(about: dict[str, Any]) -> Backbone:
    """The backbone of a record. about: its section `backbone`.

    A user's file that is gone, or has changed, is written anew from the texts in the record. Raises ConfigError.
    """
    try:
        backbone = find_backbone(about["address"])
        if backbone.source_hash == about["source_hash"]:
            return backbone
        problem = f"{about['address']} has changed since this run"
    except ConfigError as error:
        if about["builtin"]:
            raise
        problem = f"{about['address']} cannot be used any more ({error})"
    file = _write("backbones", about["source"], Path(about["path"]).name, about.get("beside", {}))
    backbone = find_backbone(f"{file}:{about['name']}")
    if backbone.source_hash != about["source_hash"]:
        raise ConfigError(f"{problem}, and the texts in the record are not all that it was made of")
    say(f"{problem}: the backbone is taken from its text in the record")
    return backbone


def task_of(record: Record) -> str:
    """The name under which `tasks.find` knows the task of a record.

    A user's file that is no longer there is written anew, from the text in the record. Raises DataError.
    """
    path, code = record.data.get("file"), record.data.get("code")
    if path is None:
        return record.task
    if code and not Path(path).expanduser().is_file() and tasks.file_of(record.task) is None:
        say(f"{path} is gone: the task is taken from its text in the record")
        return find_task(str(_write("tasks", code, Path(path).name, {}))).name
    return find_task(path if Path(path).is_file() else record.task).name


def find_attention(about: dict[str, Any]) -> attention_zoo.Entry:
    """The attention of a record. about: its section `attention`.

    A user's file that is gone, or has changed, is written anew from the texts in the record, which must have the hash
    of the code that ran. Raises SpecError where they have not, or the record holds no text.
    """
    older = about["name"] if about["builtin"] else f"{about.get('path')}:{about['name']}"
    address = about.get("address", older)
    try:
        entry, _ = attention_zoo.find(address)
        if entry.source_hash == about["source_hash"]:
            return entry
        problem = f"{address} has changed since this run"
    except attention_zoo.SpecError as error:
        if about["builtin"]:
            raise
        problem = f"{address} cannot be used any more ({error})"
    parts = about.get("parts") or [about]
    if about["builtin"] or not all(part["builtin"] or part.get("source") for part in parts):
        raise attention_zoo.SpecError(f"{problem}; its weights fit the older code")
    count = "*1" if about.get("by_stage") else ""
    entry, _ = attention_zoo.find("+".join(_recovered(part) + count for part in parts))
    if entry.source_hash != about["source_hash"]:
        raise attention_zoo.SpecError(f"{problem}, and the texts in the record are not all that it was made of")
    say(f"{problem}: the attention is taken from its text in the record")
    return entry


def _recovered(part: dict[str, Any]) -> str:
    """A spec of this attention from the record's texts; of a built-in one, its name."""
    options = part.get("suffix", "")
    if part["builtin"]:
        return part["name"] + options
    path = _write("attentions", part["source"], Path(part["path"]).name, part.get("beside", {}))
    return f"{path}:{part['name']}{options}"


def _write(kind: str, text: str, name: str, beside: dict[str, str]) -> Path:
    """Writes a user's file, and those beside it, to a folder of the cache that is named by what is in them."""
    from lra.hashing import identity_of
    from lra.results.files import write_atomically

    folder = tasks.cache_folder() / "recovered" / kind / identity_of({"text": text, "beside": beside})
    for file, content in {**beside, name: text}.items():
        path = folder / file
        if folder.resolve() not in path.resolve().parents:
            continue  # a record from elsewhere writes nothing outside
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.encode())
    return folder / name
