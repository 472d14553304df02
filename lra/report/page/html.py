"""The report as one HTML page that needs no network: tables to sort and filter, figures, sources of each number."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lra.report import conventions
from lra.report.cells import TaskColumn
from lra.report.columns import row_of
from lra.report.figures import scaling, scatter, style
from lra.report.figures.legend import words
from lra.report.figures.style import Palette
from lra.report.format import DASH, percent
from lra.report.groups import Group
from lra.report.page import forests, inspected, leaderboard, provenance
from lra.report.tables import comparison, given, published, reproduction, seeds
from lra.results.record import Record

TEMPLATES = Path(__file__).parent / "templates"
FOREST_LEGEND = (
    "Line and numbers: 95 % interval of the difference, not adjusted, from three seeds on. p is adjusted over the "
    "rows of a task, so that an interval can leave out 0 where a row is not separated. Filled: "
    "separated from the baseline, by more than the noise of the seeds and of the test rows together."
)


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: the SVG, what a screen reader says instead, a caption, and the key of the data filter."""

    picture: Markup
    label: str
    caption: str
    data: str = ""


@dataclass(frozen=True)
class Material:
    """What a page is made of. drawn: name below the page's folder -> content, of every figure."""

    groups: Sequence[Group]
    drawn: dict[str, bytes]
    notes: Sequence[str] = ()
    baseline: str = ""  # chosen when the page opens; empty: the usual one
    scalings: Sequence[scaling.Scaling] = ()
    folders: Sequence[inspected.InspectedFolder] = ()


def render(material: Material) -> str:
    """The HTML of the page."""
    groups, palette = material.groups, style.palette(material.groups, scaling.benches_of(material.scalings))
    records = [record for group in groups for record in group.records]
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        summary=_summary(records),
        run_count=len(records),
        protocols=list(dict.fromkeys(g.protocol for g in groups)),
        backbones=list(dict.fromkeys(name for g in groups for name in g.backbones)),
        families=_families(groups),
        data_sets={leaderboard.data_key(c): _data_name(c) for g in groups for c in g.columns},
        baselines=list(dict.fromkeys(row for g in groups for row in g.rows)),
        baseline=material.baseline or next((seeds.baseline_of(g) for g in groups), ""),
        groups=[_group(g, material, palette) for g in groups],
        lengths=[_lengths(s, material.drawn) for s in material.scalings],
        folders=material.folders,
        notes=material.notes,
        legends=(comparison.LEGEND, given.LEGEND),
        reproduction=reproduction.matrices(reproduction.beside(groups, published.read())),
        reproduction_legend=reproduction.LEGEND,
        forest_legend=FOREST_LEGEND,
        run_titles=provenance.RUN_TITLES,
        dash=DASH,
        css=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        js=Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),
    )


def _summary(records: Sequence[Record]) -> str:
    rows, tasks = {r.row for r in records}, {r.task for r in records}
    newest = max((r.created[:10] for r in records), default="")
    words = [_count(len(records), "run"), _count(len(rows), "attention"), _count(len(tasks), "task")]
    return ", ".join([*words, *([f"newest from {newest}"] if newest else [])])


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _families(groups: Sequence[Group]) -> list[str]:
    """The families of these rows, in words, in the order in which they are shown."""
    families = {family for group in groups for family in group.families.values()}
    return list(dict.fromkeys(words(family) for family in sorted(families, key=conventions.family_order)))


def _data_name(column: TaskColumn) -> str:
    return f"{column.title}, {column.label} {column.data_hash[:6]}"


