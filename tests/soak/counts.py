"""The plan of a soak: its limits, its counts and the table at its end; and work in a forked process."""

from __future__ import annotations

import os
import pickle
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FAULTS = ("tracebacks", "losses")  # any of these is a fault of the suite


@dataclass
class Plan:
    """The limits of the parts, and their results.

    folder: where all files go. seconds: of the part that runs, which began at `began`. kills, flips, tries: the most of
    each; flips for each kind of file. rows: of the table, (what, count). faults: a line for each thing that went wrong.
    """

    folder: Path
    seed: int
    kills: int
    flips: int
    tries: int
    seconds: float = 0.0
    rows: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def left(self) -> bool:
        """Whether the part that runs has time left."""
        return time.monotonic() - self.began < self.seconds

    def fault(self, kind: str, line: str, times: int = 1) -> None:
        """Counts and prints a fault; `kind` is one of FAULTS."""
        self.counts[kind] += times
        self.faults.append(f"{kind}: {line}")
        print(self.faults[-1], flush=True)

    def take(self, *names: str) -> None:
        """Adds the counts of these names to the rows of the table."""
        self.rows += [(name, str(self.counts[name])) for name in names]

    def table(self) -> str:
        """The table of all counts, in Markdown."""
        rows = [*self.rows, *((kind, str(self.counts[kind])) for kind in FAULTS)]
        return "\n".join(["| what | count |", "|:---|---:|", *(f"| {what} | {count} |" for what, count in rows)])


def isolated(work: Callable[[], Any]) -> Any:
    """Calls `work` in a fork of this process -> its result, or, if the fork failed, a sentence with its exit code."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            with os.fdopen(write_end, "wb") as pipe:
                pickle.dump(work(), pipe)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(content) if status == 0 else f"the process ended with {os.waitstatus_to_exitcode(status)}"
