"""The quirk audit: what each historic fault does to accuracy, switched on alone under a protocol.

Every fault is a field of the configuration, so a run with it is an ordinary run, and its record says so by the
protocol's name. Facts and sources: the issues and code of the suites that are named with each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lra.errors import ConfigError
from lra.experiments.grid import run_cells
from lra.experiments.plan import Request, part_of, plan
from lra.experiments.run import Cell
from lra.results.record import Record

if TYPE_CHECKING:
    import pandas as pd

    from lra.report.render import Table

IMAGES = ("image", "pathfinder", "pathfinder64", "pathx", "path256")
SUITES = {
    "google": "google-research/long-range-arena, cd31e5c",
    "nystromformer": "mlpen/Nystromformer, 5689313",
    "skyformer": "pkuzengqi/Skyformer, 1a677cb",
    "s4": "state-spaces/s4, e757cef",
}


@dataclass(frozen=True)
class Fault:
    """One historic fault. tasks: where it can occur, empty: everywhere.

    switch turns it on and sound off, whatever the protocol says. choice: a choice between two data sets rather than a
    fault of training; other faults are measured on the protocol's own data.
    """

    name: str
    switch: str
    sound: str
    tasks: tuple[str, ...]
    suites: tuple[str, ...]
    choice: bool = False

    def concerns(self, task: str) -> bool:
        return not self.tasks or task in self.tasks


FAULTS = (
    Fault(
        "zero taken for padding",
        "model.zero_is_padding=true",
        "model.zero_is_padding=false",
        IMAGES,
        ("google", "nystromformer", "skyformer"),
    ),
    Fault(
        "mean over padding",
        "model.pool_over_padding=true",
        "model.pool_over_padding=false",
        ("listops", "text", "retrieval"),
        ("nystromformer", "skyformer"),
    ),
    Fault("no brackets", "data.brackets=false", "data.brackets=true", ("listops",), ("nystromformer", "skyformer")),
    Fault(
        "validation on the test set",
        "data.text_validation=test",
        "data.text_validation=held-out",
        ("text",),
        ("google", "nystromformer", "skyformer"),
    ),
    Fault(
        "last batch dropped",
        "train.drop_last=true",
        "train.drop_last=false",
        (),
        ("google", "nystromformer", "skyformer"),
    ),
    Fault("gradients clipped by value", "train.clip=value", "train.clip=norm", (), ("skyformer",)),
    Fault("grey by Pillow, not luma", "data.grey=pil", "data.grey=luma", ("image",), ("s4",), choice=True),
    Fault(
        "uniform, not matched pairs",
        "data.retrieval_pairs=uniform",
        "data.retrieval_pairs=matched",
        ("retrieval",),
        ("google",),
        choice=True,
    ),
)


@dataclass(frozen=True)
class Comparison:
    """A fault on a task: the cells without and with it, mechanism by mechanism and seed by seed."""

    task: str
    fault: Fault
    without: list[Cell]
    faulty: list[Cell]


def compare(request: Request) -> list[Comparison]:
    """What the audit will run. Raises SpecError, DataError or ConfigError."""
    fields = {fault.switch.partition("=")[0] for fault in FAULTS}
    for override in request.overrides:
        if override.partition("=")[0] in fields:
            raise ConfigError(f"--set {override}: the audit itself sets this field; leave it out")
    found = []
    for task in dict.fromkeys(cell.task for cell in plan(request)):
        mine = [fault for fault in FAULTS if fault.concerns(task)]
        for fault in mine:
            sound = [other.sound for other in mine if other is fault or not other.choice]
            asked = replace(request, tasks=[task], overrides=(*request.overrides, *sound))
            faulty = replace(asked, overrides=(*asked.overrides, fault.switch))
            found.append(Comparison(task, fault, plan(asked), plan(faulty)))
    return found


@dataclass(frozen=True)
class Effect:
    """Of a fault on one mechanism and task: pairs of finished records by seed, without and with the fault."""

    comparison: Comparison
    row: str
    pairs: list[tuple[Record, Record]]


def run_audit(request: Request) -> list[Effect]:
    """Runs what is missing and returns every effect, those without a finished pair too.

    Of several tasks those without data are left out. Raises as `run_grid` does.
    """
    comparisons = compare(request)
    cells = {_key(cell): cell for c in comparisons for cell in (*c.without, *c.faulty)}
    several = len({cell.task for cell in cells.values()}) > 1
    slots = run_cells(request, part_of(list(cells.values()), request.shard), forgiving=several)
    done = {_key(slot.cell): slot.record for slot in slots if slot.record and slot.record.test_accuracy is not None}
    effects = []
    for c in comparisons:
        for row in dict.fromkeys(cell.row for cell in c.without):
            both = [(_key(a), _key(b)) for a, b in zip(c.without, c.faulty, strict=True) if a.row == row]
            effects.append(Effect(c, row, [(done[a], done[b]) for a, b in both if a in done and b in done]))
    return effects


def _key(cell: Cell) -> tuple[str, str, int, str]:
    return cell.task, cell.row, cell.seed, cell.protocol


def table(effects: Sequence[Effect]) -> pd.DataFrame:
    """One row per effect, fractions of 1: accuracies, difference (with minus without), its 95 % interval, verdict."""
    import pandas as pd

    from lra.stats import adjust, difference

    found = {}
    for effect in effects:
        if effect.pairs:
            without, faulty = zip(
                *((a.test_accuracy or 0.0, b.test_accuracy or 0.0) for a, b in effect.pairs), strict=True
            )
            rows = min(record.test_rows for pair in effect.pairs for record in pair)
            found[_name(effect)] = difference(faulty, without, rows)
    found = adjust(found)
    return pd.DataFrame([_line(effect, found.get(_name(effect))) for effect in effects])


def _name(effect: Effect) -> str:
    return f"{effect.comparison.task} {effect.comparison.fault.name} {effect.row}"


def _line(effect: Effect, difference: Any) -> dict[str, Any]:
    fault = effect.comparison.fault
    line = {"task": effect.comparison.task, "fault": fault.name, "switch": fault.switch, "attention": effect.row}
    line |= {"suites": "; ".join(SUITES[suite] for suite in fault.suites), "seeds": len(effect.pairs)}
    if difference is None:
        return line | {"verdict": "not measured"}
    sides = [sum(r.test_accuracy or 0.0 for r in side) / len(side) for side in zip(*effect.pairs, strict=True)]
    low, high = difference.interval or (None, None)
    line |= {"without": sides[0], "with": sides[1], "difference": difference.mean, "low": low, "high": high}
    line |= {"test_noise": difference.test_half_width, "p_holm": difference.adjusted}
    few = f"{difference.count} seed{'s' * (difference.count > 1)}: no interval"
    verdict = few if difference.interval is None else "outside noise" if difference.separated else "inside noise"
    return line | {"verdict": verdict}


def sheet_of(frame: pd.DataFrame) -> Table:
    """The table for people, in per cent and points."""
    from lra.report import render
    from lra.report.format import DASH

    def points(value: Any, form: str = "{:+.1f}") -> str:
        return DASH if value is None or value != value else form.format(100 * value)

    body = []
    for line in frame.to_dict("records"):
        low, high = points(line.get("low")), points(line.get("high"))
        interval = DASH if low == DASH else f"{low} to {high}"
        accuracies = [points(line.get(key), "{:.1f}") for key in ("without", "with")]
        noise = points(line.get("test_noise"), "±{:.1f}")
        place = [str(line[key]) for key in ("task", "fault", "attention")]
        seen = [points(line.get("difference")), interval, noise, str(line["seeds"]), str(line["verdict"])]
        body.append([*place, *accuracies, *seen])
    header = ["Task", "Fault", "Attention", "without", "with", "Difference", "95 % over seeds", "Test rows", "Seeds"]
    return render.table("The quirk audit", [*header, "Verdict"], body, left=3, note=LEGEND)


LEGEND = (
    "Test accuracy in %; differences in points, with the fault minus without, paired by seed. The interval is "
    "Student's over the seeds, from three on (from ten on BCa, where sign flips can reach 5 % among so many); 'Test "
    "rows' is the 95 % noise of the test split. 'Outside noise': beyond both, Holm-adjusted over this table."
)


def document(frame: pd.DataFrame, request: Request, command: str) -> str:
    """The Markdown page: what was run, the table, and which suite had which fault."""
    from lra.report.render import markdown

    sources = "".join(
        f"- {fault.name} (`{fault.switch}`, against `{fault.sound}`): "
        f"{'; '.join(SUITES[suite] for suite in fault.suites)}\n"
        for fault in FAULTS
        if fault.name in set(frame["fault"])
    )
    return (
        f"# The quirk audit\n\nProtocol {request.protocol}, each historic fault switched on alone.\n\n    {command}\n\n"
        f"{markdown(sheet_of(frame))}\n{LEGEND}\n\n## Which suite had which fault\n\n{sources}"
    )
