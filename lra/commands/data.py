"""prepare the data of tasks, see what there is, carry it elsewhere, compute ladders"""

import argparse
import sys
from pathlib import Path

from lra.commands.choice import add_choice
from lra.errors import UserError

ACTIONS = (
    "prepare: make the data ready; status: say what is ready; ladder: compute what trivial readers score; "
    "pack, unpack: carry prepared data elsewhere in one archive"
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("prepare", "status", "ladder", "pack", "unpack"), help=ACTIONS)
    add_choice(parser, required=False)
    parser.add_argument("--store", type=Path, metavar="DIR", help="ladder: also write it to this folder")
    parser.add_argument(
        "--file", type=Path, default=Path("lra-data.tar"), help="pack, unpack: the archive (default lra-data.tar)"
    )


def main(parsed: argparse.Namespace) -> int:
    import tasks
    from lra.experiments.data import status

    if parsed.action == "unpack":
        print("\n".join(f"unpacked {name}" for name in tasks.unpack(parsed.file, tasks.cache_folder())))
        return 0
    asked = parsed.task or (tasks.names() if parsed.action == "status" else [])
    if not asked:
        raise UserError(f"data {parsed.action} needs --task: names from `list`, or all")
    chosen = tasks.expand(asked)
    if parsed.action == "status":
        print("\n".join(status(task) for task in chosen))
        return 0
    return prepare_chosen(parsed, chosen)


def prepare_chosen(parsed: argparse.Namespace, chosen: list[str]) -> int:
    """Prepares each task and says so. Names those of `all` whose data cannot be had; the exit code is then 1."""
    import tasks
    from lra.experiments.data import climb, describe_data, prepare

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
