"""One measurement of time and memory as one JSON file; standard library only.

A file is written once and never replaced: its name ends with the hash of its content, so that measuring again adds a
file. `read_benches` finds the files, `newest` keeps the latest record of each cell.
"""

import dataclasses
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lra.errors import RecordError
from lra.hashing import identity_of
from lra.results.files import write_atomically
from lra.results.reading import PRECISIONS, encode_record, is_line, is_name, read_record
from lra.results.shapes import Environment, Mechanism

SCHEMA_VERSION = 1
UNIFORM = "uniform"  # the shape of batches whose sequences all have one length
FOLDER = "bench"  # below the folder of the runs' records
DONE, NO_MEMORY, TOO_SLOW, FAILED = "done", "out of memory", "over budget", "failed"
STATUSES = (DONE, NO_MEMORY, TOO_SLOW, FAILED)
MODES = ("training", "forward")
GEARS = ("auto", "eager", "compiled", "captured")
MOST = 1e30  # the most bytes, tokens, operations or seconds that a record may hold: sums stay far below overflow


@dataclass(frozen=True, kw_only=True)
class Bench:
    """An attention at one length: seconds of a step and the memory it takes; None for what was not measured."""

    kind_of_file: ClassVar[str] = "a bench record"
    shapes: ClassVar[Mapping[str, Any]] = {"attention": Mechanism, "environment": Environment}

    schema_version: int = SCHEMA_VERSION
    kind: str = "bench"
    status: str  # done, out of memory, over budget or failed
    reason: str = ""  # why there is no figure

    row: str  # the attention's name in tables
    shape: str  # "uniform": every sequence has `length` tokens; else the task whose samples were taken
    protocol: str  # the protocol that the model is from, with its overrides
    length: int  # tokens of the longest sequence
    batch: int  # samples in a step
    mode: str  # training: forward, backward, optimiser; forward: evaluation
    gear: str  # the one asked for: auto, eager, compiled, captured; `environment` holds the one that ran
    processes: int = 1  # how many shared each step
    cold: bool = False  # whether the compiler's cache was empty
    precision: str  # float32 or bfloat16

    attention: dict[str, Any]  # name, title, cost, options, source_hash
    model: dict[str, Any]  # the encoder around it: layers, dim, heads, mlp, ...
    parameters: dict[str, int] = field(default_factory=dict)  # total, without_embeddings, attention

    seconds: list[float] = field(default_factory=list)  # of one step: one figure per repeat, after the warm-up
    steps: int = 0  # in a repeat
    run_steps: float = 0.0  # of a whole run, or of its evaluations if mode is forward; 0 for a step that no run has
    start_seconds: float | None = None  # the very first step: compilation, capture, loading of libraries
    real_tokens: float | None = None  # of one step
    computed_tokens: float | None = None  # of one step, padding included
    flops: int | None = None  # of one step: matrix products over its samples' own lengths, see lra.bench.flops
    peak_bytes: int | None = None  # CUDA: allocated; CPU: resident, the whole process (the first of several)
    held_bytes: int | None = None  # the same between steps: parameters, optimiser, data; on a CPU also the libraries
    environment: dict[str, Any] = field(default_factory=dict)  # commit, versions, device, cores, threads, alone
    created: str = ""  # UTC, ISO 8601

    @property
    def name(self) -> str:
        """The file's stem, in the characters [a-z0-9._=-]."""
        content = identity_of(dataclasses.asdict(self))
        parts = ("bench", self.row, self.shape, str(self.length), self.mode, content)
        return "-".join(re.sub(r"[^a-z0-9._=]+", ".", part.lower())[:60].strip(".") for part in parts)

    @property
    def cell(self) -> tuple[Any, ...]:
        """What was measured, and where: two files with the same cell are two measurements of one thing."""
        length = self.length if self.shape == UNIFORM else 0
        return (self.row, self.shape, length, self.batch, self.mode, self.cold, self.run_steps > 0, *self.setting)

    @property
    def setting(self) -> tuple[Any, ...]:
        """What figures must share to be compared: device, threads, processes, gear, precision, protocol."""
        machine = tuple(self.environment.get(key) for key in ("device", "device_name", "threads"))
        return (*machine, self.processes, self.gear, self.precision, self.protocol)

    @property
    def median(self) -> float | None:
        """Median seconds of a step; None without a repeat."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def quartiles(self) -> tuple[float, float] | None:
        """First and third quartile of the seconds of a step: a single repeat twice, None without a repeat."""
        if len(self.seconds) < 2:
            return (self.seconds[0], self.seconds[0]) if self.seconds else None
        first, _, third = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return first, third

    @property
    def hours(self) -> float | None:
        """Hours that the steps of this mode take in a whole run; None where these are not known."""
        return self.run_steps * self.median / 3600 if self.run_steps and self.median else None

    @property
    def step_bytes(self) -> int | None:
        """Memory a step takes beyond what is held between steps."""
        if self.peak_bytes is None or self.held_bytes is None:
            return None
        return max(0, self.peak_bytes - self.held_bytes)

    def per_second(self, amount: float | None) -> float | None:
        """Tokens or FLOPs of a step -> the same per second, by the median time."""
        return amount / self.median if amount is not None and self.median else None

    def wrong_values(self) -> list[str]:
        """Names of fields with impossible values: unknown words, text of several lines, sizes or times out of range."""
        kinds = {"kind": ("bench",), "status": STATUSES, "precision": PRECISIONS, "mode": MODES}
        wrong = [name for name, known in kinds.items() if getattr(self, name) not in known]
        wrong += [name for name in ("row", "protocol", "gear") if not is_line(getattr(self, name))]
        wrong += [] if is_name(self.shape) else ["shape"]
        wrong += [name for name in ("batch", "processes") if getattr(self, name) < 1]
        known = self.shape == UNIFORM or self.status == DONE  # a task that could not be measured may have no length
        wrong += ["length"] if self.length < (1 if known else 0) else []
        wrong += [] if all(second > 0 for second in self.seconds) else ["seconds"]
        optional = ("start_seconds", "real_tokens", "computed_tokens", "flops", "peak_bytes", "held_bytes", "run_steps")
        return wrong + [name for name in optional if not 0 <= (getattr(self, name) or 0) <= MOST]


def is_bench(path: Path) -> bool:
    """Whether the file's name is that of a bench record."""
    return path.name.startswith("bench-") and path.suffix == ".json"


