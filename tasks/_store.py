"""Prepared data on disk: a folder of .npy arrays per data set, whole or not there, memory-mapped when read.

A folder is built beside its place and renamed, its manifest written last; a manifest holds the size of every array.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks._base import Data, DataError, Spec, Split

FORMAT = 1  # raised when folders of an older form can no longer be read
MANIFEST = "manifest.json"
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Built:
    """What a build hands back for the manifest. `digests`: split -> what `write_split` returned."""

    spec: Spec
    about: dict[str, Any]
    digests: dict[str, str]
    groups: dict[str, list[str]]


def folder_for(cache: Path, task: str, identity: dict[str, Any]) -> Path:
    """The folder of a data set, named by the hash of all that decides its content (JSON-able)."""
    text = json.dumps({"format": FORMAT, **identity}, sort_keys=True)
    return cache / f"{task}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def obtain(folder: Path, build: Callable[[Path], Built]) -> Data:
    """The data of this folder; where it is missing or damaged, `build` fills an empty folder that takes its place.

    Raises DataError when the cache cannot be written, and what `build` raises.
    """
    data = _load(folder)
    if data is not None:
        return data
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder) as alone:
            data = _load(folder)
            if data is None:
                _replace(folder, build, alone)
                data = _load(folder)
    except OSError as error:
        data = _load(folder)  # without locks another process may have finished first
        if data is None:
            reason = error.strerror or str(error)
            raise DataError(
                f"cannot write the data cache {folder.parent}: {reason}; set LRA_CACHE to a writable folder with room"
            ) from error
    if data is None:
        raise DataError(f"the data cache {folder} changed while it was read; start again")
    return data


def write_split(folder: Path, name: str, shape: tuple[int, int], blocks: Iterable[Split]) -> str:
    """Writes one split block by block, so that memory holds one block -> SHA-256 of its content. Raises OSError."""
    digest, parts = hashlib.sha256(), []
    with (folder / f"{name}-values.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(block.values.data)
            digest.update(block.values.data)
            parts.append((block.lengths, block.labels, {key: codes for key, (_, codes) in block.groups.items()}))
    lengths, labels, groups = zip(*parts, strict=True)
    for kind, arrays, dtype in (("lengths", lengths, "<i4"), ("labels", labels, "<i8")):
        array = np.concatenate(arrays).astype(dtype)
        np.save(folder / f"{name}-{kind}.npy", array)
        digest.update(array.data)
    for group in groups[0]:
        np.save(_group_file(folder, name, group), np.concatenate([codes[group] for codes in groups]))
    return digest.hexdigest()


def _group_file(folder: Path, split: str, group: str) -> Path:
    return folder / f"{split}-group-{group.replace(' ', '-')}.npy"


def _load(folder: Path) -> Data | None:
    """The data of an intact folder, else None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if any((folder / name).stat().st_size != size for name, size in manifest["files"].items()):
            return None
        splits = {name: _load_split(folder, name, manifest["groups"]) for name in SPLITS}
        grid = manifest["spec"]["grid"]  # JSON has no tuples
        spec = Spec(**manifest["spec"] | {"grid": tuple(grid) if grid else None})
        return Data(spec=spec, **splits, hash=manifest["hash"], about=manifest["about"], folder=folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _load_split(folder: Path, name: str, groups: dict[str, list[str]]) -> Split:
    return Split(
        values=np.load(folder / f"{name}-values.npy", mmap_mode="r", allow_pickle=False),
        lengths=np.load(folder / f"{name}-lengths.npy", allow_pickle=False),
        labels=np.load(folder / f"{name}-labels.npy", allow_pickle=False),
        groups={
            group: (names, np.load(_group_file(folder, name, group), allow_pickle=False))
            for group, names in groups.items()
        },
    )


def _replace(folder: Path, build: Callable[[Path], Built], alone: bool) -> None:
    """Builds beside the folder, then renames; when `alone`, leftovers of a killed build are removed first."""
    if alone:
        _remove(folder.parent.glob(f".{folder.name}.*.tmp"))
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        _write_manifest(temporary, build(temporary))
        if folder.exists():
            folder.rename(temporary.with_name(f"{temporary.stem}.old.tmp"))
        temporary.rename(folder)
    finally:
        _remove(folder.parent.glob(f"{temporary.stem}.*tmp"))


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _write_manifest(folder: Path, built: Built) -> None:
    spec = dataclasses.asdict(built.spec)
    content = json.dumps({"spec": spec, "digests": [built.digests[name] for name in SPLITS]}, sort_keys=True)
    manifest = {
        "spec": spec,
        "hash": hashlib.sha256(content.encode()).hexdigest()[:12],
        "about": built.about,
        "groups": built.groups,
        "files": {path.name: path.stat().st_size for path in sorted(folder.glob("*.npy"))},
    }
    for path in folder.glob("*.npy"):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """One builder per folder at a time -> whether that is sure. A second waits; a lock dies with its holder."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a network file system without locks; renaming still keeps the result whole
            yield False
            return
        yield True
