"""Tables inside a user's Markdown file."""

from pathlib import Path

import pytest
from records import make, table

from lra.cli import main
from lra.errors import RecordError
from lra.report.excerpt import END, fill, fill_file
from lra.report.groups import grouped
from lra.results.record import Record, save

GROUPS = grouped(table(("softmax", "relu", "pola", "mean"), tasks=2, seeds=3))
TEXT = "before\n<!-- table standard -->\nold\n<!-- end of table -->\nafter\n"


def test_a_table_is_made_anew_and_all_else_stays():
    made = fill(TEXT, GROUPS)
    assert made.startswith("before\n<!-- table standard -->\n\n| Attention ")
    assert made.endswith("<!-- end of table -->\nafter\n")
    assert "old" not in made
    assert "ListOps" in made
    assert "Tokens/s" not in made
    assert "Data: " in made
    assert fill(made, GROUPS) == made
    assert fill("no table", GROUPS) == "no table"


def test_rows_can_be_chosen():
    made = fill(TEXT.replace("standard", "standard: mean softmax"), GROUPS)
    lines = [line.split("|")[1].strip() for line in made.splitlines() if line.startswith("| ")]
    assert lines == ["Attention", "best trivial", "softmax", "mean"]


def test_the_precision_is_named_where_there_are_several():
    records = [make("softmax", 0.4, precision=precision) for precision in ("float32", "bfloat16", "bfloat16")]
    records[2] = make("softmax", 0.5, seed=1, precision="bfloat16")
    groups, text = grouped(records), TEXT.replace("standard", "quick")
    with pytest.raises(RecordError, match="quick has records in bfloat16 and float32: <!-- table quick bfloat16 -->"):
        fill(text, groups)
    assert "40.0 (1)" in fill(text.replace("quick", "quick float32"), groups)
    assert "45.0 ± 7.1 (2)" in fill(text.replace("quick", "quick bfloat16: softmax"), groups)
    with pytest.raises(RecordError, match="no table of protocol quick in bfloat16; there is float32"):
        fill(text.replace("quick", "quick bfloat16"), grouped(records[:1]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace("standard", "standrd"), "no table of protocol .standrd., did you mean .standard."),
        (
            TEXT.replace("standard", "standard: sofmax"),
            "no row .sofmax. in Protocol standard, float32, did you mean 'softmax'",
        ),
        (TEXT.replace("<!-- end of table -->", ""), "has no <!-- end of table --> after it"),
        (TEXT.replace("<!-- end of table -->", "prose") + TEXT, "has no <!-- end of table --> after it"),
    ],
)
def test_what_the_records_do_not_have_is_said(text: str, message: str):
    with pytest.raises(RecordError, match=message):
        fill(text, GROUPS)


@pytest.mark.usefixtures("undrawn")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save(make("softmax", 0.4), tmp_path)
    page = tmp_path / "page.md"
    page.write_text(TEXT.replace("standard", "quick"), encoding="utf-8")
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "out"), "--into", str(page)]) == 0
    assert "| softmax " in page.read_text(encoding="utf-8")
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "out"), "--into", str(tmp_path / "none.md")]) == 2
    assert "none.md, the Markdown file that --into names" in capsys.readouterr().err
    page.write_text("# No table\n", encoding="utf-8")
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "out"), "--into", str(page)]) == 2
    assert "has no place for a table: write <!-- table PROTOCOL -->" in capsys.readouterr().err


def filled(text: str, path: Path, records: list[Record]) -> str:
    path.write_bytes(text.encode())
    return fill_file(path, grouped(records)).content.decode()


SWEPT = "tiny[train.steps=2,model.kernels=[1,2],swept: train.lr of 2]"
TWO = [make("elu", 0.4, protocol=SWEPT), make("elu:conv=3 (matched)", 0.3, protocol=SWEPT)]


def test_protocols_and_rows_are_named_as_tables_name_them(tmp_path: Path):
    """Names of sweeps contain spaces and a colon, those of rows of --match-params a space."""
    for rows in ("", ": elu:conv=3 (matched)", ": elu:conv=3 (matched) elu"):
        made = filled(f"<!-- table {SWEPT}{rows} -->\n{END}\n", tmp_path / "page.md", TWO)
        assert "elu:conv=3 (matched)" in made
        assert ("| elu  " in made) == ("(matched)" not in rows or rows.endswith(" elu"))


@pytest.mark.parametrize(
    "odd", ["<!--table quick -->", "<!-- table quick : elu -->", "<!-- table quick -->  ", "<!-- table"]
)
def test_a_comment_that_is_not_understood_is_named(odd: str, tmp_path: Path):
    """The file also has a comment that is understood."""
    with pytest.raises(RecordError, match="is not understood"):
        filled(f"<!-- table quick -->\n{END}\n\n{odd}\n{END}\n", tmp_path / "page.md", [make("elu", 0.4)])


def test_other_comments_and_listings_stay(tmp_path: Path):
    text = "<!-- table of contents -->\n<!-- table-of-contents -->\nwrite `<!-- table quick -->` there:\n\n"
    text += f"```\n<!-- table quick -->\n{END}\n<!-- table-->\n```\n"
    made = filled(f"{text}<!-- table quick -->\n{END}\n", tmp_path / "page.md", [make("elu", 0.4)])
    assert made.startswith(text)
    assert made.count("| elu ") == 1


@pytest.mark.usefixtures("undrawn")
def test_line_ends_and_links_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save(make("elu", 0.4), tmp_path)
    (tmp_path / "real.md").write_bytes(f"# Paper\r\n<!-- table quick -->\r\n{END}\r\n".encode())
    (tmp_path / "link.md").symlink_to("real.md")
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "out"), "--into", str(tmp_path / "link.md")]) == 0
    assert f"wrote {tmp_path / 'link.md'}: 1 table\n" in capsys.readouterr().out
    assert (tmp_path / "link.md").is_symlink()
    content = (tmp_path / "real.md").read_bytes()
    assert b"| elu " in content
    assert content.count(b"\n") == content.count(b"\r\n")


def test_variants_that_a_table_leaves_out_are_named(tmp_path: Path):
    records = [make("elu", 0.4), make("mean", 0.3), make("elu", 0.5, config={"train": {"lr": 5e-3}})]
    (tmp_path / "page.md").write_text(f"<!-- table quick -->\n{END}\n")
    (note,) = fill_file(tmp_path / "page.md", grouped(records)).notes
    assert note == "the table of quick shows the variant with most runs; left out: train.lr=0.005"
