"""Records sorted into the cells of comparison tables, so that nothing is averaged that was not measured alike.

A table holds one protocol, precision and RESULTS_VERSION. Each of its columns is a task on one data hash under one
configuration; where a task has several, the one with most runs stays and each other becomes a table of its own.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lra.report.load import flat
from lra.results.record import FINAL, RESULTS_VERSION, Record, budget_of
from lra.stats import Summary, summarise, within_noise

ORDER = ("softmax", "relu", "elu", "flatten", "agent", "pola")
CONTROLS = ("mean", "identity", "local_conv")
LATE = 0.95
TASKS = ("listops", "text", "retrieval", "image", "pathfinder")


@dataclass(frozen=True)
class Cell:
    """The runs of one row on one column: one record per seed."""

    records: tuple[Record, ...]

    @property
    def done(self) -> list[Record]:
        return [r for r in self.records if r.status == "done" and r.test_accuracy is not None]

    @property
    def summary(self) -> Summary | None:
        """Test accuracy over the finished seeds."""
        return summarise([r.test_accuracy for r in self.done if r.test_accuracy is not None]) if self.done else None

    @property
    def test_rows(self) -> int:
        return min((r.test_rows for r in self.done), default=0)

    @property
    def learned(self) -> int:
        """Finished runs that left chance, or were not judged."""
        return sum(r.learned is not False for r in self.done)

    @property
    def late(self) -> int:
        """Finished runs whose best step lies in the last 5 % of training: longer ones might have been better."""
        steps = [(r.best_step, r.config.get("train", {}).get("steps")) for r in self.done]
        return sum(best is not None and bool(total) and best > LATE * total for best, total in steps)

    def count(self, status: str) -> int:
        return sum(r.status == status for r in self.records)


@dataclass(frozen=True)
class Column:
    """One task on one data set under one configuration; `cells` by row."""

    task: str
    label: str  # of the data
    data_hash: str
    ladder: dict[str, float]
    cells: dict[str, Cell]

    def rung_of(self, row: str) -> str:
        """The ladder's nearest rung that the cell's mean is within noise of, or nothing."""
        summary, rows = self.cells[row].summary, self.cells[row].test_rows
        if summary is None or not rows:
            return ""
        near = {name: abs(summary.mean - a) for name, a in self.ladder.items() if within_noise(summary, rows, a)}
        return min(near, key=lambda name: near[name]) if near else ""


@dataclass(frozen=True)
class Group:
    """One comparison table."""

    protocol: str
    precision: str
    results_version: int
    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    apart: str = ""  # for a further variant of a task: the settings in which it differs from the first

    @property
    def slug(self) -> str:
        """For names of files: unique within a report; a hash only where the plain words would not be."""
        plain = "".join(c if c.isalnum() else "." for c in self.protocol.lower())[:40].strip(".")
        if plain == self.protocol and not self.apart and self.results_version == RESULTS_VERSION:
            return f"{plain}-{self.precision}"
        data = [f"{c.task} {c.data_hash}" for c in self.columns]
        exact = json.dumps([self.protocol, self.results_version, self.apart, data])
        return f"{plain}-{self.precision}-{hashlib.sha256(exact.encode()).hexdigest()[:6]}"

    @property
    def averages(self) -> dict[str, tuple[Column, ...]]:
        """Averages by heading, with the columns of each: of all tasks, and of those without Retrieval, never mixed."""
        found = {f"Average of {len(self.columns)}": self.columns}
        rest = tuple(column for column in self.columns if column.task != "retrieval")
        if len(rest) < len(self.columns):
            found["without Retrieval"] = rest
        return {heading: columns for heading, columns in found.items() if len(columns) > 1}


def average(columns: Sequence[Column], row: str) -> float | None:
    """Mean over these tasks; None when a cell has no finished run."""
    means = [c.cells[row].summary for c in columns if row in c.cells]
    found = [summary.mean for summary in means if summary]
    return fmean(found) if len(found) == len(columns) else None


def best_trivial(ladder: dict[str, float]) -> tuple[str, float] | None:
    """The one rule: the strongest rung that reads no nesting, i.e. whose name speaks of no level ('2 levels')."""
    trivial = {name: accuracy for name, accuracy in ladder.items() if not re.search(r"\blevels?\b", name)}
    return max(trivial.items(), key=lambda rung: rung[1]) if trivial else None


def rank(row: str) -> tuple[int, str]:
    """Sort key: our six mechanisms in their order, others by name, controls last; options after the plain name."""
    name = base(row)
    place = ORDER.index(name) if name in ORDER else len(ORDER)
    return (len(ORDER) + 1 + CONTROLS.index(name) if name in CONTROLS else place), row


def base(row: str) -> str:
    """'pola:alpha=5' -> 'pola'."""
    return re.split(r"[:@ ]", row)[0]


def fidelity(record: Record) -> str:
    """'official', 'adapted: ...' or, of what stands for no mechanism, 'control'."""
    return "control" if base(record.row) in CONTROLS else str(record.attention.get("fidelity", ""))


def one_per_cell(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Of records with one identity the first final one, and a line for each that is left out."""
    ordered = sorted(records, key=lambda r: (r.status not in FINAL, r.created, r.name))
    kept: dict[tuple[str, str, int], Record] = {}
    notes = []
    for record in ordered:
        first = kept.setdefault((record.protocol, record.identity, record.seed), record)
        if first is not record and first != record:
            notes.append(f"{record.name} of {record.created or 'unknown time'} is left out: the cell is there already")
    return sorted(kept.values(), key=lambda r: r.name), notes


