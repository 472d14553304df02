"""From the record of a finished run back to its configuration, its weights and its model."""

from __future__ import annotations

from collections.abc import Iterable
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
from lra.experiments.data import find_task, prepare_data
from lra.experiments.fresh_state import kept_generators
from lra.experiments.prepared import batch_of
from lra.experiments.run import Run
from lra.experiments.trust import REFUSAL, is_the_file, is_trusted
from lra.results.layout import BEST, work_folder
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

    def data(self, data_dir: Path | None = None) -> tasks.Data:
        """The splits that the run was trained and tested on. data_dir: as --data-dir. Raises DataError."""
        name, wanted = task_of(self.record), str(self.record.data.get("hash"))
        data = tasks.find_by_hash(tasks.cache_folder(), name, wanted) or prepare_data(name, self.config, data_dir)
        if data.hash != wanted:
            raise tasks.DataError(
                f"{self.record.name} was trained on data {wanted}, here is {data.hash}: name the folder of its files, "
                "as data_dir or --data-dir"
            )
        return data

    def batch(
        self, rows: Iterable[int], split: str = "test", data_dir: Path | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Rows of a split as the model takes them; see `batch_of`. Raises as `data` does."""
        return batch_of(run_of(self.record, self.config), self.data(data_dir), rows, split)

    def model(self, sizes: tasks.Spec | None = None, data_dir: Path | None = None) -> Classifier:
        """The trained model, in evaluation mode. sizes: of the task; None takes those of `data`.

        The caller's generators of random numbers stay as they were. Raises SpecError or ConfigError when its attention
        or backbone cannot be used any more, and DataError.
        """
        from lra.experiments.build import make_model

        run, sizes = run_of(self.record, self.config), sizes or self.data(data_dir).spec
        with kept_generators():
            model = make_model(run, sizes)
        model.load_state_dict(self.weights)
        return model.eval()


def load_run(path: Path) -> Loaded:
    """The run of a record. Raises RecordError, WorkError, DataError or ConfigError if a part is missing or damaged."""
    from lra.training.run_folder import RunFolder

    record = load_record(path)
    config = config_of(record)
    weights = RunFolder(work_folder(path.parent, path.stem)).load_weights(BEST)
    return Loaded(record, config, weights)


def run_of(record: Record, config: Config) -> Run:
    """The run of a record. config: as `config_of` gives it. Raises SpecError or ConfigError."""
    entry = find_attention(record.attention)
    return Run(
        task=record.task,
        attention=entry,
        options=record.attention["options"],
        spec=entry.address,
        row=record.row,
        protocol=record.protocol,
        config=config,
        backbone=backbone_of(record),
        seed=record.seed,
        precision=record.precision,
        tuning=record.tuning,
        matched=record.matched,
        deviations=record.deviations,
    )


def config_of(record: Record) -> Config:
    """The typed configuration of a record. Raises DataError or ConfigError where its task or backbone is gone."""
    backbone = backbone_of(record)
    config = from_dict(record.config, tasks.find(task_of(record)).settings, backbone.keys)
    if config.model.backbone != backbone.value:
        raise ConfigError(f"the record names two backbones: {config.model.backbone!r} and {backbone.value!r}")
    return config


def backbone_of(record: Record) -> Backbone:
    """The backbone of a record, as `find_attention` finds its attention. Raises ConfigError."""
    about = record.backbone
    name, source_hash = about.get("name", DEFAULT), about.get("source_hash", "")
    if about.get("builtin", True):
        if ".py" in name:
            raise ConfigError(f"the record calls the file {name!r} a built-in backbone")
        return find_backbone(name)
    address, problem = _address(about, "backbone")
    try:
        backbone = find_backbone(address)
    except ConfigError as error:
        raise ConfigError(f"{problem}{error}") from error
    if backbone.source_hash != source_hash:
        raise ConfigError(f"{problem}the record does not hold all of its backbone's code")
    return backbone


def task_of(record: Record) -> str:
    """The name under which `tasks.find` knows the task of a record.

    A user's file that is gone, or has changed, is written anew from the text in the record. Raises DataError.
    """
    path, code = record.data.get("file"), record.data.get("code")
    if path is None or tasks.file_of(record.task) is not None:
        return record.task
    if not code or not is_trusted(code, {}):
        raise tasks.DataError(f"task {record.task} of {path}: {REFUSAL}")
    if not is_the_file(path, code, {}, "task"):
        say(f"{path} is gone or has changed: the task is taken from its text in the record")
        path = str(_write("tasks", code, Path(path).name, {}))
    return find_task(path).name


def find_attention(about: dict[str, Any]) -> attention_zoo.Entry:
    """The attention of a record. about: its section `attention`.

    A user's file is imported if it has the text in the record; if it is gone, or has changed, it is written anew from
    that text. The text must have run here before, and have the hash of the code that ran. Raises SpecError.
    """
    if missing := [key for key in ("name", "builtin", "source_hash") if key not in about]:
        raise attention_zoo.SpecError(f"the record lacks the {missing[0]} of its attention")
    parts = about.get("parts") or [about]
    count = "*1" if about.get("by_stage") else ""
    specs = [_part_of(part) for part in parts]
    address = about.get("address", about["name"]) if about["builtin"] else "+".join(spec + count for spec, _ in specs)
    if about["builtin"]:
        _check_ours(address)
    problem = "".join(problem for _, problem in specs)
    try:
        entry, _ = attention_zoo.find(address)
    except attention_zoo.SpecError as error:
        raise attention_zoo.SpecError(f"{problem}{error}") from error
    if entry.source_hash != about["source_hash"]:
        problem = problem or f"{about['name']} has changed since this run; "
        rest = "its weights fit the older code" if about["builtin"] else "the record does not hold all of its code"
        raise attention_zoo.SpecError(f"{problem}{rest}")
    return entry


def _check_ours(spec: str) -> None:
    """Raises SpecError where a record calls the path of a file a built-in attention."""
    if ".py" in spec:
        raise attention_zoo.SpecError(f"the record calls the file {spec!r} a built-in attention")


def _part_of(part: dict[str, Any]) -> tuple[str, str]:
    """The spec of one attention, from the record, and why it is not the file that ran, or ''. Raises SpecError."""
    options = part.get("suffix", "")
    if part.get("builtin", True):
        _check_ours(part.get("name", "") + options)
        return part.get("name", "") + options, ""
    try:
        address, problem = _address(part, "attention")
    except ConfigError as error:
        raise attention_zoo.SpecError(str(error)) from error
    return address + options, problem


def _address(about: dict[str, Any], kind: str) -> tuple[str, str]:
    """The address of a user's attention or backbone, and why it is not the file that ran, or ''.

    about: its section in the record. Raises ConfigError where its code may not run.
    """
    path, text, beside, name = (about.get(key, "") for key in ("path", "source", "beside", "name"))
    beside = beside or {}
    if not text or not name:
        raise ConfigError(f"{path}: the record holds no {'text' if name else 'name'} of its {kind}")
    if not is_trusted(text, beside):
        raise ConfigError(f"{kind} {name} of {path}: {REFUSAL}")
    if is_the_file(path, text, beside, kind):
        return f"{path}:{name}", ""
    say(f"{path} is gone or has changed: the {kind} is taken from its text in the record")
    return (
        f"{_write(f'{kind}s', text, Path(path).name, beside)}:{name}",
        f"{path} has changed since this run; ",
    )


def _write(kind: str, text: str, name: str, beside: dict[str, str]) -> Path:
    """Writes a user's file, and those beside it, to a folder of the cache that is named by what is in them."""
    from lra.hashing import identity_of
    from lra.results.files import write_atomically

    folder = tasks.cache_folder() / "recovered" / kind / identity_of({"text": text, "beside": beside})
    for file, content in {**beside, name: text}.items():
        path = folder / file
        if folder.resolve() not in path.resolve().parents:
            continue  # a record may come from anywhere, so it must not write outside the folder
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.encode())
    return folder / name
