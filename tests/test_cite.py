"""`cite`: BibTeX for what a report rests on."""

import re
from pathlib import Path

import pytest
from records import make

import attention_zoo
from lra.cli import main
from lra.report.cite import cite, read
from lra.results.record import save

RECORDS = Path(__file__).parent.parent / "results" / "records" / "version-2"


def keys(text: str) -> list[str]:
    return re.findall(r"(?m)^@\w+\{([^,]+),$", text)


def test_entries_are_whole_and_unique():
    entries = read()
    assert len({entry.key for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.text.count("{") == entry.text.count("}"), entry.key
        assert "keywords" not in entry.text
        assert {"title", "author"} <= set(re.findall(r"(?m)^  (\w+) = ", entry.text)), entry.key
        assert entry.key == "lra_suite" or re.search(r"year = \{(19|20)\d\d\}", entry.text), entry.key


def test_every_built_in_mechanism_with_a_paper_on_arxiv_has_an_entry():
    known = {entry.eprint for entry in read()}
    papers = {name: attention_zoo.find(name)[0].paper for name in attention_zoo.names()}
    assert {paper for paper in papers.values() if "arxiv" in paper and paper.rpartition("/")[2] not in known} == set()
    assert papers["pola"] == "https://arxiv.org/abs/2501.15061"


def test_every_task_and_protocol_has_an_entry():
    words = {word for entry in read() for word in entry.keywords}
    for task in (
        "listops",
        "text",
        "retrieval",
        "retrieval_matched",
        "image",
        "pathfinder",
        "pathfinder64",
        "pathx",
        "path256",
    ):
        assert f"task:{task}" in words
    protocols = Path(__file__).parent.parent / "lra" / "protocols"
    assert {f"protocol:{path.stem}" for path in protocols.glob("*.yaml")} <= words


def test_the_backbone_and_the_pretraining_are_cited():
    record = make("elu", 0.5, backbone={"name": "pyramid"}, pretraining={"steps": 9})
    assert {"liu2021swin", "wang2021pvt", "amos2024never"} <= set(keys(cite([record], read())))
    assert not {"liu2021swin", "amos2024never"} & set(keys(cite([make("elu", 0.5)], read())))


def test_the_committed_runs(capsys: pytest.CaptureFixture[str]):
    assert main(["cite", str(RECORDS)]) == 0
    printed = capsys.readouterr().out
    assert keys(printed)[:4] == ["lra_suite", "tay2021lra", "nangia2018listops", "chen2021skyformer"]
    assert {"vaswani2017attention", "han2024agent", "meng2025polaformer"} <= set(keys(printed))
    assert "% relu, elu, elu:conv=5\n@inproceedings{katharopoulos2020transformers," in printed
    assert "maas2011imdb" not in printed
    assert "% polapp\n@misc{polapp," in printed, "its source is a repository"
    assert printed.count("@misc") == 1


def test_a_users_mechanism_gets_an_entry_of_its_own():
    about = {"name": "mine-2", "title": "50 % mine & more", "source_hash": "ab12", "builtin": False}
    elsewhere = about | {"name": "other", "title": "Other", "paper": "https://example.org/paper.pdf"}
    known = about | {"name": "third", "paper": "https://arxiv.org/pdf/2006.16236v3"}
    runs = [make(str(a["name"]), 0.4, attention=a, protocol="skyformer[train.lr=1]") for a in (about, elsewhere, known)]
    printed = cite(runs, read())
    assert "@misc{mine_2,\n  title = {50 \\% mine \\& more},\n  note" in printed
    assert "@misc{other,\n  title = {Other},\n  url = {https://example.org/paper.pdf},\n" in printed
    assert "% third\n@inproceedings{katharopoulos2020transformers," in printed
    assert "% protocol skyformer\n@inproceedings{chen2021skyformer," in printed


def test_every_part_and_every_source_has_an_entry():
    """Every part of a hybrid, and both of two files with one name."""
    hybrid = {"name": "polapp+softmax", "title": "A hybrid", "source_hash": "cd34", "builtin": True}
    hybrid |= {"paper": "https://github.com/someone/polapp, https://arxiv.org/abs/1706.03762"}
    parts = [{"name": "softmax", "builtin": True}, {"name": "mine", "builtin": False}]
    mixed = {"name": "softmax+mine", "paper": "https://arxiv.org/abs/1706.03762", "parts": parts, "builtin": False}
    mine = [{"name": "mine", "title": "Mine", "source_hash": digits, "builtin": False} for digits in ("ab12", "ef56")]
    runs = [make(a["name"], 0.4, attention=a) for a in (hybrid, mixed | {"source_hash": "9999"}, *mine)]
    printed = cite(runs, read())
    assert "url = {https://github.com/someone/polapp}" in printed
    theirs = [about | {"name": name, "paper": "https://example.org/p"} for about in mine for name in ("one", "two")]
    both = cite([make(a["name"], 0.4, attention=a) for a in theirs], read())
    assert len(re.findall(r"@misc\{(?:one|two)\w*,", both)) == 4, "each of two sources of two names"
    again = [make("softmax", 0.4, attention=mixed | {"parts": [], "builtin": True, "source_hash": s}) for s in "ab"]
    assert "% softmax\n@inproceedings{vaswani2017attention," in cite(again, read())
    assert "% polapp+softmax, softmax+mine\n@inproceedings{vaswani2017attention," in printed
    made = re.findall(r"@misc\{(\w+),", printed)
    assert len(made) == len(set(made)) == 4, "the repository, and three files called mine"


def test_unreadable_records_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cite", str(tmp_path)]) == 2
    assert "no records in" in capsys.readouterr().err
    save(make("softmax", 0.4), tmp_path)
    (tmp_path / "broken.json").write_text("{")
    assert main(["cite", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "@inproceedings{nangia2018listops," in captured.out
    assert captured.err.startswith("skipped: ")


def test_a_users_part_of_a_hybrid_is_cited_as_by_itself():
    """The part is cited once, by its title and source, or by its paper if that is known."""
    mine = {"name": "mine", "title": "Mine", "builtin": False, "source_hash": "ab12", "paper": ""}
    paper = mine | {"name": "other", "source_hash": "cd34", "paper": "https://arxiv.org/abs/2501.15061"}
    both = {"name": "elu+mine", "title": "ELU + Mine", "builtin": False, "source_hash": "ffff", "paper": paper["paper"]}
    hybrid = both | {"parts": [{"name": "elu", "builtin": True}, mine, paper]}
    text = cite([make("mine", 0.4, attention=mine), make("elu+mine", 0.4, attention=hybrid)], read())
    assert text.count("@misc") == text.count("source ab12") == 1
    assert "title = {Mine}" in text
    assert "% elu+mine\n@inproceedings{meng2025polaformer" in text
