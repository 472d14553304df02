"""Tables, curves and published blocks from records: golden text; only runs under equal conditions are averaged."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from records import LADDER, make

import attention_zoo
import tasks
from lra.errors import RecordError, WorkError
from lra.experiments.status import read_statuses
from lra.report import Report, conventions, read, terminal, write
from lra.report.cells import Cell
from lra.report.export import files_of
from lra.report.figures import curves, style
from lra.report.format import DASH, MINUS, points, signed
from lra.report.groups import Group, best_trivial, grouped
from lra.report.load import frame
from lra.report.render import markdown
from lra.report.tables import comparison, given, seeds
from lra.results.record import Record, save

ROOT = Path(__file__).parent.parent


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of records: three seeds, one seed, diverged, failed."""
    return fill(tmp_path / "runs")


def fill(folder: Path) -> Path:
    folder.mkdir()
    for seed, accuracy in enumerate((0.40, 0.41, 0.42)):
        save(make("softmax", accuracy, seed=seed), folder)
    save(make("pola", 0.36), folder)
    save(make("relu", status="diverged"), folder)
    save(make("agent", status="failed"), folder)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """As `runs`, a folder that no test changes, with the report on it in its folder `out`."""
    folder = fill(tmp_path_factory.mktemp("written") / "runs")
    return folder, write([folder], folder / "out")


def only(records: list[Record]) -> Group:
    (group,) = grouped(records)
    return group


def text_of(*records: Record) -> str:
    """The cell of records that share row and task."""
    return comparison.cell_text(only(list(records)).columns[0], records[0].row)


def test_golden_table_of_one_task(written: tuple[Path, Report]):
    folder, report = written
    golden = f"""Protocol quick, float32. Data: ListOps generated (0123456789ab)

| Attention    |                     ListOps |   Parameters |   Tokens/s |
|:-------------|----------------------------:|-------------:|-----------:|
| best trivial | 37.1 root operator + digits |              |            |
| softmax      |              41.0 ± 1.0 (3) |      209,802 |     12,300 |
| relu         |                    diverged |      209,802 |          {DASH} |
| agent        |                      failed |      209,802 |          {DASH} |
| pola         |    36.0 (1) ≈ root operator |      209,802 |     12,300 |

Test accuracy in %: mean ± sample sd (seeds); ≈ not distinguishable from that rung; † still rising at the end.
"""
    assert report.text.startswith(golden)
    assert report.text.splitlines()[-3:] == [
        f"wrote {folder}/out/report.html",
        f"wrote {folder}/out/report.md",
        f"and 16 more in {folder}/out",
    ]
    assert report.problems == ()
    assert all(file.is_file() for file in report.files)
    page = (folder / "out" / "report.md").read_text()
    assert "| best trivial | 37.1" in page
    assert "### ListOps, by root operator" in page
    assert "![Learning curves](figures/quick-float32-listops-curves.png)" in page
    assert "(published, protocol unpublished)" in page
    assert "polaformer" not in report.text


def test_golden_numbers(written: tuple[Path, Report]):
    folder, _ = written
    wide = (folder / "out" / "table-quick-float32.csv").read_text()
    assert wide == "row,listops\nsoftmax,0.41\nrelu,\nagent,\npola,0.36\n"
    long = pd.read_csv(folder / "out" / "cells.csv").set_index(["kind", "row"])
    assert long.loc[("rung", "root operator"), "mean"] == 0.364
    softmax = long.loc[("cell", "softmax")]
    assert (softmax["n"], softmax["min"], softmax["max"], softmax["learned"]) == (3, 0.40, 0.42, 3)
    assert softmax["deviation"] == pytest.approx(0.01)
    assert long.loc[("cell", "pola"), "rung"] == "root operator"
    assert (long.loc[("cell", "relu"), "diverged"], long.loc[("cell", "agent"), "failed"]) == (1, 1)
    assert len(pd.read_csv(folder / "out" / "runs.csv")) == 6


