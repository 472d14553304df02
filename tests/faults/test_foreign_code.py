"""Records from elsewhere name files and hold code: neither is run unless the user has run it before, or allows it."""

import json
from pathlib import Path
from typing import Any

import pytest
from records import make

import lra
from lra.cli import main
from lra.experiments import trust
from lra.experiments.load import backbone_of, config_of, find_attention, task_of
from lra.results.record import Record, load, save

ROOT = Path(__file__).parents[2]
COMMITTED = next((ROOT / "results" / "records").glob("listops-elu-quick-s0-*.json"))


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A Python file that creates the file `ran` when it is imported."""
    file = tmp_path / "evil.py"
    file.write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    return file


def foreign(file: Path, *, text: bool) -> dict[str, dict[str, Any]]:
    """Kind of entry -> fields by which a record names the file. text: the record also holds the file's text."""
    source = {"source": file.read_text() if text else "pass\n", "path": str(file), "source_hash": "0" * 12}
    about = {"name": "evil", "builtin": False, "address": f"{file}:evil", **source}
    return {
        "attention": about,
        "an attention of ours": about | {"builtin": True},
        "a part": {"name": "evil", "builtin": False, "source_hash": "0", "parts": [about]},
        "a part of ours": about | {"parts": [{"name": str(file), "builtin": True}]},
        "backbone": about,
        "a backbone of ours": about | {"builtin": True, "name": str(file)},
        "data": {"file": str(file), "code": source["source"]},
    }


KINDS = list(foreign(COMMITTED, text=False))


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_a_record_names_is_imported(kind: str, text: bool, evil: Path, tmp_path: Path):
    fields, about = json.loads(COMMITTED.read_text()), foreign(evil, text=text)[kind]
    field = next((name for name in ("backbone", "data") if name in kind), "attention")
    if field == "data":
        fields["task"], about = "evil", fields["data"] | about
    made = Record(**fields | {field: about})
    with pytest.raises(ValueError, match=r"^[^\n]*$"):
        find_attention(made.attention) if field == "attention" else config_of(made)
    assert not (tmp_path / "ran").exists()


def test_a_configuration_names_no_file(evil: Path, tmp_path: Path):
    record = json.loads(COMMITTED.read_text())
    record["config"]["model"]["backbone"] = str(evil)
    with pytest.raises(ValueError, match="names two backbones"):
        config_of(Record(**record))
    assert not (tmp_path / "ran").exists()


def test_inspect_and_load_say_it_in_one_line(evil: Path, tmp_path: Path, capsys):
    made = make("elu", 0.5, task="evil", data={"file": str(evil), "code": evil.read_text(), "hash": "0"})
    path = save(made, tmp_path)
    with pytest.raises(ValueError, match="has never run on this machine"):
        lra.load(path)
    assert main(["inspect", "--run", str(path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "ran").exists()


def test_what_has_run_here_runs_again(evil: Path, tmp_path: Path, capsys):
    """The file is named on stderr, imported, and found to hold no task."""
    trust.note(evil.read_text(), {})
    made = make("elu", 0.5, task="evil", data={"file": str(evil), "code": evil.read_text(), "hash": "0"})
    with pytest.raises(ValueError, match="holds no task"):
        task_of(made)
    assert f"{evil} is imported: it has the text of the record's task" in capsys.readouterr().err
    assert (tmp_path / "ran").exists()


def test_committed_records_name_nothing_of_users():
    for path in sorted((ROOT / "results" / "records").glob("*.json"))[::4]:
        record = load(path)
        assert find_attention(record.attention).name == record.attention["name"]
        assert backbone_of(record).name == record.config["model"].get("backbone", "flat")
