"""Bench records -> tables: in our own form, and in the two forms in which such figures were published."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import pandas as pd

from lra.report import conventions
from lra.report.escape import inert, shown, without_formulas
from lra.report.format import DASH
from lra.report.render import markdown, matrix, table
from lra.report.tables import published, whole_runs
from lra.results.bench_record import UNIFORM, Bench, commonest, newest
from lra.results.files import encoded, write_all

ABOUT = (
    "Time is the median over repeats of a step, with the quartiles. Memory is what a step takes beyond what is held "
    "between steps (parameters, optimiser, data; on a CPU the libraries, too); of captured steps it is what their "
    "graphs reserve."
)
SHORT = {"out of memory": "OOM", "over budget": "> budget", "failed": "failed"}
THOUSANDS = {"1K": (1000, 1024), "2K": (2000, 2048), "3K": (3000, 3072), "4K": (4000, 4096)}
LRA_PAPER = "In the form of Tay et al. 2020, Table 2"
SKYFORMER_SOURCE = "skyformer"  # in results/published
SKYFORMER = "In the form of Chen et al. 2021 (Skyformer), Table 2"
PUBLISHED_STEPS = 50_000  # of training, in Skyformer's hours
Words = Callable[[Bench], str]  # how a table shows a measurement


def tables(benches: Sequence[Bench]) -> str:
    """Markdown: whole runs; time and memory against length or task for each setting and batch; the published forms."""
    chosen = sorted((bench for bench in newest(benches) if not bench.cold), key=_group)
    parts = whole_runs.tables(benches)
    for _, members in groupby(chosen, key=_group):
        group = list(members)
        parts.append(f"## {heading(group)}\n")
        for mode in dict.fromkeys(bench.mode for bench in group):
            measured = [bench for bench in group if bench.mode == mode]
            parts += [f"{mode.capitalize()}, ms per step: median (quartiles)\n", _matrix(measured, _milliseconds)]
            parts += [f"{mode.capitalize()}, MB a step takes\n", _matrix(measured, _megabytes)]
            if any(_compiles(bench) for bench in measured):
                first = "seconds of the first step: loading libraries, compiling, capturing"
                parts += [f"{mode.capitalize()}, {first}\n", _matrix(measured, _start)]
        parts += _published([bench for bench in group if bench.mode == "training"])
    return "\n".join(parts)


def detail(benches: Sequence[Bench]) -> str:
    """Markdown: one line per measurement, with all its figures."""
    header = ["Attention", "Lengths", "Batch", "Mode", "ms", "Real tokens/s", "Computed/real", "MB"]
    header += ["GFLOP", "GFLOP/s", "Start s"]
    rows = [
        [
            bench.row,
            _place(bench),
            str(bench.batch),
            _how(bench),
            _milliseconds(bench),
            _number(bench.per_second(bench.real_tokens), 0),
            _number(
                bench.computed_tokens / bench.real_tokens if bench.computed_tokens and bench.real_tokens else None, 2
            ),
            _megabytes(bench),
            _number(None if bench.flops is None else bench.flops / 1e9, 2),
            _number(bench.per_second(None if bench.flops is None else bench.flops / 1e9), 1),
            _number(bench.start_seconds, 1),
        ]
        for bench in sorted(newest(benches), key=_group)
    ]
    return markdown(table("", header, rows, left=4))


def frame(benches: Sequence[Bench]) -> pd.DataFrame:
    """A row for each record, in the order given; seconds, bytes, tokens and FLOPs of one step."""
    rows = []
    for bench in benches:
        plain = {key: value for key, value in asdict(bench).items() if not isinstance(value, dict | list)}
        first, third = bench.quartiles or (None, None)
        plain |= {"median_seconds": bench.median, "first_quartile": first, "third_quartile": third}
        plain |= {"repeats": len(bench.seconds), "step_bytes": bench.step_bytes}
        plain |= {"real_tokens_per_second": bench.per_second(bench.real_tokens)}
        plain |= {"computed_tokens_per_second": bench.per_second(bench.computed_tokens)}
        rows.append(plain | {f"environment_{key}": value for key, value in bench.environment.items()})
    return pd.DataFrame(rows)


def write(benches: Sequence[Bench], out: Path) -> list[Path]:
    """Write bench.md and bench.csv, of all these records, to `out`. Raises WorkError."""
    benches = [shown(bench) for bench in benches]
    contents = {
        "bench.md": encoded(f"# Time and memory\n\n{ABOUT}\n\n{tables(benches)}\n## Every cell\n\n{detail(benches)}"),
        "bench.csv": encoded(without_formulas(frame(benches)).to_csv(index=False, lineterminator="\n")),
    }
    return write_all(contents, out, ("bench.md", "# Time and memory\n"))


def heading(group: Sequence[Bench]) -> str:
    """What the figures of a group share, with the gears that ran (chosen by `auto` or by a fallback)."""
    bench = group[0]
    device, name, threads, processes, gear, precision, protocol = bench.setting
    gears = {str(member.environment["gear"]) for member in group if member.seconds and "gear" in member.environment}
    gear = " or ".join(sorted(gears)) or gear
    machine = f"{name}, {threads} thread{'s' if threads != 1 else ''}" if device == "cpu" else f"{name}"
    machine = f"{machine} in each of {processes} processes" if processes > 1 else machine
    sequences = "Sequences of one length" if bench.shape == UNIFORM else "Tasks' own lengths"
    batches = " or ".join(str(batch) for batch in sorted({bench.batch for bench in group}))
    return inert(f"{sequences}: batch {batches}, model of {protocol}, {gear}, {precision}, {machine}")


def _group(bench: Bench) -> tuple[str, ...]:
    batch = f"{bench.batch:9}" if bench.shape == UNIFORM else ""
    return (str(bench.shape != UNIFORM), *map(str, bench.setting), batch)


def _place(bench: Bench) -> str:
    return f"{bench.length:,}" if bench.shape == UNIFORM else conventions.task_title(bench.shape)


def _columns(benches: Sequence[Bench]) -> dict[str, list[Bench]]:
    """Heading (a length or a task, and the batch if there are several) -> measurements by length, batch and age."""
    batches: dict[str, set[int]] = defaultdict(set)
    for bench in benches:
        batches[_place(bench)].add(bench.batch)
    columns: dict[str, list[Bench]] = defaultdict(list)
    for bench in sorted(benches, key=lambda bench: (bench.length, bench.batch, bench.created)):
        label = _place(bench)
        columns[f"{label}, batch {bench.batch}" if len(batches[label]) > 1 else label].append(bench)
    return columns


def _how(bench: Bench) -> str:
    words = [bench.mode] + [f"{bench.processes} processes"] * (bench.processes > 1)
    return ", ".join(words + ["empty compiler's cache"] * bench.cold)


def _matrix(benches: Sequence[Bench], words: Words) -> str:
    """Attentions down, lengths or tasks across."""
    across = _columns(benches)
    newest_of = {(bench.row, column): bench for column, members in across.items() for bench in members}
    rows = dict.fromkeys(bench.row for bench in benches)
    cells = {(row, c): words(newest_of[row, c]) for row in rows for c in across if (row, c) in newest_of}
    return matrix("Attention", {column: column for column in across}, cells)


def _published(benches: Sequence[Bench]) -> list[str]:
    """The two published forms, each only if there are measurements for it."""
    parts = []
    uniform = [bench for bench in benches if bench.shape == UNIFORM]
    by_thousand = {
        (bench.row, name): bench
        for name, lengths in THOUSANDS.items()
        for bench in uniform
        if bench.length == commonest(uniform, lengths)
    }
    if len({name for _, name in by_thousand}) > 1:
        parts += [f"### {LRA_PAPER}: steps per second (times {conventions.BASELINE}'s)\n", _speeds(by_thousand)]
        parts += [
            f"### {LRA_PAPER}: peak memory, GB\n",
            _filled(by_thousand, {name: name for name in THOUSANDS}, _gigabytes),
        ]
    order = _order_of(SKYFORMER_SOURCE)
    by_task = {(bench.row, bench.shape): bench for bench in benches if bench.shape in order and bench.run_steps}
    if by_task:
        tasks = {task: conventions.task_title(task) for task in order if any(task == shape for _, shape in by_task)}
        hours = f"hours for {PUBLISHED_STEPS:,} steps, evaluations left out"
        parts += [f"### {SKYFORMER}: {hours}\n", _filled(by_task, tasks, _hours)]
        parts += [f"### {SKYFORMER}: peak memory, GB\n", _filled(by_task, tasks, _gigabytes)]
    return parts


def _order_of(source: str) -> list[str]:
    """The tasks of a published table of hours, in its order."""
    rows = [row for row in published.read() if (row["source"], row["unit"]) == (source, "hours")]
    return [task for task in dict.fromkeys(row["task"] for row in rows) if task != "total"]


def _speeds(benches: dict[tuple[str, str], Bench]) -> str:
    def speed(bench: Bench, column: str) -> str:
        if bench.median is None:
            return SHORT.get(bench.status, bench.status)
        baseline = benches.get((conventions.BASELINE, column))
        ratio = f" ({baseline.median / bench.median:.1f}x)" if baseline is not None and baseline.median else ""
        return f"{1 / bench.median:.3g}{ratio}"

    cells = {(row, name): speed(bench, name) for (row, name), bench in benches.items()}
    return matrix("Model", {name: name for name in THOUSANDS}, cells)


def _filled(benches: dict[tuple[str, str], Bench], columns: Mapping[str, str], words: Words) -> str:
    return matrix("Model", columns, {cell: words(bench) for cell, bench in benches.items()})


def _milliseconds(bench: Bench) -> str:
    if bench.median is None or bench.quartiles is None:
        return SHORT.get(bench.status, bench.status)
    first, third = bench.quartiles
    return f"{1000 * bench.median:,.1f} ({1000 * first:,.1f}\u2013{1000 * third:,.1f})"


def _megabytes(bench: Bench) -> str:
    return _number(None if bench.step_bytes is None else bench.step_bytes / 1e6, 0)


def _gigabytes(bench: Bench) -> str:
    """On CUDA everything that is allocated; on a CPU what the step takes, without the libraries of the process."""
    taken = bench.peak_bytes if bench.environment.get("device") == "cuda" else bench.step_bytes
    return SHORT.get(bench.status, _number(None if taken is None else taken / 1e9, 2))


def _hours(bench: Bench) -> str:
    if bench.median is None:
        return SHORT.get(bench.status, bench.status)
    return f"{PUBLISHED_STEPS * bench.median / 3600:,.2f}"


def _compiles(bench: Bench) -> bool:
    gear = bench.environment.get("gear", bench.gear) if bench.gear == "auto" else bench.gear
    return bench.start_seconds is not None and gear not in ("auto", "eager")


def _start(bench: Bench) -> str:
    return _number(bench.start_seconds, 1)


def _number(value: float | None, decimals: int) -> str:
    return DASH if value is None else f"{value:,.{decimals}f}"
