"""Where the data of a task comes from: a folder, what was prepared before, or the Hugging Face hub.

The folder and the hub hold the same parquet files, so that one reader serves both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import _hub, _store
from tasks._cache import folder_in
from tasks._data import OFFICIAL, USERS_FILES, Data, DataError
from tasks._files import PREPARE, readable, sha256, stamps

Files = dict[str, list[Path]]  # split -> its parquet files, in order


@dataclass(frozen=True)
class Home:
    """A public data set of parquet files: its folder in a data directory, its place on the hub, its terms."""

    name: str  # folder below --data-dir
    repository: str
    revision: str
    rows: dict[str, int]  # split of the files -> rows as published
    terms: str
    config: str = "plain_text"

    @property
    def layout(self) -> str:
        """How the files lie below a data directory."""
        return " and ".join(f"{self.name}/{self.config}/{split}-*.parquet" for split in self.rows)


@dataclass(frozen=True)
class Found:
    """The files of a home. `identity` names them without opening any; `fetch` returns them, downloaded if need be."""

    source: str
    revision: str | None
    identity: list[Any]
    fetch: Callable[[], Files]


def prepare(
    task: str, home: Home, used: dict[str, Any], place: tuple[Path | None, Path], build: Callable[..., _store.Built]
) -> Data:
    """Finds or builds the data of a task. place: (data_dir, cache). used: what decides the content besides the files.

    Files of the data directory come first, then data that was prepared before, then the hub. `build(found, folder)`
    fills a cache folder, and its `about` repeats `used`. Raises DataError.
    """
    data_dir, cache = place
    folder = data_folder(data_dir)
    found = find_files(home, folder) if folder else None
    if found is None:
        data = _store.find_prepared(
            cache, task, lambda about: all(about.get(key) == value for key, value in used.items())
        )
        if data is not None:
            return data
        found = Found(home.repository, home.revision, [home.repository, home.revision], lambda: download(task, home))
    target = _store.folder_for(cache, task, {"source": found.identity, **used})
    return _store.obtain(target, lambda target: build(found, target))


def data_folder(data_dir: Path | None) -> Path | None:
    """The data directory: --data-dir, else LRA_DATA. Raises DataError where it is not a folder."""
    text = os.environ.get("LRA_DATA")
    name, folder = ("--data-dir", data_dir) if data_dir or not text else ("LRA_DATA", folder_in("LRA_DATA", text))
    with readable(f"{name} {folder}"):
        if folder and not folder.is_dir():
            raise DataError(f"{name} {folder} is no folder")
    return folder


def find_files(home: Home, folder: Path) -> Found | None:
    """The files of a home in a data directory, in the home's own folder or in a hub snapshot.

    Raises DataError where some of them are missing.
    """
    snapshot = f"snapshots/{home.revision}/{home.config}"
    cached = f"datasets--{home.repository.replace('/', '--')}/{snapshot}"
    for inner in (f"{home.name}/{home.config}", home.name, home.config, snapshot, cached, "."):
        place = folder / inner
        with readable(place):
            files = {split: sorted(place.glob(f"{split}-*.parquet")) for split in home.rows}
        if any(files.values()):
            missing = [f"{split}-*.parquet" for split in files if not files[split]] + _missing_shards(files)
            if missing:
                raise DataError(f"{place} lacks {' and '.join(missing)}: copy the files again, as {home.layout}")
            paths = [path for paths in files.values() for path in paths]
            return Found(f"{home.name}/{home.config}", None, stamps(paths), files.copy)
    return None


def _missing_shards(files: Files) -> list[str]:
    names = {path.name for paths in files.values() for path in paths}
    for name in sorted(names):
        shard = re.fullmatch(r"(.*-)\d{5}(-of-(\d{5})\.parquet)", name)
        wanted = [f"{shard[1]}{part:05}{shard[2]}" for part in range(int(shard[3]))] if shard else []
        if not names.issuperset(wanted):
            return [name for name in wanted if name not in names]
    return []


def describe(task: str, home: Home, found: Found, files: Files, counts: dict[str, int]) -> dict[str, Any]:
    """The part of `about` that follows from the files. counts: split of the files -> rows read."""
    return {
        "task": task,
        "label": OFFICIAL if counts == home.rows else USERS_FILES,
        "source": found.source,
        "revision": found.revision,
        "terms": home.terms,
        "sha256": {path.name: sha256(path) for paths in files.values() for path in paths},
    }


def download(task: str, home: Home) -> Files:
    """The files of a home from the hub or its cache. Raises MissingDataError, soon without a network."""
    names = [f"{home.config}/{split}-00000-of-00001.parquet" for split in home.rows]
    remedy = f"{PREPARE} {task} --data-dir DIR, where DIR holds {home.layout}"
    paths = _hub.fetch(task, home.repository, home.revision, names, remedy)
    return {split: [path] for split, path in zip(home.rows, paths, strict=True)}