def test_two_tasks_average_only_where_both_ran():
    text = {"task": "text", "data": {"label": "IMDb", "hash": "ff"}, "ladder": {}}
    both = [make("softmax", 0.4), make("softmax", 0.6, **text)]
    group = only([*both, make("mean", 0.36), make("elu", 0.65, **text), make("softmax", 0.5, seed=1, **text)])
    lines = [
        [cell.strip() for cell in line.split("|")[1:-3]] for line in markdown(comparison.comparison(group)).splitlines()
    ]
    assert lines[0] == ["Attention", "ListOps", "Text (IMDb)", "Average of 2"]
    assert lines[2:] == [
        ["best trivial", "37.1 b", DASH, DASH],
        ["softmax", "40.0 (1)", "55.0 ± 7.1 (2)", "47.5"],
        ["elu", DASH, "65.0 (1)", DASH],
        ["mean", "36.0 (1) ≈ a", DASH, DASH],
    ]
    note = comparison.comparison(group).note
    rungs = "ListOps: (a) root operator 36.4, (b) root operator + digits 37.1"
    assert note.endswith(f". Trivial baselines (rungs): {rungs}")


def test_averages_with_and_without_retrieval():
    others = [{"task": t, "data": {"label": "official", "hash": t}, "ladder": {}} for t in ("text", "image")]
    pairs = {"task": "retrieval", "data": {"label": "matched pairs", "hash": "r"}, "ladder": {}}
    group = only([make("softmax", 0.4), *(make("softmax", 0.5, **o) for o in others), make("softmax", 0.7, **pairs)])
    lines = [
        [cell.strip() for cell in line.split("|")[1:-3]] for line in markdown(comparison.comparison(group)).splitlines()
    ]
    assert lines[0][3:] == ["Retrieval (matched pairs)", "Image", "Average of 4", "without Retrieval"]
    assert lines[-1][-2:] == ["52.5", "46.7"]


@pytest.mark.parametrize("name", ["listops", "pathfinder", "pathfinder64", "pathx", "path256", "text", "retrieval"])
def test_a_task_has_one_title(name: str):
    assert conventions.task_title(name) == tasks.find(name).title


def test_the_average_is_over_the_tasks_of_the_arena():
    assert conventions.ARENA == tasks.ARENA


def test_rows_come_in_the_order_of_the_paper_and_controls_last():
    rows = ["identity", "pola:alpha=5.0", "zeta", "mean", "agent", "softmax:conv=5", "alpha", "pola", "elu", "softmax"]
    group = only([make(row, 0.4) for row in rows])
    order = "softmax softmax:conv=5 elu agent pola pola:alpha=5.0 alpha zeta mean identity"
    assert list(group.rows) == order.split()


def test_words_beside_a_cell():
    runs = [
        make("pola", accuracy, seed=seed, learned=accuracy > 0.2) for seed, accuracy in enumerate((0.5, 0.17, 0.52))
    ]
    assert text_of(*runs) == "39.7 ± 19.7 (3) ≈ root operator + digits; 2 of 3 learned"
    assert text_of(make("pola", 0.17, learned=False)) == "17.0 (1); at chance"
    assert text_of(make("pola", 0.19, learned=False)) == "19.0 (1)"  # by its test accuracy it did learn
    assert text_of(make("pola", 0.5), make("pola", seed=1, status="diverged")) == "50.0 (1); 1 diverged"
    assert text_of(*(make("pola", seed=seed, status="diverged") for seed in (0, 1))) == "diverged (2)"
    assert text_of(make("pola", 0.604)) == "60.4 (1) ≈ 1 level"
    assert text_of(make("pola", 0.364, test_rows=0)) == "36.4 (1)"


def test_best_trivial_rung_reads_no_level():
    assert best_trivial(LADDER) == ("root operator + digits", 0.371)
    assert best_trivial({"constant": 0.1, "1 level": 0.6, "12 levels": 0.9}) == ("constant", 0.1)
    assert best_trivial({"constant": 0.1, "grey level": 0.6}) == ("grey level", 0.6)  # of a user's task
    assert best_trivial({}) is None


