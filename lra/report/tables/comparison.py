"""Comparison tables in words: a pure function of records."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from lra.report.compare import not_separated
from lra.report.groups import Cell, Column, Group, average, best_trivial, fidelity, rank
from lra.report.render import DASH, Sheet, sheet
from lra.results.record import RESULTS_VERSION, Record

MINUS = "\N{MINUS SIGN}"
DAGGER = "\N{DAGGER}"
TITLES = {"listops": "ListOps", "pathfinder64": "Pathfinder-64", "pathx": "Path-X", "path256": "Path-256"}
LEGEND = (
    "Test accuracy in percent, of the checkpoint that was best on validation, or of the last where the protocol says "
    "`select: last`: mean ± sample standard deviation over seeds (number of seeds). ≈: within 95 % noise of that rung "
    "of the task's ladder, where noise is the binomial one of the test rows and, from three seeds on, half of "
    "Student's interval of their mean, in quadrature. Best trivial: the strongest rung that reads no nesting. "
    f"{DAGGER}: the best step of a run lies in the last 5 % of training, so that "
    "longer training might score higher. Bold, from three common seeds on: the best row and every row not separated "
    f"from it. {DASH}: no run. A row with a missing cell has no average. Tokens/s: real tokens in training; ranges "
    "cover runs and tasks."
)
CAPTION = (
    "Test accuracy in percent, mean ± sample standard deviation (seeds). ≈: within noise of that rung. "
    f"{DAGGER}: best step in the last 5 % of training. Bold: the best row and every row not separated from it"
)


def percent(accuracy: float, decimals: int = 1) -> str:
    """0.369 -> '36.9'."""
    return f"{100 * accuracy:.{decimals}f}"


def title_of(task: str) -> str:
    """The task's name in headings."""
    return TITLES.get(task, task.capitalize())


def heading(group: Group) -> str:
    """'standard, bfloat16' and what else sets the table apart."""
    older = f", results version {group.results_version}" if group.results_version != RESULTS_VERSION else ""
    apart = f", apart for: {group.apart}" if group.apart else ""
    return f"Protocol {group.protocol}, {group.precision}{older}{apart}"


def data_line(group: Group) -> str:
    """Label and hash of each task's data, and in what the protocol differs from its source."""
    line = "Data: " + "; ".join(f"{title_of(c.task)} {c.label} ({c.data_hash[:12]})" for c in group.columns)
    words = {word for c in group.columns for cell in c.cells.values() for r in cell.records for word in r.deviations}
    return f"{line}. Against the protocol's source: {', '.join(sorted(words))} differ" if words else line


def column_title(column: Column) -> str:
    """The task, and which data where that is neither generated nor official: 'Retrieval (matched pairs)'."""
    plain = column.label in ("", "generated", "official", "own")
    return title_of(column.task) + ("" if plain else f" ({column.label})")


def comparison(group: Group) -> Sheet:
    """The table of a group: best trivial rung on top, a row per mechanism, a column per task."""
    trivial = {c.task: best_trivial(c.ladder) for c in group.columns}
    body = []
    if any(trivial.values()):
        top = ["best trivial", *(f"{percent(t[1])} {t[0]}" if t else DASH for t in trivial.values())]
        for columns in group.averages.values():
            rungs = [rung for column in columns if (rung := trivial[column.task])]
            top.append(percent(fmean(r[1] for r in rungs)) if len(rungs) == len(columns) else DASH)
        body.append((*top, "", ""))
    first = len(body)
    for row in group.rows:
        cells = [c.cells[row] for c in group.columns if row in c.cells]
        line = [row, *(cell_text(c, row) for c in group.columns)]
        means = [average(columns, row) for columns in group.averages.values()]
        line += [percent(mean) if mean is not None else DASH for mean in means]
        sizes = [r.parameters.get("total") for cell in cells for r in cell.records]
        speeds = [r.tokens_per_second for cell in cells for r in cell.done]
        body.append((*line, span(sizes), span(speeds, digits=3)))
    bold = [(group.rows.index(row) + first, 1 + i) for i, c in enumerate(group.columns) for row in not_separated(c)]
    header = ["Attention", *(column_title(c) for c in group.columns), *group.averages, "Parameters", "Tokens/s"]
    return Sheet(heading(group), tuple(header), tuple(body), bold=frozenset(bold), note=data_line(group))


def cell_text(column: Column, row: str) -> str:
    """'36.9 ± 0.3 (2) ≈ root operator; 1 diverged', a dash when nothing ran."""
    cell = column.cells.get(row, Cell(()))
    lost = {status: cell.count(status) for status in ("diverged", "failed")}
    if (summary := cell.summary) is None:
        words = [status if count == 1 else f"{status} ({count})" for status, count in lost.items() if count]
        return "; ".join(words) or DASH
    text = percent(summary.mean)
    if summary.deviation is not None:
        text += f" ± {percent(summary.deviation)}"
    text += f" ({summary.count})" + (DAGGER if cell.late else "")
    if rung := column.rung_of(row):
        text += f" ≈ {rung}"
    if cell.learned < summary.count:
        text += f"; {cell.learned} of {summary.count} learned" if cell.learned else "; at chance"
    return "; ".join([text, *(f"{count} {status}" for status, count in lost.items() if count)])


def mechanisms(groups: Sequence[Group]) -> str:
    """A line per row: what it is, how true to its paper, and whether it is a user's file."""
    found: dict[str, str] = {}
    for column in (column for group in groups for column in group.columns):
        for row, cell in column.cells.items():
            about = cell.records[0].attention
            source = "" if about.get("builtin", True) else f"a user's file, {about.get('source_hash', '')}"
            words = [str(about.get(key, "")) for key in ("title", "cost", "paper")]
            words.insert(1, fidelity(cell.records[0]))
            words += ["always padded to the full length"] if about.get("padding") == "fixed" else []
            found.setdefault(row, f"- `{row}`: {'; '.join(filter(None, [*words, source]))}\n")
    return "".join(found[row] for row in sorted(found, key=rank))


def breakdowns(group: Group) -> list[Sheet]:
    """Tables of the accuracy per kind of sample, such as 'ListOps, by root operator'."""
    found = []
    for column in group.columns:
        rows = [row for row in group.rows if row in column.cells]
        kinds = {kind: None for row in rows for r in column.cells[row].done for kind in r.accuracy_by}
        for kind in kinds:
            means = {row: _means(column.cells[row].done, kind) for row in rows}
            values = list(dict.fromkeys(value for known in means.values() for value in known))
            body = [
                [row, *(percent(known[v]) if v in known else DASH for v in values)]
                for row, known in means.items()
                if known
            ]
            found.append(sheet(f"{title_of(column.task)}, by {kind}", ["Attention", *values], body))
    return found


def _means(records: Sequence[Record], kind: str) -> dict[str, float]:
    """Value -> mean accuracy over the records that have it."""
    found: dict[str, list[float]] = {}
    for r in records:
        for value, accuracy in r.accuracy_by.get(kind, {}).items():
            found.setdefault(value, []).append(accuracy)
    return {value: fmean(found[value]) for value in sorted(found)}


def span(values: Iterable[float | None], form: str = "{:,.0f}", digits: int = 12) -> str:
    """'12,300' or '12,300–15,100', to so many significant digits; a dash for no value."""
    known = [float(f"{value:.{digits}g}") for value in values if value is not None]
    ends = dict.fromkeys(form.format(end) for end in (min(known), max(known))) if known else {}
    return DASH.join(ends) or DASH
