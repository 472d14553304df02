"""ListOps: the value, 0 to 9, of a nested expression of MIN, MAX, MED and SM (sum modulo 10).

Nangia and Bowman 2018 (https://arxiv.org/abs/1804.06028) in the long form of Tay et al. 2020
(https://arxiv.org/abs/2011.04006): generated here from a seed, or read from the released files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tasks import _numba, _progress, _release, _sources, _store
from tasks._data import GENERATED, OFFICIAL, USERS_FILES, Data, Spec, Split, printable
from tasks._files import sha256, stamps
from tasks._task import Task
from tasks.listops.settings import Settings, check

GENERATOR = "generator v1"  # raised when the same settings give other trees
OPERATORS = ["MIN", "MAX", "MED", "SM"]
VOCAB = 16  # pad, ten digits, four operators, the closing bracket
FILES = {"train": "basic_train.tsv", "validation": "basic_val.tsv", "test": "basic_test.tsv"}
ROWS = {"train": 96_000, "validation": 2000, "test": 2000}  # of the released files
PLACES = ("", "listops-1000", "lra_release/listops-1000", "lra_release/lra_release/listops-1000")
ORDER = ("test", "validation", "train")  # a tree met in an earlier split is dropped from a later one


class ListOps(Task):
    """Values 0-9 digits, 10-13 operators, 14 `]`; grouped by the operator at the root."""

    name = "listops"
    title = "ListOps"
    settings = Settings

    def prepare(self, settings: Settings, data_dir: Path | None, cache: Path, progress: bool) -> Data:
        """Reads the files in `data_dir`, else LRA_DATA, if it has any; else generates trees. Raises DataError.

        Without either folder, data from files that `data unpack` brought here is preferred to generated data.
        """
        _numba.use_cache(cache)
        source = _sources.data_folder(data_dir)
        files = find_files(source, cache, progress) if source else None
        if files:
            return _read(settings, files, cache, progress)
        unpacked = None if source else _store.find_unpacked(cache, self.name, _used(settings))
        if unpacked:
            return unpacked
        check(settings)
        folder = _store.folder_for(cache, self.name, {"source": GENERATOR, **asdict(settings)})
        return _store.obtain(folder, lambda place: _generate(settings, place, progress))

    def climb(self, data: Data) -> dict[str, float]:
        """Constant, root operator, root operator + digits, 1 to 5 levels.

        Without closing brackets it has only the first two rungs: a reader cannot tell which operator a digit belongs
        to, so the other rungs would use what the sequence does not contain.
        """
        _numba.use_cache(data.folder.parent)
        from tasks.listops import ladder

        rungs = ladder.constant_and_root(data)
        return {**rungs, **ladder.levels(data)} if data.about["settings"]["brackets"] else rungs


def find_files(folder: Path, cache: Path, progress: bool) -> dict[str, Path] | None:
    """Split -> released file, unpacked or in lra_release.gz, or None where the folder has none of them.

    Raises DataError where some are missing.
    """
    remedy = "put all three files of lra_release.gz there, or leave out --data-dir to generate the data"
    found = _release.find_files(folder, PLACES, [*FILES.values()], remedy)
    found = found or _release.unpack(folder, PLACES, [*FILES.values()], cache, progress)
    return {split: found[name] for split, name in FILES.items()} if found else None


def _generate(settings: Settings, folder: Path, progress: bool) -> _store.Built:
    """Fills a cache folder with generated trees."""
    from tasks.listops.generator import generate

    rows = {split: getattr(settings, f"{split}_rows") for split in ORDER}
    seen: set[int] = set()
    about = {
        "label": GENERATED,
        "source": GENERATOR,
        "settings": asdict(settings),
        "seed": settings.seed,
        "split_rule": f"a stream per split; in the order {', '.join(ORDER)} a tree met before is dropped",
        "sha256": {},
    }
    with _progress.bar("Generating ListOps", " trees", sum(rows.values()), progress) as bar:
        blocks = {split: _progress.watched(generate(settings, split, rows[split], seen), bar) for split in ORDER}
        return _write(folder, settings.max_length - 1, rows, blocks, about)


def _read(settings: Settings, files: dict[str, Path], cache: Path, progress: bool) -> Data:
    """Released files, encoded once."""
    used = _used(settings)
    folder = _store.folder_for(cache, ListOps.name, {"source": stamps(files.values()), **used})
    return _store.obtain(folder, lambda place: _encode(used, files, place, progress))


def _used(settings: Settings) -> dict[str, int]:
    """The settings that shape released data."""
    return {"max_length": settings.max_length, "brackets": settings.brackets}


def _encode(used: dict[str, int], files: dict[str, Path], folder: Path, progress: bool) -> _store.Built:
    """Fills a cache folder from the released files."""
    from tasks.listops.tsv import Released

    released = {split: Released(path) for split, path in files.items()}
    width = max(used["max_length"] - 1, *(file.longest for file in released.values()))
    rows = {split: file.rows for split, file in released.items()}
    about = {
        "label": OFFICIAL if rows == ROWS else USERS_FILES,
        "source": printable(files["train"].parent),
        "settings": used,
        "seed": None,
        "split_rule": "as released",
        "sha256": {path.name: sha256(path) for path in files.values()},
    }
    with _progress.bar("Reading ListOps", " trees", sum(rows.values()), progress) as bar:
        blocks = {
            split: _progress.watched(file.blocks(width, bool(used["brackets"])), bar)
            for split, file in released.items()
        }
        return _write(folder, width, rows, blocks, about)


def _write(
    folder: Path, width: int, rows: dict[str, int], blocks: dict[str, Iterator[Split]], about: dict[str, Any]
) -> _store.Built:
    """Writes the splits in the order of `blocks`."""
    digests = {
        split: _store.write_split(folder, split, (rows[split], width), _grouped(blocks[split])) for split in blocks
    }
    spec = Spec(vocab=VOCAB, classes=10, length=width)
    rows = {split: rows[split] for split in FILES}
    return _store.Built(spec, {"task": ListOps.name, **about, "rows": rows}, digests, {"root operator": OPERATORS})


def _grouped(blocks: Iterable[Split]) -> Iterator[Split]:
    """Adds the groups to each block."""
    for block in blocks:
        yield replace(block, groups={"root operator": (OPERATORS, block.values[:, 0] - np.uint8(10))})


task = ListOps()
