"""A command in a process that can be killed with all processes that it starts, and the files that its grid leaves.

Most commands run in a fork of this process, which has already imported PyTorch: a start takes 0.1 s instead of 3 s, so
that a kill nearly always meets a run. The others, some of those with workers, start a new interpreter, as a user does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from computed import computed_in

from lra.cli import main

ROOT = Path(__file__).parents[2]
AGE = 7200  # seconds after which a command may remove leftovers


class Command:
    """A running command. said: the file with its stderr. fresh: start a new interpreter instead of forking this one."""

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
        """Forks this process to run the command, and returns the child's process id."""
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
        """Waits for the command to end, at most `seconds`; returns its exit code, or None if it still runs."""
        deadline = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.code

    def members(self) -> list[int]:
        """The ids of the living processes in the command's session, itself included."""
        pids = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, ValueError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.pid and fields[0] != "Z":
                    pids.append(int(path.parent.name))
        return pids

    def kill(self, pid: int = 0) -> None:
        """Sends SIGKILL to the process `pid` of the command, or to all of its processes."""
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGKILL)
            else:
                os.killpg(self.pid, signal.SIGKILL)

    def text(self) -> str:
        return self.said.read_text(encoding="utf-8", errors="replace")


def contents(out: Path) -> dict[str, str]:
    """File name -> what the run computed, of each final record of ListOps."""
    return computed_in(out, "listops-*.json")


def leftovers(out: Path) -> list[str]:
    """Files that only a running command needs, and none may leave behind."""
    strange = (".tmp", ".taken", ".claim", ".pt")
    return [str(path.relative_to(out)) for path in out.rglob("*")
            if path.name.endswith(strange) or path.name.startswith(".probe-") or path.name == "run.json"]  # fmt: skip


def age(out: Path) -> None:
    """Sets the times of all files back by AGE, so that the next command may remove what killed processes left."""
    for path in out.rglob("*"):
        with contextlib.suppress(OSError):
            os.utime(path, (time.time() - AGE, time.time() - AGE))
