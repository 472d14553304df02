"""lra_release.gz: single files from a tiny archive; links, devices, strange paths, damage, interruption."""

import gzip
import io
import tarfile

import pytest
from listops_text import SHORT, write_released

import tasks
from tasks import DataError, _release

PLACES, NAMES = ("", "tsv", "lra/tsv", "lra/lra/tsv"), ["a.tsv", "b.tsv"]


def archive(folder, members):
    """members: (name, content), where the content may be a string, the type of a member that is no file."""
    with tarfile.open(folder / "lra_release.gz", "w:gz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content.encode(), "/etc/passwd"
                tar.addfile(member)


def unpack(folder):
    found = _release.unpack(folder, PLACES, NAMES, folder / "cache", False)
    assert found
    return found


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


def test_only_the_needed_files_of_the_first_whole_place(tmp_path):
    archive(
        tmp_path,
        [
            ("lra/tsv/a.tsv", b"lonely"),
            ("lra/images/1.png", b"x" * 9000),
            ("./lra/lra/tsv/b.tsv", b"second"),
            ("lra/lra/tsv/a.tsv", b"first"),
            ("lra/tsv/b.tsv", b"never reached"),
        ],
    )
    found = unpack(tmp_path)
    assert {name: path.read_bytes() for name, path in found.items()} == {"a.tsv": b"first", "b.tsv": b"second"}
    assert files_in(tmp_path / "cache") == ["a.tsv", "a.tsv", "b.tsv"]
    before = [path.stat().st_mtime_ns for path in found.values()]
    assert unpack(tmp_path) == found
    assert [path.stat().st_mtime_ns for path in found.values()] == before


def test_no_archive(tmp_path):
    assert _release.unpack(tmp_path, PLACES, NAMES, tmp_path / "cache", False) is None


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "DIRTYPE", "FIFOTYPE"])
def test_a_file_that_is_none_is_refused(tmp_path, kind):
    archive(tmp_path, [("tsv/a.tsv", getattr(tarfile, kind).decode()), ("tsv/b.tsv", b"b")])
    with pytest.raises(DataError, match=r"tsv/a\.tsv is a link, a device or above 17,179,869,184 bytes: refused"):
        unpack(tmp_path)
    assert files_in(tmp_path / "cache") == []


def test_a_file_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_release, "MOST", 3)
    archive(tmp_path, [("tsv/a.tsv", b"four")])
    with pytest.raises(DataError, match="refused"):
        unpack(tmp_path)


@pytest.mark.parametrize("name", ["../tsv/a.tsv", "tsv/../tsv/a.tsv", "other/../../tsv/a.tsv", "tsv/a.tsv/../../../x"])
def test_strange_paths_lead_nowhere(tmp_path, name):
    (tmp_path / "data").mkdir()
    archive(tmp_path / "data", [(name, b"evil"), (f"/{tmp_path}/tsv/a.tsv", b"evil"), ("tsv/b.tsv", b"b")])
    with pytest.raises(DataError, match=r"holds no a\.tsv with b\.tsv"):
        unpack(tmp_path / "data")
    assert files_in(tmp_path) == ["b.tsv", "lra_release.gz"]


def test_a_directory_turned_into_a_link_is_not_followed(tmp_path):
    archive(tmp_path, [("tsv", tarfile.SYMTYPE.decode()), ("tsv/a.tsv", b"a"), ("tsv/b.tsv", b"b")])
    assert all(not path.parent.is_symlink() for path in unpack(tmp_path).values())


@pytest.mark.parametrize("damage", ["cut", "no gzip", "flipped", "empty"])
def test_damaged_archive(tmp_path, damage):
    content = bytes(range(256)) * 8000
    archive(tmp_path, [("tsv/a.tsv", b"a"), ("tsv/b.tsv", content)])
    path = tmp_path / "lra_release.gz"
    whole = path.read_bytes()
    flipped = gzip.compress(gzip.decompress(whole)[:1536] + b"\x01" * 512)
    path.write_bytes(
        {"cut": whole[: len(whole) // 2], "no gzip": b"<html>" * 300, "flipped": flipped, "empty": b""}[damage]
    )
    with pytest.raises(DataError, match="cut short") as caught:
        unpack(tmp_path)
    assert "\n" not in str(caught.value)
    assert not set(files_in(tmp_path / "cache")) - {"a.tsv"}
    path.write_bytes(whole)
    assert unpack(tmp_path)["b.tsv"].read_bytes() == content


def test_a_stopped_call_keeps_what_it_finished(tmp_path, monkeypatch):
    archive(tmp_path, [("tsv/a.tsv", b"a"), ("tsv/b.tsv", b"b")])
    write, done = _release._write, []

    def stop(content, path, *rest):
        if done:
            path.with_name(".b.tsv.77.tmp").write_text("half")
            raise KeyboardInterrupt
        done.append(write(content, path, *rest))

    with monkeypatch.context() as patch:
        patch.setattr(_release, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            unpack(tmp_path)
    found = unpack(tmp_path)
    assert found["b.tsv"].read_bytes() == b"b"
    assert files_in(tmp_path / "cache") == ["a.tsv", "b.tsv"]


def test_listops_out_of_the_archive(tmp_path, monkeypatch):
    task = tasks.find("listops")
    short = task.prepare(SHORT, None, tmp_path / "cache", False)
    write_released(tmp_path / "files", short)
    (tmp_path / "data").mkdir()
    members = [(f"lra_release/lra_release/listops-1000/{path.name}", path.read_bytes())
               for path in sorted((tmp_path / "files").iterdir())]  # fmt: skip
    archive(tmp_path / "data", members)
    monkeypatch.setenv("LRA_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("tasks.listops.task.ROWS", short.about["rows"])
    data = task.prepare(SHORT, None, tmp_path / "cache", False)
    assert (data.about["label"], data.hash) == ("official", short.hash)
