"""Rows as a user names them, and LaTeX tables of chosen rows, with the same cells as in the table of all rows."""

from pathlib import Path

import pytest
from records import make

from lra.errors import RecordError
from lra.report import write
from lra.report.rows import named, same
from lra.results.record import save

ROWS = [
    "softmax",
    "mine:seed=1000002",
    "pola:alpha=5.0",
    "pola:alpha=5.0,flows=same",
    "mine:kind=a,power=0.5",
    "softmax+pola:alpha=5.0",
]


@pytest.mark.parametrize(
    ("words", "row"),
    [
        ("mine:seed=1000001", ""),
        ("softmax", "softmax"),
        ("pola:alpha=5", "pola:alpha=5.0"),
        ("pola:alpha=5,flows=same", "pola:alpha=5.0,flows=same"),
        ("mine:kind=a,power=.5", "mine:kind=a,power=0.5"),
        ("softmax+pola:alpha=5", "softmax+pola:alpha=5.0"),
        ("pola:flows=same,alpha=5", "pola:alpha=5.0,flows=same"),
        ("mine:kind=A,power=0.5", ""),
        ("pola", ""),
        ("pola:alpha=4", ""),
    ],
)
def test_a_row_is_found_as_it_was_asked_for(words: str, row: str):
    assert named(words, ROWS) == row


def test_options_are_compared_by_value():
    assert same("pola:alpha=5.0", "pola:alpha=5")
    assert same("agent:bias=True,agents=9", "agent:agents=9,bias=true")
    assert same("pola:alpha=1e+2", "pola:alpha=100")
    assert not same("pola:alpha=5.0", "pola")
    assert not same("softmax:conv=5", "softmax")
    assert not same("softmax:conv=5+pola", "softmax+pola")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    accuracies = {"softmax": 0.41, "elu": 0.40, "pola:alpha=5.0": 0.45}
    for row, accuracy in accuracies.items():
        for seed in range(3):
            save(make(row, accuracy + 0.001 * seed, seed=seed), tmp_path)
    return tmp_path


@pytest.mark.usefixtures("undrawn")
def test_latex_tables_of_some_rows_are_judged_among_all(folder: Path):
    write([folder], folder / "all")
    write([folder], folder / "some", rows=["softmax", "pola:alpha=5"])
    for kind in ("table", "given", "seeds-listops"):
        whole, cut = ((folder / out / f"{kind}-quick-float32.tex").read_text().splitlines() for out in ("all", "some"))
        assert [line for line in whole if not line.startswith("elu &")] == cut
        assert len(cut) < len(whole)
    assert (folder / "all" / "report.md").read_text() == (folder / "some" / "report.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_an_unknown_row_is_named(folder: Path):
    with pytest.raises(RecordError, match="no row 'sofmax' to show, did you mean 'softmax'"):
        write([folder], folder / "out", rows=["sofmax"])
    with pytest.raises(RecordError, match="no row 'pola:alpha=4' to take differences to"):
        write([folder], folder / "out", baseline="pola:alpha=4")
    write([folder], folder / "out", baseline="pola:alpha=5")
    assert "minus pola:alpha=5.0" in (folder / "out" / "report.md").read_text()
