"""Which encoders to inspect: fresh ones of named attentions, or those of finished runs; and the samples they read."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from lra.console import say
from lra.errors import UserError
from lra.experiments.build import make_model, padding_of
from lra.experiments.data import prepare_data
from lra.experiments.load import load_run, run_of
from lra.experiments.plan import Request, plan
from lra.report.groups import is_control, rank
from lra.results.find import find_records
from lra.training.device import Padding
from lra.training.loading import load

if TYPE_CHECKING:
    from torch import Tensor

    from lra.backbones import Classifier
    from lra.results.record import Record
    from tasks import Data

LONGEST = 4096  # tokens of a sequence


class InspectError(UserError, ValueError):
    """Runs or samples that cannot be inspected."""


@dataclass(frozen=True)
class Subject:
    """One encoder in float64 and the data it reads. origin: 'fresh' or 'trained, ...'."""

    row: str
    task: str
    protocol: str
    seed: int
    origin: str
    model: Classifier
    padding: Padding
    data: Data
    users: str = ""  # how `check` finds the attention, if it is a user's

    @property
    def trained(self) -> bool:
        return self.origin != "fresh"

    @property
    def group(self) -> str:
        """The subjects of one group are compared in one figure; this is also the name of their folder."""
        return f"{self.task}-{self.protocol}" + ("" if self.trained else "-fresh")


def fresh(request: Request) -> list[Subject]:
    """Untrained encoders, as a run would start with them. Raises SpecError, DataError or ConfigError."""
    runs = plan(request)
    data = {run.task: prepare_data(run.task, run.config, request.data_dir) for run in runs}
    return [
        Subject(
            run.row,
            run.task,
            run.protocol,
            run.seed,
            "fresh",
            make_model(run, data[run.task].spec).double().eval(),
            padding_of(run, data[run.task].spec),
            data[run.task],
            "" if run.attention.builtin else run.spec,
        )
        for run in runs
    ]


def trained(
    runs: list[Path], rows: list[str], tasks: list[str], data_dir: Path | None, needed: list[str] | None = None
) -> list[Subject]:
    """Encoders of finished runs, from records or folders of records: of these rows and tasks, or of all.

    Of several seeds the lowest is taken. needed: the rows that must have a finished run, all of `rows` if None. Raises
    InspectError when one of them has none, RecordError, WorkError, SpecError or DataError when one cannot be loaded.
    """
    chosen = choose(runs, rows, tasks, rows if needed is None else needed)
    data: dict[str, Data] = {}
    subjects = []
    for path, record in chosen.items():
        run = load_run(path)
        if record.data["hash"] not in data:
            data[record.data["hash"]] = run.data(data_dir)
        inputs = data[record.data["hash"]]
        accuracy = f"test {100 * record.test_accuracy:.1f} %" if record.test_accuracy is not None else record.status
        subjects.append(
            Subject(
                record.row,
                record.task,
                record.protocol,
                record.seed,
                f"trained, seed {record.seed}, {accuracy}",
                run.model(inputs.spec).double().eval(),
                padding_of(run_of(record, run.config), inputs.spec),
                inputs,
                "" if record.attention.get("builtin", True) else str(record.attention.get("address", record.row)),
            )
        )
    return subjects


def choose(runs: list[Path], rows: list[str], tasks: list[str], needed: list[str]) -> dict[Path, Record]:
    """One finished record per row, task and protocol, in the order of `rows`. Raises InspectError.

    One figure compares all rows of a task and protocol, so they have the data and the precision of its newest run. Of
    a row whose runs have several versions (other code or configuration, too) the newest is taken. Lines say what is
    left out.
    """
    records, problems = find_records(runs)
    candidates: dict[tuple[str, str, str], list[Path]] = {}
    for path, record in records.items():
        wanted = (not rows or record.row in rows) and (not tasks or record.task in tasks)
        if wanted and record.status == "done":
            candidates.setdefault((record.task, record.protocol, record.row), []).append(path)
    by_age = sorted(itertools.chain(*candidates.values()), key=lambda path: records[path].created)
    shared = {(records[path].task, records[path].protocol): conditions(records[path]) for path in by_age}  # the newest
    chosen: dict[tuple[str, str, str], Path] = {}
    for key, paths in candidates.items():
        comparable = [path for path in paths if conditions(records[path]) == shared[key[:2]]]
        if not comparable:
            say(f"{key[0]} {key[2]}: left out, its runs have other data or another precision than the newest run")
            continue
        newest = version(records[max(comparable, key=lambda path: records[path].created)])
        same = [path for path in paths if version(records[path]) == newest]
        chosen[key] = min(same, key=lambda path: records[path].seed)
        if others := len(paths) - len(same):
            runs_left = f"{others} run{'s' * (others > 1)} of another version"
            say(f"{key[0]} {key[2]}: {runs_left} left out; name the record to see one")
    missing = [row for row in needed if row not in {key[2] for key in chosen}]
    if missing or not chosen:
        where, what = ", ".join(map(str, runs)), ", ".join(missing) or "these attentions and tasks"
        broken = f"; unreadable: {problems[0]}" if problems else ""
        raise InspectError(
            f"no finished run of {what} in {where}{broken}; train it, or leave out --run for fresh weights"
        )
    for problem in problems:
        say(f"skipped: {problem}")
    order = {
        key: rows.index(key[2]) if rows else rank(key[2], is_control(records[path])) for key, path in chosen.items()
    }
    ranked = sorted(chosen, key=lambda key: (key[0], key[1], order[key]))
    return {chosen[key]: records[chosen[key]] for key in ranked}


def conditions(record: Record) -> tuple[object, ...]:
    """What the runs of one figure have in common."""
    return record.results_version, record.precision, record.data.get("hash")


def version(record: Record) -> tuple[object, ...]:
    """What runs of one row have in common if they differ in their seeds only."""
    return *conditions(record), record.config_hash, record.attention.get("source_hash")


def samples(subject: Subject, count: int) -> list[tuple[Tensor, Tensor | None]]:
    """ids (1, N), keep (1, N) or None of `count` validation samples, evenly spaced; of pairs, both documents.

    Only sequences of at most LONGEST tokens. Raises InspectError when there are none.
    """
    split, padding = subject.data.validation, subject.padding
    lengths = split.lengths if split.pairs is None else split.lengths[split.pairs].max(axis=1)
    short = np.flatnonzero(np.asarray(lengths) <= LONGEST)
    if not len(short) or (padding.to_full_length and padding.length > LONGEST):
        raise InspectError(
            f"inspect reads sequences of up to {LONGEST:,} tokens, and those of {subject.task} are longer"
        )
    rows = short[np.linspace(0, len(short) - 1, min(count, len(short))).round().astype(int)]
    inputs = []
    for row in rows:
        ids, keep, _ = load(split, np.array([row]), padding, torch.device("cpu"))
        ids = ids.reshape(-1, ids.shape[-1])
        masks = [None] * len(ids) if keep is None else keep.reshape(ids.shape)
        inputs += [(one[None], None if mask is None else mask[None]) for one, mask in zip(ids, masks, strict=True)]
    return inputs
