"""docs/zoo.md is made from the mechanisms' files and the published tables."""

from pathlib import Path

import pytest

import attention_zoo
from lra.cli import main
from lra.commands import zoo_page

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def page() -> str:
    return zoo_page.page()


def test_byte_for_byte(page: str):
    stale = "docs/zoo.md is not what the files say: run `python run_lra.py list --page docs/zoo.md` and commit"
    assert (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8") == page, stale


def test_every_mechanism_has_its_place(page: str):
    for family in attention_zoo.FAMILIES:
        part = page.partition(f"\n## {zoo_page.title(family)}\n")[2].partition("\n## ")[0]
        found = [line.removeprefix("### ") for line in part.splitlines() if line.startswith("### ")]
        assert found == attention_zoo.names(family)
    for line in page.splitlines():
        assert ".." not in line.replace("](../", ""), f"an empty sentence: {line}"


def test_what_a_paragraph_says(page: str):
    flatten = page.partition("\n### flatten\n")[2].partition("\n### ")[0]
    for words in (
        "**FLatten.** Focused linear attention (FLatten; Han et al. 2023",
        "same length, sharper direction.",
        "It costs O(N); a query reads K x K sums per head.",
        "It cannot see the order of tokens beyond the convolution's taps, nor negative entries of q and k.",
        "Tables call it adapted (1-D convolution; no position table on k); on a grid adapted (no position table on k).",
        "`conv` other than 5: not the authors' convolution of 5 taps",
        "Options: `power=3`, `conv=5`, `key_positions=false`",
    ):
        assert words in flatten
    assert "| Local (`local:block=64` on Image, Pathfinder) | google | 15.82 |" in page
    assert "| Longformer (`longformer:window=512,tokens=0`) | google |" in page
    assert "| Meng et al. 2025, PolaFormer | PolaFormer alpha=3 | unpublished | 37.35 | 73.06 |" in page


def test_fields_that_a_mechanism_leaves_out_leave_no_trace():
    bare = attention_zoo.Entry(name="bare", path=Path("bare.py"), title="Bare", source='"""A thing."""\n')
    assert zoo_page.section(bare, []).startswith("### bare\n\n**Bare.** A thing. Tables call it official. [att")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["list", "--page", str(tmp_path / "zoo.md")]) == 0
    assert (tmp_path / "zoo.md").read_text(encoding="utf-8").startswith("# The zoo\n")
    assert main(["list", "--page", str(tmp_path / "nowhere" / "zoo.md")]) == 2
    assert "give another file to --page" in capsys.readouterr().err


def test_the_readme_counts_the_mechanisms():
    entries = [attention_zoo.find(name)[0] for name in attention_zoo.names()]
    count = sum(not entry.control for entry in entries)
    assert f"[{count} others](docs/zoo.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
