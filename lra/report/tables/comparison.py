"""The comparison table of a group: a row per mechanism, a column per task, averages, and those of COLUMNS."""

from collections.abc import Callable, Sequence
from statistics import fmean

from lra.report import columns
from lra.report.cells import Cell, TaskColumn
from lra.report.escape import inert
from lra.report.format import CIRCLE, DAGGER, DASH, TIMES, percent
from lra.report.groups import Group, average, best_trivial, fidelity, rank
from lra.report.render import RAISED, Table, table
from lra.results.record import Record

LEGEND = (
    "Test accuracy in percent: mean ± sample standard deviation over seeds (number of seeds). The checkpoint is the "
    "one with the best validation accuracy, or the last one where the protocol says `select: last`. Means are over "
    "the runs that have finished, not over those that diverged or failed. ≈: the mean is not distinguishable from that "
    "rung of the task's ladder at 5 %, by Student's t over the seeds, whose spread is estimated from all rows, with "
    "the noise of the test rows (of that alone where each row has one run). At chance, or n of m learned: none, or "
    "n, of the runs did better than a constant answer by more than noise, in validation or on the test split. Best "
    f"trivial: the strongest rung that reads nothing inside a nested bracket. {DAGGER}: most runs were still rising in "
    "the last 5 % of training, by more than a standard error of the difference, so that longer training might score "
    "higher. Bold, where some rows are separated: the best row and every row that is not separated from it; rows "
    f"that share fewer than three seeds with the best are not judged. {DASH}: no run. A row with a missing cell has "
    "no average, which is over the tasks of LRA that the table has. Tokens/s: real tokens per second in training, "
    "of the runs on the machine that most were made on. A range covers all runs and tasks of a row."
)
SHORT_LEGEND = (
    "Test accuracy in %: mean ± sample sd (seeds); ≈ not distinguishable from that rung; † still rising at the end."
)
CAPTION = (
    "Test accuracy in percent, mean ± sample standard deviation (seeds). ≈: not distinguishable from that rung. "
    f"{DAGGER}: still rising at the end of training. At chance, or n of m learned: none, or n, of the runs did better "
    "than a constant answer. Best trivial: the strongest rung that reads nothing inside a nested bracket. Bold: the "
    "best row and every row not separated from it"
)
COMPACT = (
    f"A letter: not distinguishable from that rung of the task's ladder. {DAGGER}: still rising at the end of "
    f"training. {TIMES}1, !1: one run diverged, failed, and is left out. {CIRCLE}: no run left chance; 2/3: two of "
    "three did. Bold: the best row and every row not separated from it"
)
Rungs = dict[tuple[str, str], str]  # (task, rung) -> how a cell names it
Words = Callable[[TaskColumn, str], str]  # column, row -> a cell of the table


def data_line(group: Group) -> str:
    """Label and hash of each task's data, and the subjects in which the protocol differs from its source."""
    labels = {c.task: "" if c.label in c.title else f" {c.label}" for c in group.columns}
    line = "Data: " + "; ".join(f"{c.title}{labels[c.task]} ({c.data_hash[:12]})" for c in group.columns)
    words = {word for r in group.records for word in r.deviations}
    return f"{line}. Against the protocol's source: {', '.join(sorted(words))} differ" if words else line


def comparison(group: Group) -> Table:
    """The table for Markdown and the terminal. With several tasks, cells name rungs by letters."""
    letters = rung_letters(group)
    headings = [c.heading for c in group.columns]
    rungs = {key: f" {letter}" for key, letter in letters.items()}
    draft = _table(group, rungs, headings, lambda column, row: cell_text(column, row, letters))
    note = ". ".join(filter(None, [data_line(group), rung_note(group, letters)]))
    return Table(draft.title, draft.header, draft.body, bold=draft.bold, note=note)


