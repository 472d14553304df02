"""The tables of results/published are complete, consistent, and shown apart from this suite's results."""

import csv
from itertools import groupby
from pathlib import Path

import pytest

import tasks
from attention_zoo import find
from lra.errors import WorkError
from lra.report.tables import published, reproduction

Row = dict[str, str]


def rows_of(pattern: str) -> list[Row]:
    """The lines of all files that match the pattern."""
    files = sorted(file for file in published.folder().glob(pattern) if file.name not in published.OTHERS)
    return [row for file in files for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())]


@pytest.fixture(scope="module")
def accuracies() -> list[Row]:
    return [row for row in rows_of("*.csv") if row["unit"] == "percent"]


def test_averages_agree_with_their_rows(accuracies: list[Row]):
    checked = 0
    for _, found in groupby(accuracies, key=lambda row: (row["source"], row["mechanism"])):
        row = {each["task"]: each for each in found if "not in its average" not in each["note"]}
        printed = row.pop("average", None)
        if printed is None or not row or printed["note"].startswith("misprint"):
            continue
        figures = [each["value"] for each in row.values()]
        decimals = min(len(value.partition(".")[2]) for value in (printed["value"], *figures))
        mean = sum(map(float, figures)) / len(figures)
        assert abs(mean - float(printed["value"])) <= 10.0**-decimals, printed
        checked += 1
    assert checked == 62


def test_rows_say_where_they_are_from(accuracies: list[Row]):
    assert len({(row["source"], row["mechanism"], row["task"]) for row in accuracies}) == len(accuracies) == 403
    for row in accuracies:
        assert row["task"] in published.tasks()
        assert 0 < float(row["value"]) < 100
        assert row["citation"]
        assert row["commit_or_doi"] or row["note"].startswith("not traced")
        assert row["protocol"] == "unpublished" or not row["attention"].startswith("pola")


SPECS = sorted({row["attention"] for row in rows_of("*.csv")} - {""})


@pytest.mark.parametrize("spec", SPECS)
def test_a_spec_finds_its_attention_and_is_written_as_its_row(spec: str):
    """A run is compared with a figure if its row equals the figure's spec, so that specs leave out default options."""
    entry, options = find(spec)
    assert reproduction.same(entry.row(options), spec)


@pytest.mark.parametrize("source", ["lra_paper", "nystromformer", "skyformer", "polaformer"])
def test_every_row_of_the_tables_that_others_copy_is_here(source: str):
    """Except rows that the Arena's README quotes from other papers with their authors' set-ups."""
    rows = [row for row in rows_of(f"{source}*.csv") if row["protocol"] != "own"]
    assert {row["mechanism"] for row in rows if not row["attention"]} == set()
    found = reproduction.beside([], rows)
    assert "no such attention here" not in {line["verdict"] for line in found}
    for line in found:
        assert bool(line["command"]) != line["copy"], line


@pytest.mark.parametrize(
    ("protocol", "mechanism", "task", "spec"),
    [
        ("google", "Linformer", "text", "linformer:rank=16"),
        ("google", "Longformer", "text", "longformer:window=512,tokens=0"),
        ("google", "Local", "text", "local"),
        ("google", "Local", "image", "local:block=64"),
        ("google", "Performer", "listops", "performer:features=2"),
        ("google", "Performer", "text", "relu"),  # its default needs no random features
        ("google", "Reformer", "text", "reformer:hashes=1,bucket=10"),
        ("google", "Synthesizer", "text", "synthesizer:dot=true"),  # it adds q k^T
        ("nystromformer", "Reformer", "text", "reformer"),  # two rounds, chunks of 64
        ("skyformer", "Reformer", "text", "reformer"),
        ("skyformer", "Skyformer", "text", "skyformer"),
        ("skyformer", "Informer", "listops", "informer"),  # 128 keys, its factor times the logarithm of the length
        ("skyformer", "Informer", "text", "informer:factor=16"),
        ("google", "Sparse", "text", "sparse"),
        ("google", "BigBird", "image", "bigbird"),
        ("skyformer", "Kernelized", "text", "kernelized"),
        ("nystromformer", "Linformer", "text", "linformer:rank=256"),
        ("nystromformer", "Performer", "text", "performer:features=256"),
        ("nystromformer", "Nystromformer", "text", "nystrom"),
        ("skyformer", "Linformer", "text", "linformer"),
        ("skyformer", "Performer", "text", "performer"),
        ("skyformer", "Nystromformer", "text", "nystrom:landmarks=128,conv=0"),
    ],
)
def test_ours_has_the_options_of_the_suites_code(protocol: str, mechanism: str, task: str, spec: str):
    place = {"protocol": protocol, "mechanism": mechanism, "task": task}
    assert {row["attention"] for row in rows_of("*.csv") if place.items() <= row.items()} == {spec}


