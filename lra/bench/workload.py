"""What is measured: an attention in its model, on batches of one length or on batches of a task's samples."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attention_zoo
import tasks
from lra.config.resolve import label_of
from lra.errors import ConfigError
from lra.experiments.data import prepare_data, resolve_for
from lra.experiments.plan import Request, expand_attentions, name_rows, plan
from lra.experiments.run import Run
from lra.results.bench_record import UNIFORM

if TYPE_CHECKING:
    import numpy as np

    from lra.backbones import Classifier

UNIFORM_TASK = "text"  # batches of one length use the model of this task: bytes, as in the LRA paper
UNIFORM_SPEC = tasks.Spec(vocab=256, classes=2, length=1, padded=False)
INTERPOLATED = 16  # a batch with more different lengths than this has its FLOPs counted at this many of them


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One measurement, in plain values that can be sent to a process of its own.

    spec: the attention as the user typed it. row: its name in tables. shape: a task, or "uniform" for sequences that
    all have `length` tokens. batch 0: the protocol's. mode: "training" or "forward". gear "auto": the protocol's.
    repeats: timed blocks of steps. budget: seconds for all steps. memory: bytes that the processes may take on a CPU, 0
    for no limit. threads 0: torch's choice. processes: how many share each step, on a CPU. whole_run: the step is that
    of a whole run, in the run's gear, on samples that need not be prepared first. cache: folder for compiled code, ""
    for the user's. cold: the cache is empty. file: of a user's task, to be imported by the process.

    Without spec, row, shape and length, a timing is the template of a `BenchRequest`.
    """

    spec: str = ""
    row: str = ""
    shape: str = UNIFORM
    length: int = 0
    batch: int = 0
    mode: str = "training"
    gear: str = "auto"
    device: str = "auto"
    protocol: str = "standard"
    overrides: tuple[str, ...] = ()
    data_dir: str = ""
    repeats: int = 10
    budget: float = 60.0
    memory: int = 0
    threads: int = 0
    processes: int = 1
    whole_run: bool = False
    cache: str = ""
    cold: bool = False
    file: str = ""


@dataclass(frozen=True)
class Workload:
    """A resolved run, the sizes of its task, and the samples its batches are drawn from.

    evaluated: how many samples the validation and the test split have, 0 where there are none.
    """

    run: Run
    spec: tasks.Spec
    samples: tasks.Split
    evaluated: tuple[int, int] = (0, 0)


def rows_of(specs: list[str]) -> dict[str, str]:
    """Specs and `all` -> the name in tables of each spec, without repetitions. Raises SpecError."""
    specs = expand_attentions(specs)
    rows = dict(zip(name_rows([attention_zoo.find(spec) for spec in specs]), specs, strict=True))
    return {spec: row for row, spec in rows.items()}


def resolve(timing: Timing) -> Run:
    """The run that is timed. Raises SpecError, DataError or ConfigError; needs neither data nor torch."""
    overrides = list(timing.overrides)
    if timing.gear != "auto":
        overrides.append(f"train.gear={timing.gear}")
    if timing.batch:
        overrides.append(f"train.batch={timing.batch}")
    task, protocol = UNIFORM_TASK if timing.shape == UNIFORM else timing.shape, timing.protocol
    request = Request(attentions=[timing.spec], tasks=[task], seeds=[0], protocol=protocol, overrides=tuple(overrides))
    plain, labelled = (resolve_for(task, protocol, list(changes)) for changes in ((), timing.overrides))
    run = replace(plan(request)[0], row=timing.row, protocol=label_of(protocol, labelled, plain))
    if timing.shape == UNIFORM:
        for key in ("grid", "zero_is_padding"):
            if getattr(run.config.model, key):
                raise ConfigError(f"model.{key}=true: a sequence of --lengths has none; time a task: --task image")
        model = replace(run.config.model, length=timing.length, vocab=0, grid=False, zero_is_padding=False)
        run = replace(run, config=replace(run.config, model=model))
    return run


def prepare(timing: Timing, run: Run) -> Workload:
    """Draws the samples, or finds the task's. Raises DataError."""
    from lra.bench import samples as samples_of

    if timing.shape == UNIFORM:
        samples = samples_of.uniform(timing.length, run.config.train.batch)
        return Workload(run, replace(UNIFORM_SPEC, length=timing.length), samples)
    data_dir = Path(timing.data_dir) if timing.data_dir else None
    if timing.whole_run and run.task in samples_of.LIKE:
        return Workload(run, *samples_of.few(run, data_dir))
    data = prepare_data(run.task, run.config, data_dir)
    return Workload(run, data.spec, data.train, (len(data.validation.labels), len(data.test.labels)))


def steps_of_run(timing: Timing, work: Workload) -> float:
    """Steps of a whole run in this mode, for evaluations samples / batch; 0 for a timing that is no run's step."""
    train, (validation, test) = work.run.config.train, work.evaluated
    if timing.batch or timing.shape == UNIFORM:
        return 0.0
    if timing.mode == "training":
        return float(train.steps)
    evaluations = -(-train.steps // train.evaluate_every)
    each = train.validation_batches * train.batch or validation
    reads = 2 if train.select == "best" else 1  # of the test split: the last weights and the best
    return (evaluations * each + reads * test) / train.batch


def about(timing: Timing, run: Run) -> dict[str, Any]:
    """The fields of a bench record that are known before anything is measured."""
    entry = run.attention
    return {
        "row": run.row,
        "shape": timing.shape,
        "protocol": run.protocol,
        "length": run.config.model.length or timing.length,
        "batch": run.config.train.batch,
        "mode": timing.mode,
        "run_steps": 0.0 if timing.batch or timing.shape == UNIFORM else float(run.config.train.steps),
        "gear": timing.gear,
        "processes": timing.processes,
        "cold": timing.cold,
        "precision": run.precision,
        "attention": {
            "name": entry.name,
            "title": entry.title,
            "cost": entry.cost,
            "options": run.all_options(),
            "source_hash": entry.source_hash,
        },
        "model": asdict(run.config.model),
    }


def count_flops(model: Classifier, lengths: np.ndarray, pair: bool, training: bool) -> float:
    """Operations on sequences of these lengths, each without padding. Raises CountError.

    Where there are more than 16 different lengths, 16 of them are counted and the others interpolated.
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
