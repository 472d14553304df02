"""The folder of a run in progress: its checkpoint, metrics.jsonl, its lock, and the weights that it ends with."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from lra.errors import WorkError
from lra.results import layout
from lra.results.locks import locked
from lra.training.checkpoint import read_state, read_weights, write_state, write_weights
from lra.training.tracker import Tracker


@contextlib.contextmanager
def kept(path: Path) -> Iterator[None]:
    """Turns an OSError, such as that of a full disk, into a WorkError that says what to mend."""
    try:
        yield
    except OSError as error:
        raise WorkError(
            f"cannot write {path}: {error.strerror or error}; mend that, and the same command goes on from the last "
            "checkpoint"
        ) from error


class RunFolder:
    """The files of one run.

    Checkpoints and weights are replaced as a whole, so a kill at any moment leaves the previous file. metrics.jsonl is
    appended to, and cut back when the run resumes.
    """

    def __init__(self, folder: Path, tracker: Tracker | None = None):
        self.folder, self.tracker = folder, tracker or Tracker()
        self.resume, self.before = folder / layout.RESUME, folder / layout.RESUME_BEFORE
        self.doubtful = folder / layout.DOUBTFUL
        self.metrics, self.error = folder / layout.METRICS, folder / layout.ERROR

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the folder for this process. Raises BusyError when another process holds it."""
        return locked(self.folder / layout.LOCK)

    def save_state(self, state: dict[str, Any]) -> None:
        """Writes tensors and plain values; keeps the previous checkpoint. Raises WorkError."""
        with kept(self.resume):
            write_state(self.resume, self.before, state)

    def load_state(self) -> dict[str, Any] | None:
        """The newest intact state, on the CPU, or None. Raises WorkError when no file is intact."""
        return read_state(self.resume, self.before)

    def set_aside(self, doubtful: Callable[[float], bool]) -> Path | None:
        """Moves away the checkpoints whose time of writing is `doubtful`, and keeps only the newest of them.

        Returns the new path of that one, or None if there is none. Raises WorkError.
        """
        aside = [path for path in (self.before, self.resume) if path.exists() and doubtful(path.stat().st_mtime)]
        with kept(self.doubtful):
            for path in aside:
                path.replace(self.doubtful)
        return self.doubtful if aside else None

    def open_log(self, size: int) -> None:
        """Cuts metrics.jsonl back to its size when the checkpoint was saved, so that no line is written twice."""
        with kept(self.metrics), self.metrics.open("ab") as file:
            file.truncate(min(size, file.tell()))

    def log(self, line: dict[str, Any]) -> int:
        """Appends one line and returns the file's size. Raises WorkError."""
        with kept(self.metrics), self.metrics.open("ab") as file:
            file.write((json.dumps(line) + "\n").encode())
            size = file.tell()
        self.tracker.log(self.folder, line)
        return size

    def summarise(self, step: int, results: dict[str, float]) -> None:
        """Passes the final results of the run, such as its test accuracy, to the tracker."""
        self.tracker.summarise(self.folder, step, results)

    def save_weights(self, name: str, weights: dict[str, Tensor]) -> None:
        """Writes weights under a name, such as `last`. Raises WorkError."""
        path = self.folder / layout.weights_file(name)
        with kept(path):
            write_weights(path, weights)

    def load_weights(self, name: str) -> dict[str, Tensor]:
        """The weights saved under a name. Raises WorkError when they are missing or damaged."""
        path = self.folder / layout.weights_file(name)
        if not path.exists():
            raise WorkError(f"no weights at {path}: they are in work/ on the machine that trained the record")
        return read_weights(path)

    def finish(self) -> None:
        """Deletes what only a resumed or a failed run needs."""
        for path in (self.resume, self.before, self.doubtful, *self.folder.glob("error*.txt")):
            with contextlib.suppress(OSError):  # the next command tries again
                path.unlink(missing_ok=True)


class NoFolder:
    """Stands in for the run folder in every process but process 0; only a traceback may be written, to `error`."""

    def __init__(self, folder: Path, rank: int):
        self.folder, self.resume, self.error = folder, folder / layout.RESUME, folder / f"error-{rank}.txt"

    def save_state(self, state: dict[str, Any]) -> None: ...
    def load_state(self) -> None: ...
    def open_log(self, size: int) -> None: ...
    def log(self, line: dict[str, Any]) -> int:  # noqa: ARG002
        return 0

    def summarise(self, step: int, results: dict[str, float]) -> None: ...
    def save_weights(self, name: str, weights: dict[str, Tensor]) -> None: ...
