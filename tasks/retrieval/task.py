"""Retrieval: does the first of two papers cite the second? Bytes of both, 4,000 each.

Tay et al. 2020 (https://arxiv.org/abs/2011.04006) on the ACL Anthology Network (Radev et al. 2013): LRA's own pairs,
as released, or pairs of the same papers whose negatives are drawn uniformly or match the positives' citation counts.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from tasks import _draws, _hub, _release, _sources, _store
from tasks._data import OFFICIAL, USERS_FILES, Data, MissingDataError, Spec, check_ranges
from tasks._files import PREPARE, stamps
from tasks._task import Task
from tasks.retrieval import aan

FILES = {"train": "new_aan_pairs.train.tsv", "validation": "new_aan_pairs.eval.tsv", "test": "new_aan_pairs.test.tsv"}
ROWS = {"train": 147_086, "validation": 18_090, "test": 17_437}  # of the released files
LISTED = {"train": 107_464, "validation": 13_223, "test": 12_743}  # of our lists of pairs, of 10,852 documents
PLACES = ("", "tsv_data", "lra_release/tsv_data", "lra_release/lra_release/tsv_data", "data/aan", "aan")
DOCUMENTS, COMPACT_PLACES = "docs.parquet", ("aan", "")
LISTS = {"uniform": "pairs.tsv", "matched": "pairs_matched.tsv"}
MIRROR, REVISION = "OpenNLPLab/lra", "6cb133c44f406da743661488df9e977b87d98775"
NAMES = ["not cited", "cited"]
TERMS = (
    "texts of the ACL Anthology Network, for research; no licence is stated, LRA's authors say they may not be "
    "redistributed"
)
COMMAND_OFFICIAL = f"{PREPARE} retrieval --set data.retrieval_pairs=official"


@dataclass(frozen=True)
class Settings:
    """The `data` section of a protocol for Retrieval."""

    seed: int = 0  # fixes which rows are drawn when fewer than all are used
    length: int = 4000  # bytes kept from the start of a document
    # official: LRA's list of pairs; uniform: our list, its negatives drawn uniformly; matched: our list, its negatives
    # cited as often as the positives
    retrieval_pairs: Literal["official", "uniform", "matched"] = "uniform"
    train_rows: int = 0  # pairs to train on; 0: all; otherwise a draw of this size that keeps the labels' shares
    validation_rows: int = 0  # pairs to validate on; 0: all
    test_rows: int = 0  # pairs to test on; 0: all


@dataclass(frozen=True)
class Source:
    """The files to read: by split, or DOCUMENTS and the list of pairs by name. `label`: the label of the data."""

    label: str
    name: str
    files: dict[str, Path]


class Retrieval(Task):
    """Values are bytes; a sample is two rows of the documents that all splits share."""

    name = "retrieval"
    title = "Retrieval"
    settings = Settings

    def prepare(self, settings: Settings, data_dir: Path | None, cache: Path, progress: bool) -> Data:
        """Reads the files in `data_dir`, else LRA_DATA, else, for LRA's pairs, an accepted mirror. Raises DataError.

        Where it finds none of them, data that was prepared before is used.
        """
        check(settings)
        used = without_idle_seed(asdict(settings))
        try:
            source = find_source(settings, _sources.data_folder(data_dir), cache, progress, self.name)
        except MissingDataError:
            prepared = _store.find_prepared(
                cache, self.name, lambda about: without_idle_seed(about.get("settings", {})) == used
            )
            if prepared is None:
                raise
            return prepared
        folder = _store.folder_for(
            cache, self.name, {"source": stamps(source.files.values()), "label": source.label, **used}
        )
        return _store.obtain(folder, lambda place: _encode(settings, source, place, progress))

    def climb(self, data: Data) -> dict[str, float]:
        """Constant, popularity of the second document, byte histograms, cosine of word counts weighted by rarity."""
        from tasks.retrieval import ladder

        return ladder.climb(data)


def without_idle_seed(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, without the seed where no rows are drawn: it then decides nothing."""
    drawn = any(settings.get(f"{split}_rows") for split in FILES)
    return settings if drawn else {**settings, "seed": None}


def check(settings: Settings) -> None:
    """Raises DataError for a setting outside its range."""
    ranges = {"length": (1, 65_536), **{f"{split}_rows": (0, 100_000_000) for split in FILES}}
    check_ranges("retrieval", settings, ranges)


