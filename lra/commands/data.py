"""prepare, list, verify or move the data of tasks, and compute ladders"""

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lra.commands.choice import add_choice, refuse_others, to_file, to_path
from lra.errors import UserError, to_type

if TYPE_CHECKING:
    import tasks

ACTIONS = (
    "prepare: make the data ready; status: say what is ready; verify: read it all against its hashes; "
    "ladder: compute what trivial baselines score; pack, unpack: carry prepared data elsewhere in one archive"
)

PREPARING = ("task", "protocol", "set", "data_dir", "accept_mirror")
OPTIONS = {  # action -> the options that it takes
    "prepare": PREPARING,
    "status": ("task",),
    "verify": ("task",),
    "ladder": (*PREPARING, "store"),
    "pack": (*PREPARING, "file"),
    "unpack": ("file",),
}


ANEW = "the next command that needs it prepares it again"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("prepare", "status", "verify", "ladder", "pack", "unpack"), help=ACTIONS)
    add_choice(parser, required=False)
    parser.add_argument("--store", type=to_path, metavar="DIR", help="ladder: also write it to this folder")
    parser.add_argument(
        "--file",
        type=to_file,
        default=Path("lra-data.tar"),
        help="pack, unpack: the archive (default lra-data.tar)",
    )


def main(parsed: argparse.Namespace) -> int:
    import tasks
    from lra.experiments.data import expand_tasks

    refuse_others(parsed, OPTIONS[parsed.action], f"data {parsed.action}")
    if parsed.action == "unpack":
        print("\n".join(f"unpacked {name}" for name in tasks.unpack(parsed.file, tasks.cache_folder())))
        return 0
    specs = parsed.task or (tasks.names() if parsed.action in ("status", "verify") else [])
    if not specs:
        raise UserError(f"data {parsed.action} needs --task: names from `list`, or all")
    names = expand_tasks(specs)
    if parsed.action == "status":
        print("\n".join(status(task) for task in names))
        return 0
    if parsed.action == "verify":
        return verify(names)
    return prepare_chosen(parsed, names)


def verify(names: list[str]) -> int:
    """Reads all prepared data of these tasks and prints for each data set whether it is intact -> the exit code."""
    import tasks

    broken_folders = [folder for task in names for folder in tasks.broken(tasks.cache_folder(), task)]
    for folder in broken_folders:
        print(f"{folder}: damaged: files are missing or unreadable; {ANEW}")
    damaged = len(broken_folders)
    sets = [data for task in names for data in tasks.prepared(tasks.cache_folder(), task)]
    for data in sets:
        fault = tasks.find_fault(data)
        damaged += bool(fault)
        older = "" if tasks.has_hashes(data) else " (no file hashes: prepared by an older version)"
        state = f"damaged: {fault}; {ANEW}" if fault else f"intact{older}"
        print(f"{data.folder}: {state}")
    if not sets and not broken_folders:
        print(f"no prepared data in {tasks.cache_folder()}")
    return int(bool(damaged))


def prepare_chosen(parsed: argparse.Namespace, names: list[str]) -> int:
    """Prepares the data of each task and prints where it is -> the exit code.

    With `--task all`, tasks whose data is missing are named on stderr, and the exit code is 1.
    """
    import tasks
    from lra.experiments.data import describe_data, prepare_data, resolve_for

    sets, missing = [], []
    for task in names:
        try:
            data = prepare_data(task, resolve_for(task, parsed.protocol, parsed.set), parsed.data_dir)
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
        print(f"{len(sets)} of {len(names)} tasks have data; missing: {', '.join(missing)}", file=sys.stderr)
    if parsed.action == "pack" and sets:
        tasks.pack(sets, parsed.file)
        print(
            f"packed into {parsed.file}; on the other machine: {to_type('data', 'unpack', '--file', parsed.file.name)}"
        )
    return int(bool(missing))


def climb(task_name: str, data: "tasks.Data", store: Path | None) -> str:
    """The ladder of a task's data, recomputed, as lines. store: a second folder for it. Raises DataError, UserError."""
    import tasks
    from lra.experiments.data import climb as rungs_of

    task, rungs = tasks.find(task_name), rungs_of(task_name, data)
    if task.networks:
        from lra.experiments.rung_networks import accuracy

        rungs |= {name: accuracy(network, data, f"{task.title}: {name}") for name, network in task.networks.items()}
    with suppress(OSError):
        tasks.store_ladder(data.folder, data, rungs, task.file_hash)
    lines = [f"  {100 * accuracy:5.1f} %  {rung}" for rung, accuracy in rungs.items()]
    if store:
        try:
            lines.append(f"written to {tasks.store_ladder(store, data, rungs, task.file_hash)}")
        except OSError as error:
            raise UserError(f"cannot write to {store}: {error.strerror}") from error
    return "\n".join(lines)


def status(task_name: str) -> str:
    """What the cache holds of a task: source, rows, hash, size, terms, leakage; or the command that prepares it."""
    import tasks
    from lra.experiments.data import describe_data

    prepared = tasks.prepared(tasks.cache_folder(), task_name)
    if not prepared and (tasks.find(task_name).streamed or tasks.file_of(task_name)):
        return f"{task_name}: generated while it is read, nothing to prepare"
    if not prepared:
        return f"{task_name}: not prepared; {to_type('data', 'prepare', '--task', task_name)} [--data-dir DIR]"
    lines = []
    for data in prepared:
        size = sum(path.stat().st_size for path in data.folder.iterdir() if path.is_file())
        lines.append(f"{describe_data(task_name, data, None)}, {size / 1e6:,.0f} MB in {data.folder}")
        lines.append(f"  terms: {data.about.get('terms', 'generated here, none')}")
        for split, shares in data.about.get("leakage", {}).items():
            parts = ", ".join(f"{100 * share:.1f} % of {kind}" for kind, share in shares.items())
            lines.append(f"  also in training, of {split}: {parts}")
    return "\n".join(lines)
