"""The composition root: one cell = task + attention + encoder -> train -> record. Only this module sees them all.

torch comes with the first function that computes, so that planning a grid and its messages stay fast.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attention_zoo
import tasks
from lra import config as configuration
from lra.config import Config
from lra.errors import ConfigError
from lra.record import RESULTS_VERSION, Record, identity_of, pack
from lra.record import load as load_record

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lra.encoder import Encoder
    from lra.engine import Place
    from lra.train import Progress, Trainer
    from lra.work import Work


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One attention, task and seed under one resolved configuration."""

    task: str
    attention: attention_zoo.Entry
    options: dict[str, Any]
    row: str  # the name in tables
    protocol: str  # with its overrides
    config: Config
    seed: int
    precision: str = "float32"

    def identity(self, data_hash: str) -> str:
        """Hash of everything that changes the result."""
        return identity_of(
            {
                "task": self.task,
                "data": data_hash,
                "config": configuration.as_dict(self.config),
                "attention": [self.attention.name, self.all_options(), self.attention.source_hash],
                "seed": self.seed,
                "precision": self.precision,
                "results_version": RESULTS_VERSION,
            }
        )

    def all_options(self) -> dict[str, Any]:
        return {name: default for name, (_, default) in self.attention.options.items()} | self.options


def build_attention(
    spec: str, *, dim: int, heads: int, length: int, grid: tuple[int, int] | None = None, dropout: float = 0.0
) -> attention_zoo.Attention:
    """One attention by spec, outside any encoder. Raises SpecError."""
    entry, options = attention_zoo.find(spec)
    return entry.build(attention_zoo.Dims(dim=dim, heads=heads, length=length, grid=grid, dropout=dropout), options)


def make_model(cell: Cell, spec: tasks.Spec) -> Encoder:
    """The encoder of a cell, initialised, on the CPU. Raises SpecError when the mechanism refuses the sizes."""
    import torch

    from lra.encoder import Encoder, initialise, seed_of

    model = cell.config.model
    length = model.length or spec.length
    if spec.vocab > (model.vocab or spec.vocab) or spec.length > length:
        raise ConfigError(
            f"{cell.task} has {spec.vocab} ids and up to {spec.length} tokens: more than model.vocab={model.vocab}, "
            f"model.length={model.length}"
        )
    if model.grid and spec.grid is None:
        raise ConfigError(f"model.grid: the tokens of {cell.task} form no grid")
    dims = attention_zoo.Dims(
        dim=model.dim,
        heads=model.heads,
        length=length,
        grid=spec.grid if model.grid else None,
        dropout=model.attention_dropout,
        rope=model.positions == "rope",
    )

    def make_attention(layer: int) -> attention_zoo.Attention:
        torch.manual_seed(seed_of(cell.seed, "attention", layer))
        attention = cell.attention.build(dims, cell.options)
        if dims.rope and not isinstance(attention, attention_zoo.QKVAttention):
            raise attention_zoo.SpecError(f"attention {cell.row} does not take positions: rope")
        return attention

    encoder = Encoder(
        make_attention,
        vocab=model.vocab or spec.vocab,
        classes=spec.classes,
        length=length,
        layers=model.layers,
        dim=model.dim,
        mlp=model.mlp,
        head=model.head,
        dropout=model.dropout,
        positions=model.positions,
        pool_over_padding=model.pool_over_padding,
    )
    initialise(encoder, seed=cell.seed, embedding_std=model.embedding_std)
    return encoder


def check_cell(cell: Cell, spec: tasks.Spec) -> None:
    """Builds the model without memory. Raises SpecError or ConfigError for sizes that do not fit."""
    import torch

    with torch.device("meta"):
        make_model(cell, spec)


def train_cell(
    cell: Cell,
    data: tasks.Data,
    place: Place,
    work: Work,
    ladder: dict[str, float],
    observe: Callable[[Progress], None],
) -> Record:
    """Trains one cell, or goes on with it, and tests it once. `observe` is called after every step."""
    from lra.engine import Step
    from lra.measure import reset_peak
    from lra.train import Trainer

    reset_peak(place.device)
    model = make_model(cell, data.spec).to(place.device)
    step = Step(model, cell.config.train, place, cell.seed)
    trainer = Trainer(step, data.train, data.validation, work, cell.seed)
    trainer.restore()
    trainer.run(observe)
    return finish(cell, data, trainer, ladder)


