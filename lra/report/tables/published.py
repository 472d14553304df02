"""Published figures of other suites, shown in blocks of their own below our tables, never in our columns."""

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lra.errors import WorkError
from lra.report.format import DASH
from lra.report.render import markdown, table
from lra.results.checkout import ROOT

ACCURACY = "percent"  # the unit of test accuracies; the files hold times, sizes and training accuracies, too
TASKS_FILE = "tasks.csv"
FAULTS_FILE = "faults.csv"  # our attentions that reproduce the faults of a published mechanism's code
FINDINGS_FILE = "findings.csv"  # a sentence on why ours and theirs differ, for cells that ran
SUMS_FILE = "SHA256SUMS"  # checked, because a changed digit would misquote a publication
OTHERS = (TASKS_FILE, FAULTS_FILE, FINDINGS_FILE)
NOT_OURS = {"own": "each row in its authors' own set-up", "unpublished": "protocol unpublished"}
COLUMNS = ("source", "protocol", "mechanism", "attention", "task", "value", "unit", "citation", "commit_or_doi", "note")
PublishedFigure = dict[str, str]


@dataclass(frozen=True)
class PublishedTask:
    """A task as published tables name it. train, test: rows of the released data; None for an average or a total."""

    title: str
    train: int | None
    test: int | None


def folder() -> Path:
    """Where the published tables are: beside the packages in a checkout, inside `lra` in a wheel."""
    checkout = ROOT / "results" / "published"
    return checkout if checkout.is_dir() else ROOT / "lra" / "_data" / "published"


def read(where: Path | None = None) -> list[PublishedFigure]:
    """Every published figure; `value` is the text that was printed, `length` exists only for times and sizes.

    Raises WorkError where a file lacks a column or has changed.
    """
    files = sorted(file for file in (where or folder()).glob("*.csv") if file.name not in OTHERS)
    for file in files:
        if missing := [name for name in COLUMNS if any(row.get(name) is None for row in lines_of(file))]:
            raise WorkError(f"{file} has a line without {missing[0]!r}; the columns are {', '.join(COLUMNS)}")
    return [row for file in files for row in lines_of(file)]


def tasks() -> dict[str, PublishedTask]:
    """The tasks of published tables, by name, in the order of their columns."""
    return {
        row["task"]: PublishedTask(row["title"], _count(row["train_rows"]), _count(row["test_rows"]))
        for row in lines_of(folder() / TASKS_FILE)
    }


def forms(figure: PublishedFigure) -> list[tuple[str, str]]:
    """Our attentions for a figure, each with a description: one without faults (''), then those with the code's."""
    faulty = [
        (row["attention"], row["what"])
        for row in lines_of(folder() / FAULTS_FILE)
        if (row["source"], row["mechanism"]) == (figure["source"], figure["mechanism"])
    ]
    return [(figure["attention"], ""), *faulty] if figure["attention"] else []


def finding(figure: PublishedFigure, attention: str) -> str:
    """The sentence on why our figure of this attention differs from theirs; empty where there is none."""
    key = (figure["source"], figure["mechanism"], figure["task"], attention)
    names = ("source", "mechanism", "task", "attention")
    findings = [row["finding"] for row in lines_of(folder() / FINDINGS_FILE) if tuple(row[n] for n in names) == key]
    return findings[0] if findings else ""


@cache
def lines_of(path: Path) -> tuple[dict[str, str], ...]:
    """The lines of a CSV file, column -> text; none without it. Raises WorkError if it does not match SUMS_FILE."""
    if not path.exists():
        return ()
    content = path.read_bytes()
    if _sums(path.parent).get(path.name) not in (None, hashlib.sha256(content).hexdigest()):
        raise WorkError(
            f"{path} is not the file of {SUMS_FILE}: get it again, or, if it was changed on purpose, write the sums "
            f"anew there: sha256sum *.csv > {SUMS_FILE}"
        )
    return tuple(csv.DictReader(content.decode("utf-8").splitlines()))


def _sums(where: Path) -> dict[str, str]:
    """File -> its SHA-256, as `sha256sum` writes them; a file that is not listed is not checked."""
    path = where / SUMS_FILE
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return {name.strip(): digest for digest, _, name in (line.partition("  ") for line in lines)}


def _count(text: str) -> int | None:
    return int(text) if text else None


def accuracies(figures: Iterable[PublishedFigure]) -> list[PublishedFigure]:
    """The test accuracies among the figures."""
    return [figure for figure in figures if figure["unit"] == ACCURACY]


def blocks(figures: Iterable[PublishedFigure]) -> list[str]:
    """A Markdown block per source, protocol and kind of figure: heading, table, citations and notes."""
    parts: dict[tuple[str, str, bool], list[PublishedFigure]] = {}
    for figure in figures:
        parts.setdefault((figure["source"], figure["protocol"], figure["unit"] != ACCURACY), []).append(figure)
    if not parts:
        return ["No published tables are installed here.\n"]
    return [_block(source, protocol, rows) for (source, protocol, _), rows in sorted(parts.items(), key=lambda p: p[0])]


def _block(source: str, protocol: str, figures: list[PublishedFigure]) -> str:
    known, units = tasks(), list(dict.fromkeys(figure["unit"] for figure in figures))
    order = {task: position for position, task in enumerate(known)}
    columns = sorted(
        {_place(figure) for figure in figures},
        key=lambda column: (units.index(column[0]), order.get(column[1], len(order)), int(column[2] or 0)),
    )
    headings = {column: _heading(known, *column) for column in columns}
    rows: dict[str, list[PublishedFigure]] = {}
    for figure in figures:
        rows.setdefault(figure["mechanism"], []).append(figure)
    body, notes = [], {}
    for mechanism, members in rows.items():
        values = {_place(figure): figure["value"] for figure in members}
        attentions = "; ".join(dict.fromkeys(figure["attention"] for figure in members))
        body.append([mechanism, attentions, *(values.get(column, DASH) for column in columns)])
        for note in dict.fromkeys(figure["note"] for figure in members if figure["note"]):
            noted = [figure for figure in members if figure["note"] == note]
            of_the_row = len(noted) > 1 or len(columns) == 1
            name = mechanism if of_the_row else f"{mechanism} on {headings[_place(noted[0])]}"
            notes.setdefault(note, []).append(name)
    origins = dict.fromkeys((figure["citation"], figure["commit_or_doi"]) for figure in figures)
    parts = [
        f"### {source} (published, {in_words(protocol)})\n",
        markdown(table(source, ["Mechanism", "Ours", *headings.values()], body, left=2)),
    ]
    parts += [f"- Source: {citation}{f' [{address}]' if address else ''}" for citation, address in origins]
    parts += [f"- {', '.join(names)}: {note}" for note, names in notes.items()]
    return "\n".join(parts) + "\n"


def in_words(protocol: str) -> str:
    """The protocol of published figures, for a heading."""
    return NOT_OURS.get(protocol, f"protocol {protocol}")


def is_copied(figure: PublishedFigure) -> bool:
    """Is it a figure that one source copied from another?"""
    return figure["note"].startswith("digit for digit")


def _place(figure: PublishedFigure) -> tuple[str, str, str]:
    return figure["unit"], figure["task"], figure.get("length", "")


def _heading(known: dict[str, PublishedTask], unit: str, task: str, length: str) -> str:
    title = known[task].title if task in known else task
    name = f"{int(length):,}" if length else title
    return name if unit == ACCURACY else f"{name}, {unit}"
