"""Records sorted into the cells of comparison tables, so that an average never mixes different conditions.

A table holds one protocol, precision and RESULTS_VERSION. Each of its task columns is one data hash under one
configuration; where a task has several, the one with most runs stays and every other gets its own table.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

from lra.report import conventions
from lra.report.cells import Cell, TaskColumn
from lra.report.conditions import conditions, differences, machine
from lra.results.record import FINAL, RESULTS_VERSION, Record


@dataclass(frozen=True)
class Group:
    """One comparison table."""

    protocol: str
    precision: str
    results_version: int
    columns: tuple[TaskColumn, ...]
    rows: tuple[str, ...]
    apart: str = ""  # for a further variant of a task: the settings in which it differs from the first
    families: dict[str, str] = field(default_factory=dict)  # by row
    milliseconds: dict[str, float] = field(default_factory=dict)  # by row, of a training step at 4,096 or 4,000 tokens

    @property
    def heading(self) -> str:
        """'Protocol standard, bfloat16' and what else sets the table apart."""
        older = f", results version {self.results_version}" if self.results_version != RESULTS_VERSION else ""
        apart = f", variant: {self.apart}" if self.apart else ""
        return f"Protocol {self.protocol}, {self.precision}{older}{apart}"

    @property
    def controls(self) -> frozenset[str]:
        """The rows that are no mechanisms, such as a plain mean."""
        return frozenset(row for row, family in self.families.items() if family == conventions.CONTROL)

    @property
    def records(self) -> list[Record]:
        return [r for column in self.columns for cell in column.cells.values() for r in cell.records]

    @cached_property
    def machine(self) -> str:
        """The machine of most timed runs, the one whose speed and memory the table shows; '' where none was timed."""
        timed = [machine(r.environment) for r in self.records if r.status == "done" and r.tokens_per_second]
        return Counter(sorted(timed)).most_common(1)[0][0] if timed else ""

    @property
    def backbones(self) -> list[str]:
        """The models around the attentions of this table; 'flat' for older records, which do not name theirs."""
        return list(dict.fromkeys(r.config.get("model", {}).get("backbone", "flat") for r in self.records))

    @property
    def slug(self) -> str:
        """The table's part of file names: unique in a report, with a hash only where words alone would not be."""
        plain = "".join(c if c.isalnum() else "." for c in self.protocol.lower())[:40].strip(".")
        if plain == self.protocol and not self.apart and self.results_version == RESULTS_VERSION:
            return f"{plain}-{self.precision}"
        data = [f"{c.task} {c.data_hash}" for c in self.columns]
        exact = json.dumps([self.protocol, self.results_version, self.apart, data])
        return f"{plain}-{self.precision}-{hashlib.sha256(exact.encode()).hexdigest()[:6]}"

    @property
    def averages(self) -> dict[str, tuple[TaskColumn, ...]]:
        """Heading -> the columns that it averages: LRA's tasks, and these without the one whose data often differs.

        A table without any of LRA's tasks, such as one of a user's tasks, averages all of its columns. There is no
        average of a single column.
        """
        averaged = tuple(c for c in self.columns if c.task in conventions.ARENA)
        averaged = averaged or self.columns
        averages = {f"Average of {len(averaged)}": averaged}
        for left_out in averaged:
            if left_out.task == conventions.AVERAGED_APART:
                averages[f"without {left_out.title}"] = tuple(c for c in averaged if c is not left_out)
        return {heading: columns for heading, columns in averages.items() if len(columns) > 1}


def average(columns: Sequence[TaskColumn], row: str) -> float | None:
    """Mean accuracy of a row over these tasks; None when a cell has no finished run."""
    summaries = [c.cells[row].summary for c in columns if row in c.cells]
    accuracies = [summary.mean for summary in summaries if summary]
    return fmean(accuracies) if len(accuracies) == len(columns) else None


def best_trivial(ladder: dict[str, float]) -> tuple[str, float] | None:
    """The strongest rung that reads nothing inside a nested bracket, and its accuracy.

    Those that read it are '1 level', '2 levels', ...
    """
    trivial = {name: accuracy for name, accuracy in ladder.items() if not re.fullmatch(r"\d+ levels?", name)}
    return max(trivial.items(), key=lambda rung: rung[1]) if trivial else None


