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

from tasks import _draws, _release, _sources, _store
from tasks._task import Data, DataError, MissingDataError, Spec, Task
from tasks.retrieval import aan as _aan

FILES = {"train": "new_aan_pairs.train.tsv", "validation": "new_aan_pairs.eval.tsv", "test": "new_aan_pairs.test.tsv"}
ROWS = {"train": 147_086, "validation": 18_090, "test": 17_437}  # of the released files
PLACES = ("", "tsv_data", "lra_release/tsv_data", "lra_release/lra_release/tsv_data", "data/aan", "aan")
DOCUMENTS, COMPACT_PLACES = "docs.parquet", ("aan", "")
LISTS = {"uniform": "pairs.tsv", "matched": "pairs_matched.tsv"}
MIRROR, REVISION = "OpenNLPLab/lra", "6cb133c44f406da743661488df9e977b87d98775"
NAMES = ["not cited", "cited"]
TERMS = (
    "texts of the ACL Anthology Network, for research; no licence is stated, LRA's authors say they may not be "
    "redistributed"
)
COMMAND = "python run_lra.py data prepare --task retrieval"
OFFICIAL = f"{COMMAND} --set data.retrieval_pairs=official"


@dataclass(frozen=True)
class Settings:
    """The `data` section of a protocol for Retrieval."""

    seed: int = 0  # fixes which rows are drawn where fewer than all are asked for
    length: int = 4000  # bytes of a document, from its front
    retrieval_pairs: Literal["official", "uniform", "matched"] = "uniform"  # how negatives were drawn; official: LRA's
    train_rows: int = 0  # 0 = all, otherwise so many, with the labels' shares kept
    validation_rows: int = 0
    test_rows: int = 0


@dataclass(frozen=True)
class Source:
    """Files by split, or DOCUMENTS and the list of pairs; `label` names the column of a table."""

    label: str
    name: str
    files: dict[str, Path]


class Retrieval(Task):
    """Values are bytes; a sample is two rows of the documents that all splits share."""

    name = "retrieval"
    title = "Retrieval"
    settings = Settings

    def prepare(self, settings: Settings, data_dir: Path | None, cache: Path, progress: bool) -> Data:
        """The files of `data_dir`, else LRA_DATA, or LRA's pairs of the mirror where accepted. Raises DataError."""
        check(settings)
        try:
            source = find_source(settings, _sources.data_folder(data_dir), cache, progress)
        except MissingDataError:
            unpacked = _store.find_prepared(cache, self.name, {"settings": asdict(settings)})
            if unpacked is None:
                raise
            return unpacked
        stats = {path: path.stat() for path in source.files.values()}
        stamps = [(str(path.resolve()), stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()]
        used = asdict(settings)
        if not any(used[f"{split}_rows"] for split in FILES):
            used["seed"] = None
        folder = _store.folder_for(cache, self.name, {"source": stamps, "label": source.label, **used})
        return _store.obtain(folder, lambda place: _encode(settings, source, place, progress))

    def climb(self, data: Data) -> dict[str, float]:
        """Constant, popularity of the second document, byte histograms, cosine of word counts weighted by rarity."""
        from tasks.retrieval import ladder as _retrieval_ladder

        return _retrieval_ladder.climb(data)


def check(settings: Settings) -> None:
    """Raises DataError for a setting out of its range."""
    ranges = {"length": (1, 65_536), **{f"{split}_rows": (0, 100_000_000) for split in FILES}}
    for name, (least, most) in ranges.items():
        value = getattr(settings, name)
        if not least <= value <= most:
            raise DataError(f"retrieval: data.{name} must be {least} to {most}, not {value}")


def find_source(settings: Settings, folder: Path | None, cache: Path, progress: bool) -> Source:
    """The files these settings need. Raises MissingDataError with the commands that would help."""
    wanted = settings.retrieval_pairs
    where = f"nothing of it in {folder}" if folder else "--data-dir and LRA_DATA name no folder"
    if wanted != "official":
        names, remedy = (DOCUMENTS, LISTS[wanted]), "put both files there"
        files = _release.find_files(folder, COMPACT_PLACES, names, remedy) if folder else None
        if files:
            return Source(f"{wanted} pairs", " + ".join(names), files)
        raise MissingDataError(
            f"retrieval: data.retrieval_pairs={wanted} needs aan/{DOCUMENTS} and aan/{LISTS[wanted]}, but {where}; "
            f"with them: {COMMAND} --data-dir DIR; with lra_release.gz in DIR: {OFFICIAL} --data-dir DIR; "
            f"without files: {OFFICIAL} --accept-mirror (10 GB of hub mirror {MIRROR}; terms: {TERMS})"
        )
    if folder:
        names = [*FILES.values()]
        found = _release.find_files(folder, PLACES, names, "put all three files of lra_release.gz there")
        found = found or _release.unpack(folder, PLACES, names, cache, progress)
        if found:
            return Source("official", "lra_release", {split: found[name] for split, name in FILES.items()})
    if os.environ.get("LRA_ACCEPT_MIRROR") == "1":
        return Source("official mirror", f"{MIRROR}@{REVISION}", fetch_mirror(progress))
    raise MissingDataError(
        f"retrieval: data.retrieval_pairs=official needs new_aan_pairs.*.tsv or lra_release.gz, but {where}; with "
        f"either: {OFFICIAL} --data-dir DIR; without files: {OFFICIAL} --accept-mirror (10 GB of hub mirror "
        f"{MIRROR}; terms: {TERMS})"
    )


def fetch_mirror(progress: bool) -> dict[str, Path]:
    """Split -> file of the pinned mirror, from the hub's cache or downloaded. Raises MissingDataError, soon offline."""
    from huggingface_hub import constants, hf_hub_download

    if progress:
        tqdm.write(f"Retrieval from {MIRROR}: {TERMS}", file=sys.stderr)
    where: dict[str, Any] = {"repo_id": MIRROR, "repo_type": "dataset", "revision": REVISION}
    try:
        return {split: Path(hf_hub_download(filename=f"data/aan/{name}", local_files_only=True, **where))
                for split, name in FILES.items()}  # fmt: skip
    except (OSError, ValueError):  # not all there yet
        pass
    if constants.HF_HUB_OFFLINE or not _sources.reachable(constants.ENDPOINT):
        raise MissingDataError(
            f"retrieval: the hub cannot be reached for {MIRROR}; with its files: {OFFICIAL} --data-dir DIR"
        )
    try:
        return {split: Path(hf_hub_download(filename=f"data/aan/{name}", **where)) for split, name in FILES.items()}
    except Exception as error:  # those of the hub, of its client and of the system have no base in common
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise MissingDataError(f"retrieval: cannot download {MIRROR}: {reason}; the same command goes on") from error


def _encode(settings: Settings, source: Source, folder: Path, progress: bool) -> _store.Built:
    """Fills a cache folder."""
    if settings.retrieval_pairs == "official":
        read = _aan.read_released(source.files, ROWS, settings.length, progress)
    else:
        read = _aan.read_compact(
            source.files[DOCUMENTS], source.files[LISTS[settings.retrieval_pairs]], settings.length
        )
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
        "label": source.label,
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
    """Rows of a split in rising order: all, or as many as asked for, with the labels' shares kept."""
    name = f"{split}_rows"
    return _draws.part("retrieval", name, settings.seed, labels, getattr(settings, name))


def leakage(train: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """What of a split's pairs (R, 2) the training split holds too: shares of its documents, of its pairs with one and
    with both documents known, and of its pairs as such, in either order."""
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
