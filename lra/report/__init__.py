"""Records -> comparison tables (Markdown, CSV, LaTeX, JSON), figures and one HTML page; imports no torch."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lra.errors import RecordError
from lra.report import export as document
from lra.report import groups as cells
from lra.report import numbers
from lra.report.figures import curves, scaling
from lra.report.figures import forest as differences
from lra.report.figures import scatter as speed
from lra.report.figures import style as figures
from lra.report.load import find, frame, none_found, read
from lra.report.page import html as page
from lra.report.page import inspected as pictures
from lra.report.render import markdown
from lra.report.tables import comparison as tables
from lra.report.tables import seeds as evidence
from lra.results.bench_record import read_benches
from lra.results.files import write_atomically
from lra.results.record import Record

__all__ = ["Report", "frame", "read", "terminal", "write"]

SHORT_LEGEND = (
    "Test accuracy in %: mean ± sample sd (seeds); ≈ within 95 % noise of that rung; † best step in the last 5 %."
)


@dataclass(frozen=True)
class Report:
    """What the user sees: the text for the terminal, the files written, and a line for each unreadable record."""

    text: str
    files: tuple[Path, ...]
    problems: tuple[str, ...]


def write(paths: Sequence[Path], out: Path, baseline: str = "") -> Report:
    """Reads records of files and folders; writes report.html, report.md, report.json, *.csv, *.tex and figures/.

    The page takes in what `inspect` wrote in or beside `out`. baseline: the row that differences are taken to; softmax
    where it ran. The same records give the same bytes. All is computed before the first file is written, each file is
    replaced atomically. Raises RecordError when there is no record at all, no such baseline, or no place to write.
    """
    found, problems = find(paths)
    if not found:
        raise none_found(paths, problems)
    records, notes = cells.one_per_cell(list(found.values()))
    groups = cells.group(records)
    _check_baseline(baseline, groups)
    benches, unread_benches = read_benches(paths)
    looks, unread_looks = pictures.find(out)
    left_out = [*notes, *problems, *unread_benches, *unread_looks]
    scalings = scaling.collect(benches)
    drawn = _figures(groups, baseline, scalings)
    frames = document.frames(groups, frame(list(found.values()), list(found)), baseline)
    contents = document.data_files(frames) | document.latex_files(groups, baseline, scalings)
    contents |= {f"table-{group.slug}.csv": document.csv(numbers.wide_form(group)) for group in groups}
    material = page.Material(groups, drawn, left_out, baseline, scalings, looks)
    contents |= {**drawn, "report.html": page.render(material).encode()}
    contents["report.md"] = document.text(groups, list(contents), left_out, baseline, scalings).encode()
    files = _write_all(contents, out)
    shown = [f"wrote {file}" for file in files if file.suffix in (".html", ".md")]
    shown.append(f"and {len(files) - len(shown)} more in {out}")
    return Report(
        "\n".join([_compact(groups), *notes, *shown]), tuple(files), (*problems, *unread_benches, *unread_looks)
    )


def terminal(records: Sequence[Record]) -> str:
    """The comparison tables of these records alone, for the end of a run; writes nothing."""
    return _compact(cells.group(cells.one_per_cell(records)[0]))


def _compact(groups: Sequence[cells.Group]) -> str:
    sheets = [tables.comparison(group) for group in groups]
    parts = [f"{sheet.title}. {sheet.note}\n\n{markdown(sheet, bold=False)}" for sheet in sheets]
    return "\n".join([*parts, SHORT_LEGEND, ""])


def _check_baseline(baseline: str, groups: Sequence[cells.Group]) -> None:
    rows = list(dict.fromkeys(row for group in groups for row in group.rows))
    if baseline and baseline not in rows:
        close = difflib.get_close_matches(baseline, rows, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise RecordError(f"no row {baseline!r} to take differences to{hint} Rows: {', '.join(rows)}")


def _figures(groups: Sequence[cells.Group], baseline: str, scalings: Sequence[scaling.Scaling]) -> dict[str, bytes]:
    """Name below the report's folder -> content of every figure."""
    colours, drawn = figures.palette(groups, scaling.rows_of(scalings)), {}
    for group in groups:
        drawn |= curves.draw(group, colours)
        for picture in speed.pictures(group):
            drawn |= speed.draw(group, picture, colours)
        drawn |= differences.draw(group, evidence.baseline_of(group, baseline), colours)
    for found in scalings:
        drawn |= scaling.draw(found, colours)
    return {f"figures/{name}": content for name, content in drawn.items()}


def _write_all(contents: dict[str, bytes], out: Path) -> list[Path]:
    try:
        for name, content in contents.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out / name, content)
    except OSError as error:
        raise RecordError(f"cannot write the report to {out}: {error.strerror}; choose another --out") from error
    return [out / name for name in contents]
