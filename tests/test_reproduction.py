"""Published accuracies beside those of this suite: verdicts, and that protocols are not mixed."""

from collections import defaultdict
from typing import Any

import pytest
from records import make

from attention_zoo import find
from lra.experiments.plan import Request, plan
from lra.report.groups import grouped
from lra.report.tables import published, reproduction

FIGURE = {"source": "someone", "protocol": "skyformer", "mechanism": "Self-Attention", "attention": "softmax"}
FIGURE |= {"task": "listops", "value": "38.37", "unit": "percent", "note": "", "citation": "", "commit_or_doi": ""}
SIZES = {"label": "generated", "hash": "01", "rows": {"train": 96_000, "validation": 2_000, "test": 2_000}}


def verdicts(*accuracies: float, figure: dict[str, str] | None = None, **changes: Any) -> list[dict[str, Any]]:
    fields = {"protocol": "skyformer", "test_rows": 2_000, "data": SIZES} | changes
    runs = [make("softmax", accuracy, seed=seed, **fields) for seed, accuracy in enumerate(accuracies)]
    return reproduction.beside(grouped(runs), [FIGURE | (figure or {})])


def verdict(*accuracies: float, **changes: Any) -> str:
    (found,) = verdicts(*accuracies, **changes)
    return found["verdict"]


def test_the_noise_by_hand():
    (found,) = verdicts(0.38, 0.39, 0.40)
    assert (found["n"], found["mean"], found["difference"]) == (3, pytest.approx(39.0), pytest.approx(0.63))
    splits = 1.959964**2 * (0.39 * 0.61 + 0.3837 * 0.6163) / 2000
    seeds = (4.302653 * 0.01) ** 2 * (1 / 3 + 1 / 3)  # three published seeds, too
    assert found["noise_95"] == pytest.approx(100 * (splits + seeds) ** 0.5, rel=1e-6)


def test_verdicts():
    assert verdict(0.38, 0.39, 0.40) == "inside noise"
    assert verdict(0.45, 0.451, 0.452) == "outside noise"
    assert verdict(0.45, 0.451) == "too few seeds"
    assert verdict(0.39) == "inside noise"
    assert verdict(0.39, data=SIZES | {"rows": {"train": 10_000, "test": 2_000}}) == "sizes differ"
    (found,) = reproduction.beside([], [FIGURE])
    assert found["verdict"] == "not run"
    assert found["command"] == "python run_lra.py --attn softmax --task listops --protocol skyformer --seed 0 1 2"
    assert verdict(0.39, figure={"attention": ""}) == "no such attention here"
    assert verdict(0.39, figure={"protocol": "unpublished"}) == "protocol unpublished"


@pytest.mark.parametrize("protocol", ["standard", "google", "skyformer[train.lr=0.001]"])
def test_another_protocol_is_not_compared(protocol: str):
    assert verdict(0.38, 0.39, 0.40, protocol=protocol) == "not run"


def test_each_precision_is_a_line_of_its_own():
    runs = [make("softmax", 0.38, protocol="skyformer", precision=p, data=SIZES) for p in ("float32", "bfloat16")]
    found = reproduction.beside(grouped(runs), [FIGURE])
    assert sorted(row["precision"] for row in found) == ["bfloat16", "float32"]


def test_two_sources_of_a_mechanism_are_two_lines():
    """Their rows are then named like `softmax@ab12`."""
    fields = {"protocol": "skyformer", "test_rows": 2_000, "data": SIZES}
    other = {"name": "softmax", "title": "softmax", "options": {}, "source_hash": "ffff", "builtin": True}
    runs = [make("softmax", 0.38, **fields), make("softmax", 0.39, seed=1, attention=other, **fields)]
    found = reproduction.beside(grouped(runs), [FIGURE])
    assert [(row["n"], row["mean"]) for row in found] == [(1, pytest.approx(38.0)), (1, pytest.approx(39.0))]


def test_every_command_can_be_planned():
    """The matrix of an empty report: 'not run', with a command that names what exists; copies are not run twice."""
    rows = reproduction.beside([], published.read())
    commands = {row["command"] for row in rows} - {""}
    assert len(commands) >= 20
    specs = defaultdict(list)
    for _, _, _, spec, _, task, _, protocol, *_ in map(str.split, commands):
        specs[task, protocol].append(spec)
    for (task, protocol), attentions in specs.items():
        request = Request(attentions=attentions, tasks=[task], seeds=[0], protocol=protocol)
        assert len(plan(request)) == len(attentions), (task, protocol)
    assert {row["verdict"] for row in rows if row["command"]} == {"not run", "protocol unpublished"}
    assert not any(row["command"] for row in rows if row["copy"])
    for table in reproduction.matrices(rows):
        assert len({line[0] for line in table.body} & {"polaformer"}) == (table.title == "Protocol unpublished")


def test_the_faults_of_the_published_code_are_a_line_of_their_own(monkeypatch: pytest.MonkeyPatch):
    lines = {
        published.FAULTS_FILE: (
            {"source": "someone", "mechanism": "Performer", "attention": "performer:a=1", "what": "faulty"},
        ),
        published.FINDINGS_FILE: (
            {
                "source": "someone",
                "mechanism": "Performer",
                "task": "listops",
                "attention": "performer",
                "finding": "Why.",
            },
            {"source": "someone", "mechanism": "Performer", "task": "text", "attention": "performer", "finding": "No."},
        ),
    }
    whole = published.lines_of
    monkeypatch.setattr(published, "lines_of", lambda path: lines[path.name] if path.name in lines else whole(path))
    runs = [
        make("performer", 0.38, protocol="skyformer", data=SIZES),
        make("performer:a=1.0", 0.2, protocol="skyformer", data=SIZES),
    ]
    rows = reproduction.beside(grouped(runs), [FIGURE | {"mechanism": "Performer", "attention": "performer"}])
    assert [(row["mechanism"], row["mean"], row["finding"]) for row in rows] == [
        ("Performer", pytest.approx(38), "Why."),
        ("Performer, faulty", pytest.approx(20), ""),
    ]
    (table,) = reproduction.matrices(rows)
    assert table.note == "- Performer on ListOps: Why."


def test_what_stands_beside_published_figures_names_what_exists():
    known = {(figure["source"], figure["mechanism"], figure["task"]) for figure in published.read()}
    for line in published.lines_of(published.folder() / published.FAULTS_FILE):
        find(line["attention"])
        assert (line["source"], line["mechanism"], "listops") in known
    for line in published.lines_of(published.folder() / published.FINDINGS_FILE):
        find(line["attention"])
        assert (line["source"], line["mechanism"], line["task"]) in known
        assert line["finding"].endswith(".")
