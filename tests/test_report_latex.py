"""Tables for a paper: where they are cut, and that pdflatex fits them into a column of 5.5 inches."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import records

from lra.report import export
from lra.report.groups import grouped
from lra.report.latex import COLUMN, latex
from lra.report.render import table

PDFLATEX = shutil.which("pdflatex")
DOCUMENT = r"""\documentclass{article}
\usepackage[textwidth=5.5in,textheight=9in]{geometry}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """The LaTeX files of the widest report: five tasks and 23 rows."""
    made = export.latex_files(grouped(records.five_tasks()))
    return {name: content.decode() for name, content in made.items()}


def headings(text: str) -> list[str]:
    return [line.rstrip(" \\") for line in text.splitlines() if line.startswith("Attention")]


def test_five_tasks_are_one_table_and_averages_another(files: dict[str, str]):
    tasks, costs = headings(files["table-standard-float32.tex"])
    assert tasks == "Attention & ListOps & Text & Retrieval & Image & Pathfinder"
    assert costs == "Attention & Average of 5 & without Retrieval & Parameters & Tokens/s"
    text = files["table-standard-float32.tex"]
    assert re.findall(r"\\label{(.*?)}", text) == ["tab:table-standard-float32", "tab:table-standard-float32-2"]
    assert "Trivial baselines (rungs): ListOps: (a) root operator + digits 40.0" in text
    assert text.isascii()


def test_cells_say_in_little_room_what_happened(files: dict[str, str]):
    lines = {line.partition(" &")[0]: line for line in reversed(files["table-standard-float32.tex"].splitlines())}
    assert r"$\times$1" in lines["relu"]
    assert "!1" in lines["elu"]
    assert "3/4" in lines["flatten"]
    assert r"\textsuperscript{a}" in lines["best trivial"]


def test_a_table_is_cut_at_its_breaks_or_where_it_must_be():
    wide = ["x" * 20] * 9
    cut = headings(latex(table("t", ["Attention", *map(str, range(1, 10))], [["row", *wide]]), "l"))
    assert cut == ["Attention & 1 & 2 & 3", "Attention & 4 & 5 & 6", "Attention & 7 & 8 & 9"]
    cut = headings(latex(table("t", ["Attention", "1", "2", "3", "4"], [["row", *wide[:4]]], breaks=[2]), "l"))
    assert cut == ["Attention & 1", "Attention & 2 & 3 & 4"]
    cut = headings(latex(table("t", ["Attention", *map(str, range(1, 5))], [["row", *wide[:4]]]), "l"))
    assert cut == ["Attention & 1 & 2", "Attention & 3 & 4"], "no column stands alone"
    (whole,) = headings(latex(table("t", ["Attention", "1", "2", "3"], [["row", *wide[:3]]], breaks=[2]), "l"))
    assert whole == "Attention & 1 & 2 & 3"
    assert abs(COLUMN / 72.27 - 5.5) < 1e-9


@pytest.mark.slow
def test_pdflatex_sets_every_table_within_the_column(files: dict[str, str], tmp_path: Path):
    if PDFLATEX is None:
        pytest.skip("no pdflatex on this machine: apt-get install texlive-latex-recommended")
    one_task = export.latex_files(grouped(records.grid(tasks=1)))
    every = files | {f"one-{name}": content.decode() for name, content in one_task.items()}
    for name, content in every.items():
        (tmp_path / name).write_text(content)
    body = "\n\\clearpage\n".join(rf"\input{{{name}}}" for name in every)
    (tmp_path / "all.tex").write_text(DOCUMENT % body)
    command = [PDFLATEX, "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 0
    too_wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout)]
    assert max(too_wide, default=0) < 1
    assert "Float too large" not in done.stdout
