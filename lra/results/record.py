"""The result of one cell (attention x task x seed) as one JSON file; standard library only.

A record is written once and never changed: `done` and `diverged` are final, `failed` is retried. Its identity is the
hash of everything that changes the numbers; its name is `task-row-protocol-sSEED-identity.json`.
"""

import base64
import dataclasses
import json
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lra.errors import RecordError
from lra.results.files import write_atomically

SCHEMA_VERSION = 2  # 2: tuning, correct
RESULTS_VERSION = 3  # raised when numbers or identities change; 3: identities cover the shared pieces of a mechanism
FINAL = ("done", "diverged")
STATUSES = (*FINAL, "failed")
KINDS = {
    **dict.fromkeys(
        ("identity", "status", "task", "row", "protocol", "precision", "predictions", "correct", "created", "reason"),
        str,
    ),
    **dict.fromkeys(
        (
            "attention",
            "config",
            "data",
            "deviations",
            "ladder",
            "parameters",
            "accuracy_by",
            "seconds",
            "tuning",
            "matched",
        ),
        dict,
    ),
    "curve": list,
    "seed": int,
    "test_rows": int,
    **dict.fromkeys(("test_accuracy", "test_accuracy_last", "validation_accuracy"), float | int | None),
}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One cell. Accuracies are fractions of 1; None where a run did not get that far."""

    schema_version: int = SCHEMA_VERSION
    results_version: int = RESULTS_VERSION
    identity: str  # 12 hexadecimal digits
    status: str  # done, diverged or failed
    reason: str = ""  # why it failed, or the step it diverged at

    task: str
    row: str  # the name in tables: the attention and the options that differ from their defaults
    protocol: str  # name of the protocol, with the --set overrides: "quick", "standard[train.lr=0.001]"
    deviations: dict[str, str] = field(default_factory=dict)  # in what the protocol differs from its source, and how
    seed: int
    precision: str  # float32 or bfloat16

    attention: dict[str, Any]  # name, title, paper, options, padding, source_hash, fidelity; a user's path and source
    config: dict[str, Any]  # the resolved configuration
    config_hash: str = ""  # 12 hexadecimal digits over what differs from the defaults
    # of a sweep: values tried per key, pilots, pilot_seed, select, validation_accuracy of each, chosen; {"pilot": True}
    tuning: dict[str, Any] = field(default_factory=dict)
    # by --match-params: to, mlp, protocol_mlp, difference (relative), config_hash of the row that it stands beside
    matched: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any]  # label, hash, source, rows {train, validation, test}, settings, terms
    ladder: dict[str, float] = field(default_factory=dict)  # trivial rung -> its accuracy on the test split
    parameters: dict[str, int] = field(default_factory=dict)  # total, without_embeddings, attention

    # one point per evaluation: step, train_loss, validation_loss, validation_accuracy, lr, seconds
    curve: list[dict[str, float]] = field(default_factory=list)
    best_step: int | None = None
    validation_accuracy: float | None = None  # at the best step
    # on the test split, whole unless train.drop_last; of the best checkpoint by validation, or by train.select the last
    test_accuracy: float | None = None
    test_accuracy_last: float | None = None  # of the last checkpoint
    test_rows: int = 0
    learned: bool | None = None  # False: validation accuracy never left the binomial band around the constant answer
    accuracy_by: dict[str, dict[str, float]] = field(default_factory=dict)  # group -> value -> test accuracy
    predictions: str = ""  # behind test_accuracy, test split in order: see pack and unpack
    correct: str = ""  # which of them are right, a bit each: see hits

    seconds: dict[str, float] = field(default_factory=dict)  # compile, train, evaluate
    tokens_per_second: float | None = None  # real tokens, training only
    peak_bytes: int | None = None
    environment: dict[str, Any] = field(default_factory=dict)  # commit, dirty, versions, device, threads, gear
    created: str = ""  # UTC, ISO 8601

    @property
    def name(self) -> str:
        """The file's stem, in the characters [a-z0-9._=-]."""
        parts = (self.task, self.row, self.protocol, f"s{self.seed}", self.identity)
        return "-".join(re.sub(r"[^a-z0-9._=]+", ".", part.lower())[:60].strip(".") for part in parts)


def budget_of(tuning: dict[str, Any]) -> dict[str, Any]:
    """What must be equal for two runs to have been tuned alike; nothing for a run that was not tuned."""
    return {key: tuning[key] for key in ("select", "pilot_seed", "values") if key in tuning}


def pack(predictions: bytes) -> str:
    """Class indices, one byte each -> text for the record."""
    return base64.b85encode(zlib.compress(predictions, 9)).decode()


def unpack(text: str) -> bytes:
    """The inverse of `pack`."""
    return zlib.decompress(base64.b85decode(text))


def hits(record: Record) -> list[bool] | None:
    """Whether each test row was answered rightly; None for a record that does not say."""
    if not record.correct:
        return None
    try:
        packed = unpack(record.correct)
    except (ValueError, zlib.error) as error:
        raise RecordError(f"{record.name} is damaged: correct: {error}") from error
    return [bool(packed[i // 8] >> (7 - i % 8) & 1) for i in range(record.test_rows)]


def save(record: Record, folder: Path) -> Path:
    """Writes `folder/name.json`. Raises RecordError rather than replace a final record."""
    path = folder / f"{record.name}.json"
    if path.exists() and load(path).status in FINAL:
        raise RecordError(f"{path} is final and stays as it is; delete it to run the cell again")
    try:
        write_atomically(path, (json.dumps(dataclasses.asdict(record), indent=1) + "\n").encode())
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror}; make room and run the same command again") from error
    return path


def load(path: Path) -> Record:
    """Reads one record. Raises RecordError for anything else, naming the file."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = int(fields["schema_version"])
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such file or folder") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is not a record: {error}") from error
    if version > SCHEMA_VERSION:
        raise RecordError(f"{path} has schema {version}; this version reads up to {SCHEMA_VERSION}: upgrade lra")
    try:
        record = Record(**fields)
    except TypeError as error:
        raise RecordError(f"{path} is not a record: {error}") from error
    wrong = [name for name, kind in KINDS.items() if not isinstance(getattr(record, name), kind)]
    if not wrong:
        wrong += [] if all(isinstance(point, dict) for point in record.curve) else ["curve"]
        wrong += [] if all(isinstance(accuracy, float | int) for accuracy in record.ladder.values()) else ["ladder"]
        wrong += [] if all(isinstance(by, dict) for by in record.accuracy_by.values()) else ["accuracy_by"]
        shares = ("test_accuracy", "test_accuracy_last", "validation_accuracy")
        wrong += [name for name in shares if (share := getattr(record, name)) is not None and not 0 <= share <= 1]
    if wrong or record.status not in STATUSES:
        raise RecordError(f"{path} is not a record: bad {', '.join(wrong) or 'status'}")
    return record
