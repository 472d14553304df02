"""Where the page's numbers come from: the state, machine, code, data and configuration of each run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from lra.report import conventions
from lra.report.cells import Cell, TaskColumn, left_chance
from lra.report.conditions import machine
from lra.report.format import DASH, percent
from lra.report.groups import Group, fidelity
from lra.results.record import Record


@dataclass(frozen=True)
class State:
    """How one run ended."""

    key: str
    sign: str
    word: str


STATES = {
    "done": State("done", "\N{CHECK MARK}", "done"),
    "chance": State("chance", "\N{ALMOST EQUAL TO}", "at chance"),
    "diverged": State("diverged", "\N{MULTIPLICATION SIGN}", "diverged"),
    "failed": State("failed", "!", "failed"),
    "missing": State("missing", "\N{MIDDLE DOT}", "missing"),
}
RUN_TITLES = (
    *("Task", "Seed", "State", "Test", "Test, last", "Validation", "Best step", "Train s", "Evaluate s", "Tokens/s"),
    *("Peak GB", "Machine", "torch", "Gear", "Commit", "Identity", "Created"),
)


def state_of(record: Record | None) -> State:
    """The state of a run; a run that is done but never left chance is 'at chance'."""
    if record is None:
        return STATES["missing"]
    return STATES["chance" if record.status == "done" and not left_chance(record) else record.status]


def seeds(group: Group) -> list[int]:
    """Every seed that ran in the group."""
    return sorted({record.seed for record in group.records})


def states(group: Group, row: str) -> list[list[tuple[int, State]]]:
    """The state of every seed, for each task column."""
    by_column = []
    for column in group.columns:
        by_seed = {r.seed: r for r in column.cells.get(row, Cell(())).records}
        by_column.append([(seed, state_of(by_seed.get(seed))) for seed in seeds(group)])
    return by_column


def counts(group: Group) -> list[tuple[State, int]]:
    """How many runs are in each of the five states."""
    runs_by_state = Counter(state.key for row in group.rows for cell in states(group, row) for _, state in cell)
    return [(state, runs_by_state[key]) for key, state in STATES.items()]


def about(records: Sequence[Record]) -> dict[str, str]:
    """What a row is: heading -> words."""
    attention = records[0].attention
    keys = dict.fromkeys(key for record in records for key in record.parameters)
    sizes = {key: _range([r.parameters[key] for r in records if key in r.parameters]) for key in keys}
    options = ", ".join(f"{key}={value}" for key, value in (attention.get("options") or {}).items())
    source = "built in" if attention.get("builtin", True) else f"a user's file, {attention.get('path', '')}"
    facts = {
        "Paper": attention.get("paper"),
        "Fidelity": fidelity(records[0]),
        "Cost": attention.get("cost"),
        "Padding": attention.get("padding"),
        "Options": options,
        "Source": f"{source}, {attention.get('source_hash', '')}".strip(", "),
        "Parameters": ", ".join(f"{text} {key.replace('_', ' ')}" for key, text in sizes.items()),
    }
    return {key: str(value) for key, value in facts.items() if value}


def _range(values: Sequence[int]) -> str:
    """The range of a size that differs from task to task: '81,482 to 158,602'."""
    return " to ".join(f"{value:,}" for value in sorted({min(values), max(values)}))


def run(record: Record) -> list[str]:
    """A run's cells under RUN_TITLES."""
    r, environment = record, record.environment
    state = state_of(r).word + (f": {r.reason}" if r.reason else "")
    accuracies = (r.test_accuracy, r.test_accuracy_last, r.validation_accuracy)
    commit = str(environment.get("commit") or "")[:10] + (" (changed)" if environment.get("dirty") else "")
    values = [conventions.task_title(r.task, r.data), r.seed, state]
    values += [None if a is None else percent(a) for a in accuracies]
    values += [r.best_step, _rounded(r.seconds.get("train")), _rounded(r.seconds.get("evaluate"))]
    values += [_rounded(r.tokens_per_second), f"{r.peak_bytes / 1e9:.2f}" if r.peak_bytes else None]
    values += [
        machine(environment),
        environment.get("torch"),
        environment.get("gear"),
        commit,
        r.identity,
        r.created[:16],
    ]
    return [DASH if value in (None, "") else str(value) for value in values]


def settings(column: TaskColumn) -> str:
    """The configuration and the data of a task column as YAML; its runs differ in the mechanism and the seed only."""
    record = next(iter(column.cells.values())).records[0]
    content: dict[str, Any] = {"data": record.data, "ladder": column.ladder} | record.config
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"