@pytest.mark.parametrize(
    ("field", "value"), [("protocol", "standard"), ("precision", "bfloat16"), ("results_version", 0)]
)
def test_what_differs_never_shares_a_table(field: str, value: Any):
    groups = grouped([make("softmax", 0.4), make("softmax", 0.6, **{field: value})])
    assert sorted(g.columns[0].cells["softmax"].records[0].test_accuracy or 0 for g in groups) == [0.4, 0.6]
    assert len({g.heading for g in groups}) == len({g.slug for g in groups}) == 2


def test_other_data_or_settings_stand_apart():
    other_data = make("softmax", 0.6, data={"label": "official", "hash": "ee"})
    other_lr = make("softmax", 0.7, config={"train": {"lr": 0.1}})
    groups = grouped([make("softmax", 0.4), make("pola", 0.4), other_data, other_lr])
    assert [len(g.rows) for g in groups] == [2, 1, 1]
    assert {g.apart for g in groups} == {"", "data", "train.lr=0.1"}
    assert len({g.slug for g in groups}) == 3
    assert all(cell.summary and cell.summary.count == 1 for g in groups for c in g.columns for cell in c.cells.values())


@pytest.mark.usefixtures("undrawn")
def test_a_tables_curves_stand_below_it_alone(tmp_path: Path):
    """The curves of other tables are not below it."""
    for record in (make("softmax", 0.4), make("pola", 0.4), make("softmax", 0.7, config={"train": {"lr": 0.1}})):
        save(record, tmp_path)
    write([tmp_path], tmp_path / "out")
    lines = (tmp_path / "out" / "report.md").read_text(encoding="utf-8").splitlines()
    pictures = [line for line in lines if line.startswith("![")]
    assert len(pictures) == len(set(pictures)) == 2


@pytest.mark.usefixtures("undrawn")
def test_a_report_may_stand_among_its_records(runs: Path, tmp_path: Path):
    """The report's files are not read as records, and files that only the previous report had are removed."""
    for file in runs.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "table-mine.tex").write_text("the user's")
    first = write([tmp_path], tmp_path)
    assert write([tmp_path], tmp_path) == first
    assert not first.problems
    assert read_statuses(tmp_path)[1] == []
    for file in tmp_path.glob("listops-pola*.json"):
        file.unlink()
    save(make("relu", 0.4, protocol="other"), tmp_path)
    second = write([tmp_path], tmp_path)
    gone = {*first.files} - {*second.files}
    assert not any(file.exists() for file in gone)
    assert all(file.exists() for file in second.files)
    assert (tmp_path / "table-mine.tex").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_file_that_cannot_be_removed_does_not_end_a_report(runs: Path, tmp_path: Path, monkeypatch):
    """As on Windows, where a figure may be open in another program."""
    write([runs], tmp_path)
    listed = json.loads((tmp_path / "report.json").read_text())
    (tmp_path / "old.svg").touch()
    (tmp_path / "report.json").write_text(json.dumps(listed | {"files": [*listed["files"], "old.svg"]}))
    unlink = Path.unlink

    def in_use(path: Path, **settings: bool) -> None:
        if path.name == "old.svg":
            raise PermissionError(13, "in use")
        unlink(path, **settings)

    monkeypatch.setattr(Path, "unlink", in_use)
    old = tmp_path / "old.svg"
    assert f"cannot remove {old}, which is of an earlier report: in use" in write([runs], tmp_path).text
    assert old.exists()


