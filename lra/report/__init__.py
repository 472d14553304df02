"""Records -> comparison tables (Markdown, CSV) and learning curves (PNG, SVG); imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lra.errors import RecordError
from lra.record import Record, write_atomically
from lra.report import cells, curves, published, tables
from lra.report.frame import find, frame, read

__all__ = ["Report", "frame", "read", "terminal", "write"]

SHORT_LEGEND = "Test accuracy in %: mean ± sample sd (seeds); ≈ within 95 % noise of that rung."


@dataclass(frozen=True)
class Report:
    """What the user sees: the text for the terminal, the files written, and a line for each unreadable record."""

    text: str
    files: tuple[Path, ...]
    problems: tuple[str, ...]


def write(paths: Sequence[Path], out: Path) -> Report:
    """Reads records of files and folders; writes report.md, runs.csv, cells.csv, table-*.csv and curves/ below `out`.

    The same records give the same bytes. All is computed before the first file is written, each file is replaced
    atomically. Raises RecordError when there is no record at all or `out` cannot be written.
    """
    found, problems = find(paths)
    if not found:
        unreadable = f"; {len(problems)} unreadable, the first: {problems[0]}" if problems else ""
        raise RecordError(f"no records in {', '.join(map(str, paths))}{unreadable}")
    records, notes = cells.one_per_cell(list(found.values()))
    groups = cells.group(records)
    colours = curves.palette(groups)
    contents = {
        "runs.csv": _csv(frame(list(found.values()), list(found))),
        "cells.csv": _csv(tables.long_form(groups)),
    }
    for group in groups:
        contents[f"table-{group.slug}.csv"] = _csv(tables.wide_form(group))
        contents |= {f"curves/{name}": content for name, content in curves.figures(group, colours).items()}
    contents["report.md"] = _report(groups, list(contents), [*notes, *problems]).encode()
    files = _write_all(contents, out)
    shown = [f"wrote {file}" for file in files if file.suffix in (".md", ".png")]
    shown.append(f"and {len(files) - len(shown)} more in {out}")
    return Report("\n".join([_compact(groups), *notes, *shown]), tuple(files), tuple(problems))


def terminal(records: Sequence[Record]) -> str:
    """The comparison tables of these records alone, for the end of a run; writes nothing."""
    return _compact(cells.group(cells.one_per_cell(records)[0]))


def _compact(groups: Sequence[cells.Group]) -> str:
    parts = [f"{tables.heading(g)}. {tables.data_line(g)}\n\n{tables.comparison(g)}" for g in groups]
    return "\n".join([*parts, SHORT_LEGEND, ""])


def _report(groups: Sequence[cells.Group], names: Sequence[str], notes: Sequence[str]) -> str:
    parts = [f"# Results\n\n{tables.LEGEND}\n"]
    for group in groups:
        parts.append(f"## {tables.heading(group)}\n\n{tables.data_line(group)}.\n\n{tables.comparison(group)}")
        parts += [f"### {title}\n\n{table}" for title, table in tables.breakdowns(group).items()]
        images = [name for name in names if name.startswith(f"curves/{group.slug}-") and name.endswith(".png")]
        parts += [f"![Learning curves]({name})\n" for name in images]
    parts.append(f"## Rows\n\n{tables.mechanisms(groups)}")
    if notes:
        parts.append("## Left out\n\n" + "".join(f"- {note}\n" for note in notes))
    parts.append(
        "## Published results\n\nOther data, models and schedules: compare within a block, not across blocks.\n"
    )
    return "\n".join([*parts, *published.blocks(published.read())])


def _csv(table: pd.DataFrame) -> bytes:
    return table.convert_dtypes().to_csv(index=False, lineterminator="\n").encode()


def _write_all(contents: dict[str, bytes], out: Path) -> list[Path]:
    try:
        for name, content in contents.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out / name, content)
    except OSError as error:
        raise RecordError(f"cannot write the report: {error}") from error
    return [out / name for name in contents]
