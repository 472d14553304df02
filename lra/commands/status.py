"""see which runs of a folder are done, running where, stopped, failed or missing, and what is left"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lra.commands.output import aligned

if TYPE_CHECKING:
    from lra.experiments.states import Cell

HEADER = ("state", "task", "attention", "protocol", "seed", "step", "left", "where, why")
STOPPED = "goes on from its checkpoint"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", type=Path, default=[Path("results/runs")], help="default results/runs")


def main(parsed: argparse.Namespace) -> int:
    from lra.console import say
    from lra.errors import RecordError
    from lra.experiments.states import read_cells

    bad = 0
    for out in parsed.runs:
        if not out.is_dir():
            raise RecordError(f"{out}: no such folder; name the folder of the records (--out of the run)")
        cells, problems = read_cells(out)
        print(f"{out}\n{listing(cells)}" if len(parsed.runs) > 1 else listing(cells))
        for problem in problems:
            say(problem)
        bad += len(problems)
    return int(bad > 0)


def listing(cells: Sequence["Cell"]) -> str:
    """A line for each run, and one for all together."""
    right = {HEADER.index(name) for name in ("seed", "step", "left")}
    shown = aligned([HEADER, *(line_of(cell) for cell in cells)], right)
    return "\n".join([*(shown if cells else []), summary(cells)])


def line_of(cell: "Cell") -> tuple[str, ...]:
    from lra.console import clock

    step = f"{cell.step:,} of {cell.steps:,}" if cell.steps else f"{cell.step:,}" if cell.step else ""
    if cell.phase:
        step = f"{cell.phase} {cell.step:,}"
    words = [cell.reason, STOPPED if cell.state == "resumable" else ""]
    if cell.holder is not None:
        import time

        words = [f"{cell.holder}, for {clock(time.time() - cell.holder.since)}"]
        words += [f"no sign for {clock(cell.sign)}"] if cell.state == "silent" else []
    left = clock(cell.left) if cell.left else ""
    about = (cell.task, cell.row, cell.protocol, str(cell.seed))
    return cell.state, *about, step if cell.state != "missing" else "", left, "; ".join(filter(None, words))


def summary(cells: Sequence["Cell"]) -> str:
    """'12 runs: 1 running, 3 missing, 8 done; about 2 h 10 min left, 1 at a time'."""
    from lra.console import clock
    from lra.experiments.states import ORDER
    from lra.results.record import FINAL

    counts = Counter(cell.state for cell in cells)
    words = "1 run: " if len(cells) == 1 else f"{len(cells)} runs" + (": " if cells else "")
    words += ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    open_cells = [cell for cell in cells if cell.state not in FINAL]
    known = [cell.left for cell in open_cells if cell.left is not None]
    at_once = max(1, counts["running"])
    if known:
        words += f"; about {clock(max(sum(known) / at_once, max(known)))} left, {at_once} at a time"
    if unknown := len(open_cells) - len(known):
        words += f"; {unknown} of {len(open_cells)} without an estimate: none like them has ended here"
    return words
