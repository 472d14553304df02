"""results/tables, the tables of README.md and docs/quirks.md are what the committed records say."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import lra
import tasks
from lra.audit.faults import QUIRKS
from lra.config.descriptions import descriptions
from lra.config.schema import Model, Train
from lra.report import write
from lra.report.excerpt import fill
from lra.report.groups import grouped
from lra.report.load import frame
from lra.results.find import find_records

ROOT = Path(__file__).parent.parent
TEXT = (".md", ".csv", ".tex", ".json")


@pytest.mark.usefixtures("undrawn")
def test_tables_are_made_anew_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Figures are not compared."""
    monkeypatch.chdir(ROOT)
    made = write([Path("results/records")], tmp_path)
    assert made.problems == ()
    committed = {file.name for file in Path("results/tables").iterdir() if file.suffix in TEXT}
    assert {file.name for file in made.files if file.suffix in TEXT} == committed
    for name in committed:
        same = (tmp_path / name).read_bytes() == Path("results/tables", name).read_bytes()
        assert same, f"results/tables/{name} is not what the records say: run `make tables` and commit"


def test_the_figures_that_the_report_shows_are_there():
    text = (ROOT / "results" / "tables" / "report.md").read_text(encoding="utf-8")
    shown = [line.partition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert shown
    assert all((ROOT / "results" / "tables" / name).is_file() for name in shown)


def test_the_readme_shows_the_tables_of_the_records():
    records, problems = find_records([ROOT / "results" / "records"])
    assert not problems
    assert len(frame(list(records.values()))) == len(records) > 0
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("<!-- table ") > 0
    filled = fill(readme, grouped(list(records.values())))
    assert filled == readme, "README.md does not show what the records say: run `make tables` and commit"


def test_older_records_are_kept():
    """Records of version 2 are in no table, but records are never deleted."""
    records, problems = find_records([ROOT / "results" / "records" / "version-2"])
    assert not problems
    assert {record.results_version for record in records.values()} == {2}
    assert len(records) == 72


@pytest.mark.parametrize(
    ("folder", "heads"),
    [("audit", "{quirk}"), ("audit-three-tasks", "{task}: {quirk}"), ("audit-pathfinder", "{task}: {quirk}")],
)
def test_the_page_of_faults_says_what_the_audited_records_say(folder: str, heads: str):
    runs = lra.records(ROOT / "results" / "records" / folder)
    mean: Any = runs.groupby(["task", "protocol", "row"])["test_accuracy"].mean()
    page = (ROOT / "docs" / "quirks.md").read_text()
    lines = pd.read_csv(ROOT / "results" / "records" / folder / "audit.csv").to_dict("records")
    for line in lines:
        (sound,) = (quirk.sound for quirk in QUIRKS if quirk.switch == line["switch"])
        with_it, without = (accuracy(mean, line, setting) for setting in (line["switch"], sound))
        assert line["difference"] == pytest.approx(with_it - without)
    for head in dict.fromkeys(heads.format(**line) for line in lines):
        row = next(row for row in page.splitlines() if row.startswith(f"| {head} | "))
        cells = [f" {words(line)} " for line in lines if heads.format(**line) == head]
        assert row.split("|")[2:-1] == cells


def test_the_page_of_faults_names_every_setting_that_is_one():
    """The settings that the audit switches, and those whose description in the schema begins with quirk."""
    page = (ROOT / "docs" / "quirks.md").read_text(encoding="utf-8")
    switched = {quirk.switch.partition("=")[0] for quirk in QUIRKS}
    sections = [("model", Model), ("train", Train), *(("data", tasks.find(task).settings) for task in tasks.names())]
    called = {
        f"{name}.{key}"
        for name, section in sections
        for key, meaning in descriptions(section).items()
        if meaning.startswith("quirk:")
    }
    assert switched & called
    missing = {setting for setting in switched | called if f"`{setting}" not in page}
    assert missing == set()


def accuracy(mean: Any, line: dict[str, Any], setting: str) -> float:
    """Mean accuracy of the runs with this setting as an override, or else of those of plain quick, which has it."""
    protocol = f"quick[{setting.replace('true', 'True').replace('false', 'False')}]"
    changed = (line["task"], protocol, line["attention"])
    return mean[changed if changed in mean.index else (line["task"], "quick", line["attention"])]


def words(line: dict[str, Any]) -> str:
    difference, low, high = (
        f"{100 * line.get(key, math.nan):.1f}".replace("-0.0", "0.0") for key in ("difference", "low", "high")
    )
    said = {"same answers": f"{difference}, the same answers", "changes nothing here": "changes nothing here"}
    return said.get(line["verdict"], f"{difference} ({low} to {high})")
