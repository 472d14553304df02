"""The command line. Standard library only until something has to be computed, so that messages come at once."""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import io
import os
import re
import sys
from pathlib import Path

from lra.errors import UserError

NEEDED = ("torch", "numpy", "numba", "datasets", "pandas", "matplotlib", "tqdm", "yaml", "jsonargparse", "safetensors",
          "tabulate", "jinja2")  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = """\
examples:
  python run_lra.py --attn pola --task listops
  python run_lra.py --attn softmax pola:alpha=5 ./mine.py --task listops --seed 0 1 2 --protocol quick
  python run_lra.py --attn elu:conv=5 --task listops --set train.lr=3e-4 model.layers=4
  python run_lra.py report results/runs
  python run_lra.py list
"""


class Parser(argparse.ArgumentParser):
    """One line on stderr and exit code 2, without the usage block."""

    def error(self, message: str):
        wrong = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        if wrong:
            close = difflib.get_close_matches(wrong[1], re.findall(r"\w+", wrong[2]), n=1, cutoff=0.5)
            message += f", did you mean {close[0]!r}?" if close else ""
        raise UserError(f"{message}; see `{self.prog} --help`")


def build_parser() -> argparse.ArgumentParser:
    """The parser; `run` is the command when none is named."""
    parser = Parser(
        description="Long Range Arena for efficient attention. Without a command: run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="{run,report,list,data,protocol}")
    add_run(commands.add_parser("run", help="train attentions on tasks (the default)", epilog=EXAMPLES,
                                formatter_class=argparse.RawDescriptionHelpFormatter))  # fmt: skip
    report = commands.add_parser("report", help="tables and plots of records")
    report.add_argument("runs", nargs="*", default=["results/runs"], help="records or folders (default results/runs)")
    report.add_argument("--out", default="results/report", help="folder for the files (default results/report)")
    commands.add_parser("list", help="attentions with their options, tasks, protocols")
    data = commands.add_parser(
        "data", help="prepare tasks' data, see what there is, carry it elsewhere, compute ladders"
    )
    data.add_argument("action", choices=("prepare", "status", "ladder", "pack", "unpack"))
    add_choice(data, required=False)
    data.add_argument("--store", type=Path, metavar="DIR", help="ladder: write it to this folder, too")
    data.add_argument("--file", type=Path, default=Path("lra-data.tar"), help="pack, unpack: the archive")
    protocol = commands.add_parser("protocol", help="where two protocols differ")
    protocol.add_argument("action", choices=("diff",))
    protocol.add_argument("protocols", nargs=2, metavar="PROTOCOL", help="two names from `list`, or files")
    return parser


def add_choice(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Options that `run` and `data` share: which task, under which protocol, from where."""
    parser.add_argument("--task", nargs="+", required=required, metavar="TASK", help="names from `list`, or all")
    parser.add_argument("--protocol", default="standard", help="a name from `list` or a file (default standard)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="train.lr=3e-4 model.layers=4 ...")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder with the data's files (default LRA_DATA)")
    parser.add_argument(
        "--accept-mirror", action="store_true", help="Retrieval: allow the public mirror of LRA's pairs"
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--attn", nargs="+", required=True, metavar="ATTENTION", help="pola, softmax:conv=5, ./mine.py, ..."
    )
    add_choice(parser)
    parser.add_argument("--seed", nargs="+", type=int, default=[0], metavar="N", help="one cell per seed (default 0)")
    parser.add_argument("--out", type=Path, default=Path("results/runs"), help="records (default results/runs)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps (default: the fastest there is)")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: done. 1: a cell failed, nothing could run or a record is unreadable. 2: a mistake of the user."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["run", *arguments]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a table must not die of an old code page
    try:
        if not {"-h", "--help"} & set(arguments):
            check_installation()
        parsed = build_parser().parse_args(arguments)
        if getattr(parsed, "accept_mirror", False):
            os.environ["LRA_ACCEPT_MIRROR"] = "1"
        # torch's threads spin while they wait: on two cores with another process beside it a step took 15 times as long
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
        return {"run": run, "report": report, "list": show, "data": data, "protocol": protocol}[parsed.command](parsed)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    except Exception as error:
        if not is_users(error):
            raise
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2


def check_installation() -> None:
    """Raises UserError when packages are missing, or another package has the name of one of ours."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        ready = "; or enter the one there: source .venv/bin/activate" if (ROOT / ".venv" / "ready").exists() else ""
        raise UserError(f"missing {', '.join(missing)}: install with `pip install -e .` in {ROOT}{ready}")
    for name in ("attention_zoo", "tasks"):
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None or Path(found.origin).resolve().parent != ROOT / name:
            raise UserError(
                f"`import {name}` finds {found and found.origin}, not ours in {ROOT}: rename or move that one"
            )


def is_users(error: Exception) -> bool:
    """Is this a mistake a person can mend? The zoo and the tasks have error classes of their own."""
    if isinstance(error, UserError):
        return True
    from attention_zoo import SpecError
    from tasks import DataError

    return isinstance(error, SpecError | DataError)


def run(parsed: argparse.Namespace) -> int:
    from lra.grid import Request, run_grid

    request = Request(
        attentions=parsed.attn,
        tasks=parsed.task,
        seeds=parsed.seed,
        protocol=parsed.protocol,
        overrides=tuple(parsed.set),
        out=parsed.out,
        data_dir=parsed.data_dir,
        device=parsed.device,
    )
    records = run_grid(request)
    if records:
        from lra.report import terminal

        print(terminal(records))
        print(f"\nrecords in {parsed.out}; tables and plots: python run_lra.py report {parsed.out}")
    return int(not records or any(record.status == "failed" for record in records))


def report(parsed: argparse.Namespace) -> int:
    from lra.report import write

    made = write([Path(run) for run in parsed.runs], Path(parsed.out))
    print(made.text)
    for problem in made.problems:
        print(f"skipped: {problem}", file=sys.stderr)
    return int(bool(made.problems))


def show(parsed: argparse.Namespace) -> int:  # noqa: ARG001
    from lra.listing import listing

    print(listing())
    return 0


def data(parsed: argparse.Namespace) -> int:
    import tasks
    from lra.data import cache_folder, status
    from lra.grid import ARENA

    if parsed.action == "unpack":
        print("\n".join(f"unpacked {name}" for name in tasks.unpack(parsed.file, cache_folder())))
        return 0
    asked = parsed.task or (["all"] if parsed.action == "status" else [])
    if not asked:
        raise UserError(f"data {parsed.action} needs --task")
    chosen = [name for task in asked for name in (ARENA if task == "all" else (tasks.find(task).name,))]
    if parsed.action == "status":
        print("\n".join(status(task) for task in chosen))
        return 0
    return prepare_chosen(parsed, chosen)


def prepare_chosen(parsed: argparse.Namespace, chosen: list[str]) -> int:
    """Prepares each task and says so; those of `all` whose data cannot be had are named, and the exit code is 1."""
    import tasks
    from lra.data import climb, describe_data, prepare

    sets, missing = [], []
    for task in chosen:
        try:
            data = prepare(task, parsed.protocol, parsed.set, parsed.data_dir)
        except tasks.MissingDataError as error:
            if "all" not in parsed.task:
                raise
            missing.append(task)
            print(f"missing: {error}", file=sys.stderr)
            continue
        sets.append(data)
        print(f"{describe_data(task, data, parsed.data_dir)}, in {data.folder}")
        if parsed.action == "ladder":
            print(climb(task, data, parsed.store))
    if missing:
        print(f"{len(sets)} of {len(chosen)} tasks have data; missing: {', '.join(missing)}", file=sys.stderr)
    if parsed.action == "pack":
        tasks.pack(sets, parsed.file)
        print(f"packed into {parsed.file}; there: python run_lra.py data unpack --file {parsed.file.name}")
    return int(bool(missing))


def protocol(parsed: argparse.Namespace) -> int:
    from lra.listing import difference

    print(difference(*parsed.protocols))
    return 0
