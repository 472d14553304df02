"""Reports on six records as Markdown, CSV and LaTeX, byte for byte as in tests/golden.

After an intended change, `python tests/test_report_golden.py` writes the files again; read the difference.
"""

import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pictures import leave_undrawn
from records import make

from lra.cli import main
from lra.report import write
from lra.report.tables import published
from lra.results.record import Record, load, save

GOLDEN = Path(__file__).parent / "golden"
READ = published.read
SIZES = {"total": 209_802, "without_embeddings": 76_682, "attention": 33_280}
OLDER = ("tuning", "correct", "config_hash", "results_version", "accuracy_by", "parameters", "peak_bytes")


def attention(name: str, **changes: Any) -> dict[str, Any]:
    about = {"name": name, "title": name.capitalize(), "options": {"conv": 0}, "source_hash": "ab12", "builtin": True}
    return about | {"fidelity": "official", "cost": "O(N)", "paper": "https://example.org/a_b"} | changes


def mixed() -> list[Record]:
    """A run still rising at the end, a single seed, a missing cell, a diverged, a failed and an at-chance run."""
    text: dict[str, Any] = {
        "task": "text",
        "data": {"label": "IMDb", "hash": "fedcba987654"},
        "ladder": {},
        "test_rows": 25_000,
    }
    config: dict[str, Any] = {"config": {"train": {"lr": 2e-3, "steps": 300}}, "parameters": SIZES}
    config |= {"peak_bytes": 1_234_567_890}
    swept: dict[str, Any] = {
        "tuning": {"values": {"train.lr": [1e-3, 2e-3]}, "select": "validation", "pilot_seed": 1000}
    }
    rows = {"train": 96_000, "validation": 2000, "test": 2000}
    rising: dict[str, Any] = {"data": {"label": "generated", "hash": "0123456789abcdef", "rows": rows}}
    pola = attention("pola", options={"conv": 5}, fidelity="adapted: 1-D & no_table")
    return [
        make("softmax", 0.412, attention=attention("softmax"), best_step=300, **config, **swept, **rising),
        make("softmax", 0.63, attention=attention("softmax"), best_step=200, **config, **text),
        make("pola", 0.371, attention=pola, best_step=100, **config, **swept),
        make("relu", attention=attention("relu"), status="diverged", **config, **swept),
        make("elu", 0.168, attention=attention("elu"), learned=False, **config, **swept),
        make("elu", attention=attention("elu"), **config, **text),
    ]


def seeds() -> list[Record]:
    """Two mechanisms with three common seeds: differences, p-values and bold rows."""
    rows = {"softmax": (0.401, 0.408, 0.404), "pola": (0.452, 0.461, 0.457)}
    config = {"config": {"train": {"lr": 2e-3, "steps": 300}}, "parameters": SIZES}
    return [
        make(
            row, accuracy, seed=seed, attention=attention(row), data={"label": "generated", "hash": "01" * 6}, **config
        )
        for row, found in rows.items()
        for seed, accuracy in enumerate(found)
    ]


def render(records: list[Record], folder: Path) -> dict[str, str]:
    """Name -> text of the report's tables; runs.csv names paths, figures have tests of their own."""
    for record in records:
        save(record, folder)
    made = write([folder], folder / "out")
    files = [file for file in made.files if file.suffix in (".md", ".csv", ".tex") and file.name != "runs.csv"]
    texts = {file.name: file.read_text(encoding="utf-8") for file in files if file.parent.name == "out"}
    lines = [line for line in texts["report.md"].splitlines(keepends=True) if not line.startswith("![")]
    return texts | {"report.md": "".join(lines)}