def json_files(folder: Path) -> list[Path]:
    """The .json files of a folder, sorted. Raises PermissionError if it may not be read, where `glob` finds nothing."""
    return sorted(file for file in folder.iterdir() if file.suffix == ".json")


def save(bench: Bench, folder: Path) -> Path:
    """Writes `folder/name.json`. Raises RecordError."""
    path = folder / f"{bench.name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_atomically(path, encode_record(dataclasses.asdict(bench)))
    except OSError as error:
        raise RecordError(f"cannot write {path}: {error.strerror}; make room, or choose another --out") from error
    return path


def load(path: Path) -> Bench:
    """The bench record in a file. Raises RecordError, with the file's name, for a file that is none."""
    return read_record(Bench, path, SCHEMA_VERSION)


def read_benches(paths: Sequence[Path]) -> tuple[list[Bench], list[str]]:
    """Every bench record in these files and folders, oldest first, and one line for each unreadable file.

    A folder is searched together with its folder `bench`. Other files, such as records of runs, are passed over.
    """
    files: list[Path] = []
    for path in paths:
        folders = [folder for folder in (path, path / FOLDER) if folder.is_dir()]
        inside = [file for folder in folders for file in json_files(folder)] if folders else [path]
        files += sorted(file for file in inside if is_bench(file))
    benches, problems = [], []
    for file in dict.fromkeys(files):
        try:
            benches.append(load(file))
        except RecordError as error:
            problems.append(str(error))
    return sorted(benches, key=lambda bench: (bench.created, bench.name)), problems


def newest(benches: Iterable[Bench]) -> list[Bench]:
    """The latest record of each cell, in the order in which the cells first appear. benches: oldest first."""
    latest: dict[tuple[Any, ...], Bench] = {}
    for bench in benches:
        latest[bench.cell] = bench
    return list(latest.values())


def commonest(benches: Sequence[Bench], lengths: Sequence[int]) -> int:
    """The one of these lengths that most of the measurements have, so that a column holds a single length."""
    return max(lengths, key=lambda length: sum(bench.length == length for bench in benches))
