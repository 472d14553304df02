"""The `data` command and `--task all`: what is there, what is missing, carried to another machine."""

import io
import tarfile

import pytest

from lra.cli import main


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty cache, no data folder, no network."""
    monkeypatch.setenv("LRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LRA_DATA", raising=False)
    monkeypatch.setattr("tasks._sources.reachable", lambda _: False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda **_: None)
    return tmp_path


def test_all_runs_what_there_is(elsewhere, tiny, capsys):
    out = elsewhere / "runs"
    assert main(["--attn", "elu", "--task", "all", "--protocol", tiny, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "2 of 5 tasks have data; missing: text, retrieval, image" in printed.err
    assert sorted(path.name.split("-")[0] for path in out.glob("*.json")) == ["listops", "pathfinder"]
    assert "Pathfinder" in printed.out
    assert main(["--attn", "elu", "--task", "text", "--protocol", tiny, "--out", str(out)]) == 2
    assert "data prepare --task text --data-dir DIR" in capsys.readouterr().err


def test_prepare_status_and_carry(elsewhere, tiny, monkeypatch, capsys):
    assert main(["data", "status", "--task", "listops"]) == 0
    assert "not prepared; python run_lra.py data prepare --task listops" in capsys.readouterr().out
    archive = elsewhere / "data.tar"
    assert main(["data", "pack", "--task", "listops", "--protocol", tiny, "--file", str(archive)]) == 0
    monkeypatch.setenv("LRA_CACHE", str(elsewhere / "other"))
    (elsewhere / "other").mkdir()
    assert main(["data", "unpack", "--file", str(archive)]) == 0
    capsys.readouterr()
    assert main(["data", "status"]) == 0
    printed = capsys.readouterr().out
    assert "listops: generated (generator v1), 300 / 70 / 90 samples" in printed
    assert "text: not prepared" in printed
    folders = [sorted(path.name for path in (elsewhere / name).glob("listops-*")) for name in ("cache", "other")]
    assert folders[0] == folders[1] != []


@pytest.mark.parametrize("name", ["../evil.npy", "/evil.npy", "listops-0123456789ab/run.py", "notes.txt"])
def test_unpack_refuses_other_archives(elsewhere, name, capsys):
    archive = elsewhere / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    (elsewhere / "cache").mkdir()
    assert main(["data", "unpack", "--file", str(archive)]) == 2
    assert "is no packed data" in capsys.readouterr().err
    assert list((elsewhere / "cache").iterdir()) == []


def test_unpack_refuses_damage(elsewhere, capsys):
    archive = elsewhere / "cut.tar"
    archive.write_bytes(b"no tar at all" * 100)
    (elsewhere / "cache").mkdir()
    assert main(["data", "unpack", "--file", str(archive)]) == 2
    assert "cannot unpack" in capsys.readouterr().err
    assert main(["data", "pack", "--file", str(archive)]) == 2
    assert "data pack needs --task" in capsys.readouterr().err


def test_streamed_tasks_need_no_preparation(elsewhere, capsys):
    assert main(["data", "status", "--task", "pathx"]) == 0
    assert "pathx: generated while it is read" in capsys.readouterr().out
    assert main(["data", "pack", "--task", "pathx", "--file", str(elsewhere / "x.tar")]) == 2
    assert "pathx is made when it is read: there is nothing to pack" in capsys.readouterr().err


def test_ladder(elsewhere, tiny, capsys):
    asked = ["data", "ladder", "--task", "listops", "--protocol", tiny, "--store", str(elsewhere / "ladders")]
    assert main(asked) == 0
    assert "root operator" in capsys.readouterr().out
    assert len(list((elsewhere / "ladders").glob("listops-*.json"))) == 1