def rank(row: str, control: bool = False) -> tuple[bool, int, str]:
    """Sort key: the known mechanisms in their order, the others by name, controls last; a row without options first."""
    return control, conventions.row_order(base(row)), row


def base(row: str) -> str:
    """'pola:alpha=5' -> 'pola', 'softmax:conv=5+pola' -> 'softmax+pola'."""
    return "+".join(re.split(r"[:@ ]", part)[0] for part in re.split(r"\+(?=\D)", row))


def is_control(record: Record) -> bool:
    """Whether the row is a control, such as a plain mean, rather than a mechanism."""
    return conventions.is_control(record.attention, base(record.row))


def fidelity(record: Record) -> str:
    """'official', 'adapted: ...', "user's", or 'control', for baselines that implement no published mechanism."""
    label = str(record.attention.get("fidelity", ""))
    return "control" if is_control(record) else "user's" if label == "own" else label  # older records say 'own'


def one_per_cell(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """One record per protocol, identity and seed: the oldest final one, else the oldest; and a line per other record.

    A copy that is equal to the record kept is left out without a line.
    """
    ordered = sorted(records, key=lambda r: (r.status not in FINAL, r.created, r.name))
    kept: dict[tuple[str, str, int], Record] = {}
    notes = []
    for record in ordered:
        first = kept.setdefault((record.protocol, record.identity, record.seed), record)
        if first is not record and first != record:
            notes.append(
                f"{record.name} of {record.created or 'unknown time'} is left out: this run has a record already"
            )
    return sorted(kept.values(), key=lambda r: r.name), notes


def grouped(records: Sequence[Record]) -> list[Group]:
    """Records -> tables, those with most runs first; the module's docstring says which records may share one."""
    tables: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for r in records:
        tables[r.protocol, r.precision, r.results_version].append(r)
    ordered = sorted(tables.items(), key=lambda item: (-len(item[1]), item[0]))
    return [group for key, members in ordered for group in _tables_of(key, members)]


def _tables_of(key: tuple[str, str, int], records: list[Record]) -> list[Group]:
    """The main table of one protocol, precision and version, and one for each further variant of a task."""
    names = _row_names(records)
    families = {names[r.identity]: conventions.family_of(r.attention, base(r.row)) for r in records}
    variants: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for r in records:
        variants[r.task][conditions(r)].append(r)
    main, others = [], []
    for task in sorted(variants, key=conventions.task_order):
        first, *rest = sorted(variants[task].values(), key=lambda runs: (-len(runs), conditions(runs[0])))
        main.append(_task_column(first, names))
        others += [([_task_column(runs, names)], differences(first[0], runs[0])) for runs in rest]
    groups = []
    for columns, apart in ((main, ""), *others):
        rows = sorted(
            {row for c in columns for row in c.cells}, key=lambda row: rank(row, families[row] == conventions.CONTROL)
        )
        groups.append(Group(*key, tuple(columns), tuple(rows), apart, families))
    return groups


def _task_column(records: list[Record], names: dict[str, str]) -> TaskColumn:
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        cells[names[record.identity]].append(record)
    ladder: dict[str, float] = max((r.ladder for r in records), key=len)  # a run may know fewer rungs than a later one
    data = records[0].data
    return TaskColumn(
        task=records[0].task,
        title=conventions.task_title(records[0].task, data),
        label=str(data.get("label", "")),
        data_hash=str(data.get("hash", "")),
        ladder=ladder,
        cells={row: Cell(tuple(sorted(runs, key=lambda r: r.seed))) for row, runs in cells.items()},
    )


def _row_names(records: list[Record]) -> dict[str, str]:
    """Identity -> row; where mechanisms of different sources share a name, the rows are called `mine@ab12`."""
    sources: dict[str, set[str]] = defaultdict(set)
    for r in records:
        sources[r.row].add(str(r.attention.get("source_hash", "")))
    return {
        r.identity: f"{r.row}@{str(r.attention.get('source_hash', ''))[:4]}" if len(sources[r.row]) > 1 else r.row
        for r in records
    }
