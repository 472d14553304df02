"""Checks that prepared data is what was written: the manifest at every reading, the arrays every few days.

The manifest holds the SHA-256 of every array and a digest of itself. Older manifests without them are accepted: their
arrays are compared with the hash of the data, which covers all but the codes of groups. Data in which damage was found
stays marked until it is made anew, and the new data records since when the old data may have been damaged.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks._checks import check
from tasks._data import SPLITS, Data, DataError, Spec
from tasks._files import sha256

if TYPE_CHECKING:
    import numpy as np

MANIFEST = "manifest.json"
MARK = "verified"  # an empty file whose time is that of the last verification
DAMAGED = "damaged"  # an empty file: damage was found
REPLACED = "replaced"  # in data made anew after damage: when the damaged data was last known to be intact
DAYS = 7.0  # after which the arrays are verified again, unless LRA_VERIFY_DAYS says otherwise
MOST_BYTES = 2**24  # of a manifest; ours have some 3,000
ARRAY, NAME, HASH = r"[a-z]+(-[a-z-]+)?\.npy", r"[a-z][a-z0-9_]*", r"[0-9a-f]{12}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder of prepared data. Raises OSError, or ValueError for damage or unsafe names."""
    descriptor = os.open(folder / MANIFEST, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("the manifest is not a regular file")
        content = file.read(MOST_BYTES + 1)
    try:
        manifest = json.loads(content)
        if "digest" in manifest and manifest["digest"] != digest_of(manifest):
            raise ValueError("the manifest has changed since it was written")
        names = [manifest["about"]["task"], *manifest["about"].get("rows", {})]
        strange = [name for name in names if not re.fullmatch(NAME, name)]
        strange += [name for name in manifest["files"] if not re.fullmatch(ARRAY, name)]
        strange += [name for name in manifest["groups"] if not re.fullmatch(r"[a-z][a-z -]*", name)]
        strange += [] if re.fullmatch(HASH, manifest["hash"]) else [manifest["hash"]]
    except (RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the manifest is not valid: {error}") from error
    if strange:
        raise ValueError(f"the manifest has the strange name {strange[0]!r}")
    return manifest


def seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest, with the hash of every array in the folder and a digest of itself. Raises OSError."""
    manifest = manifest | {"sha256": {name: sha256(folder / name) for name in manifest["files"]}}
    text = json.dumps(manifest | {"digest": digest_of(manifest)}, indent=1) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    (folder / MARK).touch()


def digest_of(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest, or a ladder, without its digest."""
    plain = json.loads(json.dumps(manifest))  # as it is read back: tuples are lists, keys are texts
    plain.pop("digest", None)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def check_splits(data: Data, *, values: bool) -> None:
    """Raises DataError where an array does not fit the sizes. values: check the values, too, which are large."""
    for name in SPLITS:
        check(data.about["task"], name, getattr(data, name), data.spec, values=values)


def is_due(data: Data) -> bool:
    """Was damage found, or were the arrays last verified more than LRA_VERIFY_DAYS days ago? Raises DataError."""
    text = os.environ.get("LRA_VERIFY_DAYS") or str(DAYS)
    try:
        days = float(text)
        if math.isnan(days):
            raise ValueError
    except ValueError:
        raise DataError(f"LRA_VERIFY_DAYS must be a number of days, not {text!r}") from None
    return time.time() - intact_at(data.folder) > 86400 * days or (data.folder / DAMAGED).exists()


def intact_at(folder: Path) -> float:
    """When the arrays of a folder were last verified, in seconds since 1970; 0.0 if they never were."""
    try:
        return (folder / MARK).stat().st_mtime
    except OSError:
        return 0.0


def note_replaced(folder: Path, before: Path) -> None:
    """Notes in a folder of new data when the damaged data that it replaces, in the folder `before`, was last intact."""
    with suppress(OSError):
        (folder / REPLACED).write_text(str(intact_at(before)), encoding="ascii")


def is_doubtful(data: Data, written: float) -> bool:
    """May a file that was written at this time (seconds since 1970) have been computed from damaged data?

    It may if it was written after the damaged data was last known to be intact, and before the data was made anew.
    """
    path = data.folder / REPLACED
    try:
        return float(path.read_text(encoding="ascii")) < written < path.stat().st_mtime
    except (OSError, ValueError):
        return False


def verify(data: Data, *, now: bool) -> str:
    """What is wrong with the stored data that a run has read, or ''. now: verify even if no verification is due.

    The arrays in memory are compared, too, because another process may have replaced the files that they were read
    from; data that replaced damaged data is therefore always verified. Data that is not stored, but made in memory or
    while it is read, is not verified. Raises DataError for a wrong LRA_VERIFY_DAYS.
    """
    due = now or is_due(data) or (data.folder / REPLACED).exists()
    if not due or not (data.folder / MANIFEST).exists():
        return ""
    fault = find_fault(data)
    if not fault and content_hash(data) != data.hash:
        fault = "the arrays that this process read are no longer those that were written"
    return fault and f"prepared data in {data.folder} is damaged: {fault}"


def find_fault(data: Data) -> str:
    """Reads every array and marks the folder as damaged or verified -> what has changed since it was written, or ''."""
    fault = _find_fault(data)
    with suppress(OSError):  # a cache that others own
        if fault:
            (data.folder / DAMAGED).touch()
        else:
            (data.folder / MARK).touch()
            (data.folder / DAMAGED).unlink(missing_ok=True)
    return fault


def _find_fault(data: Data) -> str:
    try:
        manifest = read_manifest(data.folder)
        hashes = manifest.get("sha256")
        if hashes is None and content_hash(data) != data.hash:
            return f"its content is no longer that of {data.hash}"
        for name in manifest["files"]:
            if hashes is not None and sha256(data.folder / name) != hashes.get(name):
                return f"{name} has changed since it was written"
        check_splits(data, values=True)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def has_hashes(data: Data) -> bool:
    """Does the manifest hold the hash of every array?"""
    return "sha256" in read_manifest(data.folder)


def content_hash(data: Data) -> str:
    """The hash of data, computed again from its arrays."""
    splits = {name: getattr(data, name) for name in SPLITS}
    documents = _digest(b"", data.train.values, data.train.lengths).encode() if data.spec.pair else b""
    digests = [
        _digest(documents, split.values, split.lengths, split.labels)
        if split.pairs is None
        else _digest(documents, split.pairs, split.labels)
        for split in splits.values()
    ]
    return hash_of(data.spec, digests)


def _digest(start: bytes, *arrays: np.ndarray) -> str:
    digest = hashlib.sha256(start)
    for array in arrays:
        digest.update(array.data)
    return digest.hexdigest()


def hash_of(spec: Spec, digests: list[str]) -> str:
    """12 hexadecimal digits over the sizes and the digests of the three splits.

    Only sizes that differ from their defaults count, so that a new field of `Spec` does not change the hash.
    """
    plain = {f.name: getattr(spec, f.name) for f in fields(Spec) if getattr(spec, f.name) != f.default}
    content = json.dumps({"spec": plain, "digests": digests}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]