def compact(group: Group) -> Table:
    """The table for a paper. With several tasks, cells and headings are short and the caption explains them."""
    if len(group.columns) == 1:
        draft = comparison(group)
        return Table(draft.title, draft.header, draft.body, bold=draft.bold, note=f"{draft.note}. {CAPTION}")
    letters, usual = rung_letters(group), usual_seeds(group)
    headings = [c.title for c in group.columns]
    raised = {key: RAISED.get(letter, f" {letter}") for key, letter in letters.items()}
    draft = _table(group, raised, headings, lambda column, row: compact_text(column, row, raised, usual))
    runs = f"over {usual} seeds, or over the number in parentheses" if usual > 1 else "over seeds (number of seeds)"
    parts = [f"Test accuracy in percent, mean ± sample standard deviation {runs}", COMPACT]
    parts += [data_line(group), rung_note(group, letters)]
    breaks = (1 + len(group.columns),)
    note = ". ".join(filter(None, parts))
    return Table(draft.title, draft.header, draft.body, bold=draft.bold, note=note, breaks=breaks, small=True)


def _table(group: Group, rungs: Rungs, headings: Sequence[str], words: Words) -> Table:
    """The best trivial rungs in the first line, then a line per row. rungs: how a cell names each."""
    trivial = {c.task: best_trivial(c.ladder) for c in group.columns}
    others = columns.shown_in(columns.COMPARISON)
    body = []
    if any(trivial.values()):
        top = ["best trivial"]
        for task, rung in trivial.items():
            top.append(percent(rung[1]) + rungs.get((task, rung[0]), f" {rung[0]}") if rung else DASH)
        for averaged in group.averages.values():
            known = [rung[1] for column in averaged if (rung := trivial[column.task])]
            top.append(percent(fmean(known)) if len(known) == len(averaged) else DASH)
        body.append((*top, *[""] * len(others)))
    first = len(body)
    for row in group.rows:
        line = [row, *(words(c, row) for c in group.columns)]
        means = [average(averaged, row) for averaged in group.averages.values()]
        line += [percent(mean) if mean is not None else DASH for mean in means]
        body.append((*line, *(column.text(columns.row_of(group, row)) for column in others)))
    bold = [(group.rows.index(row) + first, 1 + i) for i, c in enumerate(group.columns) for row in c.not_separated]
    header = ["Attention", *headings, *group.averages, *(column.heading for column in others)]
    return Table(group.heading, tuple(header), tuple(body), bold=frozenset(bold))


def rung_letters(group: Group) -> Rungs:
    """(task, rung) -> its letter, rising with accuracy, for the rungs that the table names; empty for a single task."""
    if len(group.columns) == 1:
        return {}
    letters = {}
    for c in group.columns:
        named = {c.rung_of(row) for row in group.rows if row in c.cells}
        named |= {rung[0]} if (rung := best_trivial(c.ladder)) else set()
        ordered = sorted(named - {""}, key=lambda name: (c.ladder[name], name))
        letters |= {(c.task, name): chr(ord("a") + position) for position, name in enumerate(ordered)}
    return letters


def rung_note(group: Group, letters: Rungs) -> str:
    """'Trivial baselines (rungs): ListOps: (a) constant 17.0, (b) root operator 36.4', or nothing."""
    parts = []
    for c in group.columns:
        named = [(letter, name) for (task, name), letter in letters.items() if task == c.task]
        words = ", ".join(f"({letter}) {name} {percent(c.ladder[name])}" for letter, name in named)
        parts += [f"{c.title}: {words}"] if words else []
    return f"Trivial baselines (rungs): {'; '.join(parts)}" if parts else ""


def usual_seeds(group: Group) -> int:
    """The number of runs that most cells have."""
    counts = [len(cell.records) for column in group.columns for cell in column.cells.values()]
    return max(sorted(set(counts)), key=counts.count)


