"""`--match-params`, which makes parameters equal, and `list --long`, which counts them."""

import pytest
from asking import asked, run_grid

import attention_zoo
from lra.cli import main
from lra.errors import ConfigError
from lra.experiments.match import matched_width
from lra.report.conventions import CONTROLS
from lra.report.groups import grouped, rank
from lra.results.record import Record


def run(out, *attentions, **more) -> dict[str, Record]:
    request = asked(out, attentions=list(attentions), **more)
    return {record.row: record for record in run_grid(request)}


def test_a_matched_row_has_softmaxs_parameters_and_stands_in_its_table(tmp_path):
    runs = run(tmp_path, "softmax", "pola", "elu", match_params=True, overrides=("train.steps=10",))
    assert set(runs) == {"softmax", "pola", "pola (matched)", "elu"}, "elu has softmax's number already"
    goal, matched = (runs[row].parameters["without_embeddings"] for row in ("softmax", "pola (matched)"))
    assert abs(matched / goal - 1) <= 0.01 < abs(runs["pola"].parameters["without_embeddings"] / goal - 1)
    about = runs["pola (matched)"].matched
    assert about["mlp"] == runs["pola (matched)"].config["model"]["mlp"] < about["protocol_mlp"]
    assert about["difference"] == pytest.approx(matched / goal - 1, abs=1e-4)
    assert runs["pola"].matched == {}
    (table,) = grouped(list(runs.values()))
    assert table.rows == ("softmax", "elu", "pola", "pola (matched)")
    assert not table.apart


def test_a_second_run_finds_the_records(tmp_path, capsys):
    for _ in range(2):
        run(tmp_path, "pola", match_params=True, overrides=("train.steps=10",))
    assert "2 of 2 runs have a final record" in capsys.readouterr().err


def test_no_mlp_is_small_enough():
    with pytest.raises(ConfigError, match=r"--match-params: huge has 50,100 .* leaves \+\d"):
        matched_width("huge", 100, 10_000, lambda width: 50_000 + width)
    assert matched_width("near", 100, 10_000, lambda width: 10_500 + 100 * (width - 100)) == (95, 0.0)
    with pytest.raises(ConfigError, match=r"model\.mlp does not change the size of mine: leave it out"):
        matched_width("mine", 100, 10_000, lambda _: 9_000)


def test_rank_of_a_matched_row():
    assert rank("pola")[0] == rank("pola (matched)")[0]


def test_long_list(capsys):
    assert main(["list", "--long"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert "to softmax" in header
    blank = lines.index("")
    assert lines[blank + 1].startswith("parameters: in the standard model")
    found = {line.split()[0]: line for line in lines[:blank]}
    assert set(found) == set(attention_zoo.names())
    assert "76,682" in found["softmax"]
    assert "+11.7 %" in found["pola"]
    assert "adapted: 1-D convolution" in found["pola"]
    assert {name for name, line in found.items() if " control " in f"{line} "} == set(CONTROLS)
    assert all(" adapted: " in found[name] for name in ("fnet", "hedgehog", "local", "taylor"))
    assert "O(N^2)" in found["softmax"]