def finish(cell: Cell, data: tasks.Data, trainer: Trainer, ladder: dict[str, float]) -> Record:
    """Reads the test split, once per checkpoint, and writes weights; the caller writes the record."""
    from lra.encoder import count_parameters
    from lra.measure import environment, peak_bytes

    progress, place = trainer.progress, trainer.step.place
    started = time.monotonic()
    tested = {} if progress.diverged_at else test(cell, data, trainer)
    progress.evaluate_seconds += time.monotonic() - started
    if not progress.diverged_at:
        tested["learned"] = learned(progress, ladder, len(data.validation.labels))
    best = next((point for point in progress.curve if point["step"] == progress.best_step), {})
    return describe(
        cell,
        data,
        status="diverged" if progress.diverged_at else "done",
        reason=f"loss not finite at step {progress.diverged_at}" if progress.diverged_at else "",
        ladder=ladder,
        parameters=count_parameters(trainer.model),  # pyright: ignore[reportArgumentType]
        curve=progress.curve,
        best_step=progress.best_step,
        validation_accuracy=best.get("validation_accuracy"),
        seconds={"train": round(progress.train_seconds, 3), "evaluate": round(progress.evaluate_seconds, 3)},
        tokens_per_second=round(progress.real_tokens / max(progress.train_seconds, 1e-9), 1),
        peak_bytes=peak_bytes(place.device),
        environment=environment(place.device),
        **tested,
    )


def test(cell: Cell, data: tasks.Data, trainer: Trainer) -> dict[str, Any]:
    """Fields of the record that come from the test split: best checkpoint by validation, and the last one."""
    import numpy as np

    from lra.engine import evaluate
    from lra.train import evaluation_rows

    labels, place, model = data.test.labels, trainer.step.place, trainer.model
    rows = evaluation_rows(cell.config.train, len(labels))
    last = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    predictions, _ = evaluate(model, data.test, rows, place)
    last_accuracy = float(np.mean(predictions == labels[rows]))
    if trainer.best is not None and trainer.progress.best_step != trainer.progress.step:
        model.load_state_dict(trainer.best)
        predictions, _ = evaluate(model, data.test, rows, place)
    trainer.work.save_weights("last", last)
    trainer.work.save_weights("best", trainer.best or last)
    return {
        "test_accuracy": float(np.mean(predictions == labels[rows])),
        "test_accuracy_last": last_accuracy,
        "test_rows": len(rows),
        "accuracy_by": accuracy_by(data.test, rows, predictions == np.asarray(labels)[rows]),
        "predictions": pack(predictions.tobytes()),
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


def learned(progress: Progress, ladder: dict[str, float], rows: int) -> bool:
    """Did validation accuracy ever leave the 95 % binomial band around the constant answer?"""
    from lra.stats import binomial_half_width

    constant = next(iter(ladder.values()), 0.0)
    return progress.best_accuracy > constant + binomial_half_width(constant, rows)


def describe(cell: Cell, data: tasks.Data, **results: Any) -> Record:
    """A record of this cell with these results."""
    entry = cell.attention
    return Record(
        identity=cell.identity(data.hash),
        task=cell.task,
        row=cell.row,
        protocol=cell.protocol,
        seed=cell.seed,
        precision=cell.precision,
        attention={
            "name": entry.name,
            "title": entry.title,
            "options": cell.all_options(),
            "cost": entry.cost,
            "fidelity": f"adapted: {entry.adapted}" if entry.adapted and not cell.config.model.grid else "official",
            "source_hash": entry.source_hash,
            "builtin": entry.builtin,
            **({} if entry.builtin else {"path": str(entry.path), "source": entry.source}),
        },
        config=configuration.as_dict(cell.config),
        data={"hash": data.hash, **data.about},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **results,
    )


@dataclass(frozen=True)
class Loaded:
    """A finished run: `record`, its typed `config`, and `weights` of the best checkpoint by name."""

    record: Record
    config: Config
    weights: dict[str, Tensor]

    def model(self, spec: tasks.Spec) -> Encoder:
        """The trained encoder, for a task of these sizes. Raises SpecError when a user's file is gone."""
        record = self.record
        place = record.attention["name"] if record.attention["builtin"] else record.attention["path"]
        entry, _ = attention_zoo.find(place)
        cell = Cell(
            task=record.task,
            attention=entry,
            options=record.attention["options"],
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
    from lra.work import Work

    record = load_record(path)
    settings = tasks.find(record.task).settings
    weights = Work(path.parent / "work" / path.stem).load_weights("best")
    return Loaded(record, configuration.from_dict(record.config, settings), weights)
