"""Prepared data on disk: one folder of .npy arrays per data set, whole or absent, memory-mapped when it is read.

A folder is built under a temporary name beside its final place and then renamed; its manifest is written last and holds
the size and the hash of every array, see `_intact`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tasks import _intact
from tasks._data import GENERATED, SPLITS, USERS_FILES, Data, DataError, Spec, Split
from tasks._files import changed, locked
from tasks._intact import MANIFEST

FORMAT = 2  # raised when folders of an older format can no longer be read
UNPACKED = "unpacked"  # an empty file that marks a folder which `data unpack` brought here
DOCUMENTS = "documents"  # in place of a split's name, for the files of the documents that pairs point to


@dataclasses.dataclass(frozen=True)
class Built:
    """What a build returns for the manifest. `digests`: split -> what `write_split` or `write_pairs` returned."""

    spec: Spec
    about: dict[str, Any]
    digests: dict[str, str]
    groups: dict[str, list[str]]


def folder_for(cache: Path, task: str, identity: dict[str, Any]) -> Path:
    """The folder of a data set, named by the hash of all that decides its content (it must fit JSON)."""
    text = json.dumps({"format": FORMAT, **identity}, sort_keys=True)
    return cache / f"{task}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def obtain(folder: Path, build: Callable[[Path], Built]) -> Data:
    """The data of this folder. Where it is missing or damaged, `build` fills an empty folder, which then replaces it.

    Raises DataError when the cache cannot be written, and what `build` raises.
    """
    data = verified(load(folder))
    if data is not None:
        return data
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder) as alone:
            data = verified(load(folder))
            if data is None:
                _replace(folder, build, alone)
                data = load(folder)
    except OSError as error:
        data = load(folder)  # without locks another process may have finished first
        if data is None:
            reason = error.strerror or str(error)
            raise DataError(
                f"cannot write the data cache {folder.parent}: {reason}; set LRA_CACHE to a writable folder with room"
            ) from error
    if data is None:
        raise DataError(f"the data cache {folder} changed while it was read; start again")
    return data


def verified(data: Data | None) -> Data | None:
    """The same data, verified if that is due; None, after a line on stderr, where the arrays are damaged."""
    if data is not None and _intact.is_due(data) and (fault := _intact.find_fault(data)):
        line = f"prepared data in {data.folder} is damaged and not used: {fault}"
        if intact := _intact.intact_at(data.folder):
            line += f"; it was intact on {time.strftime('%Y-%m-%d %H:%M', time.localtime(intact))}"
        tqdm.write(line, file=sys.stderr)
        return None
    return data


def prepared(cache: Path, task: str) -> list[Data]:
    """All intact data sets of a task in a cache, the newest first."""
    manifests = sorted(cache.glob(f"{task}-*/{MANIFEST}"), key=changed, reverse=True)
    return [data for manifest in manifests if (data := load(manifest.parent)) is not None]


def broken(cache: Path, task: str) -> list[Path]:
    """The folders of a task in a cache that cannot be loaded: a file is missing, has another size or is unreadable."""
    folders = [path for path in cache.glob(f"{task}-*") if re.fullmatch(rf"{task}-[0-9a-f]{{12}}", path.name)]
    return sorted(folder for folder in folders if folder.is_dir() and load(folder) is None)


def find_prepared(cache: Path, task: str, fits: Callable[[dict[str, Any]], bool]) -> Data | None:
    """The newest intact data of a task whose `about` fits, or None.

    Data from a user's files that are not the released ones counts only where `data unpack` brought it here.
    """
    for data in prepared(cache, task):
        usual = data.about.get("label") != USERS_FILES or (data.folder / UNPACKED).exists()
        if usual and fits(data.about) and verified(data):
            return data
    return None


def find_by_hash(cache: Path, task: str, wanted: str) -> Data | None:
    """The intact data of a task that have this hash, whatever their source, or None."""
    return next((data for data in prepared(cache, task) if data.hash == wanted and verified(data)), None)


def find_unpacked(cache: Path, task: str, settings: dict[str, Any]) -> Data | None:
    """The newest data read from files with these settings that `data unpack` brought here, or None."""
    for data in prepared(cache, task):
        was_read = data.about.get("label") != GENERATED and data.about.get("settings") == settings
        if was_read and (data.folder / UNPACKED).exists() and verified(data):
            return data
    return None


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
    arrays = {"lengths": np.concatenate(lengths).astype("<i4"), "labels": np.concatenate(labels).astype("<i8")}
    codes = {group: np.concatenate([part[group] for part in groups]) for group in groups[0]}
    return _save(folder, name, arrays, codes, digest)


def write_documents(folder: Path, values: np.ndarray, lengths: np.ndarray) -> str:
    """Writes the documents, each once, that the pairs of all splits share -> SHA-256 of them. Raises OSError."""
    arrays = {"values": np.ascontiguousarray(values), "lengths": lengths.astype("<i4")}
    return _save(folder, DOCUMENTS, arrays, {}, hashlib.sha256())


def write_pairs(
    folder: Path, name: str, documents: str, pairs: np.ndarray, labels: np.ndarray, groups: dict[str, np.ndarray]
) -> str:
    """Writes one split of pairs; `documents` is what `write_documents` returned -> SHA-256 of both. Raises OSError."""
    arrays = {"pairs": np.ascontiguousarray(pairs, "<i4"), "labels": labels.astype("<i8")}
    return _save(folder, name, arrays, groups, hashlib.sha256(documents.encode()))


def _save(folder: Path, name: str, arrays: dict[str, np.ndarray], groups: dict[str, np.ndarray], digest: Any) -> str:
    """Writes `name-kind.npy` for each array, and the groups' codes -> the digest, with the arrays added."""
    for kind, array in arrays.items():
        np.save(folder / f"{name}-{kind}.npy", array)
        digest.update(array.data)
    for group, codes in groups.items():
        np.save(_group_file(folder, name, group), codes)
    return digest.hexdigest()