def cell_text(column: TaskColumn, row: str, letters: Rungs | None = None) -> str:
    """The cell in words: '36.9 ± 0.3 (2) ≈ root operator; 1 diverged', 'diverged (2)', or a dash when nothing ran."""
    cell = column.cells.get(row, Cell(()))
    if (summary := cell.summary) is None:
        return _unfinished(cell)
    text = percent(summary.mean)
    if summary.deviation is not None:
        text += f" ± {percent(summary.deviation)}"
    text += f" ({summary.count})" + (DAGGER if cell.mostly_rising else "")
    if rung := column.rung_of(row):
        text += f" ≈ {(letters or {}).get((column.task, rung), rung)}"
    if cell.learned < summary.count:
        text += f"; {cell.learned} of {summary.count} learned" if cell.learned else "; at chance"
    return "; ".join([text, *(f"{count} {status}" for status, count in cell.lost.items())])


def compact_text(column: TaskColumn, row: str, rungs: Rungs, usual: int) -> str:
    """The short form for a paper: '36.9 ±0.3 (2)†ᵇ×1'. usual: the number of runs that no cell states."""
    cell = column.cells.get(row, Cell(()))
    if (summary := cell.summary) is None:
        return _unfinished(cell)
    spread = f" ±{percent(summary.deviation)}" if summary.deviation is not None else ""
    marks = f" ({summary.count})" if len(cell.records) != usual else ""
    marks += (DAGGER if cell.mostly_rising else "") + rungs.get((column.task, column.rung_of(row)), "")
    marks += "".join({"diverged": TIMES, "failed": "!"}[status] + str(count) for status, count in cell.lost.items())
    if cell.learned < summary.count:
        marks += f" {cell.learned}/{summary.count}" if cell.learned else CIRCLE
    return percent(summary.mean) + spread + marks


def _unfinished(cell: Cell) -> str:
    words = [status if count == 1 else f"{status} ({count})" for status, count in cell.lost.items()]
    return "; ".join(words) or DASH


def mechanisms(groups: Sequence[Group]) -> str:
    """A line per row: what it is, how true to its paper, and whether it is a user's file."""
    records: dict[str, Record] = {}
    for column in (column for group in groups for column in group.columns):
        for row, cell in column.cells.items():
            records.setdefault(row, cell.records[0])
    controls = {row for group in groups for row in group.controls}
    return "".join(_mechanism(row, records[row]) for row in sorted(records, key=lambda row: rank(row, row in controls)))


def _mechanism(row: str, record: Record) -> str:
    about = record.attention
    words = [about.get("title"), fidelity(record), about.get("cost"), about.get("paper")]
    words += ["always padded to the full length"] if about.get("padding") == "fixed" else []
    words += [] if about.get("builtin", True) else [f"a user's file, {about.get('source_hash', '')}"]
    return f"- `{inert(row)}`: {'; '.join(inert(str(word)) for word in words if word)}\n"


def breakdowns(group: Group) -> list[Table]:
    """Tables of the accuracy per kind of sample, such as 'ListOps, by root operator'."""
    tables = []
    for column in group.columns:
        rows = [row for row in group.rows if row in column.cells]
        kinds = {kind: None for row in rows for r in column.cells[row].done for kind in r.accuracy_by}
        for kind in kinds:
            means = {row: _means(column.cells[row].done, kind) for row in rows}
            values = list(dict.fromkeys(value for by_value in means.values() for value in by_value))
            body = [
                [row, *(percent(by_value[v]) if v in by_value else DASH for v in values)]
                for row, by_value in means.items()
                if by_value
            ]
            tables.append(table(f"{column.title}, by {kind}", ["Attention", *values], body))
    return tables


def _means(records: Sequence[Record], kind: str) -> dict[str, float]:
    """Value -> mean accuracy over the records that have it."""
    accuracies: dict[str, list[float]] = {}
    for r in records:
        for value, accuracy in r.accuracy_by.get(kind, {}).items():
            accuracies.setdefault(value, []).append(accuracy)
    return {value: fmean(accuracies[value]) for value in sorted(accuracies)}
