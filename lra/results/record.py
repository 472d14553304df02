"""The result of one run (attention x task x seed) as one JSON file; standard library only.

A record is written once and never changed: `done` and `diverged` are final, `failed` is retried. Its identity is the
hash of everything that changes the numbers; its name is `task-row-protocol-sSEED-identity.json`. To keep one more fact
of a run, add a field with its type to `Record`: writing, reading and checking follow from the annotation.
"""

import base64
import dataclasses
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lra.errors import RecordError
from lra.results import shapes
from lra.results.files import write_atomically
from lra.results.reading import (
    LARGEST,
    MOST_BYTES,
    PRECISIONS,
    encode_record,
    is_line,
    is_name,
    parse,
    read_record,
    wrong_fields,
)

SCHEMA_VERSION = 2  # version 2 added tuning and correct
RESULTS_VERSION = 3  # raised when numbers or identities change; 3: identities cover the shared pieces of a mechanism
FINAL = ("done", "diverged")
STATUSES = (*FINAL, "failed")
MOST_ROWS = 10**8  # of a test split


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run. Accuracies are fractions of 1; None where a run did not get that far."""

    kind_of_file: ClassVar[str] = "a record"
    shapes: ClassVar[Mapping[str, Any]] = {
        "attention": shapes.Mechanism,
        "backbone": shapes.Mechanism,
        "config": shapes.Config,
        "tuning": shapes.Tuning,
        "matched": shapes.Matched,
        "data": shapes.Data,
        "pretraining": shapes.Pretraining,
        "environment": shapes.Environment,
    }

    schema_version: int = SCHEMA_VERSION
    results_version: int = RESULTS_VERSION
    identity: str  # 12 hexadecimal digits
    status: str  # done, diverged or failed
    reason: str = ""  # why it failed, or the step it diverged at

    task: str
    row: str  # the name in tables: the attention and the options that differ from their defaults
    protocol: str  # name of the protocol, with the --set overrides: "quick", "standard[train.lr=0.001]"
    deviations: dict[str, str] = field(default_factory=dict)  # how the protocol differs from its source, by subject
    seed: int
    precision: str  # float32 or bfloat16

    attention: dict[
        str, Any
    ]  # name, title, control, paper, options, padding, source_hash, fidelity; a user's path and source
    backbone: dict[str, Any] = field(default_factory=dict)  # name, title, paper, ...; empty in older records: flat
    config: dict[str, Any]  # the resolved configuration
    config_hash: str = ""  # 12 hexadecimal digits over what differs from the defaults
    # of a sweep: values tried per key, pilots, pilot_seed, select, validation_accuracy of each, chosen; of a pilot run
    # {"pilot": True}
    tuning: dict[str, Any] = field(default_factory=dict)
    # by --match-params: to, mlp, protocol_mlp, difference (relative), config_hash of the unmatched row
    matched: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any]  # title, label, hash, source, rows {train, validation, test}, settings, terms
    ladder: dict[str, float] = field(default_factory=dict)  # trivial rung -> its accuracy on the test split
    parameters: dict[str, int] = field(default_factory=dict)  # total, without_embeddings, attention

    # one point per evaluation: step, train_loss, validation_loss, validation_accuracy, lr, seconds
    curve: list[dict[str, float]] = field(default_factory=list)
    # before the training: identity, by (the run that did it), shared, share, steps, seconds, tokens, curve (as above,
    # without accuracies), blind (see `blind_scores`), gear, weights (their hash), reason
    pretraining: dict[str, Any] = field(default_factory=dict)
    best_step: int | None = None
    validation_accuracy: float | None = None  # at the best step
    # on the test split, whole unless train.drop_last; of the best checkpoint by validation or the last (train.select)
    test_accuracy: float | None = None
    test_accuracy_last: float | None = None  # of the last checkpoint
    test_rows: int = 0
    learned: bool | None = None  # False: validation accuracy was never above a constant answer's by more than noise
    accuracy_by: dict[str, dict[str, float]] = field(default_factory=dict)  # group -> value -> test accuracy
    predictions: str = ""  # those behind test_accuracy, in the order of the test split: see pack and unpack
    correct: str = ""  # a bit for each prediction, set if it is right: see hits

    seconds: dict[str, float] = field(default_factory=dict)  # compile, train, evaluate
    tokens_per_second: float | None = None  # real tokens, training only
    peak_bytes: int | None = None
    environment: dict[str, Any] = field(default_factory=dict)  # commit, dirty, versions, device, threads, gear
    created: str = ""  # UTC, ISO 8601

    @property
    def name(self) -> str:
        """The file's stem, in the characters [a-z0-9._=-]."""
        return file_name(self.task, self.row, self.protocol, self.seed, self.identity)

    def wrong_values(self) -> list[str]:
        """Names of fields with impossible values: unknown words, malformed names, accuracies outside 0 to 1, ..."""
        wrong = [] if self.status in STATUSES else ["status"]
        wrong += [] if self.precision in PRECISIONS else ["precision"]
        wrong += [] if is_name(self.task) else ["task"]
        wrong += [name for name in ("row", "protocol", "identity") if not is_line(getattr(self, name))]
        accuracies = ("test_accuracy", "test_accuracy_last", "validation_accuracy")
        shares = [(name, getattr(self, name)) for name in accuracies]
        shares += [(f"ladder.{name}", value) for name, value in self.ladder.items()]
        shares += [(f"accuracy_by.{group}", value) for group, by in self.accuracy_by.items() for value in by.values()]
        shares += [("curve", point.get("validation_accuracy")) for point in self.curve]
        wrong += [name for name, share in shares if share is not None and not 0 <= share <= 1]
        sizes = [(name, getattr(self, name)) for name in ("seed", "best_step", "tokens_per_second", "peak_bytes")]
        sizes += [(f"parameters.{name}", value) for name, value in self.parameters.items()]
        sizes += [(f"seconds.{name}", value) for name, value in self.seconds.items()]
        sizes += [("curve", point.get("step")) for point in self.curve]
        wrong += ["curve"] if any("step" not in point for point in self.curve) else []
        wrong += [name for name, size in sizes if size is not None and not 0 <= size < LARGEST]
        if not 0 <= self.test_rows <= MOST_ROWS:
            return [*wrong, "test_rows"]
        packed = {"predictions": self.test_rows, "correct": -(-self.test_rows // 8)}
        return wrong + [name for name, size in packed.items() if not _holds(getattr(self, name), size)]


def file_name(task: str, row: str, protocol: str, seed: int, identity: str) -> str:
    """The name of a run's record and of its folder, in the characters [a-z0-9._=-], without an ending."""
    parts = (task, row, protocol, f"s{seed}", identity)
    return "-".join(re.sub(r"[^a-z0-9._=]+", ".", part.lower())[:60].strip(".") for part in parts)


def budget_of(tuning: dict[str, Any]) -> dict[str, Any]:
    """The part of `tuning` that is equal for two runs with the same tuning effort; empty for a run without tuning."""
    return {key: tuning[key] for key in ("select", "pilot_seed", "values") if key in tuning}


def pack(predictions: bytes) -> str:
    """Compress class indices, one byte each, to text for the record."""
    return base64.b85encode(zlib.compress(predictions, 9)).decode()


def unpack(text: str, most: int) -> bytes:
    """The inverse of `pack`. Raises ValueError where the text is damaged or holds more than `most` bytes."""
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(base64.b85decode(text), most + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(content) > most or not decompressor.eof:
        raise ValueError(f"it holds more than {most:,} bytes, or is cut short")
    return content


def _holds(text: str, size: int) -> bool:
    """Is this text empty, or the result of `pack` for `size` bytes?"""
    try:
        return not text or len(unpack(text, size)) == size
    except ValueError:
        return False


def hits(record: Record) -> list[bool] | None:
    """Whether the model answered each test row correctly; None for older records, which do not say.

    Raises RecordError where the text is damaged.
    """
    if not record.correct:
        return None
    try:
        packed = unpack(record.correct, -(-record.test_rows // 8))
    except ValueError as error:
        raise RecordError(f"{record.name} is damaged: correct: {error}") from error
    return [bool(packed[i // 8] >> (7 - i % 8) & 1) for i in range(record.test_rows)]


def faults(record: Record) -> list[str]:
    """What `load` would refuse in the file of this record, a few words each; empty if it could be read back."""
    try:
        content = encode_record(dataclasses.asdict(record))
        fields = parse(content)
    except (TypeError, ValueError, RecursionError) as error:
        return [str(error)[:200]]
    del fields["digest"]
    return [f"more than {MOST_BYTES:,} bytes"] if len(content) > MOST_BYTES else wrong_fields(record, fields)


def save(record: Record, folder: Path) -> Path:
    """Write `folder/name.json`. Raises RecordError if it cannot be written, or would replace a final record."""
    path = folder / f"{record.name}.json"
    if path.exists() and load(path).status in FINAL:
        raise RecordError(f"{path} is final and is not replaced; delete it to run it again")
    try:
        write_atomically(path, encode_record(dataclasses.asdict(record)))
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror}; mend that and run the same command again") from error
    return path


def load(path: Path) -> Record:
    """The record in a file. Raises RecordError, with the file's name, for a file that is none."""
    return read_record(Record, path, SCHEMA_VERSION)
