"""The report as one HTML page that needs no network: tables to sort and filter, figures, sources of each number."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lra.report.figures import forest as differences
from lra.report.figures import scaling
from lra.report.figures import scatter as speed
from lra.report.figures import style as figures
from lra.report.groups import CONTROLS, Column, Group, base
from lra.report.page import inspected as pictures
from lra.report.page import leaderboard, provenance
from lra.report.render import DASH
from lra.report.tables import comparison as tables
from lra.report.tables import given as facts
from lra.report.tables import published, reproduction
from lra.report.tables import seeds as evidence
from lra.report.tables.comparison import column_title, data_line, heading, percent, title_of
from lra.results.record import Record

TEMPLATES = Path(__file__).parent / "templates"
FOREST_LEGEND = (
    "Line and numbers: 95 % interval, from three pairs on; p after Holm's correction over the rows of a task. Filled: "
    "separated from the baseline, beyond the noise of seeds and of the test rows."
)


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: the SVG, what a screen reader says in its place, a caption, the data filter's key."""

    picture: Markup
    label: str
    caption: str
    data: str = ""


@dataclass(frozen=True)
class Material:
    """What a page is made of; `drawn` holds the figures' files by their name below the page's folder."""

    groups: Sequence[Group]
    drawn: dict[str, bytes]
    notes: Sequence[str] = ()
    baseline: str = ""  # shown first; softmax where it ran
    scalings: Sequence[scaling.Scaling] = ()
    looks: Sequence[pictures.Look] = ()


def render(material: Material) -> str:
    """The page's HTML."""
    groups, colours = material.groups, figures.palette(material.groups, scaling.rows_of(material.scalings))
    records = [r for g in groups for c in g.columns for cell in c.cells.values() for r in cell.records]
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        facts=_facts(records),
        run_count=len(records),
        protocols=list(dict.fromkeys(g.protocol for g in groups)),
        data_sets={leaderboard.data_key(c): _data_name(c) for g in groups for c in g.columns},
        baselines=list(dict.fromkeys(row for g in groups for row in g.rows)),
        baseline=material.baseline or next((evidence.baseline_of(g) for g in groups), ""),
        groups=[_group(g, material, colours) for g in groups],
        lengths=[_lengths(s, material.drawn) for s in material.scalings],
        looks=material.looks,
        notes=material.notes,
        legends=(tables.LEGEND, facts.LEGEND),
        reproduction=reproduction.matrices(reproduction.beside(groups, published.read())),
        reproduction_legend=reproduction.LEGEND,
        forest_legend=FOREST_LEGEND,
        run_titles=provenance.RUN_TITLES,
        dash=DASH,
        css=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        js=Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),
    )


def _facts(records: Sequence[Record]) -> str:
    rows, tasks = {r.row for r in records}, {r.task for r in records}
    newest = max((r.created[:10] for r in records), default="")
    words = [_count(len(records), "run"), _count(len(rows), "attention"), _count(len(tasks), "task")]
    return ", ".join([*words, *([f"newest of {newest}"] if newest else [])])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _data_name(column: Column) -> str:
    return f"{title_of(column.task)}, {column.label} {column.data_hash[:6]}"


def _group(group: Group, material: Material, colours: dict[str, str]) -> dict[str, Any]:
    drawn = material.drawn
    columns = [
        {
            "title": column_title(c),
            "data": leaderboard.data_key(c),
            "hashes": f"data {c.data_hash[:12]}, configuration {_config_hash(c)}",
            "settings": provenance.settings(c),
        }
        for c in group.columns
    ]
    board = leaderboard.board(group, scaling.milliseconds(material.scalings, group))
    return {
        "id": group.slug,
        "protocol": group.protocol,
        "heading": heading(group),
        "data_line": data_line(group),
        "data_keys": [column["data"] for column in columns],
        "columns": columns,
        "board": board,
        "rows": [_row(group, i, row, board, colours) for i, row in enumerate(group.rows)],
        "speed": [d for p in speed.pictures(group) if (d := _speed(group, p, drawn))],
        "curves": [d for c in group.columns if (d := _curves(group, c, drawn))],
        "forests": differences.forests(group),
        "breakdowns": tables.breakdowns(group),
        "seeds": provenance.seeds(group),
        "counts": provenance.counts(group),
    }


def _row(group: Group, place: int, row: str, board: leaderboard.Board, colours: dict[str, str]) -> dict[str, Any]:
    records = [r for c in group.columns if row in c.cells for r in c.cells[row].records]
    title = str(records[0].attention.get("title", ""))
    return {
        "id": f"{group.slug}-row-{place}",
        "name": row,
        "title": title,
        "words": f"{row} {title}".lower(),
        "control": base(row) in CONTROLS,
        "colour": figures.themed(colours[base(row)]),
        "entries": board.rows[row],
        "states": provenance.states(group, row),
        "about": provenance.about(records),
        "runs": [provenance.run(r) for r in records],
    }


def _config_hash(column: Column) -> str:
    return next(iter(column.cells.values())).records[0].config_hash or DASH


def _curves(group: Group, column: Column, drawn: dict[str, bytes]) -> Drawing | None:
    best = {row: cell.summary for row, cell in column.cells.items()}
    ends = ", ".join(f"{row} {percent(s.mean)}" for row, s in best.items() if s)
    label = f"Validation accuracy against training step on {column_title(column)}. Test accuracy in percent: {ends}."
    key = leaderboard.data_key(column)
    return _drawing(drawn, f"{group.slug}-{column.task}-curves", label, "", key)


def _speed(group: Group, picture: speed.Picture, drawn: dict[str, bytes]) -> Drawing | None:
    column = next((c for c in group.columns if c.task == picture.task), None)
    points = ", ".join(f"{b.row} {b.accuracy:.1f} at {b.speed:,.0f}" for b in picture.bubbles)
    front = ", ".join(b.row for b in picture.front)
    what = column_title(column) if column else f"the average of {len(group.columns)} tasks"
    label = f"Test accuracy in percent against tokens per second on {what}: {points}. Pareto front: {front}."
    caption = f"Pareto front: {front}." if front else ""
    if picture.left_out:
        caption += f" Timed on another machine and left out: {', '.join(picture.left_out)}."
    key = leaderboard.data_key(column) if column else ""
    return _drawing(drawn, f"{group.slug}-{picture.task or 'average'}-speed", label, caption, key)


def _lengths(found: scaling.Scaling, drawn: dict[str, bytes]) -> dict[str, Any]:
    growths = {row: growth for row in found.rows if (growth := found.growth(row)) is not None}
    words = ", ".join(f"{row} with the power {growth:.1f} of the length" for row, growth in growths.items())
    longest = {row: b[-1] for row in found.rows if (b := found.of(row))}
    peaks = {row: f"{b.step_bytes / 1e9:.2f} GB at {b.length:,}" for row, b in longest.items() if b.step_bytes}
    sizes = ", ".join(f"{row} {peak}" for row, peak in peaks.items())
    made = (
        _drawing(
            drawn, f"{found.slug}-time", f"{found.title}: time of a step against length. It grows: {words}.", "", ""
        ),
        _drawing(drawn, f"{found.slug}-memory", f"{found.title}: peak memory against length. {sizes}.", "", ""),
    )
    return {"drawings": [drawing for drawing in made if drawing], "lost": found.lost}


def _drawing(drawn: dict[str, bytes], name: str, label: str, caption: str, key: str) -> Drawing | None:
    svg = f"figures/{name}.svg"
    if svg not in drawn:
        return None
    return Drawing(Markup(figures.inline(drawn[svg])), label, caption, key)