@pytest.fixture(autouse=True, scope="module")
def one_published_table() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published, "read", lambda: READ(GOLDEN))
        yield


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[Path, dict[str, str]]]:
    """Name of a set of records -> its folder, with the report in `out`, and the texts of `render`."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        leave_undrawn(patch)
        for records in (mixed, seeds):
            folder = tmp_path_factory.mktemp(records.__name__)
            made[records.__name__] = folder, render(records(), folder)
    return made


@pytest.mark.parametrize("name", ["mixed", "seeds"])
def test_byte_for_byte(folders: dict[str, tuple[Path, dict[str, str]]], name: str):
    _, made = folders[name]
    where = GOLDEN / name
    assert sorted(made) == sorted(file.name for file in where.iterdir())
    for file, text in made.items():
        assert text == (where / file).read_text(encoding="utf-8"), file


@pytest.mark.usefixtures("undrawn")
def test_records_of_an_older_schema_are_read(tmp_path: Path):
    """Missing values are dashes; the accuracies stay the same."""
    for record in mixed():
        fields = {key: value for key, value in dataclasses.asdict(record).items() if key not in OLDER}
        (tmp_path / f"{record.name}.json").write_text(json.dumps(fields | {"schema_version": 1}))
    page = write([tmp_path], tmp_path / "out").text
    golden = (GOLDEN / "mixed" / "report.md").read_text(encoding="utf-8")
    for words in ("41.2 (1)†", "37.1 (1) ≈ a", "16.8 (1); at chance", "diverged"):
        assert words in page
        assert words in golden
    assert load(next(tmp_path.glob("*pola*.json"))).tuning == {}


@pytest.mark.usefixtures("undrawn")
def test_a_broken_record_is_named_the_rest_reported(
    folders: dict[str, tuple[Path, dict[str, str]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder, made = folders["mixed"]
    for file in folder.glob("*.json"):
        shutil.copy(file, tmp_path)
    (tmp_path / "broken.json").write_text('{"schema_version": 2, ')
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    captured = capsys.readouterr()
    assert f"skipped: {tmp_path}/broken.json is not a record" in captured.err
    assert "41.2 (1)†" in captured.out
    assert (tmp_path / "out" / "cells.csv").read_text() == made["cells.csv"]
    assert "broken.json" in (tmp_path / "out" / "report.md").read_text()


def test_the_numbers_as_data_with_their_schema(folders: dict[str, tuple[Path, dict[str, str]]]):
    folder, _ = folders["seeds"]
    whole = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    assert whole["schema_version"] == 1
    for name in ("runs", "cells", "differences", "reproduction"):
        fields = [field["name"] for field in whole[name]["schema"]["fields"]]
        assert all(set(row) == set(fields) for row in whole[name]["data"])
        table = pd.read_csv(folder / "out" / f"{name}.csv")
        assert list(table.columns) == fields
        assert len(table) == len(whole[name]["data"]) > 0
    (pola,) = (row for row in whole["differences"]["data"] if row["row"] == "pola")
    assert pola["difference"] == pytest.approx(0.0523333333333)
    assert pola["verdict"] == "separated"


@pytest.mark.usefixtures("undrawn")
def test_latex_escapes_what_is_special(tmp_path: Path):
    about = attention("mine", title="50 % _ of it")
    save(make("mine_1:rate=5%&{x}~^\\#$", 0.4, attention=about), tmp_path)
    write([tmp_path], tmp_path / "out")
    text = (tmp_path / "out" / "table-quick-float32.tex").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("mine")]
    assert line.startswith(r"mine\_1:rate=5\%\&\{x\}\textasciitilde \textasciicircum \textbackslash \#\$ & 40.0 (1) &")
    assert text.isascii()


if __name__ == "__main__":
    published.read = lambda: READ(GOLDEN)
    for kind in (mixed, seeds):
        with tempfile.TemporaryDirectory() as scratch:
            texts = render(kind(), Path(scratch))
        (GOLDEN / kind.__name__).mkdir(exist_ok=True)
        for old in (GOLDEN / kind.__name__).iterdir():
            old.unlink()
        for file_name, content in texts.items():
            (GOLDEN / kind.__name__ / file_name).write_text(content, encoding="utf-8")
    sys.exit()
