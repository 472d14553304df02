"""time and memory of attentions against length"""

import argparse
import math
from pathlib import Path

from lra.commands.choice import add_choice

EXAMPLES = """\
examples:
  python run_lra.py bench --attn softmax elu pola
  python run_lra.py bench --attn softmax pola --lengths 1024 4096 16384 --mode training
  python run_lra.py bench --attn softmax elu pola --published       the LRA paper's 1K to 4K, batch 32
  python run_lra.py bench --attn softmax pola --task listops text   with the lengths of real batches

Measure on a machine that does nothing else: `bench` holds a lock on the device and says when others are at work.
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--attn", nargs="+", required=True, metavar="ATTENTION", help="pola, softmax:conv=5, ./mine.py, ... or all"
    )
    parser.add_argument(
        "--lengths",
        nargs="+",
        type=int,
        default=[],
        metavar="N",
        help="tokens of every sequence (default: doublings from 256, on a CPU to 4,096, else to 65,536)",
    )
    parser.add_argument("--published", action="store_true", help="--lengths 1000 2000 3000 4000 --batch 32")
    add_choice(parser, required=False)
    modes = ("training", "forward")
    parser.add_argument("--mode", nargs="+", choices=modes, default=list(modes), help="what to time (default both)")
    parser.add_argument("--batch", type=int, default=0, metavar="B", help="default: the protocol's, on a CPU 4")
    parser.add_argument(
        "--gear",
        choices=("auto", "eager", "compiled", "captured"),
        default="auto",
        metavar="GEAR",
        help="eager, compiled, captured (default: what a run would take)",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the fastest there is)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="timed repeats of a cell (default 10)")
    parser.add_argument("--budget", type=float, default=60.0, metavar="SECONDS", help="for a cell (default 60)")
    parser.add_argument(
        "--memory", type=float, default=0.0, metavar="GB", help="for a cell on a CPU (default: what is free)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("results/runs/bench"), help="records (default results/runs/bench)"
    )


def main(parsed: argparse.Namespace) -> int:
    from lra.bench.runner import PUBLISHED, Ask, run
    from lra.results.bench_record import FAILED, read_benches

    check(parsed)
    ask = Ask(
        attentions=parsed.attn,
        lengths=list(PUBLISHED) if parsed.published else parsed.lengths,
        tasks=parsed.task or [],
        modes=list(dict.fromkeys(parsed.mode)),
        batch=parsed.batch or (32 if parsed.published else 0),
        gear=parsed.gear,
        device=parsed.device,
        protocol=parsed.protocol,
        overrides=tuple(parsed.set),
        data_dir=str(parsed.data_dir or ""),
        repeats=parsed.repeats,
        budget=parsed.budget,
        memory=parsed.memory,
        threads=parsed.threads,
    )
    measured = list(run(ask, parsed.out))
    from lra.report.tables.bench import tables, write

    files = write(read_benches([parsed.out])[0], parsed.out)
    print(tables(measured))
    print(f"records in {parsed.out}; all of them in {files[0]} and {files[1].name}")
    return int(any(bench.status == FAILED for bench in measured))


def check(parsed: argparse.Namespace) -> None:
    """Raises UserError for numbers that mean nothing."""
    from lra.errors import UserError

    if parsed.task and (parsed.lengths or parsed.published):
        raise UserError("--task takes the tasks' own lengths: leave out --lengths and --published")
    if parsed.lengths and parsed.published:
        raise UserError("--published has lengths of its own: leave out --lengths")
    positive = {"lengths": min(parsed.lengths, default=1), "repeats": parsed.repeats, "budget": parsed.budget}
    positive |= {"batch": parsed.batch + 1, "threads": parsed.threads + 1, "memory": parsed.memory + 1}  # 0: default
    for name, value in positive.items():
        if not 0 < value < math.inf or (name not in ("budget", "memory") and value < 1):
            raise UserError(f"--{name} must be positive")
