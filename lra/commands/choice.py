"""Arguments that several commands share: the task, the protocol, where the data is, how many processes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lra.errors import UserError

if TYPE_CHECKING:
    from lra.experiments.plan import Request

LONGEST = 255  # bytes of a file name, the limit of common file systems


def add_choice(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("--task", nargs="+", required=required, metavar="TASK", help="names from `list`, files, or all")
    parser.add_argument("--protocol", default="standard", help="a name from `list`, or a file (default standard)")
    parser.add_argument(
        "--backbone",
        dest="set",
        nargs=1,
        default=argparse.SUPPRESS,
        type=lambda name: f"model.backbone={name}",
        metavar="NAME",
        help="the model around the attention: a name from `list`, or a file (short for --set model.backbone=NAME)",
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="train.lr=3e-4 model.layers=4 ...")
    parser.add_argument(
        "--data-dir", type=to_path, metavar="DIR", help="folder with the files of the data (default LRA_DATA)"
    )
    parser.add_argument(
        "--accept-mirror", action="store_true", help="Retrieval: allow a public mirror of the pairs of LRA"
    )


def refuse_others(parsed: argparse.Namespace, allowed: Collection[str], what: str) -> None:
    """Raises UserError for a given option that this use of the command (`what`, in words) would ignore."""
    given: dict[str, str] = getattr(parsed, "given", {})
    if others := [option for name, option in given.items() if name not in allowed]:
        takes = ", ".join(f"--{name.replace('_', '-')}" for name in allowed) or "no options"
        raise UserError(f"{what} does not take {others[0]}; it takes {takes}")


HERE = ("data_dir", "device", "devices", "jobs", "processes", "engine", "address", "gpus_per_run", "cpus_per_run",
        "shard", "track")  # options on how to compute on one machine, not on what to compute  # fmt: skip


def given_words(parsed: argparse.Namespace, command: str) -> list[str]:
    """The words of a command line with the options that were given, without those in HERE."""
    words = [command]
    for name in (name for name in getattr(parsed, "given", {}) if name not in HERE):
        value = getattr(parsed, name)
        values = value if isinstance(value, list) else [] if value is True else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def to_path(text: str) -> Path:
    """The path in a text, with ~ expanded. Raises ArgumentTypeError for a text that can be no path."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"takes a path, not {text!r}")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error} Write ./{text} for a folder of this name") from error
    if long := next((part for part in path.parts if len(os.fsencode(part)) > LONGEST), ""):
        raise argparse.ArgumentTypeError(f"{long[:40]}... is longer than a file name can be")
    return path


def to_file(text: str) -> Path:
    """The path of a file, which need not exist. Raises ArgumentTypeError for a folder."""
    path = to_path(text)
    if not path.name or path.is_dir():
        raise argparse.ArgumentTypeError(f"takes a file, and {text} is a folder")
    return path


def seed(text: str) -> int:
    """One value of --seed."""
    if len(text) > 18:
        raise argparse.ArgumentTypeError(f"takes numbers below 10 ** 18, not {text[:40]!r}")
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"takes numbers from 0, as in --seed 0 1 2, not {text!r}")
    return int(text)


def count(text: str) -> int:
    """The value of --jobs, --processes or --cpus-per-run."""
    if not text.isdecimal() or len(text) > 4 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"takes a number from 1 to 9999, not {text[:40]!r}")
    return int(text)


def share(text: str) -> float:
    """The value of --gpus-per-run. A run computes on one GPU at most."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"takes 1, 0, or a share of one GPU such as 0.5, not {text[:40]!r}")
    return value


def add_runs(parser: argparse.ArgumentParser, about: str) -> None:
    """Adds the positional argument for the records that a command reads."""
    parser.add_argument("runs", nargs="*", type=to_path, default=[Path("results/runs")], help=about)


def add_processes(parser: argparse.ArgumentParser, engines: Sequence[str] = ("local", "ray", "slurm")) -> None:
    parser.add_argument("--devices", default="", metavar="0-7", help="use these GPUs, one process and one run on each")
    parser.add_argument(
        "--jobs", type=count, default=0, metavar="K", help="K runs at a time (default on a CPU: one per core)"
    )
    parser.add_argument(
        "--processes",
        type=count,
        default=0,
        metavar="N",
        help="N processes share each run on a CPU (default: the free cores)",
    )
    where = "on this machine, on a Ray cluster" + (", by a job array that --emit writes" if "slurm" in engines else "")
    parser.add_argument("--engine", choices=engines, default="local", help=f"where the runs are done: {where}")
    parser.add_argument(
        "--address", default="", metavar="HOST:PORT", help="address of the Ray cluster (default auto: this machine's)"
    )
    parser.add_argument(
        "--gpus-per-run",
        type=share,
        metavar="G",
        help="Ray: GPUs for each run, or a share such as 0.5 (default 1 if there are any)",
    )
    parser.add_argument(
        "--cpus-per-run", type=count, default=0, metavar="C", help="Ray: cores for each run (default 1)"
    )
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="do the I-th of N parts of the runs (job arrays)")
    parser.add_argument(
        "--track", choices=["tensorboard", "wandb"], default="", help="also log the progress to this tracker"
    )


def make_request(parsed: argparse.Namespace) -> Request:
    """The request of a command that trains. Raises ConfigError."""
    from lra.errors import ConfigError
    from lra.experiments.plan import Request, parse_shard

    if parsed.engine == "ray" and getattr(parsed, "emit", None):
        raise ConfigError("--emit writes a job array for SLURM; leave it out with --engine ray")
    return Request(
        attentions=parsed.attn,
        tasks=parsed.task,
        seeds=parsed.seed,
        protocol=parsed.protocol,
        overrides=tuple(parsed.set),
        out=parsed.out,
        data_dir=parsed.data_dir,
        device=parsed.device,
        devices=parsed.devices,
        jobs=parsed.jobs,
        processes=parsed.processes,
        engine=parsed.engine,
        address=parsed.address,
        gpus_per_run=parsed.gpus_per_run,
        cpus_per_run=parsed.cpus_per_run,
        shard=parse_shard(parsed.shard),
        match_params=getattr(parsed, "match_params", False),
        track=parsed.track,
    )
