"""The processes of one timing: started together, and ended together as soon as one of them fails."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from lra.bench.workload import Timing
from lra.results.bench_record import FAILED, NO_MEMORY, Bench
from lra.results.checkout import ROOT

if TYPE_CHECKING:
    from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

GRACE = 2.0  # seconds left to the process whose failure made others fail, to end by itself
LOST = "by peer"  # in "Connection closed by peer" or "reset by peer": another process has ended
PAUSE = 0.02  # seconds between two looks at the processes


@dataclass
class Process:
    """One of a timing's processes, number `rank`. store: where they meet; it must live as long as they do.

    stopped: it was killed before it ended by itself. bench: its record, if it ended with code 0. errors: its stderr.
    """

    rank: int
    popen: subprocess.Popen[str]
    files: tuple[IO[str], IO[str]]
    store: Store | None = None
    stopped: bool = False
    bench: Bench | None = None
    errors: str = ""

    def has_ended(self) -> bool:
        """Has it ended? The first call after its end reads what it wrote."""
        if self.popen.poll() is None:
            return False
        if not self.files[0].closed:
            output, self.errors = map(read, self.files)
            if self.code == 0:
                self.bench = Bench(**json.loads(output.splitlines()[-1]))
        return True

    @property
    def code(self) -> int | None:
        return self.popen.returncode

    @property
    def severity(self) -> int:
        """0 if it did not fail. Of several that failed, the one with the largest severity made the others fail."""
        if self.bench is None:
            return 3 if self.code is not None and self.code > 0 else 5
        failed = 1 if LOST in self.bench.reason else 2
        return {NO_MEMORY: 4, FAILED: failed}.get(self.bench.status, 0)


def start(command: list[str], timing: Timing) -> list[Process]:
    """Starts `command` once for each process of the timing; each of several gets a port and its rank."""
    from lra.training.distributed import open_store

    store = open_store() if timing.processes > 1 else None
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    environment |= {"OMP_NUM_THREADS": str(timing.threads)} if timing.threads else {}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": timing.cache} if timing.cache else {}
    processes: list[Process] = []
    try:
        for rank in range(timing.processes):
            place = [] if store is None else [str(store.port), str(rank)]
            processes.append(begin([*command, *place], timing, environment, rank, store))
    except BaseException:
        end(processes)
        raise
    return processes


def begin(command: list[str], timing: Timing, environment: dict[str, str], rank: int, store: Any) -> Process:
    files = temporary(), temporary()
    popen = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=files[0], stderr=files[1], text=True, env=environment
    )
    assert popen.stdin is not None
    with contextlib.suppress(OSError):  # it has ended already
        popen.stdin.write(json.dumps(dataclasses.asdict(timing)))
        popen.stdin.close()
    return Process(rank, popen, files, store)


def temporary() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8")


def wait(processes: list[Process], limit: float) -> None:
    """Returns when all have ended, soon after one has failed, or after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not all(process.has_ended() for process in processes) and time.monotonic() < deadline:
        if any(process.has_ended() and process.severity for process in processes):
            deadline = min(deadline, time.monotonic() + GRACE)
        time.sleep(PAUSE)


def end(processes: list[Process]) -> None:
    """Kills the processes that have not ended, and waits for all."""
    for process in processes:
        process.stopped = not process.has_ended()
        if process.stopped:
            process.popen.kill()
    for process in processes:
        process.popen.wait()
        process.has_ended()


def read(file: IO[str]) -> str:
    """All of a file, which is then closed."""
    with file:
        file.seek(0)
        return file.read()
