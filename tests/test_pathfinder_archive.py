"""Pathfinder read from lra_release.gz: the same data as from its folders, and no other file of the archive."""

import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from test_pathfinder_files import REST, SETTINGS, TASK, write

import tasks
from tasks import DataError
from tasks.pathfinder import files as _pathfinder_files

HARD = "pathfinder32/curv_contour_length_14"


def pack(archive, folder, root="lra_release/lra_release", extra=()):
    """Packs a folder as a gzipped tar; extra: name -> content, or the type of a member that is no file."""
    archive.parent.mkdir(exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in extra:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = (
                (b"0", "") if isinstance(content, bytes) else (content.encode(), "/etc/hosts")
            )
            member.size = len(content) if isinstance(content, bytes) else 0
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
        tar.add(folder, root)


@pytest.fixture
def folder(tmp_path):
    """Two difficulties with 32 pixels, and one with 64."""
    write(tmp_path / "files" / HARD)
    write(tmp_path / "files/pathfinder32/curv_baseline")
    write(tmp_path / "files/pathfinder64/curv_contour_length_14", size=64)
    return tmp_path / "files"


def prepare(tmp_path, **change):
    return TASK.prepare(replace(SETTINGS, **change), tmp_path / "data", tmp_path / "cache", False)


def left(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".png", ".tmp")]


@pytest.mark.parametrize("root", ["", "lra_release", "./lra_release/lra_release"])
def test_the_same_data_as_from_the_folders(tmp_path, folder, root, monkeypatch):
    monkeypatch.setattr("tasks.pathfinder.task.RELEASED", 23)
    pack(tmp_path / "data/lra_release.gz", folder, root or ".")
    plain = TASK.prepare(SETTINGS, folder, tmp_path / "cache", False)
    data = prepare(tmp_path)
    assert (data.hash, data.about["rows"]) == (plain.hash, plain.about["rows"])
    assert (data.about["label"], data.about["source"]) == ("official", "lra_release.gz")
    assert data.folder != plain.folder
    assert left(tmp_path) == []
    assert prepare(tmp_path).folder == data.folder
    s4 = prepare(tmp_path, split_rule="s4")
    assert (s4.hash != data.hash, s4.about["split_rule"]) == (True, "s4")


