"""A column that one line adds appears in Markdown, CSV, LaTeX and on the page; the report names no mechanism."""

import ast
import re
from pathlib import Path

import pytest
from records import make, run

import attention_zoo
import tasks
from lra.report import columns, terminal, write
from lra.report.columns import COMPARISON, DEMAND, GIVEN, PAGE, Column, ranged, row_of
from lra.report.figures import style
from lra.report.groups import grouped
from lra.results.record import save

ROOM = Path(__file__).parent.parent / "lra" / "report"
# names of the zoo and of tasks that are also words of statistics, of HTML or of files, or a suite's name
ALSO_WORDS = {"mean", "text", "image", "identity", "local", "skyformer"}


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Column:
    """Adds a column, the seconds of evaluation, to every table."""
    where = (COMPARISON, GIVEN, PAGE, DEMAND)
    column = Column(
        "Eval s", lambda row: (r.seconds.get("evaluate") for r in row.done), ranged("{:.1f}"), where, "eval"
    )
    monkeypatch.setattr(columns, "COLUMNS", (*columns.COLUMNS, column))
    return column


def test_a_column_is_one_line(added: Column, tmp_path: Path):
    for seed in range(3):
        save(run("softmax", seed=seed, seconds={"evaluate": 2.5 + seed}), tmp_path)
    made = write([tmp_path], tmp_path / "out")
    span = "2.5\N{EN DASH}4.5"
    texts = {name: (tmp_path / "out" / name).read_text() for name in ("report.md", "cells.csv", "report.html")}
    assert added.heading in made.text
    assert span in made.text
    comparison, given = (part for part in texts["report.md"].split("\n|:---") if added.heading in part.splitlines()[-1])
    assert comparison != given
    assert texts["report.md"].count(f"{span} |") == 2
    head, *_, cell = texts["cells.csv"].splitlines()
    assert dict(zip(head.split(","), cell.split(","), strict=True))["eval"] == "3.5"
    for name in ("table-standard-float32.tex", "given-standard-float32.tex"):
        latex = (tmp_path / "out" / name).read_text()
        assert added.heading in latex
        assert "2.5--4.5" in latex
    assert f'<button type="button">{added.heading}</button>' in texts["report.html"]
    assert f">{span}</td>" in texts["report.html"]


def test_speed_and_memory_are_those_of_one_machine():
    """The machine of most runs; runs with other devices, threads or numbers of processes are left out."""
    usual = {"device": "cpu", "device_name": "Core", "threads": 1, "processes": 1}
    others = ({"device": "cuda", "device_name": "GPU"}, usual | {"threads": 4}, usual | {"processes": 2})
    runs = [make("x", 0.4, seed=seed, environment=usual, tokens_per_second=1000.0, peak_bytes=10**9) for seed in (0, 1)]
    runs += [make("y", 0.4, seed=2, environment=usual, tokens_per_second=2000.0, peak_bytes=10**9)]
    for seed, other in enumerate(others, 3):
        runs += [make(row, 0.4, seed=seed, environment=other, tokens_per_second=9e6, peak_bytes=10**11) for row in "xz"]
    (group,) = grouped(runs)
    texts = {c.heading: [c.text(row_of(group, row)) for row in "xyz"] for c in columns.COLUMNS}
    assert texts["Tokens/s"] == ["1,000", "2,000", "\N{EN DASH}"]
    assert texts["Peak GB"] == ["1.00", "1.00", "\N{EN DASH}"]


def test_every_column_reads_a_row_that_says_nothing():
    (group,) = grouped([make("x", status="failed", parameters={}, tokens_per_second=None, config={})])
    for column in columns.COLUMNS:
        text = column.text(row_of(group, "x"))
        assert text in ("\N{EN DASH}", "none", "float32"), column.heading
        assert column.plain(row_of(group, "x")) in (None, "none", "float32", "")


def test_a_users_title_and_control_reach_every_table(tmp_path: Path):
    """The report prefers the record's title and control to its own lists, even for names in these lists."""
    data = {"label": "generated", "hash": "ff", "title": "My Parity"}
    about = {"name": "zero", "title": "Zero", "control": True, "fidelity": "official"}
    runs = [make("zero", 0.4, attention=about, task="parity", data=data)]
    runs += [make("mean", 0.5, attention=about | {"name": "mean", "control": False}, task="parity", data=data)]
    for record in runs:
        save(record, tmp_path)
    write([tmp_path], tmp_path / "out")
    assert "My Parity" in terminal(runs)
    for name in ("report.md", "report.html", "table-quick-float32.tex", "seeds-parity-quick-float32.tex"):
        assert "My Parity" in (tmp_path / "out" / name).read_text(), name
        assert "Parity" not in (tmp_path / "out" / name).read_text().replace("My Parity", "")
    (group,) = grouped(runs)
    assert (group.rows, group.controls) == (("mean", "zero"), frozenset({"zero"}))
    assert style.palette([group]).colour("zero") in style.GREYS
    assert style.palette([group]).colour("mean") not in style.GREYS


def texts_of(path: Path) -> list[str]:
    """The string constants of a file without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {node.body[0].value for node in nodes if node.body and isinstance(node.body[0], ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in docstrings)
    return [node.value for node in constants if isinstance(node.value, str)]


@pytest.mark.parametrize("path", sorted(ROOM.rglob("*.py")), ids=lambda path: path.relative_to(ROOM).as_posix())
def test_no_attention_and_no_task_by_name(path: Path):
    names = {*attention_zoo.names(), *tasks.names(), "softmax"} - ALSO_WORDS
    found = [text for text in texts_of(path) for name in names if re.search(rf"(?<![\w-]){name}(?![\w-])", text, re.I)]
    assert bool(found) == (path.name == "conventions.py"), found
