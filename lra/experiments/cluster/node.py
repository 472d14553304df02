"""The actor of a run on a node of the cluster. It starts a process of its own, which does the run.

The driver sends this module by value, so it imports the standard library only. The process runs exactly the driver's
code: from the same path if the content there is the same, else from a copy that the driver sends.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import IO, Any

PACKAGES = ("lra", "attention_zoo", "tasks")
RUN_PROCESS = "lra.experiments.cluster.run_process"
TAIL = 2000  # bytes at the end of a dead process's stderr that are reported
FOLDERS = ("LRA_CACHE", "LRA_DATA")  # variables that are passed on only if their folder exists on the node


def files_of(root: Path) -> list[Path]:
    """The files of the three packages, sorted by path."""
    files = [path for package in PACKAGES for path in (root / package).rglob("*") if path.is_file()]
    return sorted(path for path in files if "__pycache__" not in path.parts and path.suffix != ".pyc")


def digest_of(root: Path) -> str:
    """A hash of the names and contents of the files, 16 hexadecimal digits; empty if there are no files."""
    digest, files = hashlib.sha256(), files_of(root)
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16] if files else ""


def pack(root: Path, others: dict[str, bytes]) -> bytes:
    """The files as an archive. others: name -> content of further files beside the packages."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in files_of(root):
            file.write(path, path.relative_to(root).as_posix())
        for name, content in others.items():
            file.writestr(name, content)
    return archive.getvalue()


def find_code(root: Path, digest: str, archive: bytes) -> Path:
    """The folder with this code: the driver's path, or a copy in the cache, made if missing. Raises RuntimeError."""
    if digest_of(root) == digest:
        return root
    cache = Path(os.environ.get("LRA_CACHE") or Path.home() / ".cache" / "lra")
    copy = cache / "code" / digest
    if digest_of(copy) != digest:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent) as folder:
            zipfile.ZipFile(io.BytesIO(archive)).extractall(folder)
            with contextlib.suppress(OSError):  # another process of this node was faster
                Path(folder).rename(copy)
    if digest_of(copy) != digest:
        raise RuntimeError(f"{copy} is damaged; delete it")
    return copy


def environment(code: Path, given: dict[str, str]) -> dict[str, str]:
    """The variables of the process: the node's, and those of the driver that it lacks."""
    variables = dict(os.environ)
    variables.pop("OMP_NUM_THREADS", None)  # Ray's; the number of threads changes how sums are rounded
    for name, value in given.items():
        if name not in variables and (name not in FOLDERS or Path(value).is_dir()):
            variables[name] = value
    return variables | {"PYTHONPATH": str(code), "PYTHONUNBUFFERED": "1"}


class Node:
    """The actor. It passes messages of the process to the driver, and words of the driver to the process.

    order: what the process is to do, as a line of JSON. root, digest, archive: path, hash and files of the driver's
    code. given: environment variables of the driver.
    """

    def __init__(self, order: bytes, root: str, digest: str, archive: bytes, given: dict[str, str]):
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        code = find_code(Path(root), digest, archive)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", RUN_PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment(code, given),
        )
        self.write(order + b"\n")
        threading.Thread(target=self.read_on, args=(self.process.stdout,), daemon=True).start()

    def read_on(self, output: IO[bytes]) -> None:
        """Queues the messages of the process, then one with its exit code and the end of its stderr."""
        with output, self.errors as errors:
            for line in output:
                self.messages.put(json.loads(line))
            code = self.process.wait()
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - TAIL))
            self.messages.put({"exit": code, "errors": errors.read().decode(errors="replace")})

    def write(self, words: bytes) -> None:
        with contextlib.suppress(OSError):  # the process has ended, which its last message says
            assert self.process.stdin is not None
            self.process.stdin.write(words)
            self.process.stdin.flush()

    def listen(self, seconds: float) -> list[dict[str, Any]]:
        """The messages of the process since the last call; waits at most `seconds` for the first."""
        found = []
        with contextlib.suppress(queue.Empty):
            found.append(self.messages.get(timeout=seconds))
            while True:
                found.append(self.messages.get_nowait())
        return found

    def tell(self, word: str) -> None:
        """Sends a word to the process. stop: save the run and end. kept: the driver has the files of the run."""
        self.write(f"{word}\n".encode())

    def fetch(self, path: str) -> bytes:
        """The content of a file that the process has named."""
        return Path(path).read_bytes()