def test_a_report_removes_nothing_elsewhere(tmp_path: Path):
    """Whatever paths the previous report.json names."""
    inside = [tmp_path / "a.csv", tmp_path / "figures" / "b.svg"]
    outside = ["../outside.csv", "/outside.csv", "figures/../../outside.csv", "notes.txt", "work/a.csv"]
    for names, found in ((["a.csv", "figures/b.svg", *outside], inside), ([3], []), (3, []), (None, [])):
        (tmp_path / "report.json").write_text(json.dumps({"scales": "", "files": names}))
        assert files_of(tmp_path) == found


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["report.md", "runs.csv", "report.json", "report.html"])
def test_a_report_replaces_no_file_of_the_users(name: str, runs: Path, tmp_path: Path):
    (tmp_path / name).write_text("the user's")
    with pytest.raises(WorkError, match="was not written by this command; give another --out"):
        write([runs], tmp_path)
    assert [file.name for file in tmp_path.iterdir() if file != runs] == [name]


@pytest.mark.usefixtures("undrawn")
def test_json_has_as_many_digits_as_csv(tmp_path: Path):
    """This also holds for small numbers."""
    save(make("softmax", 3.14159265358979e-14), tmp_path)
    write([tmp_path], tmp_path / "out")
    (run,) = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["runs"]["data"]
    assert run["test_accuracy"] == 3.14159265359e-14


def test_stars_of_a_row_are_no_emphasis():
    group = only([make(f"pola*{n}+softmax*1", 0.4 + n / 100) for n in (1, 2)])
    assert r"pola\*2+softmax\*1" in markdown(comparison.comparison(group))


def test_one_name_with_two_sources_is_two_rows():
    other = {"name": "mine", "title": "mine", "source_hash": "ffff0000", "builtin": False}
    assert only([make("mine", 0.4), make("mine", 0.6, attention=other)]).rows == ("mine@ab12", "mine@ffff")


@pytest.mark.usefixtures("undrawn")
def test_one_cell_counts_once(runs: Path, tmp_path: Path):
    again = tmp_path / "again"
    again.mkdir()
    first = make("pola", 0.36)
    save(dataclasses.replace(first, test_accuracy=0.5, created="2027"), again)
    save(make("softmax", 0.40), again)
    report = write([again, runs], tmp_path / "out")
    assert "36.0 (1)" in report.text
    assert "41.0 ± 1.0 (3)" in report.text
    assert f"{first.name} of 2027 is left out" in report.text