def group(records: Sequence[Record]) -> list[Group]:
    """Records -> tables, sorted by protocol; see the module's head for what may stand together."""
    tables: dict[tuple[str, str, int], dict[str, dict[str, list[Record]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for r in records:
        tables[r.protocol, r.precision, r.results_version][r.task][_measured_alike(r)].append(r)
    groups = []
    for key, tasks in sorted(tables.items()):
        names = _row_names([r for variants in tasks.values() for alike in variants.values() for r in alike])
        main, others = [], []
        for task in sorted(tasks, key=lambda t: (TASKS.index(t) if t in TASKS else len(TASKS), t)):
            first, *rest = sorted(tasks[task].values(), key=lambda runs: (-len(runs), _measured_alike(runs[0])))
            main.append(_column(first, names))
            others += [([_column(runs, names)], _differences(first[0], runs[0])) for runs in rest]
        for columns, apart in ((main, ""), *others):
            rows = sorted({row for column in columns for row in column.cells}, key=rank)
            groups.append(Group(*key, tuple(columns), tuple(rows), apart))
    return groups


def _measured_alike(record: Record) -> str:
    """Equal for records of one task that differ in mechanism, seed and machine alone.

    Of a swept key each mechanism may have another value: what is alike there are the values that were tried. A matched
    row, with another MLP, stands beside the plain one.
    """
    budget = budget_of(record.tuning)
    config = _unswept(record) if budget else record.matched.get("config_hash") or record.config_hash or record.config
    return json.dumps([record.data.get("hash", ""), config, *([budget] if budget else [])], sort_keys=True)


def _unswept(record: Record) -> dict[str, Any]:
    """The configuration without the swept keys, with what was tried of each in its place: 'train.lr' -> '0.1 or 0.2'"""
    plain, values = flat("", record.config), budget_of(record.tuning).get("values", {})
    plain |= {"model.mlp": record.matched["protocol_mlp"]} if "protocol_mlp" in record.matched else {}
    return plain | {key: " or ".join(map(str, found)) for key, found in values.items()}


def _differences(first: Record, other: Record) -> str:
    """'data, train.lr=0.001': what sets a variant of a task apart."""
    known, changed = _unswept(first), _unswept(other)
    words = ["data"] if first.data.get("hash") != other.data.get("hash") else []
    words += [f"{key}={changed.get(key)}" for key in known | changed if known.get(key, ...) != changed.get(key, ...)]
    return ", ".join(words) or f"configuration {other.config_hash}"


def _column(records: list[Record], names: dict[str, str]) -> Column:
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        cells[names[record.identity]].append(record)
    ladder = next((r.ladder for r in records if r.ladder), {})
    data = records[0].data
    return Column(
        task=records[0].task,
        label=str(data.get("label", "")),
        data_hash=str(data.get("hash", "")),
        ladder=ladder,
        cells={row: Cell(tuple(sorted(runs, key=lambda r: r.seed))) for row, runs in cells.items()},
    )


def _row_names(records: list[Record]) -> dict[str, str]:
    """Identity -> row; rows of one name whose mechanisms have different sources read `mine@ab12`."""
    sources: dict[str, set[str]] = defaultdict(set)
    for r in records:
        sources[r.row].add(str(r.attention.get("source_hash", "")))
    return {
        r.identity: f"{r.row}@{str(r.attention.get('source_hash', ''))[:4]}" if len(sources[r.row]) > 1 else r.row
        for r in records
    }
