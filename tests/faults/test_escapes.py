"""Texts of a record stay text: no HTML or link in Markdown, no command in LaTeX, no formula in a spreadsheet."""

import csv
import re
from pathlib import Path

import pandas as pd
import pytest
from records import bench, make

from lra.report import write
from lra.report.escape import inert, one_line, without_formulas
from lra.report.latex import escape, latex
from lra.report.render import table
from lra.report.tables import bench as bench_tables
from lra.results.record import save

EVIL = '=HYPERLINK("http://x")\n\n# <img src=x onerror=alert(1)> ![a](http://x) \\input{/etc/passwd} $x$ \x00\x1b[31m|'
EVIL += "\udcff"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on records in which every text is hostile."""
    folder = tmp_path_factory.mktemp("escapes")
    (folder / "runs").mkdir()
    attention = {"name": "elu", "title": EVIL, "paper": EVIL, "cost": EVIL, "fidelity": EVIL, "source_hash": EVIL}
    changes = {
        "task": "a_task",
        "protocol": "=1+1 <b>p</b>",
        "attention": attention | {"builtin": False, "path": EVIL, "options": {EVIL: EVIL}},
        "data": {"title": EVIL, "label": EVIL, "hash": EVIL, EVIL: EVIL},
        "ladder": {EVIL: 0.4},
        "accuracy_by": {EVIL: {EVIL: 0.5}},
        "deviations": {EVIL: EVIL},
        "environment": {EVIL: EVIL, "device_name": EVIL},
        "reason": EVIL,
    }
    for seed, row in ((0, "@row"), (1, "@row"), (0, "<i>row</i>"), (1, "<i>row</i>")):
        save(make(row, 0.4 + 0.01 * seed, seed=seed, **changes), folder / "runs")
    write([folder / "runs"], folder / "out")
    return folder / "out"


def test_no_spreadsheet_finds_a_formula(out: Path):
    for path in out.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            for cell in (cell for line in csv.reader(file) for cell in line):
                assert not re.match(r"[=@\t\r]|[+-](?![\d.])", cell), (path.name, cell)
    plain = pd.DataFrame(
        {"text": ["-2+3", "*", "-", None, "a"], "number": [-1.5, 2, None, 3, 4], "=x": [1, 2, 3, 4, 5]}
    )
    harmless = without_formulas(plain)
    assert list(harmless) == ["text", "number", "'=x"]
    assert harmless["text"].dropna().tolist() == ["'-2+3", "*", "-", "a"]
    assert harmless["number"].dtype == float


def test_markdown_holds_no_html_and_no_link_of_theirs(out: Path):
    text = (out / "report.md").read_text()
    assert not re.search(r"<(img|b|i)\b", text)
    assert "](http://x" not in text
    assert not [line for line in text.splitlines() if line.startswith("# ") and line != "# Results"]
    assert inert("a < b, p < 0.001, [1] (2)") == "a < b, p < 0.001, [1] (2)"


def test_latex_holds_no_command_of_theirs(out: Path):
    for path in out.glob("*.tex"):
        text = path.read_text()
        assert "\\input" not in text
        assert all(re.fullmatch(r"tab:[\w.=-]+", label) for label in re.findall(r"\\label\{(.*?)\}", text))
        assert "\n\n#" not in text
    assert "\\label{tab:a--b-c}" in latex(table("t", ["a"], [["b"]]), "a}\nb{c")
    assert escape("a\n\n\\b") == "a \\textbackslash b"


def test_the_page_holds_no_element_of_theirs(out: Path):
    text = (out / "report.html").read_text()
    assert "<img src=x" not in text
    assert "<i>row" not in text
    assert "default-src 'none'" in text


def test_benches_are_written_so_too(tmp_path: Path):
    made = bench("=row", 256, environment={"device": "cpu", "device_name": EVIL})
    bench_tables.write([made], tmp_path)
    assert "\n=row" not in (tmp_path / "bench.csv").read_text()
    assert "'=row" in (tmp_path / "bench.csv").read_text()
    assert "<img" not in (tmp_path / "bench.md").read_text()


def test_one_line():
    assert one_line("a\n\tb\u2028c\x1b\udcff") == "a b c \\udcff"
