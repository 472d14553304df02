"""What a soak counts, how long it may take, and the table that it ends with."""

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
    """What the parts are asked for, and what they have found.

    folder: for all files. seconds: for the part that runs. kills, flips, tries: how many of each, at most; flips of
    each kind. rows: of the table, what and how many. faults: what went wrong, a line each.
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
        """May the part that runs go on?"""
        return time.monotonic() - self.began < self.seconds

    def fault(self, kind: str, line: str, times: int = 1) -> None:
        """Notes a fault, of one of FAULTS."""
        self.counts[kind] += times
        self.faults.append(f"{kind}: {line}")
        print(self.faults[-1], flush=True)

    def take(self, *names: str) -> None:
        """Moves counts to the rows of the table."""
        self.rows += [(name, str(self.counts[name])) for name in names]

    def table(self) -> str:
        """Markdown."""
        rows = [*self.rows, *((kind, str(self.counts[kind])) for kind in FAULTS)]
        return "\n".join(["| what | count |", "|:---|---:|", *(f"| {what} | {count} |" for what, count in rows)])


def isolated(work: Callable[[], Any]) -> Any:
    """Does the work in a copy of this process -> what it returns, or how the copy ended, in words."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            with os.fdopen(theirs, "wb") as pipe:
                pickle.dump(work(), pipe)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(content) if status == 0 else f"the process ended with {os.waitstatus_to_exitcode(status)}"
