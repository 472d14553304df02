"""A command in a process that can be killed, with all that it starts; and what its grid has left on disk.

Most commands run in a copy of this process, which has imported PyTorch already: a start then takes a tenth of a second
and not three, and what is killed is nearly always a run. The others are started as a user does, with workers.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from lra.cli import main

ROOT = Path(__file__).parents[2]
CHANGING = ("digest", "seconds", "tokens_per_second", "peak_bytes", "environment", "created")  # times and the machine
AGE = 7200  # seconds after which leftovers may be removed


class Command:
    """A command that runs. said: the file that holds what it prints. fresh: start a new interpreter."""

    def __init__(self, words: list[str], said: Path, *, fresh: bool = False):
        self.words, self.said, self.code = words, said, None
        self.process = None
        if fresh:
            with said.open("wb") as file:
                program = [sys.executable, "run_lra.py", *words]
                nowhere = subprocess.DEVNULL
                self.process = subprocess.Popen(program, cwd=ROOT, stdout=nowhere, stderr=file, start_new_session=True)
        self.pid = self.process.pid if self.process else self.fork()

    def fork(self) -> int:
        """The process number of a copy of this process that runs the command."""
        child = os.fork()
        if child:
            return child
        code = 70
        try:
            os.setsid()
            nowhere, said = os.open(os.devnull, os.O_RDWR), os.open(self.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for number, to in ((nowhere, 0), (nowhere, 1), (said, 2)):
                os.dup2(number, to)
            code = main(self.words)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs."""
        if self.code is None and self.process:
            self.code = self.process.poll()
        elif self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self, seconds: float) -> int | None:
        """Waits for its end, at most so long."""
        deadline = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.code

    def members(self) -> list[int]:
        """The processes of its session that are alive, itself included."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.pid and fields[0] != "Z":
                    found.append(int(path.parent.name))
        return found

    def kill(self, pid: int = 0) -> None:
        """SIGKILL to one process of the command, or to all of them."""
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGKILL)
            else:
                os.killpg(self.pid, signal.SIGKILL)

    def text(self) -> str:
        return self.said.read_text(encoding="utf-8", errors="replace")


def contents(out: Path) -> dict[str, str]:
    """Name -> what each final record holds, as it is written, without times and what the machine is."""
    found = {}
    for path in sorted(out.glob("listops-*.json")):
        fields = json.loads(path.read_bytes())
        if fields["status"] == "failed":
            continue
        pretraining = fields["pretraining"]
        for name in CHANGING:
            fields.pop(name)
        for name in ("seconds", "by", "shared"):  # which run has done it, of those that share it
            pretraining.pop(name, None)
        for point in [*fields["curve"], *pretraining.get("curve", [])]:
            point.pop("seconds")
        found[path.name] = json.dumps(fields, indent=1)
    return found


def leftovers(out: Path) -> list[str]:
    """Files that only a run that is under way needs."""
    strange = (".tmp", ".taken", ".claim", ".pt")
    return [str(path.relative_to(out)) for path in out.rglob("*")
            if path.name.endswith(strange) or path.name.startswith(".probe-") or path.name == "run.json"]  # fmt: skip


def age(out: Path) -> None:
    """Makes all files so old that the next command may remove what killed processes left."""
    for path in out.rglob("*"):
        with contextlib.suppress(OSError):
            os.utime(path, (time.time() - AGE, time.time() - AGE))
