"""Families: every built-in mechanism states one; runs are requested, listed and drawn by family."""

from pathlib import Path

import pytest
import records

import attention_zoo
from lra.cli import main
from lra.experiments.plan import Request, expand_attentions, plan
from lra.experiments.run import describe_attention
from lra.report import conventions
from lra.report.figures import curves, legend, style
from lra.report.groups import base, grouped

MINE = """
from attention_zoo import QKVAttention, register
@register("mine", title="Mine", {about})
class Mine(QKVAttention):
    def attend(self, q, k, v, keep=None):
        return v
"""


def test_families_are_a_partition():
    families = [attention_zoo.names(family) for family in attention_zoo.FAMILIES]
    assert all(families)
    assert sorted(name for family in families for name in family) == attention_zoo.names()
    assert set(attention_zoo.FAMILIES) | {""} == set(conventions.FAMILIES)


def test_a_family_in_place_of_names():
    assert expand_attentions(["pola", "family:control"]) == ["pola", *attention_zoo.names("control")]
    asked = Request(attentions=["family:control", "mean", "family:mixing"], tasks=["listops"], seeds=[0])
    assert [run.row for run in plan(asked)] == [*attention_zoo.names("control"), *attention_zoo.names("mixing")]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("family:linaer", "unknown family 'linaer', did you mean 'linear'?; there are softmax, linear"),
        ("family:", "family: needs the name of a family, as in family:linear; there are softmax"),
    ],
)
def test_an_unknown_family_is_one_line(asked: str, message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["--attn", "softmax", asked, "--task", "listops"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_of_a_hybrid_it_is_what_its_parts_share():
    family = {spec: attention_zoo.find(spec)[0].family for spec in ("relu+pola", "relu+softmax", "mean+identity")}
    assert family == {"relu+pola": "linear", "relu+softmax": "", "mean+identity": "control"}


def test_a_users_file(tmp_path: Path):
    path = tmp_path / "mine.py"
    found = {}
    for place, about in enumerate(("control=True", "family='sparse'", "cost='O(N)'")):
        file = tmp_path / f"mine_{place}.py"
        file.write_text(MINE.format(about=about))
        entry, _ = attention_zoo.find(str(file))
        found[about] = (entry.family, entry.control)
    assert list(found.values()) == [("control", True), ("sparse", False), ("", False)]
    path.write_text(MINE.format(about="control=True, family='linear'"))
    with pytest.raises(attention_zoo.SpecError, match="mine is of the family 'linear', so it is no control"):
        attention_zoo.find(str(path))
    other = tmp_path / "other.py"
    other.write_text(MINE.format(about="family='spars'"))
    with pytest.raises(attention_zoo.SpecError, match="unknown family 'spars', did you mean 'sparse'"):
        attention_zoo.find(str(other))


def test_records_carry_it_and_older_ones_get_it_by_name():
    (run,) = plan(Request(attentions=["agent"], tasks=["listops"], seeds=[0]))
    assert describe_attention(run)["family"] == "low_rank"
    for family, names in conventions.FAMILIES.items():
        assert {attention_zoo.find(name)[0].family for name in names} <= {family}
    known = {name: conventions.family_of({}, name) for name in ("pola*2+relu*1", "softmax+pola", "mine", "mean")}
    assert known == {"pola*2+relu*1": "linear", "softmax+pola": "", "mine": "", "mean": "control"}
    assert conventions.family_of({"control": True}, "mine") == "control"
    assert conventions.family_of({"family": "sparse"}, "pola") == "sparse"


def test_the_list_is_by_family(capsys: pytest.CaptureFixture[str]):
    assert main(["list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    linear, sparse = (next(i for i, words in enumerate(lines) if words[:1] == [f"{f}:"]) for f in ("linear", "sparse"))
    assert [words[0] for words in lines[linear + 1 : linear + 3]] == attention_zoo.names("linear")[:2]
    assert lines[sparse + 1][0] == attention_zoo.names("sparse")[0]


ROWS = tuple(
    f"{family or 'users'}{place}"
    for family, count in (("softmax", 3), ("linear", 14), ("low_rank", 8), ("sparse", 9), ("recurrent", 5), ("", 3))
    for place in range(count)
)


def test_forty_rows_have_lines_of_their_own():
    families = {row: row.rstrip("0123456789").replace("users", "") for row in ROWS} | {"mean": "control"}
    palette = style.palette_of(families)
    dashes = palette.dashes(list(families))
    assert len({(palette.colour(row), dashes[row]) for row in families}) == len(families) > 40
    hues = {
        family: {palette.colour(row) for row in families if families[row] == family} for family in families.values()
    }
    assert sum(map(len, hues.values())) == len(set.union(*hues.values())), "no colour is of two families"
    few = style.palette_of(dict(list(families.items())[:12]))
    assert len(set(few.colours.values())) == 12
    assert not few.by_family


def test_a_hybrid_whose_part_has_options_is_a_name_of_its_own():
    """It takes neither the colour nor the family of that part."""
    families = {"softmax": "softmax", "softmax:conv=5+pola": "", "mean": "control", "mean:conv=5+pola": ""}
    palette = style.palette_of(families)
    assert [palette.family(row) for row in families] == [*families.values()]
    assert len({palette.colour(row) for row in families}) == 4
    assert palette.is_control("mean")
    assert base("pola:alpha=1e+1") == "pola"


def test_the_legend_of_forty_rows_names_each_once_by_family():
    made = []
    for row in ROWS:
        record = records.run(row, points=3)
        record.attention["family"] = row.rstrip("0123456789").replace("users", "")
        made.append(record)
    (group,) = grouped(made)
    palette = style.palette([group])
    found = legend.Legend(group.rows, palette, 6.4, max(map(len, group.rows)), most=5)
    assert [len(rows) for rows in found.blocks.values()] == [3, 14, 8, 9, 5, 3]
    assert found.height < 4
    picture = curves.draw(group, palette)[f"{group.slug}-listops-curves.svg"].decode()
    for row in ROWS:
        assert picture.count(f'id="row {row}"') == 3, "the curve, its sample and its name"
    for family in ("low rank", "other"):
        assert f">{family}</text>" in picture
