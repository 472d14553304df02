"""The page's comparison table: headings and cells with what they say, how they sort and what stands below them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from lra.report.compare import not_separated
from lra.report.groups import Cell, Column, Group, average, best_trivial
from lra.report.render import DASH
from lra.report.tables.comparison import DAGGER, column_title, percent, span
from lra.report.tables.given import Facts, facts


@dataclass(frozen=True)
class Heading:
    """`data`: the key of the data filter; `more`: shown on demand."""

    title: str
    data: str = ""
    more: bool = False
    first: str = "descending"  # the order of the first press


@dataclass(frozen=True)
class Entry:
    """'41.4' with '± 0.2 (2)' in a lighter tone and lines in small print under it."""

    text: str = DASH
    spread: str = ""
    under: tuple[str, ...] = ()
    sort: float | None = None
    best: bool = False
    lost: bool = False


@dataclass(frozen=True)
class Board:
    """Entries without that of the row's name, which the page writes itself."""

    headings: tuple[Heading, ...]
    trivial: tuple[Entry, ...]
    rows: dict[str, tuple[Entry, ...]]


def data_key(column: Column) -> str:
    """Names a data set in the page's filter."""
    return f"{column.task}-{column.data_hash[:12]}"


def board(group: Group, milliseconds: Mapping[str, float] | None = None) -> Board:
    """The leaderboard of one group; milliseconds by row, of a training step at 4,096 tokens."""
    headings = [Heading(column_title(c), data_key(c)) for c in group.columns]
    headings += [Heading(title) for title in group.averages]
    known = {row: _facts(facts(group, row, milliseconds)) for row in group.rows}
    told = [h for h in next(iter(known.values())) if any(found[h].text != DASH for found in known.values())]
    headings += told
    best = {c.task: not_separated(c) for c in group.columns}
    rows = {}
    for row in group.rows:
        entries = [_accuracy(c, row, row in best[c.task]) for c in group.columns]
        for columns in group.averages.values():
            mean = average(columns, row)
            entries.append(Entry() if mean is None else Entry(percent(mean), sort=mean))
        rows[row] = (*entries, *(known[row][h] for h in told))
    return Board(tuple(headings), tuple(_trivial(group, len(headings))), rows)


def _accuracy(column: Column, row: str, best: bool) -> Entry:
    cell = column.cells.get(row, Cell(()))
    lost = [f"{count} {status}" for status in ("diverged", "failed") if (count := cell.count(status))]
    if (summary := cell.summary) is None:
        only = next((s for s in ("diverged", "failed") if cell.count(s) == len(cell.records) == 1), None)
        return Entry(only or ", ".join(lost) or DASH, lost=bool(lost))
    spread = f"± {percent(summary.deviation)} " if summary.deviation is not None else ""
    rung = column.rung_of(row)
    under = [f"≈ {rung}"] if rung else []
    if cell.learned < summary.count:
        under.append(f"{cell.learned} of {summary.count} learned" if cell.learned else "at chance")
    return Entry(
        percent(summary.mean),
        f"{spread}({summary.count}){DAGGER if cell.late else ''}",
        (*under, *lost),
        summary.mean,
        best=best,
    )


def _trivial(group: Group, width: int) -> list[Entry]:
    """The best trivial rung of each task, and their averages; nothing where no column has a ladder."""
    rungs = {c.task: best_trivial(c.ladder) for c in group.columns}
    if not any(rungs.values()):
        return []
    entries = [Entry(percent(r[1]), under=(r[0],)) if (r := rungs[c.task]) else Entry() for c in group.columns]
    for columns in group.averages.values():
        known = [r[1] for c in columns if (r := rungs[c.task])]
        entries.append(Entry(percent(fmean(known))) if len(known) == len(columns) else Entry())
    return entries + [Entry("")] * (width - len(entries))


def _facts(known: Facts) -> dict[Heading, Entry]:
    """What makes a row fair to compare."""
    fidelity, _, detail = known.fidelity.partition(": ")
    learned = (
        Entry(f"{known.learned} of {known.finished}", sort=known.learned / known.finished)
        if known.finished
        else Entry()
    )
    found = {
        Heading("Parameters", first="ascending"): _range(known.parameters),
        Heading("without embeddings", more=True, first="ascending"): _range(known.without_embeddings),
        Heading("attention's own", more=True, first="ascending"): _range(known.attention),
        Heading("Tokens/s"): _range(known.tokens_per_second, digits=3),
        Heading("ms/step at 4K", first="ascending"): _range([known.milliseconds], "{:.1f}"),
        Heading("Peak GB", first="ascending"): _range([peak / 1e9 for peak in known.peak_bytes], "{:.2f}"),
        Heading("Taps", more=True): _range([known.taps]),
        Heading("Learning rate", more=True): _range(known.lr, "{:g}"),
        Heading("Tuning", more=True): Entry(known.tuning),
        Heading("Learned", more=True): learned,
        Heading("Fidelity", more=True): Entry(fidelity or DASH, under=(detail,) if detail else ()),
    }
    return found


def _range(values: Iterable[float | None], form: str = "{:,.0f}", digits: int = 12) -> Entry:
    """'12,300' or '12,300–15,100', to so many significant digits; sorts by the mean."""
    known = [value for value in values if value is not None]
    return Entry(span(known, form, digits), sort=fmean(known) if known else None)
