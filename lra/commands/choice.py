"""Arguments that several commands share: which task, under which protocol, with data from where."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lra.experiments.plan import Request


def add_choice(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("--task", nargs="+", required=required, metavar="TASK", help="names from `list`, or all")
    parser.add_argument("--protocol", default="standard", help="a name from `list` or a file (default standard)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="train.lr=3e-4 model.layers=4 ...")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder with the data's files (default LRA_DATA)")
    parser.add_argument(
        "--accept-mirror", action="store_true", help="Retrieval: allow the public mirror of LRA's pairs"
    )


def seed(text: str) -> int:
    """One value of --seed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"takes numbers from 0, as in --seed 0 1 2, not {text!r}")
    return int(text)


def add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--devices", default="", metavar="0-7", help="these GPUs, a process and a cell on each")
    parser.add_argument("--jobs", type=int, default=1, metavar="K", help="K processes on one device, such as a CPU")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="the I-th of N parts of the cells (job arrays)")
    parser.add_argument("--track", choices=["tensorboard", "wandb"], default="", help="send progress there, too")


def make_request(parsed: argparse.Namespace) -> Request:
    """Of a command that trains. Raises ConfigError."""
    from lra.experiments.plan import Request, parse_shard

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
        shard=parse_shard(parsed.shard),
        match_params=getattr(parsed, "match_params", False),
        track=parsed.track,
    )
