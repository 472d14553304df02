"""Figures of other suites, shown below ours, each source in a block of its own and never in our columns."""

from pathlib import Path

import pandas as pd

import lra
from lra.report.tables import DASH, markdown, title_of

TASKS = ("listops", "text", "retrieval", "image", "pathfinder", "pathx", "average")


def folder() -> Path:
    """Where the tables lie: beside the packages in a checkout, inside `lra` in a wheel."""
    package = Path(lra.__file__).parent
    checkout = package.parent / "results" / "published"
    return checkout if checkout.is_dir() else package / "_data" / "published"


def read(where: Path | None = None) -> pd.DataFrame:
    """Every published accuracy, one row per figure; `value` stays the text that was printed."""
    files = sorted(f for f in (where or folder()).glob("*.csv") if not f.stem.endswith("_cost"))
    tables = [pd.read_csv(file, dtype=str, keep_default_na=False) for file in files]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def blocks(table: pd.DataFrame) -> list[str]:
    """A Markdown block per source: heading, table, citations and notes."""
    if table.empty:
        return ["No published tables are installed here.\n"]
    return [_block(str(source), rows) for source, rows in table.groupby("source", sort=True)]


def _block(source: str, rows: pd.DataFrame) -> str:
    tasks = [task for task in TASKS if task in set(rows["task"])]
    body, notes = [], {}
    for mechanism, figures in rows.groupby("mechanism", sort=False):
        by_task = dict(zip(figures["task"], figures["value"], strict=True))
        body.append([str(mechanism), next(iter(figures["attention"])), *(by_task.get(task, DASH) for task in tasks)])
        for note, noted in figures[figures["note"] != ""].groupby("note", sort=False):
            whole_row = len(noted) > 1 or len(tasks) == 1
            name = str(mechanism) if whole_row else f"{mechanism} on {title_of(next(iter(noted['task'])))}"
            notes.setdefault(str(note), []).append(name)
    origins = rows[["citation", "commit_or_doi"]].drop_duplicates().itertuples(index=False)
    parts = [
        f"### {source} (published, other protocol)\n",
        markdown(["Mechanism", "Ours", *map(title_of, tasks)], body, 2),
    ]
    parts += [f"- Source: {citation}{f' [{place}]' if place else ''}" for citation, place in origins]
    parts += [f"- {', '.join(names)}: {note}" for note, names in notes.items()]
    return "\n".join(parts) + "\n"
