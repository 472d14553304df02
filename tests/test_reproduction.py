"""Published accuracies beside ours: verdicts, and that no protocol is compared with another."""

from typing import Any

import pytest
from records import make

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


def test_options_are_compared_by_value():
    assert reproduction.same("pola:alpha=5.0", "pola:alpha=5")
    assert not reproduction.same("pola:alpha=5.0", "pola")
    assert not reproduction.same("softmax:conv=5", "softmax")


def test_every_command_can_be_planned():
    """The matrix of an empty report: 'not run', with a command that names what exists; copies are not run twice."""
    rows = reproduction.beside([], published.read())
    commands = {row["command"] for row in rows} - {""}
    assert len(commands) >= 20
    for command in commands:
        words = command.split()
        request = Request(attentions=[words[3]], tasks=[words[5]], seeds=[0], protocol=words[7])
        assert len(plan(request)) == 1, command
    assert {row["verdict"] for row in rows if row["command"]} == {"not run"}
    assert not any(row["command"] for row in rows if row["copy"])
    for table in reproduction.matrices(rows):
        assert len({line[0] for line in table.body} & {"polaformer"}) == (table.title == "Protocol unpublished")
