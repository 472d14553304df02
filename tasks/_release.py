"""The files of LRA's release: found in a folder, or unpacked from `lra_release.gz`, only those that are needed.

The archive (a gzipped tar of 8 GB that holds its folder twice) is read as a stream. Only regular files whose whole path
is an expected one are written, so neither links nor absolute paths nor `..` can lead anywhere; sizes are bounded, also
those of headers, which tarfile reads into memory.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from tasks import _progress
from tasks._data import DataError
from tasks._files import locked, readable, stamps, whole

ARCHIVE = "lra_release.gz"
MOST = 16 * 2**30  # bytes a file may have; the largest of the release has 8.5e9
LONGEST = 2**20  # bytes a header may have: a long name, or a table of attributes
CHUNK = 2**20
RATIO, ROOM = 60, 2**26  # an archive may unpack to RATIO times its size plus ROOM bytes; texts unpack to 4 times


class Bounded(gzip.GzipFile):
    """A gzipped file that refuses to unpack to more than `most` bytes."""

    def __init__(self, file: IO[bytes], most: int):
        super().__init__(fileobj=file, mode="rb")
        self.left = most

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.left -= len(content)
        if self.left < 0:
            raise tarfile.ReadError("it unpacks to many times the size of the release")
        return content


class Header(tarfile.TarInfo):
    """A header that refuses an extension (a long name, a table of attributes) of more than LONGEST bytes."""

    def _proc_member(self, archive: tarfile.TarFile):
        if self.size > LONGEST and not (self.isreg() or self.isdir()):
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # pyright: ignore[reportAttributeAccessIssue]


def find_files(folder: Path, places: Iterable[str], names: Sequence[str], remedy: str) -> dict[str, Path] | None:
    """Name -> path in the first of the places that has all, or None where none has any.

    Raises DataError, ending in `remedy`, where a place has only some.
    """
    with readable(folder):
        present = {place: _present(folder / place, names) for place in places}
    for paths in present.values():
        if len(paths) == len(names):
            return paths
    for place, paths in present.items():
        if paths:
            missing = " and ".join(name for name in names if name not in paths)
            raise DataError(f"{folder / place} lacks {missing}: {remedy}")
    return None


def unpack(
    folder: Path, places: Sequence[str], names: Sequence[str], cache: Path, progress: bool
) -> dict[str, Path] | None:
    """Name -> path of these files of `folder/lra_release.gz`, unpacked once into the cache; None without an archive.

    Files that an interrupted call has finished are kept. Raises DataError for an archive that is damaged or hostile, or
    lacks a file.
    """
    archive = find_archive(folder)
    if archive is None:
        return None
    try:
        target = cache / f"release-{hashlib.sha256(os.fsencode(stamp_of(archive))).hexdigest()[:12]}"
        target.mkdir(parents=True, exist_ok=True)
        with locked(target) as alone:
            if alone:
                for leftover in target.rglob("*.tmp"):
                    leftover.unlink()
            if not _whole(target, places, names):
                with reported_damage(archive):
                    _extract(archive, target, places, names, progress)
    except OSError as error:
        raise DataError(f"cannot unpack {archive} into {cache}: {error.strerror or error}") from error
    paths = _whole(target, places, names)
    if paths is None:
        raise DataError(f"{archive} is cut short or another archive: it holds no {' with '.join(names)}")
    return paths


def _present(place: Path, names: Iterable[str]) -> dict[str, Path]:
    return {name: place / name for name in names if (place / name).is_file()}


def _whole(folder: Path, places: Iterable[str], names: Sequence[str]) -> dict[str, Path] | None:
    """The files of the first place that has all of them, or None."""
    present = (_present(folder / place, names) for place in places)
    return next((paths for paths in present if len(paths) == len(names)), None)


def find_archive(folder: Path) -> Path | None:
    """`folder/lra_release.gz`, or None. Raises DataError."""
    with readable(folder):
        return folder / ARCHIVE if (folder / ARCHIVE).is_file() else None


def stamp_of(archive: Path) -> str:
    """Path, size and time of an archive as a text, which differs once the archive has changed. Raises DataError."""
    return " ".join(map(str, stamps([archive])[0]))


@contextmanager
def reported_damage(archive: Path) -> Iterator[None]:
    """Turns the errors that reading an archive raises in the block into a DataError."""
    try:
        yield
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive} is cut short or damaged ({error}): get it again") from error


def regular_files(
    archive: Path, wanted: Callable[[PurePosixPath], bool], most: int, progress: bool
) -> Iterator[tuple[PurePosixPath, int, IO[bytes]]]:
    """Streams through an archive: path, size and content of each wanted member.

    Read it under `reported_damage`. Raises DataError for a wanted member that is no file or exceeds `most` bytes.
    """
    with (
        archive.open("rb") as raw,
        _progress.reading(raw, f"Reading {ARCHIVE}", (size := archive.stat().st_size), progress) as watched,
        Bounded(cast("IO[bytes]", watched), RATIO * size + ROOM) as unpacked,
        tarfile.open(fileobj=cast("IO[bytes]", unpacked), mode="r|", bufsize=CHUNK, tarinfo=Header) as stream,
    ):
        while (member := stream.next()) is not None:
            vars(stream)["members"].clear()  # tarfile would keep millions of images' headers: gigabytes
            path = PurePosixPath(member.name)
            if not wanted(path):
                continue
            content = stream.extractfile(member) if member.isreg() and not member.issparse() else None
            if content is None or member.size > most:
                raise DataError(f"{archive}: {path} is a link, a device or above {most:,} bytes: refused")
            yield path, member.size, content


def _extract(archive: Path, target: Path, places: Sequence[str], names: Sequence[str], progress: bool) -> None:
    """Streams through the archive until one place is whole."""
    wanted = {PurePosixPath(place, name) for place in places for name in names}

    def missing(path: PurePosixPath) -> bool:
        return path in wanted and not (target / path).is_file()

    for path, size, content in regular_files(archive, missing, MOST, progress):
        _write(content, target / path, size)
        if _whole(target, places, names):
            return


def _write(content: IO[bytes], path: Path, size: int) -> None:
    """Writes a member of an archive. Raises as `copy` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary, temporary.open("wb") as file:
        copy(content, file, path.name, size)


def copy(content: IO[bytes], file: IO[bytes], name: str, size: int) -> None:
    """Copies a member. Raises EOFError if it has another size."""
    shutil.copyfileobj(content, file, CHUNK)
    if file.tell() != size:
        raise EOFError(f"{name} ends after {file.tell():,} of {size:,} bytes")
