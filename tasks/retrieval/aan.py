"""Pairs of AAN papers from files: LRA's own `new_aan_pairs.*.tsv`, or the compact docs.parquet with a list of pairs.

Both become the same thing: U documents as bytes, each once, and per split pairs of their numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tasks import _parquet, _progress
from tasks._data import DataError
from tasks._files import BOM, readable, sha256

LABELS = {b"0": 0, b"1": 1, b"0.0": 0, b"1.0": 1}
COLUMNS = ("split", "label", "id1", "id2")
SPLITS = {b"train": "train", b"eval": "validation", b"test": "test"}


@dataclass
class Papers:
    """Documents cut to `length` bytes and numbered as they come, each (id, text) once.

    Where an id has several texts, each is kept: the files say which one belongs to a pair. An empty text becomes one
    NUL byte, which no text contains: a sequence needs a token, and no sample is dropped.
    """

    length: int
    numbers: dict[tuple[bytes, bytes], int] = field(default_factory=dict)  # id, hash of the text -> number
    content: bytearray = field(default_factory=bytearray)  # rows of `length` bytes
    lengths: list[int] = field(default_factory=list)

    def add(self, name: bytes, text: bytes) -> int:
        """The number of this document, new or known."""
        text = text[: self.length]
        number = self.numbers.setdefault((name, hashlib.blake2b(text, digest_size=16).digest()), len(self.lengths))
        if number == len(self.lengths):
            self.content += text.ljust(self.length, b"\0")
            self.lengths.append(max(len(text), 1))
        return number

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Values (U, L) uint8 and lengths (U,)."""
        values = np.frombuffer(self.content, np.uint8).reshape(-1, self.length)
        return values, np.array(self.lengths, np.int32)


@dataclass(frozen=True)
class Read:
    """Values (U, L), lengths (U,), split -> pairs (R, 2) of rows of values and labels (R,), file -> SHA-256."""

    values: np.ndarray
    lengths: np.ndarray
    splits: dict[str, tuple[np.ndarray, np.ndarray]]
    sha256: dict[str, str]


def read_released(files: dict[str, Path], rows: dict[str, int], length: int, progress: bool) -> Read:
    """Reads each split's file in one pass. rows: lines that it must have. Raises DataError with the line of a fault."""
    papers, splits, hashes = Papers(length), {}, {}
    with readable():
        size = sum(path.stat().st_size for path in files.values())
    with _progress.bar("Reading Retrieval", "B", size, progress) as bar:
        for split, path in files.items():
            digest, pairs, labels = hashlib.sha256(), [], []
            for line, fields in _fields(path, 5, digest, bar):
                label, first, second, text1, text2 = fields
                labels.append(_label(label, path, line))
                pairs.append((papers.add(first, text1), papers.add(second, text2)))
            if len(labels) != rows[split]:
                raise DataError(
                    f"{path} has {len(labels):,} lines, the released file has {rows[split]:,}: it is cut short or "
                    "another file, unpack lra_release.gz again"
                )
            splits[split] = _arrays(pairs, labels)
            hashes[path.name] = digest.hexdigest()
    return Read(*papers.arrays(), splits, hashes)


def read_compact(documents: Path, listed: Path, length: int, folder: Path) -> Read:
    """docs.parquet (id, text) and a TSV with the header split, label, id1, id2. Raises DataError.

    `folder` holds a copy of the documents while they are read.
    """
    papers = Papers(length)
    numbers: dict[bytes, int] = {}
    for name, text in _texts(documents, length, folder):
        if name in numbers:
            raise DataError(f"{documents}: the id {_shown(name)} occurs twice")
        numbers[name] = papers.add(name, text)
    digest, listed_rows = hashlib.sha256(), {split: ([], []) for split in SPLITS.values()}
    lines = _fields(listed, len(COLUMNS), digest)
    _, header = next(lines, (1, []))
    if [name.decode("utf-8", "replace") for name in header] != [*COLUMNS]:
        raise DataError(f"{listed} line 1: the header must be {'<TAB>'.join(COLUMNS)}")
    for line, (split, label, *pair) in lines:
        if split not in SPLITS:
            raise DataError(f"{listed} line {line}: the split {_shown(split)} is none of train, eval, test")
        unknown = [name for name in pair if name not in numbers]
        if unknown:
            raise DataError(f"{listed} line {line}: {documents.name} has no document {_shown(unknown[0])}")
        pairs, labels = listed_rows[SPLITS[split]]
        pairs.append([numbers[name] for name in pair])
        labels.append(_label(label, listed, line))
    empty = [name.decode() for name, split in SPLITS.items() if not listed_rows[split][1]]
    if empty:
        raise DataError(f"{listed} has no rows of {' and '.join(empty)}: it is cut short")
    hashes = {documents.name: sha256(documents), listed.name: digest.hexdigest()}
    splits = {split: _arrays(*rows) for split, rows in listed_rows.items()}
    return Read(*papers.arrays(), splits, hashes)


def _fields(path: Path, columns: int, digest, bar: tqdm | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """Line number and fields of each line, split at tabs only: a quotation mark is a character like any other."""
    with readable(path), path.open("rb", buffering=2**20) as file:
        for number, line in enumerate(file, 1):
            digest.update(line)
            text = line.removeprefix(BOM) if number == 1 else line
            fields = text.rstrip(b"\r\n").split(b"\t")
            if len(fields) != columns:
                cut = ", the file may be cut short" if len(fields) < columns else ""
                raise DataError(f"{path} line {number} has {len(fields)} columns instead of {columns}{cut}")
            yield number, fields
            if bar is not None:
                bar.update(len(line))


def _texts(path: Path, length: int, folder: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yields each id with its text, all of it or at least the first `length` bytes. Raises DataError."""
    for block in _parquet.blocks(path, ["id", "text"], folder, advice="copy it again"):
        try:
            rows = block.to_pydict()
        except UnicodeDecodeError as error:
            raise DataError(f"{path} holds a text that is not UTF-8 ({error}): copy it again") from error
        for name, text in zip(rows["id"], rows["text"], strict=True):
            if not isinstance(text, str | None) or not isinstance(name, str | int):
                raise DataError(f"{path}: the columns must hold texts; id is {name!r:.40}, text {text!r:.40}")
            yield str(name).encode(), (text or "")[:length].encode()


def _label(text: bytes, path: Path, line: int) -> int:
    if text not in LABELS:
        raise DataError(f"{path} line {line}: the label must be 0 or 1 (or 0.0, 1.0), not {_shown(text)}")
    return LABELS[text]


def _arrays(pairs: list, labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(pairs, np.int32), np.array(labels, np.int64)


def _shown(text: bytes) -> str:
    return repr(text[:40].decode("utf-8", "replace"))
