"""Packs prepared data into one tar file, for machines without a network, and unpacks it into a cache."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tasks import _intact, _store
from tasks._data import Data, DataError
from tasks._files import readable, whole
from tasks._release import Header

MEMBER = re.compile(r"[a-z0-9_]+-[0-9a-f]{12}/(manifest\.json|[a-z]+(-[a-z-]+)?\.npy)")


def pack(sets: Sequence[Data], archive: Path) -> None:
    """Writes the cache folders of these data sets, all or nothing. Raises DataError, also if another file is there."""
    if archive.exists() and not _is_packed(archive):
        raise DataError(f"{archive} exists and is not packed data: delete it, or give another --file")
    try:
        with whole(archive) as temporary, tarfile.open(temporary, "w") as tar:
            for data in sets:
                if not data.folder.is_dir():
                    raise DataError(f"{data.about['task']} is generated as it is read, so there is nothing to pack")
                for path in sorted(data.folder.iterdir()):
                    name = f"{data.folder.name}/{path.name}"
                    if MEMBER.fullmatch(name):
                        tar.add(path, name, recursive=False)
    except OSError as error:
        raise DataError(f"cannot write {archive}: {error.strerror or error}") from error


def _is_packed(archive: Path) -> bool:
    """Does the file begin as one that `pack` writes?"""
    try:
        with tarfile.open(archive, "r:", tarinfo=Header) as tar:
            first = tar.next()
    except (OSError, tarfile.TarError):
        return False
    return first is not None and MEMBER.fullmatch(first.name) is not None


def unpack(archive: Path, cache: Path) -> list[str]:
    """Puts the folders of an archive into the cache and returns their names; intact folders in the cache stay.

    The archive may hold only regular files with the names of prepared data, and each array must have the hash in its
    manifest. Raises DataError for any other archive.
    """
    temporary = cache / f".{archive.name}.{os.getpid()}.tmp"
    with readable(archive):
        if not stat.S_ISREG(archive.stat().st_mode):
            raise DataError(f"{archive} is not a regular file")
    try:
        with tarfile.open(archive, "r:", tarinfo=Header) as tar:
            members = tar.getmembers()
            strange = [m.name for m in members if not m.isreg() or m.issparse() or not MEMBER.fullmatch(m.name)]
            if strange or not members:
                raise DataError(f"{archive} is not packed data: it holds {strange[0] if strange else 'nothing'}")
            tar.extractall(temporary, members=members, filter="data")
        names = sorted({PurePosixPath(member.name).parts[0] for member in members})
        sets = {name: _store.load(temporary / name) for name in names}
        broken = [name for name, data in sets.items() if data is None or _intact.find_fault(data)]
        if broken:
            raise DataError(f"{archive} is damaged: {broken[0]} is not whole; pack it again")
        for name in names:
            if _store.load(cache / name) is None:
                shutil.rmtree(cache / name, ignore_errors=True)
                (temporary / name).rename(cache / name)
            (cache / name / _store.UNPACKED).touch()  # brought here on purpose, so it is preferred to generated data
        return names
    except tarfile.ReadError as error:
        raise DataError(f"{archive} is not packed data; `data pack` writes such a file") from error
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"cannot unpack {archive}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
