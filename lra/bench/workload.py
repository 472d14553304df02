"""What a measurement runs on: an attention in its encoder, and batches, of one length or as a task has them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attention_zoo
import tasks
from lra.config import resolve as configuration
from lra.experiments.data import load_task_data, resolve_for
from lra.experiments.plan import ARENA, Request, name_rows, plan
from lra.experiments.run import Run
from lra.results.bench_record import UNIFORM

if TYPE_CHECKING:
    import numpy as np

    from lra.backbones.flat import Encoder

UNIFORM_TASK = "text"  # whose section of a protocol the model of uniform batches has: bytes, as in the LRA paper
UNIFORM_SPEC = tasks.Spec(vocab=256, classes=2, length=1, padded=False)
INTERPOLATED = 16  # lengths at which FLOPs are counted when a batch has more different ones


@dataclass(frozen=True, kw_only=True)
class Job:
    """One cell of a bench, in plain values, so that it can be handed to a process of its own.

    shape: "uniform", with `length` tokens in every sequence, or a task. batch 0: the protocol's. gear "auto": the
    protocol's. repeats: timed blocks of steps. budget: seconds for all steps. memory: bytes the process may take, on a
    CPU, 0 for no limit. threads 0: torch's choice.
    """

    spec: str
    row: str
    shape: str
    length: int
    batch: int
    mode: str
    gear: str = "auto"
    device: str = "auto"
    protocol: str = "standard"
    overrides: tuple[str, ...] = ()
    data_dir: str = ""
    repeats: int = 10
    budget: float = 60.0
    memory: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Workload:
    """A resolved cell, its sizes, and the samples its batches are drawn from."""

    cell: Run
    spec: tasks.Spec
    samples: tasks.Split


def rows_of(specs: list[str]) -> dict[str, str]:
    """Specs and `all` -> their names in tables, each once. Raises SpecError."""
    specs = [spec for asked in specs for spec in (attention_zoo.names() if asked == "all" else [asked])]
    found = [attention_zoo.find(spec) for spec in specs]
    rows = dict(zip(name_rows(found), specs, strict=True))
    return {spec: row for row, spec in rows.items()}


def task_names(asked: list[str]) -> list[str]:
    """Names and `all` -> tasks. Raises DataError."""
    return list(dict.fromkeys(task for name in asked for task in (ARENA if name == "all" else [tasks.find(name).name])))


def resolve(job: Job) -> Run:
    """The cell of a job. Raises SpecError, DataError or ConfigError; needs no data and no torch."""
    overrides = list(job.overrides)
    if job.gear != "auto":
        overrides.append(f"train.gear={job.gear}")
    if job.batch:
        overrides.append(f"train.batch={job.batch}")
    task = UNIFORM_TASK if job.shape == UNIFORM else job.shape
    asked = Request(attentions=[job.spec], tasks=[task], seeds=[0], protocol=job.protocol, overrides=tuple(overrides))
    plain, shown = (resolve_for(task, job.protocol, list(some)) for some in ((), job.overrides))
    cell = replace(plan(asked)[0], row=job.row, protocol=configuration.label_of(job.protocol, shown, plain))
    if job.shape == UNIFORM:
        model = replace(cell.config.model, length=job.length, vocab=0, grid=False, zero_is_padding=False)
        cell = replace(cell, config=replace(cell.config, model=model))
    return cell


def prepare(job: Job, cell: Run) -> Workload:
    """Draws or finds the samples. Raises DataError."""
    if job.shape == UNIFORM:
        return Workload(cell, replace(UNIFORM_SPEC, length=job.length), uniform(job.length, cell.config.train.batch))
    data = load_task_data(cell.task, cell.config, Path(job.data_dir) if job.data_dir else None).data
    return Workload(cell, data.spec, data.train)


def uniform(length: int, rows: int) -> tasks.Split:
    """Random bytes, (rows, length), every sequence of full length."""
    import numpy as np

    random = np.random.default_rng(0)
    values = random.integers(0, UNIFORM_SPEC.vocab, (rows, length), dtype=np.uint8)
    labels = random.integers(0, UNIFORM_SPEC.classes, rows)
    return tasks.Split(values, np.full(rows, length, dtype=np.int32), labels)


def about(job: Job, cell: Run) -> dict[str, Any]:
    """The fields of a bench record that are known before anything is measured."""
    entry = cell.attention
    return {
        "row": cell.row,
        "shape": job.shape,
        "protocol": cell.protocol,
        "length": cell.config.model.length or job.length,
        "batch": cell.config.train.batch,
        "mode": job.mode,
        "gear": job.gear,
        "precision": cell.precision,
        "attention": {
            "name": entry.name,
            "title": entry.title,
            "cost": entry.cost,
            "options": cell.all_options(),
            "source_hash": entry.source_hash,
        },
        "model": asdict(cell.config.model),
    }


def count_flops(model: Encoder, lengths: np.ndarray, pair: bool, training: bool) -> float:
    """Operations on sequences of these lengths, each at its own length, without padding. Raises CountError.

    Of more than 16 different lengths, counted at 16 of them and interpolated between.
    """
    import numpy as np
    import torch

    from lra.bench.flops import flops

    def of(length: int) -> float:
        ids = torch.zeros((1, 2, length) if pair else (1, length), dtype=torch.long, device=device)
        return flops(model, ids, None, training=training) / (1 + pair)

    device = next(model.parameters()).device
    knots = np.unique(lengths)
    if len(knots) > INTERPOLATED:
        knots = np.unique(np.quantile(knots, np.linspace(0, 1, INTERPOLATED)).astype(int))
    return float(np.interp(lengths, knots, [of(int(length)) for length in knots]).sum())