def test_only_the_wanted_size_and_difficulty_is_written(tmp_path, folder):
    extra = [(f"{HARD}/imgs/2/notes.txt", b"x"), (f"{HARD}/more/imgs/2/sample_0.png", b"x"), ("aan/a.tsv", b"x")]
    pack(tmp_path / "data/lra_release.gz", folder, extra=extra)
    place = _pathfinder_files.unpack(tmp_path / "data/lra_release.gz", 32, "hard", tmp_path / "out", False)
    assert place == tmp_path / "out/lra_release/lra_release" / HARD
    written = sorted(path.relative_to(place) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert written == sorted(path.relative_to(folder / HARD) for path in (folder / HARD).rglob("*") if path.is_file())


def test_of_two_copies_the_one_nearer_to_the_root_counts(tmp_path, folder):
    other = tmp_path / "other" / HARD
    images, _ = write(other, batches=(6, 14))
    extra = [(f"lra_release/{HARD}/{path.relative_to(other).as_posix()}", path.read_bytes())
             for path in sorted(other.rglob("*")) if path.is_file()]  # fmt: skip
    pack(tmp_path / "data/lra_release.gz", folder, extra=extra)
    data = prepare(tmp_path)
    assert sum(data.about["rows"].values()) == len(images) == 20
    assert (data.train.values == images[:16]).all()


def test_the_empty_file_is_named_and_skipped(tmp_path, folder):
    line = f"imgs/0 sample_172.png 172 1 {REST}\n"
    (folder / "pathfinder32/curv_baseline/metadata/0.npy").write_text(line)
    (folder / "pathfinder32/curv_baseline/imgs/0").mkdir()
    (folder / "pathfinder32/curv_baseline/imgs/0/sample_172.png").write_bytes(b"")
    pack(tmp_path / "data/lra_release.gz", folder)
    data = prepare(tmp_path, difficulty="easy")
    assert data.about["skipped"] == ["pathfinder32/curv_baseline/imgs/0/sample_172.png: empty in the release"]
    assert sum(data.about["rows"].values()) == 23


@pytest.mark.parametrize("kind", ["SYMTYPE", "LNKTYPE", "CHRTYPE", "FIFOTYPE"])
def test_links_and_devices_are_refused(tmp_path, folder, kind):
    extra = [(f"{HARD}/imgs/9/sample_0.png", getattr(tarfile, kind).decode())]
    pack(tmp_path / "data/lra_release.gz", folder, extra=extra)
    with pytest.raises(DataError, match=r"sample_0\.png is a link, a device or above 16,777,216 bytes: refused"):
        prepare(tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [f"../{HARD}/imgs/2/sample_99.png", f"{HARD}/imgs/../../../x/sample_99.png", f"/tmp/{HARD}/imgs/2/sample_99.png",
     f"{HARD}/imgs/2/../sample_99.png", f"{HARD}/imgs/٢/sample_99.png"],
)  # fmt: skip
def test_strange_paths_lead_nowhere(tmp_path, folder, name):
    pack(tmp_path / "data/lra_release.gz", folder, extra=[(name, b"evil")])
    assert sum(prepare(tmp_path).about["rows"].values()) == 23
    assert not list(tmp_path.rglob("sample_99.png"))


def test_bombs_are_refused(tmp_path, folder, monkeypatch):
    archive = tmp_path / "data/lra_release.gz"
    pack(archive, folder, extra=[(f"{HARD}/imgs/9/sample_0.png", bytes(_pathfinder_files.LARGEST + 1))])
    with pytest.raises(DataError, match="above 16,777,216 bytes: refused"):
        prepare(tmp_path)
    pack(archive, folder)
    with monkeypatch.context() as patch:
        patch.setattr(_pathfinder_files, "MOST", 9000)
        with pytest.raises(DataError, match="curv_contour_length_14 holds more than 9,000 bytes: refused"):
            prepare(tmp_path)
    with tarfile.open(archive, "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 2**21}) as tar:
        tar.add(folder, "")
    with pytest.raises(DataError, match=r"damaged \(a header of 2,\d*,\d* bytes\)"):
        prepare(tmp_path)
    assert left(tmp_path) == []


def test_a_damaged_or_other_archive(tmp_path, folder):
    archive = tmp_path / "data/lra_release.gz"
    pack(archive, folder)
    whole = archive.read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>" * 300, b""):
        archive.write_bytes(content)
        with pytest.raises(DataError, match="cut short") as caught:
            prepare(tmp_path)
        assert "\n" not in str(caught.value)
    archive.write_bytes(whole)
    with pytest.raises(DataError, match=r"another archive: it holds no pathfinder32/curv_contour_length_9"):
        prepare(tmp_path, difficulty="intermediate")
    (folder / HARD / "imgs/10/sample_3.png").write_bytes(b"")
    pack(archive, folder)
    with pytest.raises(DataError, match=r"data/lra_release\.gz/.*/imgs/10/sample_3\.png is empty") as caught:
        prepare(tmp_path)
    assert ".tmp" not in str(caught.value)
    assert left(tmp_path) == []


def test_a_stop_on_the_way_leaves_nothing(tmp_path, folder, monkeypatch):
    pack(tmp_path / "data/lra_release.gz", folder)

    def stop(*_):
        assert list((tmp_path / "cache").rglob("*.png"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_pathfinder_files, "read_metadata", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path)
    assert left(tmp_path) == []
    assert prepare(tmp_path).hash == TASK.prepare(SETTINGS, folder, tmp_path / "other", False).hash


def test_path_x_is_stored_when_it_is_released(tmp_path):
    images, _ = write(tmp_path / "files/pathfinder128/curv_contour_length_14", size=128)
    pack(tmp_path / "data/lra_release.gz", tmp_path / "files")
    task = tasks.find("pathx")
    data = task.prepare(task.settings(), tmp_path / "data", tmp_path / "cache", False)
    assert isinstance(data.train.values, np.memmap)
    assert (data.train.values == images[:19]).all()
