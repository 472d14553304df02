"""Figures of other suites, shown below ours: each source and protocol a block of its own, never in our columns."""

import csv
from collections.abc import Iterable
from pathlib import Path

from lra.report.render import DASH, markdown, sheet
from lra.report.tables.comparison import title_of

TASKS = ("listops", "text", "retrieval", "image", "pathfinder", "pathx", "path256", "average", "total")
ACCURACY = "percent"  # the unit of test accuracies; files hold times, sizes and training accuracies too
Figure = dict[str, str]
WORDS = {"unpublished": "protocol unpublished", "own": "each row its authors' own set-up"}


def folder() -> Path:
    """Where the tables lie: beside the packages in a checkout, inside `lra` in a wheel."""
    package = Path(__file__).resolve().parents[2]
    checkout = package.parent / "results" / "published"
    return checkout if checkout.is_dir() else package / "_data" / "published"


def read(where: Path | None = None) -> list[Figure]:
    """Every published figure; `value` stays the text that was printed, `length` is there for times and sizes alone."""
    files = sorted((where or folder()).glob("*.csv"))
    return [row for file in files for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())]


def accuracies(figures: Iterable[Figure]) -> list[Figure]:
    """The test accuracies among the figures."""
    return [figure for figure in figures if figure["unit"] == ACCURACY]


def blocks(figures: Iterable[Figure]) -> list[str]:
    """A Markdown block per source, protocol and kind of figure: heading, table, citations and notes."""
    parts: dict[tuple[str, str, bool], list[Figure]] = {}
    for figure in figures:
        parts.setdefault((figure["source"], figure["protocol"], figure["unit"] != ACCURACY), []).append(figure)
    if not parts:
        return ["No published tables are installed here.\n"]
    return [_block(source, protocol, rows) for (source, protocol, _), rows in sorted(parts.items(), key=lambda p: p[0])]


def _block(source: str, protocol: str, figures: list[Figure]) -> str:
    units = list(dict.fromkeys(figure["unit"] for figure in figures))
    columns = sorted(
        {_place(figure) for figure in figures}, key=lambda p: (units.index(p[0]), TASKS.index(p[1]), int(p[2] or 0))
    )
    rows: dict[str, list[Figure]] = {}
    for figure in figures:
        rows.setdefault(figure["mechanism"], []).append(figure)
    body, notes = [], {}
    for mechanism, found in rows.items():
        values = {_place(figure): figure["value"] for figure in found}
        ours = "; ".join(dict.fromkeys(figure["attention"] for figure in found))
        body.append([mechanism, ours, *(values.get(place, DASH) for place in columns)])
        for note in dict.fromkeys(figure["note"] for figure in found if figure["note"]):
            noted = [figure for figure in found if figure["note"] == note]
            whole_row = len(noted) > 1 or len(columns) == 1
            name = mechanism if whole_row else f"{mechanism} on {_heading(*_place(noted[0]))}"
            notes.setdefault(note, []).append(name)
    origins = dict.fromkeys((figure["citation"], figure["commit_or_doi"]) for figure in figures)
    header = ["Mechanism", "Ours", *(_heading(*place) for place in columns)]
    parts = [
        f"### {source} (published, {WORDS.get(protocol, f'protocol {protocol}')})\n",
        markdown(sheet(source, header, body, left=2)),
    ]
    parts += [f"- Source: {citation}{f' [{place}]' if place else ''}" for citation, place in origins]
    parts += [f"- {', '.join(names)}: {note}" for note, names in notes.items()]
    return "\n".join(parts) + "\n"


def _place(figure: Figure) -> tuple[str, str, str]:
    return figure["unit"], figure["task"], figure.get("length", "")


def _heading(unit: str, task: str, length: str) -> str:
    place = f"{int(length):,}" if length else title_of(task)
    return place if unit == ACCURACY else f"{place}, {unit}"
