"""train attentions on tasks (the default command)"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lra.commands.choice import add_choice, add_processes, make_request, seed, to_file, to_path
from lra.commands.output import end_of, first_process
from lra.errors import ConfigError, to_type

if TYPE_CHECKING:
    from lra.experiments.plan import Request
    from lra.experiments.run import Run

IMAGE = (4, 6)  # rows and columns of the images that a mechanism is checked on, where runs have a grid
EXAMPLES = """\
examples:
  python run_lra.py --attn pola --task listops
  python run_lra.py --attn softmax pola:alpha=5 ./mine.py --task listops --seed 0 1 2 --protocol quick
  python run_lra.py --attn elu:conv=5 --task listops --set train.lr=3e-4 model.layers=4
  python run_lra.py --attn softmax pola --task all --seed 0 1 2 --devices 0-7
  python run_lra.py report results/runs
  python run_lra.py list
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--attn",
        nargs="+",
        required=True,
        metavar="ATTENTION",
        help="pola, softmax:conv=5, ./mine.py, ..., family:linear, or all",
    )
    add_choice(parser)
    parser.add_argument("--seed", nargs="+", type=seed, default=[0], metavar="N", help="one run per seed (default 0)")
    parser.add_argument(
        "--out", type=to_path, default=Path("results/runs"), help="folder for the records (default results/runs)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the fastest available)")
    add_processes(parser)
    parser.add_argument(
        "--match-params", action="store_true", help="also run each row with softmax's number of parameters"
    )
    parser.add_argument(
        "--sweep",
        nargs="+",
        default=[],
        metavar="KEY=V,V",
        help="train.lr=1e-4,3e-4: try all values for each attention",
    )
    parser.add_argument(
        "--select", choices=["validation"], default="validation", help="what chooses the value of a sweep"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the runs, how far they are, and hours where known; run nothing"
    )
    parser.add_argument("--emit", type=to_file, metavar="FILE", help="write a SLURM job array of the runs; run nothing")


def main(parsed: argparse.Namespace) -> int:
    from lra.experiments.grid import run_jobs
    from lra.experiments.plan import part_of, part_of_rows, plan

    request = make_request(parsed)
    if parsed.dry_run and parsed.emit:
        raise ConfigError("--dry-run prints the runs, --emit writes a job script for them: leave one of the two out")
    if "select" in getattr(parsed, "given", {}) and not parsed.sweep:
        raise ConfigError("--select chooses among the values of --sweep KEY=V,V, which is missing")
    if parsed.dry_run or parsed.emit:
        from lra.commands import ahead

        return ahead.emit(request, parsed) if parsed.emit else ahead.dry_run(request, parsed.sweep)
    examine(request)
    examine_backbone(parsed.set)
    name_older_code(plan(request), request.out)
    complete = True
    if parsed.sweep:
        from lra.experiments.sweep import run_sweep

        runs = part_of_rows(plan(request), request.shard)
        records, elsewhere, complete = run_sweep(request, parsed.sweep)
    else:
        runs = part_of(plan(request), request.shard)
        outcomes = [job.record for job in run_jobs(request, runs, forgiving="all" in request.tasks)]
        records = [record for record in outcomes if record is not None]
        elsewhere = len(outcomes) - len(records)
    if records:
        from lra.report import terminal

        print(terminal(records))
        if "all" in parsed.task and request.shard == (1, 1):
            print_missing({record.task for record in records})
        print(f"\nrecords in {parsed.out}; tables and figures: {to_type('report', parsed.out)}")
    return end_of(request, len(runs), records, elsewhere, complete)


def name_older_code(runs: "list[Run]", out: Path) -> None:
    """Prints a line for each user's attention whose file was edited after some of its runs were recorded."""
    entries = {run.recorded_row: run.attention for run in runs if not run.attention.builtin}
    if not entries or not out.is_dir() or not first_process():
        return
    from lra.console import say
    from lra.results.find import find_records

    records = find_records([out])[0].values()
    for row, entry in entries.items():
        hashes = [record.attention.get("source_hash") for record in records if record.row == row]
        if older := sum(source_hash != entry.source_hash for source_hash in hashes):
            say(f"{row}: {older} run{'s' * (older > 1)} in {out} ran other code; a report shows each version as a row")


def examine(request: "Request") -> None:
    """Prints a line for each quick check that a user's attention fails, before hours are spent on it."""
    import attention_zoo
    from lra.experiments.plan import expand_attentions, plan

    specs = [spec for spec in expand_attentions(request.attentions) if not attention_zoo.find(spec)[0].builtin]
    if specs and first_process():
        from lra.console import say
        from lra.testing.outcomes import complaints

        grid = IMAGE if all(run.config.model.grid for run in plan(request)) else None
        for complaint in complaints(specs, grid):
            say(complaint)


def examine_backbone(overrides: list[str]) -> None:
    """Prints a line for each quick check that a user's backbone with softmax in it fails. Raises ConfigError."""
    backbones = [value for key, _, value in (text.partition("=") for text in overrides) if key == "model.backbone"]
    if backbones and ".py" in backbones[0] and first_process():
        from lra.console import say
        from lra.experiments.backbone import find_backbone
        from lra.testing.backbones import CHECKS, outcomes
        from lra.testing.outcomes import complaint

        find_backbone(backbones[0])  # raises for a missing file, which is no failed check
        for outcome in outcomes(backbones[0], "softmax", checks=CHECKS):
            if outcome.bad:
                say(complaint(backbones[0], outcome, "check", "--backbone", backbones[0]))


def print_missing(present: set[str]) -> None:
    """Prints, below the table, which of the five tasks have no column in it."""
    import tasks

    absent = [task for task in tasks.ARENA if task not in present]
    if absent:
        print(f"missing: {', '.join(absent)}; {len(tasks.ARENA) - len(absent)} of {len(tasks.ARENA)} tasks")
