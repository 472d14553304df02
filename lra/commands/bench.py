"""measure time and memory of attentions against length"""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from lra.commands.choice import add_choice, count, to_path
from lra.errors import UserError

if TYPE_CHECKING:
    from lra.bench.runner import BenchRequest

EXAMPLES = """\
examples:
  python run_lra.py bench --attn softmax elu pola
  python run_lra.py bench --attn softmax pola --lengths 1024 4096 16384 --mode training
  python run_lra.py bench --attn softmax elu pola --published       the LRA paper's 1K to 4K, in batches of 32
  python run_lra.py bench --attn softmax pola --task listops text   real batches, with their lengths
  python run_lra.py bench --attn all --gear compiled                with the seconds that compiling takes
  python run_lra.py bench --hours --attn softmax pola               hours of whole runs on this machine
  python run_lra.py bench --yardstick                               our step beside the padded baseline

Measure on a machine that does nothing else. bench holds a lock on the device and says when the machine is not idle.
docs/speed.md explains the figures.
"""
REPEATS, FEW_REPEATS = 10, 3
BUDGET = 60.0
COMMON = ["softmax", "pola", "agent", "elu"]  # what --hours measures without --attn


def add(parser: argparse.ArgumentParser) -> None:
    from lra.results.bench_record import GEARS, MODES

    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--attn", nargs="+", default=[], metavar="ATTENTION", help="pola, softmax:conv=5, ./mine.py, ... or all"
    )
    parser.add_argument(
        "--lengths",
        nargs="+",
        type=int,
        default=[],
        metavar="N",
        help="tokens in every sequence (default: doublings from 256 to 4,096 on a CPU, to 65,536 elsewhere)",
    )
    parser.add_argument("--published", action="store_true", help="short for --lengths 1000 2000 3000 4000 --batch 32")
    add_choice(parser, required=False)
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES), help="what to time (default both)")
    parser.add_argument(
        "--batch", type=int, default=0, metavar="B", help="samples in a step (default: 4 on a CPU, else the protocol's)"
    )
    parser.add_argument(
        "--gear", nargs="+", choices=GEARS, default=["auto"], help="how to execute a step (default: as a run would)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the fastest available)")
    parser.add_argument(
        "--processes",
        type=count,
        default=0,
        metavar="N",
        help="N processes share each step on a CPU (default 1; with --hours one for each free core)",
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument(
        "--repeats",
        type=int,
        metavar="N",
        help=f"how often to time each (default {REPEATS}, {FEW_REPEATS} with --hours)",
    )
    parser.add_argument(
        "--budget", type=float, default=BUDGET, metavar="SECONDS", help="limit for each measurement (default 60)"
    )
    parser.add_argument(
        "--memory", type=float, default=0.0, metavar="GB", help="limit for each on a CPU (default: what is free)"
    )
    parser.add_argument(
        "--out", type=to_path, default=Path("results/runs/bench"), help="records (default results/runs/bench)"
    )
    add_instruments(parser)


def add_instruments(parser: argparse.ArgumentParser) -> None:
    """The options that choose what is measured instead of time and memory against length."""
    parser.add_argument(
        "--yardstick",
        action="store_true",
        help="time training steps in interleaved rounds, beside a baseline padded to the full length; on listops, text "
        "and image, with one thread and the protocol's batch by default; prints a table and writes nothing",
    )
    parser.add_argument(
        "--hours",
        action="store_true",
        help="what whole runs take here: start, tokens/s on one core and on all (or --processes), hours; by default of "
        "softmax, pola, agent and elu on the five tasks",
    )
    parser.add_argument("--no-baseline", action="store_true", help="--yardstick: leave the baseline out")


def main(parsed: argparse.Namespace) -> int:
    check(parsed)
    if parsed.repeats is None:
        parsed.repeats = FEW_REPEATS if parsed.hours else REPEATS
    return compare_with_baseline(parsed) if parsed.yardstick else measure(parsed)


def measure(parsed: argparse.Namespace) -> int:
    from lra.bench.runner import measure_all
    from lra.results.bench_record import FAILED, read_benches

    measured = list(measure_all(make_request(parsed), parsed.out))
    from lra.report.tables import whole_runs
    from lra.report.tables.bench import tables, write

    files = write(read_benches([parsed.out])[0], parsed.out)
    print("\n".join(whole_runs.tables(measured)) if parsed.hours else tables(measured))
    print(f"records in {parsed.out}; tables of all of them in {files[0]} and {files[1].name}")
    return int(any(bench.status == FAILED for bench in measured))


def compare_with_baseline(parsed: argparse.Namespace) -> int:
    from lra.bench.yardstick import machine, measure_all
    from lra.report.format import DASH
    from lra.report.render import markdown
    from lra.report.render import table as table_of

    request = make_request(parsed)
    for number, table in enumerate(measure_all(request, not parsed.no_baseline)):
        if number == 0:
            print(f"{machine(request)}\n")
        rows = [[DASH if cell is None else cell for cell in row] for row in table.rows]
        print(f"{table.title}\n\n{markdown(table_of('', table.header, rows))}", flush=True)
    return 0


def make_request(parsed: argparse.Namespace) -> "BenchRequest":
    from lra.bench.runner import PUBLISHED, BenchRequest
    from lra.bench.workload import Timing

    template = Timing(
        batch=parsed.batch or (32 if parsed.published else 0),
        device=parsed.device,
        protocol=parsed.protocol,
        overrides=tuple(parsed.set),
        data_dir=str(parsed.data_dir or ""),
        repeats=parsed.repeats,
        budget=parsed.budget,
        memory=int(1e9 * parsed.memory),
        threads=parsed.threads,
        processes=parsed.processes or (0 if parsed.hours else 1),
        whole_run=parsed.hours,
    )
    return BenchRequest(
        attentions=parsed.attn or (COMMON if parsed.hours else []),
        lengths=list(PUBLISHED) if parsed.published else parsed.lengths,
        tasks=parsed.task or [],
        modes=list(dict.fromkeys(parsed.mode)),
        gears=list(dict.fromkeys(parsed.gear)),
        template=template,
    )


def check(parsed: argparse.Namespace) -> None:
    """Raises UserError for options that exclude each other and for numbers that make no sense."""
    if parsed.yardstick and (parsed.lengths or parsed.published or parsed.mode == ["forward"]):
        raise UserError("--yardstick times training steps on tasks: leave out --lengths, --published and --mode")
    if parsed.no_baseline and not parsed.yardstick:
        raise UserError("--no-baseline belongs to --yardstick: give both or neither")
    if parsed.hours and (parsed.lengths or parsed.published or parsed.batch or len(parsed.mode) == 1):
        raise UserError("--hours measures what runs do: leave out --lengths, --published, --batch and --mode")
    if parsed.yardstick and (parsed.hours or parsed.processes):
        raise UserError("--yardstick times one process: leave out --hours and --processes")
    if parsed.yardstick and (parsed.budget != BUDGET or parsed.memory):
        raise UserError("--yardstick times rounds, however long they take: leave out --budget and --memory")
    if not parsed.yardstick and not parsed.hours and not parsed.attn:
        raise UserError("bench needs --attn: names from `list`, files, or all")
    if parsed.task and (parsed.lengths or parsed.published):
        raise UserError("--task takes the task's own lengths: leave out --lengths and --published")
    if parsed.lengths and parsed.published:
        raise UserError("--published has its own lengths: leave out --lengths")
    positive = {
        "lengths": min(parsed.lengths, default=1),
        "repeats": REPEATS if parsed.repeats is None else parsed.repeats,
        "budget": parsed.budget,
    }
    positive |= {"batch": parsed.batch + 1, "threads": parsed.threads + 1}  # 0: default
    positive |= {"memory": parsed.memory or 1}  # 0: default
    for name, value in positive.items():
        if not 0 < value < math.inf or (name not in ("budget", "memory") and value < 1):
            raise UserError(f"--{name} must be positive")
