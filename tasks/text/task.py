"""Text: is a film review positive? Its bytes, one token each (IMDb, Maas et al. 2011).

https://aclanthology.org/P11-1015, in the form of Tay et al. 2020 (https://arxiv.org/abs/2011.04006).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tasks import _draws, _ladders, _parquet, _sources, _store
from tasks._data import Data, DataError, Spec, Split, check_ranges
from tasks._task import Task

ENCODING = "bytes v1"  # raised when the same files and settings give other arrays
BLOCK = 2048  # rows written at a time
NAMES = ["negative", "positive"]
HOME = _sources.Home(
    name="imdb",
    repository="stanfordnlp/imdb",
    revision="e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
    rows={"train": 25_000, "test": 25_000},
    terms="Large Movie Review Dataset (Maas et al. 2011): for research, to be cited; the texts are their authors'",
)


@dataclass(frozen=True)
class Settings:
    """The `data` section of a protocol for Text."""

    seed: int = 0  # fixes which reviews are held out or drawn; the `--seed` of a run does not change them
    length: int = 4000  # bytes kept from the start of a review
    text_validation: Literal["held-out", "test"] = "held-out"  # quirk: `test` validates on the test split itself
    validation_rows: int = 2500  # training reviews that are held out, equally many of each label
    train_rows: int = 0  # reviews to train on; 0: all that remain
    test_rows: int = 0  # reviews to test on; 0: all


class Text(Task):
    """Values are the bytes of the UTF-8 text; samples are grouped by label. An empty review becomes one space.

    Reviews are sorted by their SHA-256: the hub and the released archive order the same reviews differently, and both
    must give the same splits.
    """

    name = "text"
    title = "Text"
    settings = Settings

    def prepare(self, settings: Settings, data_dir: Path | None, cache: Path, progress: bool) -> Data:  # noqa: ARG002
        """The IMDb files of a data directory, else of the hub. Raises DataError."""
        check(settings)
        used = {"encoding": ENCODING, "settings": asdict(settings)}

        def build(found: _sources.Found, folder: Path) -> _store.Built:
            return _build(settings, used, found, folder)

        return _sources.prepare(self.name, HOME, used, (data_dir, cache), build)

    def climb(self, data: Data) -> dict[str, float]:
        """Constant; a linear model of how often each byte, or each run of up to three bytes, occurs."""
        from tasks.text import ladder

        _ladders.need_sklearn()
        return {"constant": _ladders.constant(data), **ladder.linear_rungs(data)}

    def quick_rungs(self, data: Data) -> dict[str, float]:
        """The constant alone: the linear models take a minute and scikit-learn."""
        return {"constant": _ladders.constant(data)}


def check(settings: Settings) -> None:
    """Raises DataError for a setting outside its range."""
    most = 100_000_000
    ranges = {"length": (1, 65_536), "validation_rows": (1, most), "train_rows": (0, most), "test_rows": (0, most)}
    check_ranges("text", settings, ranges)


def _build(settings: Settings, used: dict[str, Any], found: _sources.Found, folder: Path) -> _store.Built:
    """Fills a cache folder from the parquet files."""
    files = found.fetch()
    reviews = {split: _read(paths, folder) for split, paths in files.items()}
    labels = {split: held for split, (_, held) in reviews.items()}
    drawn = _split(settings, labels["train"], labels["test"])
    digests = {}
    for split, (source, rows) in drawn.items():
        shape = (len(rows), settings.length)
        digests[split] = _store.write_split(folder, split, shape, _blocks(*reviews[source], rows, settings.length))
    texts = {split: [reviews[source][0][row] for row in rows] for split, (source, rows) in drawn.items()}
    held = "the test split itself"
    if settings.text_validation == "held-out":
        held = f"{settings.validation_rows} training reviews, as many of each label, drawn by data.seed"
    about = {
        **_sources.describe(Text.name, HOME, found, files, {split: len(held) for split, held in labels.items()}),
        **used,
        "seed": settings.seed,
        "rows": {split: len(rows) for split, (_, rows) in drawn.items()},
        "split_rule": f"reviews in the order of their SHA-256; validation: {held}",
        "split_hash": {split: _draws.hash_of(rows) for split, (_, rows) in drawn.items()},
        "leakage": _leakage(texts),
    }
    return _store.Built(Spec(vocab=257, classes=2, length=settings.length), about, digests, {"label": NAMES})


def _read(paths: list[Path], folder: Path) -> tuple[list[bytes], np.ndarray]:
    """Reviews and labels (R,), in the order of the reviews' SHA-256. Raises DataError."""
    texts, labels = [], []
    for path in paths:
        first = len(texts)
        for block in _parquet.blocks(path, ["text", "label"], folder):
            labels.append(_parquet.labels_of(block, path, len(texts) - first, len(NAMES)))
            column = block["text"]
            if str(column.type) not in ("string", "large_string") or column.null_count:
                raise DataError(f"{path}: the column 'text' must hold a text in every row, it is {column.type}")
            texts += column.cast("large_binary").to_pylist()
    joined = np.concatenate(labels)
    keys = [hashlib.sha256(text).digest() for text in texts]
    order = sorted(range(len(texts)), key=lambda row: (keys[row], joined[row]))
    return [texts[row] for row in order], joined[order]


def _split(settings: Settings, train: np.ndarray, test: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """Split -> which files and which rows of them, from their labels. Raises DataError for more rows than there are."""
    name, seed = Text.name, settings.seed
    tested = ("test", _draws.part(name, "test_rows", seed, test, settings.test_rows))
    held, rest = tested, np.arange(len(train))
    if settings.text_validation == "held-out":
        rows = _draws.part(name, "validation_rows", seed, train, settings.validation_rows)
        held, rest = ("train", rows), np.delete(rest, rows)
        if not len(rest):
            raise DataError(f"text: data.validation_rows {len(rows)} leaves none of {len(train)} reviews to train on")
    kept = rest[_draws.part(name, "train_rows", seed, train[rest], settings.train_rows)]
    return {"train": ("train", kept), "validation": held, "test": tested}


def _leakage(texts: dict[str, list[bytes]]) -> dict[str, dict[str, float]]:
    """The shares of the reviews of validation and of test that training holds word for word, too."""
    known = set(texts["train"])
    return {
        split: {"reviews": sum(text in known for text in texts[split]) / len(texts[split])}
        for split in ("validation", "test")
    }


def _blocks(texts: list[bytes], labels: np.ndarray, rows: np.ndarray, length: int) -> Iterator[Split]:
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        values = np.zeros((len(block), length), np.uint8)
        lengths = np.empty(len(block), np.int32)
        for place, row in enumerate(block):
            kept = texts[row][:length] or b" "
            values[place, : len(kept)] = np.frombuffer(kept, np.uint8)
            lengths[place] = len(kept)
        yield Split(values, lengths, labels[block], {"label": (NAMES, labels[block].astype(np.uint8))})


task = Text()
