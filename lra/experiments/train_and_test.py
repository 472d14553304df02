"""The composition root: one cell = task + attention + encoder -> train -> test -> record, and back from the record.

torch comes with the first function that computes, so that planning a grid and its messages stay fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attention_zoo
import tasks
from lra.config import resolve as configuration
from lra.config.resolve import Config
from lra.experiments.run import Cell, describe, make_model, make_padding
from lra.results.record import Record, pack
from lra.results.record import load as load_record

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from lra.backbones.flat import Encoder
    from lra.training.distributed import Group
    from lra.training.loop import Trainer
    from lra.training.progress import Progress
    from lra.training.run_folder import NoFolder, RunFolder


def train_cell(
    cell: Cell,
    data: tasks.Data,
    device: torch.device,
    folder: RunFolder | NoFolder,
    ladder: dict[str, float],
    observe: Callable[[Progress], None],
    group: Group | None = None,
) -> Record:
    """Trains one cell, or goes on with it, and tests it once. `observe` is called after every step.

    group: the processes that share the cell, this one among them; each calls this.
    """
    from lra.results.machine import reset_peak
    from lra.training.batches import check_samples
    from lra.training.device import Device, set_backends
    from lra.training.loading import release
    from lra.training.loop import Trainer
    from lra.training.step import Step

    for name in ("train", "validation", "test"):
        check_samples(name, getattr(data, name), data.spec.classes, data.spec.length)
    release(data.train, data.validation, data.test)
    reset_peak(device)
    set_backends(cell.config.train.deterministic)
    model, padding = make_model(cell, data.spec).to(device), make_padding(cell, data.spec)
    step = Step(model, cell.config.train, Device(device, cell.precision), padding, cell.seed, group)
    trainer = Trainer(step, data.train, data.validation, folder, cell.seed)
    trainer.restore()
    trainer.run(observe)
    return finish(cell, data, trainer, ladder)


def finish(cell: Cell, data: tasks.Data, trainer: Trainer, ladder: dict[str, float]) -> Record:
    """Reads the test split, once per checkpoint, and writes weights; the caller writes the record."""
    from lra.backbones.weights import count_parameters
    from lra.results.machine import environment, peak_bytes
    from lra.training.batches import validation_rows

    progress, device = trainer.progress, trainer.step.device.torch_device
    started = time.monotonic()
    tested = {} if progress.diverged_at else test(cell, data, trainer)
    progress.evaluate_seconds += time.monotonic() - started
    if not progress.diverged_at:
        labels = data.validation.labels
        rows = len(validation_rows(cell.config.train, len(labels), cell.seed, 0))
        tested["learned"] = learned(progress, labels, rows)
    best = next((point for point in progress.curve if point["step"] == progress.best_step), {})
    return describe(
        cell,
        data,
        status="diverged" if progress.diverged_at else "done",
        reason=progress.diverged_reason,
        ladder=ladder,
        parameters=count_parameters(trainer.model),  # pyright: ignore[reportArgumentType]
        curve=progress.curve,
        best_step=progress.best_step,
        validation_accuracy=best.get("validation_accuracy"),
        seconds={
            "compile": round(progress.compile_seconds, 3),
            "train": round(progress.train_seconds, 3),
            "evaluate": round(progress.evaluate_seconds, 3),
        },
        tokens_per_second=round(progress.real_tokens / max(progress.train_seconds, 1e-9), 1),
        peak_bytes=peak_bytes(device),
        environment=environment(device, trainer.step.gears.name),
        **tested,
    )


def test(cell: Cell, data: tasks.Data, trainer: Trainer) -> dict[str, Any]:
    """Fields of the record that come from the test split: of the checkpoint `train.select` names, and of the last."""
    import numpy as np

    from lra.training.batches import evaluation_rows

    labels, model = data.test.labels, trainer.model
    rows = evaluation_rows(cell.config.train, len(labels))
    last = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    predictions = trainer.test(data.test, rows)
    if predictions is None:
        return {}
    last_accuracy = float(np.mean(predictions == labels[rows]))
    if trainer.best is not None and trainer.progress.best_step != trainer.progress.step:
        model.load_state_dict(trainer.best)
        predictions = trainer.test(data.test, rows)
        if predictions is None:
            return {}
    trainer.folder.save_weights("last", last)
    trainer.folder.save_weights("best", trainer.best or last)
    accuracy = float(np.mean(predictions == labels[rows]))
    trainer.folder.summarise(trainer.progress.step, {"test_accuracy": accuracy, "test_accuracy_last": last_accuracy})
    return {
        "test_accuracy": accuracy,
        "test_accuracy_last": last_accuracy,
        "test_rows": len(rows),
        "accuracy_by": accuracy_by(data.test, rows, predictions == np.asarray(labels)[rows]),
        "predictions": pack(predictions.tobytes()),
        "correct": pack(np.packbits(predictions == np.asarray(labels)[rows]).tobytes()),
    }


def accuracy_by(split: tasks.Split, rows: np.ndarray, correct: np.ndarray) -> dict[str, dict[str, float]]:
    """Accuracy for each value of each of the task's groups, such as the root operator."""
    found = {}
    for group, (names, codes) in split.groups.items():
        mine = codes[rows]
        found[group] = {
            name: float(correct[mine == code].mean()) for code, name in enumerate(names) if (mine == code).any()
        }
    return found


def learned(progress: Progress, labels: np.ndarray, rows: int) -> bool:
    """Did validation accuracy ever leave the constant answer's binomial band, 95 % over all evaluations?

    labels: of the validation split. rows: how many of them an evaluation read.
    """
    import numpy as np

    from lra.stats import binomial_half_width

    constant = float(np.bincount(labels).max() / len(labels))
    return progress.best_accuracy > constant + binomial_half_width(constant, rows, tests=len(progress.curve))


@dataclass(frozen=True)
class Loaded:
    """A finished run: `record`, its typed `config`, and `weights` of the best checkpoint by name."""

    record: Record
    config: Config
    weights: dict[str, Tensor]

    def model(self, spec: tasks.Spec) -> Encoder:
        """The trained encoder, for a task of these sizes. Raises SpecError when the mechanism's file has changed."""
        record, about = self.record, self.record.attention
        older = about["name"] if about["builtin"] else f"{about['path']}:{about['name']}"
        spec_text = about.get("address", older)
        entry, _ = attention_zoo.find(spec_text)
        if entry.source_hash != about["source_hash"]:
            raise attention_zoo.SpecError(f"{spec_text} has changed since this run; its weights fit the older code")
        cell = Cell(
            task=record.task,
            attention=entry,
            options=about["options"],
            spec=spec_text,
            row=record.row,
            protocol=record.protocol,
            config=self.config,
            seed=record.seed,
        )
        model = make_model(cell, spec)
        model.load_state_dict(self.weights)
        return model.eval()


def load_run(path: Path) -> Loaded:
    """Path of a record -> the run. Raises RecordError or WorkError when something is missing or damaged."""
    from lra.training.run_folder import RunFolder

    record = load_record(path)
    settings = tasks.find(record.data.get("file", record.task)).settings
    weights = RunFolder(path.parent / "work" / path.stem).load_weights("best")
    return Loaded(record, configuration.from_dict(record.config, settings), weights)
