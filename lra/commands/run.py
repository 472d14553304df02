"""train attentions on tasks (the default)"""

import argparse
import os
from pathlib import Path

from lra.commands.choice import add_choice, add_processes, make_request, seed

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
        "--attn", nargs="+", required=True, metavar="ATTENTION", help="pola, softmax:conv=5, ./mine.py, ... or all"
    )
    add_choice(parser)
    parser.add_argument("--seed", nargs="+", type=seed, default=[0], metavar="N", help="one cell per seed (default 0)")
    parser.add_argument("--out", type=Path, default=Path("results/runs"), help="records (default results/runs)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the fastest there is)")
    add_processes(parser)
    parser.add_argument("--match-params", action="store_true", help="beside each row one with softmax's parameters")
    parser.add_argument("--sweep", nargs="+", default=[], metavar="KEY=V,V", help="train.lr=1e-4,3e-4: tune alike")
    parser.add_argument("--select", choices=["validation"], default="validation", help="what chooses among the pilots")


def main(parsed: argparse.Namespace) -> int:
    from lra.experiments.grid import run_grid

    request = make_request(parsed)
    examine(parsed.attn)
    if parsed.sweep:
        from lra.experiments.sweep import run_sweep

        records, complete = run_sweep(request, parsed.sweep)
    else:
        records, complete = run_grid(request), True
    if not records and complete and request.shard != (1, 1):
        from lra.console import say

        say(f"part {parsed.shard} has no cells: there are fewer cells than parts")
        return 0
    if records:
        from lra.report import terminal

        print(terminal(records))
        if "all" in parsed.task and request.shard == (1, 1):
            print_missing({record.task for record in records})
        print(f"\nrecords in {parsed.out}; tables and figures: python run_lra.py report {parsed.out}")
    return int(not records or not complete or any(record.status == "failed" for record in records))


def examine(specs: list[str]) -> None:
    """Prints a line for each quick check that an attention of the user's fails, before hours are spent on it."""
    import attention_zoo

    users = [spec for spec in specs if spec != "all" and not attention_zoo.find(spec)[0].builtin]
    if users and os.environ.get("RANK", "0") == "0":
        from lra.console import say
        from lra.testing.outcomes import complaints

        for complaint in complaints(users):
            say(complaint)


def print_missing(present: set[str]) -> None:
    """Below the table: those of the five that have no row in it."""
    from lra.experiments.plan import ARENA

    absent = [task for task in ARENA if task not in present]
    if absent:
        print(f"missing: {', '.join(absent)}; {len(ARENA) - len(absent)} of {len(ARENA)} tasks")
