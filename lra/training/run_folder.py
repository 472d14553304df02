"""The folder of a cell in progress: resume file, metrics.jsonl, lock, and the weights it ends with."""

import contextlib
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from lra.errors import WorkError
from lra.results.files import locked, write_atomically
from lra.training.tracker import Tracker


class Work:
    """Files of one cell. Every file is replaced as a whole, so a kill at any moment leaves the one before."""

    def __init__(self, folder: Path, tracker: Tracker | None = None):
        self.folder, self.tracker = folder, tracker or Tracker()
        self.resume, self.metrics, self.error = (folder / name for name in ("resume.pt", "metrics.jsonl", "error.txt"))

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the folder for this process. Raises BusyError when another process holds it."""
        return locked(self.folder / "lock")

    def save_state(self, state: dict[str, Any]) -> None:
        """Tensors and plain values; a digest goes in front, so that damage is noticed."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        write_atomically(self.resume, hashlib.sha256(content).digest() + content)

    def load_state(self) -> dict[str, Any] | None:
        """The saved state, on the CPU, or None. Raises WorkError when the file is damaged."""
        if not self.resume.exists():
            return None
        content = self.resume.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            raise WorkError(f"checkpoint {self.resume} is corrupt; delete it to start this cell again")
        return torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)

    def open_log(self, size: int) -> None:
        """Cuts metrics.jsonl back to what the resumed state had written, so that no line comes twice."""
        with self.metrics.open("ab") as file:
            file.truncate(min(size, file.tell()))

    def log(self, line: dict[str, Any]) -> int:
        """Appends one line and returns the file's size."""
        with self.metrics.open("ab") as file:
            file.write((json.dumps(line) + "\n").encode())
            size = file.tell()
        self.tracker.log(self.folder, line)
        return size

    def save_weights(self, name: str, weights: dict[str, Tensor]) -> None:
        write_atomically(self.folder / f"{name}.safetensors", save({k: v.contiguous() for k, v in weights.items()}))

    def load_weights(self, name: str) -> dict[str, Tensor]:
        """Raises WorkError when they are not there, or are damaged."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            raise WorkError(f"no weights at {path}: they lie in work/ on the machine that trained the record")
        try:
            return load_file(path)
        except Exception as error:
            raise WorkError(f"no usable weights at {path}: {error}") from error

    def finish(self) -> None:
        """Drops what only a resumed or a failed run needs."""
        for path in (self.resume, self.error):
            path.unlink(missing_ok=True)