def find_source(
    settings: Settings, folder: Path | None, cache: Path, progress: bool, task: str = "retrieval"
) -> Source:
    """The files that these settings need. Raises MissingDataError with the commands, for `task`, that would help."""
    wanted = settings.retrieval_pairs
    where = f"{folder} holds none of it" if folder else "--data-dir and LRA_DATA name no folder"
    if wanted != "official":
        names, remedy = (DOCUMENTS, LISTS[wanted]), "put both files there"
        files = _release.find_files(folder, COMPACT_PLACES, names, remedy) if folder else None
        if files:
            return Source(f"{wanted} pairs", " + ".join(names), files)
        raise MissingDataError(
            f"retrieval: data.retrieval_pairs={wanted} needs aan/{DOCUMENTS} and aan/{LISTS[wanted]}, but {where}; "
            f"with them: {PREPARE} {task} --data-dir DIR; with lra_release.gz in DIR: {COMMAND_OFFICIAL} --data-dir "
            f"DIR; without files: {COMMAND_OFFICIAL} --accept-mirror (10 GB of hub mirror {MIRROR}; terms: {TERMS})"
        )
    if folder:
        names = [*FILES.values()]
        found = _release.find_files(folder, PLACES, names, "put all three files of lra_release.gz there")
        found = found or _release.unpack(folder, PLACES, names, cache, progress)
        if found:
            return Source(OFFICIAL, "lra_release", {split: found[name] for split, name in FILES.items()})
    if os.environ.get("LRA_ACCEPT_MIRROR") == "1":
        return Source("official mirror", f"{MIRROR}@{REVISION}", fetch_mirror(progress))
    raise MissingDataError(
        f"retrieval: data.retrieval_pairs=official needs new_aan_pairs.*.tsv or lra_release.gz, but {where}; with "
        f"either: {COMMAND_OFFICIAL} --data-dir DIR; without files: {COMMAND_OFFICIAL} --accept-mirror (10 GB of hub "
        f"mirror {MIRROR}; terms: {TERMS}); on our own pairs: --set data.retrieval_pairs=uniform"
    )


def fetch_mirror(progress: bool) -> dict[str, Path]:
    """Split -> file of the pinned mirror, from the hub's cache or downloaded. Raises MissingDataError."""
    if progress:
        tqdm.write(f"Retrieval from {MIRROR}: {TERMS}", file=sys.stderr)
    remedy = f"the same command goes on where it stopped; with the files: {COMMAND_OFFICIAL} --data-dir DIR"
    paths = _hub.fetch("retrieval", MIRROR, REVISION, [f"data/aan/{name}" for name in FILES.values()], remedy)
    return dict(zip(FILES, paths, strict=True))


def _encode(settings: Settings, source: Source, folder: Path, progress: bool) -> _store.Built:
    """Fills a cache folder from the files of a source."""
    label = source.label
    if settings.retrieval_pairs == "official":
        read = aan.read_released(source.files, ROWS, settings.length, progress)
    else:
        listed = source.files[LISTS[settings.retrieval_pairs]]
        read = aan.read_compact(source.files[DOCUMENTS], listed, settings.length, folder)
        if {split: len(labels) for split, (_, labels) in read.splits.items()} != LISTED:
            label = USERS_FILES
    chosen = {split: _choose(settings, split, labels) for split, (_, labels) in read.splits.items()}
    pairs = {split: read.splits[split][0][rows] for split, rows in chosen.items()}
    used = np.unique(np.concatenate([part.ravel() for part in pairs.values()]))
    documents = _store.write_documents(folder, read.values[used], read.lengths[used])
    digests = {}
    for split, part in pairs.items():
        labels = read.splits[split][1][chosen[split]]
        groups = {"label": labels.astype(np.uint8)}
        digests[split] = _store.write_pairs(folder, split, documents, np.searchsorted(used, part), labels, groups)
    about = {
        "task": Retrieval.name,
        "label": label,
        "source": source.name,
        "terms": TERMS,
        "settings": asdict(settings),
        "seed": settings.seed,
        "rows": {split: len(part) for split, part in pairs.items()},
        "documents": len(used),
        "split_rule": _rule(settings),
        "rows_sha256": {split: _draws.hash_of(rows) for split, rows in chosen.items()},
        "leakage": {split: leakage(pairs["train"], pairs[split]) for split in ("validation", "test")},
        "sha256": read.sha256,
    }
    spec = Spec(vocab=257, classes=2, length=settings.length, pair=True)
    return _store.Built(spec, about, digests, {"label": NAMES})


def _choose(settings: Settings, split: str, labels: np.ndarray) -> np.ndarray:
    """Rows of a split in rising order: all, or a draw that keeps the labels' shares."""
    name = f"{split}_rows"
    return _draws.part("retrieval", name, settings.seed, labels, getattr(settings, name))


def leakage(train: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """How much of a split, `other` (R, 2), the training split has, too: the shares of the documents, of the pairs with
    one known document or more, of the pairs with two, and of the same pairs in either order."""
    known = np.isin(other, train)
    documents, first = np.unique(other, return_index=True)
    size = int(max(train.max(), other.max())) + 1
    keys = [part.min(1).astype(np.int64) * size + part.max(1) for part in (train, other)]
    return {
        "documents": float(known.ravel()[first].mean()) if len(documents) else 0.0,
        "pairs with a known document": float(known.any(1).mean()),
        "pairs of known documents": float(known.all(1).mean()),
        "same pairs": float(np.isin(keys[1], keys[0]).mean()),
    }


def _rule(settings: Settings) -> str:
    origin = "as released" if settings.retrieval_pairs == "official" else "as listed"
    drawn = [split for split in FILES if getattr(settings, f"{split}_rows")]
    return f"{origin}; rows of {', '.join(drawn)} drawn, the labels' shares kept" if drawn else origin


task = Retrieval()