@pytest.mark.parametrize(
    "change",
    [{"created": 5}, {"test_accuracy": math.nan}, {"test_accuracy": 7}, {"accuracy_by": {"a": 3}}, {"test_rows": "x"}],
    ids=str,
)
def test_a_damaged_record_is_left_out(runs: Path, change: dict):
    path = min(runs.glob("*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    frame, problems = read([runs])
    assert problems == [f"{path} is not a record: bad {next(iter(change))}"]
    assert len(frame) == 5


@pytest.mark.usefixtures("undrawn")
def test_broken_files_are_named_and_the_rest_reported(runs: Path, tmp_path: Path):
    (runs / "broken.json").write_text("{")
    (runs / "future.json").write_text('{"schema_version": 99}')
    report = write([runs, tmp_path / "absent.json"], tmp_path / "out")
    assert "41.0 ± 1.0 (3)" in report.text
    assert len(report.problems) == 3
    for problem, words in zip(
        report.problems, ("broken.json is not a record", "schema 99", "absent.json"), strict=True
    ):
        assert words in problem
        assert f"- {problem}" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_nothing_is_written_without_records_or_after_a_fault(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(RecordError, match="no records in"):
        write([tmp_path], tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match="cannot write to the output folder"):
        write([runs], tmp_path / "file" / "out")
    monkeypatch.setattr(curves, "draw", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write([runs], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_same_records_same_bytes(written: tuple[Path, Report], tmp_path: Path):
    folder, first = written
    second = write([folder, folder], tmp_path)
    assert len(first.files) == 18
    for one, two in zip(first.files, second.files, strict=True):
        assert one.read_bytes() == two.read_bytes()
    picture = (folder / "out" / "figures" / "quick-float32-listops-curves.svg").read_text()
    for words in ("softmax", "relu (diverged)", "root operator 36.4", "1 level 60.4", "cross: diverged; grey: ladder"):
        assert f"<!-- {words}" in picture or words in picture
    assert "2 levels" not in picture


def test_rows_of_one_colour_have_lines_of_their_own():
    rows = [*attention_zoo.names(), "softmax:conv=5", "elu:conv=5"]
    palette = style.palette_of({row: attention_zoo.find(row)[0].family for row in rows})
    assert len({palette.colour(row) for row in rows}) < len(rows)
    dashes = palette.dashes(rows)
    assert len({(palette.colour(row), dashes[row]) for row in rows}) == len(rows)


def test_frame_and_terminal(runs: Path):
    (runs / "broken.json").write_text("{")
    table, problems = read([runs])
    assert len(problems) == 1
    assert len(table) == 6
    softmax = table[table["row"] == "softmax"]
    assert list(softmax["seed"]) == [0, 1, 2]
    assert list(softmax["test_accuracy"]) == [0.40, 0.41, 0.42]
    expected = {"data_hash": "0123456789abcdef", "parameters_total": 209802, "config.train.lr": 1e-3, "device": "cpu"}
    assert dict(softmax.iloc[0][list(expected)]) == expected
    assert Path(softmax.iloc[0]["path"]).is_file()
    assert len(frame([])) == 0
    assert "40.0 (1)" in terminal([make("softmax", 0.4)])


def test_reports_need_no_torch():
    code = "import lra.report, sys; sys.exit('torch' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


DRAW = """
import importlib, os, sys
importlib.import_module(sys.argv[1])
from lra.report.figures import style
with style.style("x"):
    assert style.save(style.blank("title", "caption", (4, 3), (0.5, 0.2, 0.4)), "x", ("png", "svg", "pdf"))
print(os.environ["MPLBACKEND"])
import matplotlib
print(matplotlib.rcParams._get("backend"))
"""


@pytest.mark.parametrize(
    ("room", "backend"),
    [
        ("lra.report", "module://matplotlib_inline.backend_inline"),
        ("lra.inspect", "nonsense"),
        ("lra.report", "svg"),
    ],
)
def test_figures_are_drawn_whatever_backend_a_notebook_left(room: str, backend: str):
    """matplotlib itself cannot be imported with the name of a backend that it does not know."""
    environment = os.environ | {"MPLBACKEND": backend}
    command = [sys.executable, "-c", DRAW, room]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    kept, used = done.stdout.split("\n")[:2]
    assert kept == backend
    assert used == backend if backend == "svg" else used != backend


def test_the_table_says_in_what_a_protocol_differs_from_its_source():
    from lra.report import terminal

    plain, other = make("relu", 0.4), make("relu", 0.4, protocol="google", deviations={"sizes": "of one row", "b": "c"})
    assert "Against the protocol's source" not in terminal([plain])
    assert "(0123456789ab). Against the protocol's source: b, sizes differ\n" in terminal([other])


def test_what_each_row_was_given():
    sizes = {"total": 300, "without_embeddings": 200, "attention": 100}
    about = {"name": "pola", "options": {"conv": 5}, "fidelity": "adapted: 1-D convolution"}
    tuned = {"values": {"train.lr": [1e-3, 2e-3, 4e-3], "train.warmup": [10, 20]}}
    runs = [
        make(
            "pola", 0.17, seed=seed, attention=about, parameters=sizes, tuning=tuned, peak_bytes=peak, learned=seed == 0
        )
        for seed, peak in enumerate((2_000_000_000, 3_000_000_000))
    ]
    group = only([*runs, make("mine", 0.4, parameters={}, tuning=tuned)])
    table = given.given(dataclasses.replace(group, milliseconds={"pola": 12.34}))
    lines = [dict(zip(table.header, line, strict=True)) for line in table.body]
    assert lines[0] == {
        "Attention": "pola",
        "Parameters": "300",
        "without embeddings": "200",
        "attention's own": "100",
        "Taps": "5",
        "Precision": "float32",
        "Learning rate": "0.001",
        "Tuning": "6 of train.lr, train.warmup",
        "Fidelity": "adapted",
        "Learned": "1 of 2",
        "ms/step at 4K": "12.3",
        "Peak GB": f"2.00{DASH}3.00",
    }
    assert (lines[1]["Parameters"], lines[1]["Taps"], lines[1]["ms/step at 4K"]) == (DASH, DASH, DASH)
    assert "ms/step at 4K" not in given.given(group).header


def test_controls_are_called_so_whatever_their_record_says():
    about = {"title": "Convolution", "fidelity": "official", "paper": "https://example.org"}
    runs = [make(row, 0.4, attention=about) for row in ("local_conv", "identity:conv=5", "elu")]
    group = only(runs)
    assert [line[-1] for line in given.given(group).body] == ["official", "control", "control"]
    assert "- `local_conv`: Convolution; control; https://example.org\n" in comparison.mechanisms([group])


def test_a_cell_whose_runs_were_still_rising_has_a_dagger():
    """Of 1,000 validation samples the standard error of a difference is 2.2 points."""

    def run(seed: int, *curve: tuple[int, float], **settings: Any) -> Record:
        points = [{"step": step, "validation_accuracy": accuracy} for step, accuracy in curve]
        data = {"label": "generated", "hash": "0123456789abcdef", "rows": {"validation": 1000}}
        config = {"train": {"lr": 1e-3, "steps": 1000, **settings}}
        return make("pola", 0.5, seed=seed, curve=points, data=data, config=config)

    rising = [run(seed, (500, 0.40), (900, 0.45), (1000, 0.48)) for seed in range(3)]
    flat = [run(seed, (500, 0.40), (900, 0.45), (1000, 0.47)) for seed in range(3)]
    assert text_of(rising[0]) == "50.0 (1)†"
    assert text_of(flat[0]) == "50.0 (1)"
    assert text_of(rising[0], flat[1], flat[2]) == "50.0 ± 0.0 (3)"
    assert text_of(rising[0], rising[1], flat[2]) == "50.0 ± 0.0 (3)†"
    assert text_of(run(0, (500, 0.4), (950, 0.48), (1000, 0.48))) == "50.0 (1)"  # 950 is not within the last 5 %
    assert text_of(run(0, (1000, 0.48))) == "50.0 (1)"
    drawn = run(0, (500, 0.40), (900, 0.45), (1000, 0.48), batch=32, validation_batches=2)
    assert text_of(drawn) == "50.0 (1)", "of 64 samples the standard error is 8.8 points"
    assert text_of(make("pola", 0.5, best_step=960)) == "50.0 (1)"
    assert Cell((dataclasses.replace(rising[0], learned=False, test_accuracy=0.17),)).rising == 0, (
        "a constant answer that has changed"
    )


def test_the_interval_of_a_mean_stays_within_0_and_100():
    table = seeds.seeds(
        only([make("pola", a, seed=s) for s, a in enumerate((0.05, 0.30, 0.55))]).columns[0], ["pola"], ""
    )
    assert dict(zip(table.header, table.body[0], strict=True))["95 %"] == "0.00 to 92.10"


def test_curves_give_the_noise_of_the_split_that_they_show():
    """Of 1,000 rows, half of them right, 1.96 standard errors are 3.1 points."""
    data = {"label": "generated", "hash": "0123456789abcdef", "rows": {"validation": 1000}}
    column = only([make("pola", 0.4, data=data, validation_accuracy=0.5)]).columns[0]
    assert curves._caption(column).endswith("Noise of 1,000 validation rows: ± 3.1 points.")


def test_no_difference_is_signed_as_one():
    assert [signed(value) for value in (-0.00001, 0.0, 0.00006, -0.012)] == ["+0.00", "+0.00", "+0.01", f"{MINUS}1.20"]
    assert [points(value) for value in (-0.0001, 0.0, -0.012)] == ["+0.0", "+0.0", f"{MINUS}1.2"]
