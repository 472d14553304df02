"""The files of LRA's release: found in a folder, or the few that are needed unpacked from `lra_release.gz`.

The archive (a gzipped tar of 8 GB, its folder doubled) is read as a stream. Only regular files whose whole path is one
of the expected ones are written, so neither links nor absolute paths nor `..` can lead anywhere.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from tasks import _store
from tasks._base import DataError

ARCHIVE = "lra_release.gz"
MOST = 16 * 2**30  # bytes a file may have; the largest of the release has 8.5e9
CHUNK = 2**20


def find_files(folder: Path, places: Iterable[str], names: Sequence[str], remedy: str) -> dict[str, Path] | None:
    """Name -> path in the first of the places that has all, or None where none has any.

    Raises DataError, ending in `remedy`, where a place has only some.
    """
    try:
        found = {place: _present(folder / place, names) for place in places}
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from error
    for paths in found.values():
        if len(paths) == len(names):
            return paths
    for place, paths in found.items():
        if paths:
            missing = " and ".join(name for name in names if name not in paths)
            raise DataError(f"{folder / place} lacks {missing}: {remedy}")
    return None


def unpack(
    folder: Path, places: Sequence[str], names: Sequence[str], cache: Path, progress: bool
) -> dict[str, Path] | None:
    """Name -> path of these files of `folder/lra_release.gz`, unpacked once into the cache; None without an archive.

    What a stopped call finished is kept. Raises DataError for an archive that is damaged, hostile or lacks a file.
    """
    archive = folder / ARCHIVE
    try:
        if not archive.is_file():
            return None
        stat = archive.stat()
        stamp = f"{archive.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        target = cache / f"release-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
        target.mkdir(parents=True, exist_ok=True)
        with _store.locked(target) as alone:
            if alone:
                for leftover in target.rglob("*.tmp"):
                    leftover.unlink()
            if not _whole(target, places, names):
                _extract(archive, target, places, names, progress)
    except OSError as error:
        raise DataError(f"cannot unpack {archive} into {cache}: {error.strerror or error}") from error
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} is cut short or damaged ({error}): get it again") from error
    found = _whole(target, places, names)
    if found is None:
        raise DataError(f"{archive} is cut short or another archive: it holds no {' with '.join(names)}")
    return found


def _present(place: Path, names: Iterable[str]) -> dict[str, Path]:
    return {name: place / name for name in names if (place / name).is_file()}


def _whole(folder: Path, places: Iterable[str], names: Sequence[str]) -> dict[str, Path] | None:
    """The files of the first place that has all of them."""
    found = (_present(folder / place, names) for place in places)
    return next((paths for paths in found if len(paths) == len(names)), None)


def _extract(archive: Path, target: Path, places: Sequence[str], names: Sequence[str], progress: bool) -> None:
    """Streams through the archive until one place is whole."""
    wanted = {PurePosixPath(place, name) for place in places for name in names}
    size, disable = archive.stat().st_size, None if progress else True
    with (
        archive.open("rb") as raw,
        tqdm(total=size, desc=f"Reading {ARCHIVE}", unit="B", unit_scale=True, disable=disable, leave=False) as bar,
        tarfile.open(fileobj=raw, mode="r|gz", bufsize=CHUNK) as stream,
    ):
        while (member := stream.next()) is not None:
            vars(stream)["members"].clear()  # millions of images: kept, they would take gigabytes
            bar.update(raw.tell() - bar.n)
            path = PurePosixPath(member.name)
            if path not in wanted or (target / path).is_file():
                continue
            content = stream.extractfile(member) if member.isreg() and not member.issparse() else None
            if content is None or member.size > MOST:
                raise DataError(f"{archive}: {path} is a link, a device or above {MOST >> 30} GiB: refused")
            _write(content, target / path, member.size, raw, bar)
            if _whole(target, places, names):
                return


def _write(content: IO[bytes], path: Path, size: int, raw: IO[bytes], bar: tqdm) -> None:
    """Under a temporary name first, so that a file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            while chunk := content.read(CHUNK):
                file.write(chunk)
                bar.update(raw.tell() - bar.n)
            file.flush()
            os.fsync(file.fileno())
            if file.tell() != size:
                raise EOFError(f"{path.name} ends after {file.tell():,} of {size:,} bytes")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
