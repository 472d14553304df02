"""Where the data of a task comes from: a folder, what was prepared before, the Hugging Face hub; and its parquet files.

Both sources hand over the same parquet files, so that one reader serves them; `datasets` would keep a second copy.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks import _store
from tasks._task import Data, DataError, MissingDataError

if TYPE_CHECKING:
    import pyarrow as pa

PATIENCE = 1.2  # seconds for the hub to answer
Files = dict[str, list[Path]]  # split -> its parquet files, in order


@dataclass(frozen=True)
class Home:
    """A public data set of parquet files: the folder it has in a data directory, its place on the hub, its terms."""

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
    """Files of a home. `identity` names them without opening any; `fetch` brings them here."""

    source: str
    revision: str | None
    identity: list[Any]
    fetch: Callable[[], Files]


def prepare(
    task: str, home: Home, used: dict[str, Any], place: tuple[Path | None, Path], build: Callable[..., _store.Built]
) -> Data:
    """The data of a task from `place`, (data_dir, cache); `used` is all that decides its content beside the files.

    Files of the data directory come first, then what was prepared before, then the hub. `build(found, folder)` fills
    a cache folder, and its `about` repeats `used`. Raises DataError.
    """
    data_dir, cache = place
    folder = data_folder(data_dir)
    found = find_files(home, folder) if folder else None
    if found is None:
        data = _store.find_prepared(cache, task, used)
        if data is not None:
            return data
        found = Found(home.repository, home.revision, [home.repository, home.revision], lambda: download(task, home))
    target = _store.folder_for(cache, task, {"source": found.identity, **used})
    return _store.obtain(target, lambda target: build(found, target))


def data_folder(data_dir: Path | None) -> Path | None:
    """The data directory: --data-dir, else LRA_DATA. Raises DataError where it is no folder."""
    named = os.environ.get("LRA_DATA")
    name, folder = ("--data-dir", data_dir) if data_dir or not named else ("LRA_DATA", Path(named).expanduser())
    try:
        if folder and not folder.is_dir():
            raise DataError(f"{name} {folder} is no folder")
    except OSError as error:
        raise DataError(f"cannot read {name} {folder}: {error.strerror}") from error
    return folder


def find_files(home: Home, folder: Path) -> Found | None:
    """The files of a home in a data directory, in the home's own folder or in a hub snapshot.

    Raises DataError where some of them are missing.
    """
    snapshot = f"snapshots/{home.revision}/{home.config}"
    cached = f"datasets--{home.repository.replace('/', '--')}/{snapshot}"
    for inner in (f"{home.name}/{home.config}", home.name, home.config, snapshot, cached, "."):
        place = folder / inner
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


def stamps(files: Iterable[Path]) -> list[Any]:
    """A file counts as the same while its path, size and time are. Raises DataError."""
    try:
        stats = [(path, path.stat()) for path in files]
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error
    return [(str(path.resolve()), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(task: str, home: Home, found: Found, files: Files, counts: dict[str, int]) -> dict[str, Any]:
    """The part of `about` that follows from the files; counts are the rows read of each."""
    return {
        "task": task,
        "label": "official" if counts == home.rows else "own files",
        "source": found.source,
        "revision": found.revision,
        "terms": home.terms,
        "sha256": {path.name: sha256(path) for paths in files.values() for path in paths},
    }


def download(task: str, home: Home) -> Files:
    """The files of a home from the hub, or its own cache. Raises MissingDataError, at once without a network."""
    import huggingface_hub
    from huggingface_hub import constants

    def arguments(split: str) -> dict[str, Any]:
        name = f"{home.config}/{split}-00000-of-00001.parquet"
        return {"repo_id": home.repository, "filename": name, "repo_type": "dataset", "revision": home.revision}

    kept = [huggingface_hub.try_to_load_from_cache(**arguments(split)) for split in home.rows]
    if not all(isinstance(path, str) for path in kept):
        if constants.HF_HUB_OFFLINE:
            raise MissingDataError(f"{task}: not here, and HF_HUB_OFFLINE forbids the download: {_command(task, home)}")
        if not reachable(constants.ENDPOINT):
            raise MissingDataError(
                f"{task}: not here, and {constants.ENDPOINT} is out of reach: {_command(task, home)}"
            )
    try:
        return {split: [Path(huggingface_hub.hf_hub_download(**arguments(split)))] for split in home.rows}
    except Exception as error:  # the library's errors are of several families, by version
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MissingDataError(
            f"{task}: the download of {home.repository} failed: {reason}; {_command(task, home)}"
        ) from error


def reachable(url: str) -> bool:
    """Whether a server, or the proxy that stands before it, takes a connection soon."""
    parts = urllib.parse.urlsplit(url)
    proxy = None if urllib.request.proxy_bypass(parts.hostname or "") else urllib.request.getproxies().get(parts.scheme)
    if proxy:
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    answers: list[bool] = []

    def ask() -> None:
        try:
            port = parts.port or {"http": 80}.get(parts.scheme, 443)
            socket.create_connection((parts.hostname, port), timeout=PATIENCE).close()
            answers.append(True)
        except (OSError, ValueError):
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)  # looking up a name knows no timeout
    thread.start()
    thread.join(PATIENCE)
    return answers == [True]


def _command(task: str, home: Home) -> str:
    return f"python run_lra.py data prepare --task {task} --data-dir DIR, where DIR holds {home.layout}"


def read_table(path: Path, columns: list[str]) -> pa.Table:
    """These columns of a parquet file. Raises DataError where it is broken, lacks one or holds no rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            present = file.schema_arrow.names
            missing = [repr(name) for name in columns if name not in present]
            if missing:
                raise DataError(f"{path} has no column {' and '.join(missing)}; it has {', '.join(present)}")
            table = file.read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path} cannot be read, it may be cut short: {reason}; copy or download it again") from error
    if not table.num_rows:
        raise DataError(f"{path} holds no rows: copy or download it again")
    return table


def read_labels(table: pa.Table, path: Path, classes: int) -> np.ndarray:
    """The column `label`, (R,) int64 from 0 to classes - 1. Raises DataError with the row of the first other one."""
    found = table["label"].to_pylist()
    for row, label in enumerate(found):
        if type(label) is not int or not 0 <= label < classes:
            raise DataError(f"{path} row {row}: the label is {label!r}, not one of 0 to {classes - 1}")
    return np.array(found, np.int64)
