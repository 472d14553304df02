"""Records -> comparison tables (Markdown, CSV, LaTeX, JSON) and learning curves (PNG, SVG); imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lra.errors import RecordError
from lra.record import Record, write_atomically
from lra.report import cells, curves, document, numbers, tables
from lra.report.frame import find, frame, read
from lra.report.sheet import markdown

__all__ = ["Report", "frame", "read", "terminal", "write"]

SHORT_LEGEND = "Test accuracy in %: mean ± sample sd (seeds); ≈ within 95 % noise of that rung."


@dataclass(frozen=True)
class Report:
    """What the user sees: the text for the terminal, the files written, and a line for each unreadable record."""

    text: str
    files: tuple[Path, ...]
    problems: tuple[str, ...]


def write(paths: Sequence[Path], out: Path, baseline: str = "") -> Report:
    """Reads records of files and folders; writes report.md, report.json, *.csv, *.tex and curves/ below `out`.

    baseline: the row that differences are taken to; softmax where it ran. The same records give the same bytes. All is
    computed before the first file is written, each file is replaced atomically. Raises RecordError when there is no
    record at all or `out` cannot be written.
    """
    found, problems = find(paths)
    if not found:
        unreadable = f"; {len(problems)} unreadable, the first: {problems[0]}" if problems else ""
        raise RecordError(f"no records in {', '.join(map(str, paths))}{unreadable}")
    records, notes = cells.one_per_cell(list(found.values()))
    groups = cells.group(records)
    colours = curves.palette(groups)
    frames = document.frames(groups, frame(list(found.values()), list(found)), baseline)
    contents = document.data_files(frames) | document.latex_files(groups, baseline)
    for group in groups:
        contents[f"table-{group.slug}.csv"] = document.csv(numbers.wide_form(group))
        contents |= {f"curves/{name}": content for name, content in curves.figures(group, colours).items()}
    contents["report.md"] = document.text(groups, list(contents), [*notes, *problems], baseline).encode()
    files = _write_all(contents, out)
    shown = [f"wrote {file}" for file in files if file.suffix in (".md", ".png")]
    shown.append(f"and {len(files) - len(shown)} more in {out}")
    return Report("\n".join([_compact(groups), *notes, *shown]), tuple(files), tuple(problems))


def terminal(records: Sequence[Record]) -> str:
    """The comparison tables of these records alone, for the end of a run; writes nothing."""
    return _compact(cells.group(cells.one_per_cell(records)[0]))


def _compact(groups: Sequence[cells.Group]) -> str:
    sheets = [tables.comparison(group) for group in groups]
    parts = [f"{sheet.title}. {sheet.note}\n\n{markdown(sheet, bold=False)}" for sheet in sheets]
    return "\n".join([*parts, SHORT_LEGEND, ""])


def _write_all(contents: dict[str, bytes], out: Path) -> list[Path]:
    try:
        for name, content in contents.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out / name, content)
    except OSError as error:
        raise RecordError(f"cannot write the report: {error}") from error
    return [out / name for name in contents]
