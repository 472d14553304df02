"""list attentions with their options, backbones, tasks and protocols"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lra.commands.choice import refuse_others, to_file
from lra.commands.output import aligned, write_page
from lra.errors import UserError, to_type

if TYPE_CHECKING:
    import attention_zoo

LONG, SHORT = 4_096, 1_024  # operations are counted at these numbers of tokens
LEGEND = """\
parameters: in the standard model for ListOps, without embeddings; to softmax: the difference from softmax's number
model MFLOP: that model, forward, on one sequence of 2,000 tokens
MFLOP 1K, 4K: the attention of one layer, forward, on one sequence of 1,024 or 4,096 tokens"""
HEADER = (
    "attention",
    "family",
    "parameters",
    "to softmax",
    "model MFLOP",
    "cost",
    "MFLOP 1K",
    "MFLOP 4K",
    "fidelity",
    "source",
)
HOURS = "h: hours of a standard run on this machine, on all its cores, as `bench --hours` measured them last"
NO_HOURS = (
    f"hours on this machine: after `{to_type('bench', '--hours', '--attn', 'NAME')} ...`, which takes minutes for each"
)
DASH = "\N{EN DASH}"
BENCHES = Path("results/runs")  # `bench` writes to the folder `bench` in it


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--long",
        action="store_true",
        help="attentions with their parameters, operations, hours here, fidelity and source",
    )
    parser.add_argument(
        "--backbone", default="flat", metavar="NAME", help="with --long: in this backbone (default flat)"
    )
    parser.add_argument(
        "--page",
        type=to_file,
        metavar="FILE",
        help="write the page of all attentions, docs/zoo.md, to FILE",
    )


def main(parsed: argparse.Namespace) -> int:
    if parsed.page:
        refuse_others(parsed, ("page",), "list --page")
    elif not parsed.long and parsed.backbone != "flat":
        raise UserError(f"--backbone goes with --long: list --long --backbone {parsed.backbone}")
    if parsed.page:
        from lra.commands.zoo_page import page

        write_page(parsed.page, page())
        return 0
    if parsed.long:
        print(long_listing(BENCHES, parsed.backbone))
        return 0
    print(listing())
    return 0


def listing() -> str:
    """Attentions with their cost and options, backbones with their keys, tasks, protocols, and how to use your file."""
    import attention_zoo
    import tasks
    from lra.backbones import registry
    from lra.config import protocol
    from lra.config.resolve import as_override

    lines = ["attentions (--attn name:option=value,... or, for all of a family, --attn family:NAME; docs/zoo.md)"]
    for family, about in attention_zoo.FAMILIES.items():
        lines.append(f"  {family}: {about}")
        for name in attention_zoo.names(family):
            entry, _ = attention_zoo.find(name)
            options = ", ".join(f"{key}={default}" for key, (_, default) in entry.options.items())
            lines.append(f"    {name:<11} {entry.title:<21} {entry.cost:<10} {options}")
    lines += ["  ./mine.py  a file of yours with a registered class (docs/add-an-attention.md)", ""]
    lines += ["backbones (--backbone, with keys for --set model.KEY=VALUE)"]
    for name in registry.names():
        backbone = registry.read_builtin(name)
        keys = ", ".join(f"{key}={as_override(default)}" for key, (_, default) in backbone.keys.items())
        lines.append(f"  {name:<10} {backbone.title:<21} {keys}")
    lines += ["  ./mine.py  a file of yours with a registered class (docs/add-a-backbone.md)", "", "tasks (--task)"]
    lines += [f"  {name:<12} {tasks.find(name).title}" for name in tasks.names()]
    lines += ["  ./mine.py    a file of yours with a task (docs/add-a-task.md)", "", "protocols (--protocol)"]
    for name in protocol.protocols():
        lines.append(f"  {name:<14} {protocol.about_protocol(name)}")
    return "\n".join(lines)


def long_listing(benches: Path, backbone: str = "flat") -> str:
    """A line per mechanism, by family: size of the standard model with this backbone, cost, hours, fidelity, source.

    Operations are those of one layer's attention, projections included, at width 64, in a forward pass over one
    sequence. benches: folder of bench records, for the hours.
    """
    import attention_zoo
    import tasks
    from lra.bench.flops import attention_flops, sample_flops
    from lra.experiments.build import make_model
    from lra.experiments.match import TARGET, count
    from lra.experiments.plan import Request, plan

    overrides = (f"model.backbone={backbone}",)
    names = [name for family in attention_zoo.FAMILIES for name in attention_zoo.names(family)]
    runs = plan(Request(attentions=names, tasks=["listops"], seeds=[0], overrides=overrides))
    sizes = tasks.Spec(vocab=2, classes=10, length=2_000)  # as ListOps, but with fewer embeddings
    counts = {run.row: count(run, sizes) for run in runs}
    measured = hours_here(benches).get("standard", {})
    columns = [task for task in tasks.ARENA if task in measured]
    rows = []
    for run in runs:
        entry, dims = run.attention, attention_zoo.Dims(dim=64, heads=2, length=LONG)

        def make(length: int, entry=entry, dims=dims) -> "attention_zoo.Attention":
            return entry.build(replace(dims, length=length))

        layer_flops = [f"{attention_flops(make, length, dim=64) / 1e6:,.1f}" for length in (SHORT, LONG)]
        difference = f"{100 * (counts[run.row] / counts[TARGET] - 1):+.1f} %"
        fidelity = "control" if entry.control else entry.fidelity()
        if entry.padding == "fixed":
            fidelity += ", fixed length"
        hours = [f"{measured[task][entry.name]:.1f}" if entry.name in measured[task] else DASH for task in columns]
        model_flops = sample_flops(make_model(run, sizes).eval(), sizes.length, sizes.pair)
        size = (f"{counts[run.row]:,}", difference, DASH if model_flops is None else f"{model_flops / 1e6:,.0f}")
        rows.append((entry.name, entry.family, *size, entry.cost, *layer_flops, *hours, fidelity, entry.paper))
    header = (*HEADER[:8], *(f"{tasks.find(task).title}, h" for task in columns), *HEADER[8:])
    lines = aligned((header, *rows), right={2, 3, 4, *range(6, 8 + len(columns))})
    return "\n".join([*lines, "", LEGEND, HOURS if columns else NO_HOURS])


def hours_here(benches: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Protocol -> task -> attention -> hours of a run on this machine, as `bench --hours` measured them last."""
    from lra.results.bench_record import read_benches
    from lra.results.machine import environment
    from lra.results.whole_runs import whole_runs
    from lra.training.cores import affinity, physical_cores
    from lra.training.device import choose_device

    machine = environment(choose_device("auto"))
    here = (machine["device"], machine["device_name"], physical_cores(affinity()))
    runs = [
        (conditions.protocol, run)
        for conditions, runs in whole_runs(read_benches([benches])[0]).items()
        if (conditions.device, conditions.device_name, conditions.cores) == here
        for run in runs
    ]
    measured: dict[str, dict[str, dict[str, float]]] = {}
    for protocol, run in sorted(runs, key=lambda item: item[1].created):
        if run.hours is not None:
            measured.setdefault(protocol, {}).setdefault(run.task, {})[run.row] = run.hours
    return measured
