"""Writes the report of a set of records: the text for the terminal, and every file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lra.errors import RecordError, suggestion
from lra.report import excerpt, export
from lra.report.escape import shown
from lra.report.figures import curves, forest, scaling, scatter, style
from lra.report.groups import Group, grouped, one_per_cell
from lra.report.load import frame, none_found
from lra.report.page import html, inspected
from lra.report.render import markdown
from lra.report.rows import named
from lra.report.tables import comparison, seeds
from lra.results.bench_record import read_benches
from lra.results.files import encoded, write_all, write_named
from lra.results.find import REPORT, find_records
from lra.results.record import Record


@dataclass(frozen=True)
class Report:
    """What the user sees: the text for the terminal, the files written, and a line for each unreadable record."""

    text: str
    files: tuple[Path, ...]
    problems: tuple[str, ...]


def write(
    paths: Sequence[Path], out: Path, baseline: str = "", into: Path | None = None, rows: Sequence[str] = ()
) -> Report:
    """Read the records of files and folders; write report.html, report.md, report.json, *.csv, *.tex and figures/.

    The page embeds the figures that `inspect` wrote in or beside `out`. baseline: the row that differences are taken
    to; empty: softmax where it ran. into: a Markdown file whose tables are rendered anew, see `excerpt`. rows: those
    that the LaTeX tables show, with verdicts as in the whole table; empty: all. The same records give the same bytes.
    Everything is computed before the first file is written; files that only an earlier report wrote to `out` are
    removed. Raises RecordError when there is no record at all, no such row, or no table that `into` asks for, WorkError
    when a file cannot be read or written.
    """
    by_path, problems = find_records(paths)
    if not by_path:
        raise none_found(paths, problems)
    benches, unread_benches = read_benches(paths)
    folders, unread_folders = inspected.find(out)
    unreadable = (*problems, *unread_benches, *unread_folders)
    by_path = {path: shown(record) for path, record in by_path.items()}
    records, repeated = one_per_cell(list(by_path.values()))
    scalings = scaling.collect([shown(bench) for bench in benches])
    groups = [replace(g, milliseconds=scaling.milliseconds(scalings, g)) for g in grouped(records)]
    baseline = _row(baseline, groups, "to take differences to") if baseline else ""
    shown_rows = [_row(row, groups, "to show") for row in rows]
    drawn = _figures(groups, baseline, scalings)
    notes = [*repeated, *unreadable]
    frames = export.frames(groups, frame(list(by_path.values()), list(by_path)), baseline)
    contents = export.csv_files(groups, frames) | export.latex_files(groups, baseline, shown_rows) | drawn
    material = html.Material(groups, drawn, notes, baseline, scalings, folders)
    contents["report.html"] = encoded(html.render(material))
    contents["report.md"] = encoded(export.text(groups, list(contents), notes, baseline))
    contents[REPORT] = export.json_file(frames, list(contents))
    filled = excerpt.fill_file(into, groups) if into else None
    before = export.files_of(out)
    files = write_all(contents, out, (REPORT, '"scales": '))
    lines = []
    for stale in sorted({*before} - {*files}):
        try:
            stale.unlink(missing_ok=True)
        except OSError as error:  # Windows keeps a file that another program has open
            lines.append(f"cannot remove {stale}, which is of an earlier report: {error.strerror}; delete it")
    if into and filled:
        write_named(into, filled.content, "--into")
        lines += [*filled.notes, f"wrote {into}: {filled.tables} table{'s' * (filled.tables > 1)}"]
    pages = [file for file in files if file.suffix in (".html", ".md")]
    lines += [*(f"wrote {page}" for page in pages), f"and {len(files) - len(pages)} more in {out}"]
    return Report("\n".join([_tables(groups), *repeated, *lines]), tuple(files), unreadable)


def terminal(records: Sequence[Record]) -> str:
    """The comparison tables of these records alone, for the end of a run; writes nothing."""
    return _tables(grouped(one_per_cell([shown(record) for record in records])[0]))


def _tables(groups: Sequence[Group]) -> str:
    tables = [comparison.comparison(group) for group in groups]
    parts = [f"{table.title}. {table.note}\n\n{markdown(table, bold=False)}" for table in tables]
    return "\n".join([*parts, comparison.SHORT_LEGEND, ""])


def _row(words: str, groups: Sequence[Group], purpose: str) -> str:
    """The row that the user names. Raises RecordError where no table has it."""
    rows = list(dict.fromkeys(row for group in groups for row in group.rows))
    if not (row := named(words, rows)):
        raise RecordError(f"no row {words!r} {purpose}{suggestion(words, rows)}; rows: {', '.join(rows)}")
    return row


def _figures(groups: Sequence[Group], baseline: str, scalings: Sequence[scaling.Scaling]) -> dict[str, bytes]:
    """Name below the report's folder -> content of every figure."""
    palette = style.palette(groups, scaling.benches_of(scalings))
    drawn: dict[str, bytes] = {}
    for group in groups:
        drawn |= curves.draw(group, palette)
        for chosen in scatter.scatters(group):
            drawn |= scatter.draw(group, chosen, palette)
        drawn |= forest.draw(group, seeds.baseline_of(group, baseline), palette)
    for measured in scalings:
        drawn |= scaling.draw(measured, palette)
    return {f"figures/{name}": content for name, content in drawn.items()}
