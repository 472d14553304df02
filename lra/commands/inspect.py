"""look inside attentions: matrices, entropy, rank, gates"""

import argparse
from pathlib import Path

from lra.commands.choice import add_choice, refuse_others, to_path
from lra.errors import UserError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--attn", nargs="+", default=[], metavar="ATTENTION", help="as for run; with --run: only these rows"
    )
    add_choice(parser, required=False)
    parser.add_argument(
        "--run",
        nargs="+",
        type=to_path,
        default=[],
        metavar="RUN",
        help="records or folders: look at trained models",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of fresh weights (default 0)")
    parser.add_argument(
        "--samples", type=int, default=4, metavar="N", help="how many validation samples to read (default 4)"
    )
    parser.add_argument(
        "--out",
        type=to_path,
        default=Path("results/inspect"),
        help="folder for figures and tables (default results/inspect)",
    )


def main(parsed: argparse.Namespace) -> int:
    if parsed.samples < 1:
        raise UserError(f"--samples must be at least 1, not {parsed.samples}")
    if not parsed.run and not (parsed.attn and parsed.task):
        raise UserError("inspect needs --attn and --task for fresh weights, or --run with the record of a run")
    if parsed.run:  # the protocol and the seed are those of the records
        refuse_others(parsed, ("run", "attn", "task", "data_dir", "accept_mirror", "samples", "out"), "inspect --run")
    from lra.inspect import write

    groups = write(subjects(parsed), parsed.samples, parsed.out)
    for group in groups:
        print(f"\n{group.text}\n" if group.text else "")
        print("\n".join([*group.notes, f"figures and tables in {group.folder}"]))
    return int(not all(group.readable for group in groups))


def subjects(parsed: argparse.Namespace) -> list:
    """The encoders to inspect: fresh, or of the runs of --run. Raises UserError, SpecError or DataError."""
    import attention_zoo
    from lra import inspect
    from lra.experiments.data import expand_tasks
    from lra.experiments.plan import Request, expand_attentions, name_rows

    if not parsed.run:
        return inspect.fresh(
            Request(
                attentions=parsed.attn,
                tasks=parsed.task,
                seeds=[parsed.seed],
                protocol=parsed.protocol,
                overrides=tuple(parsed.set),
                data_dir=parsed.data_dir,
            )
        )

    def names(specs: list[str]) -> list[str]:
        return name_rows([attention_zoo.find(spec) for spec in specs])

    single_specs = [spec for spec in parsed.attn if expand_attentions([spec]) == [spec]]  # no `all`, `family:linear`
    rows = names(expand_attentions(parsed.attn))
    return inspect.trained(parsed.run, rows, expand_tasks(parsed.task or []), parsed.data_dir, names(single_specs))