def _group_file(folder: Path, split: str, group: str) -> Path:
    return folder / f"{split}-group-{group.replace(' ', '-')}.npy"


def load(folder: Path) -> Data | None:
    """The data of an intact folder, else None."""
    try:
        manifest = _intact.read_manifest(folder)
        if any((folder / name).stat().st_size != size for name, size in manifest["files"].items()):
            return None
        sizes = manifest["spec"]
        spec = Spec(**{**sizes, "grid": sizes["grid"] and tuple(sizes["grid"])})  # JSON has no tuples
        shared = _load_sequences(folder, DOCUMENTS) if spec.pair else None
        splits = {name: _load_split(folder, name, manifest["groups"], shared) for name in SPLITS}
        data = Data(spec=spec, **splits, hash=manifest["hash"], about=manifest["about"], folder=folder)
        _intact.check_splits(data, values=False)
        return data
    except Exception:  # numpy reads a damaged header with Python's parser, which raises errors of many classes
        return None


def _load_sequences(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Values and lengths of a split or of the documents."""
    values = np.load(folder / f"{name}-values.npy", mmap_mode="r", allow_pickle=False)
    return values, np.load(folder / f"{name}-lengths.npy", allow_pickle=False)


def _load_split(
    folder: Path, name: str, groups: dict[str, list[str]], shared: tuple[np.ndarray, np.ndarray] | None
) -> Split:
    values, lengths = shared or _load_sequences(folder, name)
    return Split(
        values=values,
        lengths=lengths,
        labels=np.load(folder / f"{name}-labels.npy", allow_pickle=False),
        groups={
            group: (names, np.load(_group_file(folder, name, group), allow_pickle=False))
            for group, names in groups.items()
        },
        pairs=np.load(folder / f"{name}-pairs.npy", allow_pickle=False) if shared else None,
    )


def _replace(folder: Path, build: Callable[[Path], Built], alone: bool) -> None:
    """Builds beside the folder, then renames. alone: the lock is held; leftovers of killed builds are removed first."""
    if alone:
        _remove(folder.parent.glob(f".{folder.name}.*.tmp"))
    _remove(path for path in folder.parent.glob(".*.tmp") if _is_dead(path))
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        _write_manifest(temporary, build(temporary))
        if folder.exists():
            _intact.note_replaced(temporary, folder)
            folder.rename(temporary.with_name(f"{temporary.stem}.old.tmp"))
        temporary.rename(folder)
    finally:
        _remove(folder.parent.glob(f"{temporary.stem}.*tmp"))


def _is_dead(temporary: Path) -> bool:
    """Is this build dead, on whatever machine it ran: has nothing in it changed for a day?"""
    try:
        return time.time() - max(path.stat().st_mtime for path in (temporary, *temporary.iterdir())) > 86400
    except OSError:  # another process has removed it, or it is a file
        return False


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _write_manifest(folder: Path, built: Built) -> None:
    manifest = {
        "spec": dataclasses.asdict(built.spec),
        "hash": _intact.hash_of(built.spec, [built.digests[name] for name in SPLITS]),
        "about": built.about,
        "groups": built.groups,
        "files": {path.name: path.stat().st_size for path in sorted(folder.glob("*.npy"))},
    }
    for path in folder.glob("*.npy"):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    _intact.seal(folder, manifest)
