"""results/tables is what the committed records say, and the README shows one of its tables."""

from pathlib import Path

import pytest

from lra.report import write
from lra.report.groups import grouped
from lra.report.load import find, frame
from lra.report.render import markdown
from lra.report.tables import comparison
from lra.results.record import RESULTS_VERSION

ROOT = Path(__file__).parent.parent
TEXT = (".md", ".csv", ".tex", ".json")


def test_tables_are_made_anew_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
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


def test_the_readme_shows_the_table_of_the_records():
    """Where the numbers have moved on since the records were made, the README says of which version its table is."""
    found, problems = find([ROOT / "results" / "records"])
    assert not problems
    assert len(frame(list(found.values()))) == len(found) > 0
    groups = grouped(list(found.values()))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = [group for group in groups if markdown(comparison.comparison(group), bold=False) in readme]
    assert shown, "README.md shows none of the tables that results/records give"
    for group in shown:
        if group.results_version != RESULTS_VERSION:
            assert f"results version {group.results_version}" in readme, "say below the README's table that it is older"
