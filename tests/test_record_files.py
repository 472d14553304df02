"""Records are checked against the annotations of their dataclass; files are written whole; a lock has one holder."""

import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from records import bench, make

import lra
from lra.errors import BusyError, RecordError, WorkError
from lra.results import bench_record, record
from lra.results.files import write_all, write_atomically
from lra.results.locks import locked
from lra.results.reading import fits
from tasks._files import whole

WRONG = (None, True, 5, 0.5, "x", [5], ["x"], [{"a": "x"}], {"a": {"b": "x"}}, {"a": [1]}, {"a": None})
KINDS = {"record": (record, make("softmax", 0.4)), "bench": (bench_record, bench("softmax", 256))}
FIELDS = [(kind, field.name) for kind, (_, made) in KINDS.items() for field in dataclasses.fields(made)]


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_a_field_of_the_wrong_type_is_named(kind: str, field: str, tmp_path: Path):
    """Every field of both classes, also a future one, refuses values that its annotation excludes."""
    module, made = KINDS[kind]
    annotation = typing.get_type_hints(type(made))[field]
    refused = [value for value in WRONG if not fits(value, annotation)]
    assert refused, "no value of these is wrong for it"
    for value in refused if field != "schema_version" else ():
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(dataclasses.asdict(made) | {field: value}))
        with pytest.raises(RecordError, match=rf"changed.json is not .*: bad {field}$"):
            module.load(path)


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, float, True),
        (1.0, int, False),
        (True, int, False),
        (True, bool, True),
        (None, float | None, True),
        (None, float, False),
        ({"a": 1}, dict[str, float], True),
        ({"a": "1"}, dict[str, float], False),
        ({"a": {"b": 0.5}}, dict[str, dict[str, float]], True),
        ([{"step": 1, "x": float("nan")}], list[dict[str, float]], True),
        ([1, "2"], list[float], False),
        ({"a": [None, "x", 3]}, dict[str, Any], True),
    ],
)
def test_what_fits_an_annotation(value: Any, annotation: Any, expected: bool):
    assert fits(value, annotation) is expected


def test_what_is_of_the_right_type_and_still_wrong(tmp_path: Path):
    path = tmp_path / "record.json"
    for kind, change in (("record", {"status": "x"}), ("record", {"validation_accuracy": 2}), ("bench", {"kind": "x"})):
        module, made = KINDS[kind]
        path.write_text(json.dumps(dataclasses.asdict(made) | change))
        with pytest.raises(RecordError, match=f"bad {next(iter(change))}"):
            module.load(path)
    for text, words in (
        ('{"schema_version": 99}', "has schema 99"),
        ("[]", "is not a record"),
        ("{", "is not a record"),
    ):
        path.write_text(text)
        with pytest.raises(RecordError, match=words):
            record.load(path)


def test_files_are_written_whole_or_one_line_says_why(tmp_path: Path):
    paths = write_all({"a.txt": b"1", "deep/b.txt": b"2"}, tmp_path / "out", ("a.txt", ""))
    assert [path.read_bytes() for path in paths] == [b"1", b"2"]
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["a.txt", "b.txt", "deep"]
    with pytest.raises(WorkError, match=r"cannot write to the output folder .*: Not a directory; give another --out"):
        write_all({"c.txt": b"3"}, paths[0] / "below", ("c.txt", ""))


def write_whole(path: Path, content: bytes) -> None:
    with whole(path) as temporary:
        temporary.write_bytes(content)


@pytest.mark.parametrize("write", [write_atomically, write_whole])
def test_content_is_on_the_disk_before_it_replaces_a_file(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Otherwise a machine that stops could leave an empty file in place of the old one."""
    path, seen = tmp_path / "file", []
    path.write_bytes(b"old")

    def fsync(number: int) -> None:
        file = os.fstat(number)
        seen.append((file.st_ino, file.st_size, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    write(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert seen == [(path.stat().st_ino, len(b"newer"), b"old")]


def _hold(path: Path, held: Any, leave: Any) -> None:
    with locked(path):
        held.set()
        leave.wait(60)


def test_a_lock_has_one_holder(tmp_path: Path):
    start = multiprocessing.get_context("spawn")
    held, leave = start.Event(), start.Event()
    other = start.Process(target=_hold, args=(tmp_path / "work" / "lock", held, leave))
    other.start()
    try:
        assert held.wait(60)
        with pytest.raises(BusyError, match="another process is working in"), locked(tmp_path / "work" / "lock"):
            pass
    finally:
        leave.set()
        other.join(60)
    with locked(tmp_path / "work" / "lock"):
        pass


def test_records_skips_what_it_cannot_read(tmp_path: Path):
    record.save(make("softmax", 0.4), tmp_path)
    (tmp_path / "broken.json").write_text("{")
    with pytest.warns(UserWarning, match="skipped: .*broken.json is not a record"):
        frame = lra.records(tmp_path)
    assert list(frame["row"]) == ["softmax"]
    with pytest.raises(RecordError, match=r"no records in .*; 1 unreadable, the first: .*broken.json is not a record"):
        lra.records(tmp_path / "broken.json")


@pytest.fixture
def latin(tmp_path: Path) -> Path:
    """A folder whose name is no UTF-8, with the record of a user's file and a broken record."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system wants UTF-8")
    about = {"name": "mine", "title": "Mine", "builtin": False, "path": str(folder / "mine.py"), "source": ""}
    record.save(make("mine", 0.4, attention=about), folder)
    (folder / "broken.json").write_text("{")
    return folder


COMMANDS = """
import sys
from lra.cli import main
folder = sys.argv[1]
print("codes", main(["report", folder, "--out", folder + "/out"]), main(["cite", folder]),
      main(["inspect", "--run", folder, "--out", folder + "/inspect"]))
"""


def test_a_folder_that_is_no_utf8(latin: Path):
    command = [sys.executable, "-c", COMMANDS, str(latin)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=Path(__file__).parent.parent)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err
    assert "codes 1 1 2" in out
    assert "40.0 (1)" in out
    assert err.count("broken.json is not a record") == 3
    for name in ("report.md", "report.html", "runs.csv", "report.json"):
        written = (latin / "out" / name).read_text(encoding="utf-8")
        assert "caf\\udce9" in written.replace("\\\\", "\\"), name
    with pytest.warns(UserWarning, match=r"broken\.json"):
        assert str(lra.records(latin)["path"].tolist()[0]).endswith(".json")


def test_a_folder_is_known_by_what_is_written_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The file that marks the folder is written first, so that an interrupted report does not block the next one."""
    contents = {"a.csv": b"1", "mark.json": b"ours"}

    def full(path: Path, content: bytes) -> None:
        if path.name == "a.csv":
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    with monkeypatch.context() as patch:
        patch.setattr("lra.results.files.write_atomically", full)
        with pytest.raises(WorkError, match="No space left"):
            write_all(contents, tmp_path, ("mark.json", "ours"))
    assert [path.name for path in write_all(contents, tmp_path, ("mark.json", "ours"))] == ["a.csv", "mark.json"]
    (tmp_path / "mark.json").write_text("another's")
    with pytest.raises(WorkError, match="was not written by this command"):
        write_all(contents, tmp_path, ("mark.json", "ours"))