def _group(group: Group, material: Material, palette: Palette) -> dict[str, Any]:
    drawn = material.drawn
    columns = [
        {
            "title": c.heading,
            "data": leaderboard.data_key(c),
            "hashes": f"data {c.data_hash[:12]}, configuration {_config_hash(c)}",
            "settings": provenance.settings(c),
        }
        for c in group.columns
    ]
    board = leaderboard.board(group)
    rows = [_row(group, i, row, board, palette) for i, row in enumerate(group.rows)]
    return {
        "id": group.slug,
        "protocol": group.protocol,
        "backbones": group.backbones,
        "heading": group.heading,
        "data_line": comparison.data_line(group),
        "data_keys": [column["data"] for column in columns],
        "columns": columns,
        "board": board,
        "rows": rows,
        "words": {row["name"]: row["words"] for row in rows},
        "speed": [d for s in scatter.scatters(group) if (d := _speed(group, s, drawn))],
        "curves": [d for c in group.columns if (d := _curves(group, c, drawn))],
        "forests": forests.forests(group),
        "breakdowns": comparison.breakdowns(group),
        "seeds": provenance.seeds(group),
        "counts": provenance.counts(group),
    }


def _row(group: Group, number: int, row: str, board: leaderboard.Leaderboard, palette: Palette) -> dict[str, Any]:
    records = row_of(group, row).records
    title = str(records[0].attention.get("title", ""))
    return {
        "id": f"{group.slug}-row-{number}",
        "name": row,
        "title": title,
        "words": f"{row} {title}".lower(),
        "family": words(group.families[row]),
        "control": row in group.controls,
        "colour": style.themed(palette.colour(row)),
        "figures": board.rows[row],
        "states": provenance.states(group, row),
        "about": provenance.about(records),
        "runs": [provenance.run(r) for r in records],
    }


def _config_hash(column: TaskColumn) -> str:
    return next(iter(column.cells.values())).records[0].config_hash or DASH


def _curves(group: Group, column: TaskColumn, drawn: dict[str, bytes]) -> Drawing | None:
    best = {row: cell.summary for row, cell in column.cells.items()}
    ends = ", ".join(f"{row} {percent(s.mean)}" for row, s in best.items() if s)
    label = f"Validation accuracy against the training step on {column.heading}. Test accuracy in percent: {ends}."
    key = leaderboard.data_key(column)
    return _drawing(drawn, f"{group.slug}-{column.task}-curves", label, "", key)


def _speed(group: Group, chosen: scatter.Scatter, drawn: dict[str, bytes]) -> Drawing | None:
    column = next((c for c in group.columns if c.task == chosen.task), None)
    points = ", ".join(f"{b.row} {b.accuracy:.1f} at {b.speed:,.0f}" for b in chosen.bubbles)
    front = ", ".join(b.row for b in chosen.front)
    subject = column.heading if column else chosen.title
    label = f"Test accuracy in percent against tokens per second on {subject}: {points}. Pareto front: {front}."
    caption = f"Pareto front: {front}." if front else ""
    if chosen.left_out:
        caption += f" Left out, because they were timed on another machine: {', '.join(chosen.left_out)}."
    key = leaderboard.data_key(column) if column else ""
    return _drawing(drawn, f"{group.slug}-{chosen.task or 'average'}-speed", label, caption, key)


def _lengths(measured: scaling.Scaling, drawn: dict[str, bytes]) -> dict[str, Any]:
    growths = {row: growth for row in measured.rows if (growth := measured.growth(row)) is not None}
    words = ", ".join(f"{row} with the power {growth:.1f} of the length" for row, growth in growths.items())
    longest = {row: b[-1] for row in measured.rows if (b := measured.of(row))}
    peaks = {row: f"{b.step_bytes / 1e9:.2f} GB at {b.length:,}" for row, b in longest.items() if b.step_bytes}
    sizes = ", ".join(f"{row} {peak}" for row, peak in peaks.items())
    drawings = (
        _drawing(
            drawn,
            f"{measured.slug}-time",
            f"{measured.title}: time of a step against the length. Growth: {words}.",
            "",
            "",
        ),
        _drawing(
            drawn, f"{measured.slug}-memory", f"{measured.title}: peak memory against the length. {sizes}.", "", ""
        ),
    )
    return {"drawings": [drawing for drawing in drawings if drawing], "lost": measured.lost}


def _drawing(drawn: dict[str, bytes], name: str, label: str, caption: str, key: str) -> Drawing | None:
    svg = f"figures/{name}.svg"
    if svg not in drawn:
        return None
    return Drawing(Markup(style.inline(drawn[svg])), label, caption, key)