def test_softmax_differs_most_between_suites(accuracies: list[Row]):
    names = {"lra_paper": "Transformer", "nystromformer": "Standard", "skyformer": "Self-Attention"}
    names["flashattention"] = "Transformer"
    same = [row for row in accuracies if row["mechanism"] == names.get(row["source"])]
    spread = {}
    for task in ("listops", "text", "retrieval", "image", "pathfinder"):
        values = [float(row["value"]) for row in same if row["task"] == task]
        assert len(values) == 4
        spread[task] = round(max(values) - min(values), 1)
    assert spread == {"listops": 2.4, "text": 3.1, "retrieval": 24.1, "image": 4.2, "pathfinder": 8.9}


def test_copied_rows_are_copies(accuracies: list[Row]):
    figures = {(row["source"], row["mechanism"], row["task"]): row["value"] for row in accuracies}
    copies = [("lra_paper", "Linear", "Linear Trans."), ("lra_paper", "Reformer", "Reformer")]
    copies += [("lra_paper", "Performer", "Performer"), ("skyformer", "Skyformer", "Skyformer")]
    for source, theirs, name in copies:
        for task in ("listops", "text", "retrieval", "image", "pathfinder", "average"):
            assert figures[source, theirs, task] == figures["polaformer", name, task]


def test_costs_add_up():
    hours = [row for row in rows_of("skyformer_cost.csv") if row["unit"] == "hours"]
    for _, found in groupby(hours, key=lambda row: row["mechanism"]):
        *tasks, total = found
        assert sum(float(row["value"]) for row in tasks) == pytest.approx(float(total["value"]))
        assert (len(tasks), total["task"]) == (5, "total")
    assert {row["length"] for row in rows_of("lra_paper_cost.csv")} == {"1000", "2000", "3000", "4000"}


def test_blocks_stand_alone(tmp_path: Path):
    blocks = published.blocks(published.read())
    assert len(blocks) == 16
    (pola,) = [block for block in blocks if block.startswith("### polaformer (published, protocol unpublished)")]
    assert "| PolaFormer alpha=3 | pola         |     37.35 |" in pola
    assert "Linear Trans." not in pola  # another protocol: no column in common
    (copied,) = [block for block in blocks if block.startswith("### polaformer (published, protocol google)")]
    assert "- Linear Trans., Reformer, Performer: digit for digit the row of the LRA paper" in copied
    paper, cost = [block for block in blocks if block.startswith("### lra_paper (published, protocol google)")]
    assert "   1,000, steps/s |" in cost
    assert "- Synthesizer on 3,000, steps/s: as printed" in cost
    assert "- Sinkhorn on Average: misprint" in paper
    assert "| Local       | local; local:block=64 " in paper
    assert published.blocks(published.read(tmp_path)) == ["No published tables are installed here.\n"]


def test_published_tasks_have_our_titles():
    """A renamed task must be renamed in tasks.csv, too."""
    known = published.tasks()
    for name in tasks.names():
        if name in known:
            assert known[name].title == tasks.find(name).title
    assert {"average", "total"} <= known.keys() - set(tasks.names())
    assert known["listops"].test == 2_000
    assert known["average"].test is None


def test_every_file_is_the_one_of_its_sum():
    """After an intended change, run `sha256sum *.csv > SHA256SUMS` in results/published."""
    lines = (published.folder() / published.SUMS_FILE).read_text().splitlines()
    assert [line.split()[1] for line in lines] == sorted(path.name for path in published.folder().glob("*.csv"))
    for path in published.folder().glob("*.csv"):
        assert published.lines_of(path)


def test_a_changed_digit_is_noticed(tmp_path: Path):
    for name in ("lra_paper.csv", published.SUMS_FILE):
        (tmp_path / name).write_bytes((published.folder() / name).read_bytes())
    (tmp_path / "users.csv").write_text("source,value\nmine,1\n")
    assert published.lines_of(tmp_path / "users.csv")[0]["value"] == "1", "a file that is not listed is a user's"
    changed = (tmp_path / "lra_paper.csv").read_bytes().replace(b"57.46", b"57.47")
    (tmp_path / "lra_paper.csv").write_bytes(changed)
    with pytest.raises(WorkError, match=r"lra_paper.csv is not the file of SHA256SUMS: get it again"):
        published.lines_of(tmp_path / "lra_paper.csv")


def test_a_users_file_without_a_column_is_named(tmp_path: Path):
    (tmp_path / "users.csv").write_text("source,protocol,mechanism,attention,task,value\nmine,own,A,,text,1\n")
    with pytest.raises(WorkError, match=r"users.csv has a line without 'unit'; the columns are source, protocol"):
        published.read(tmp_path)
