"""A run, packed to be sent to a process that this one has started."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import attention_zoo
import tasks
from lra.errors import WorkError
from lra.experiments.data import find_task
from lra.experiments.run import Run


@dataclass(frozen=True)
class PackedRun:
    """A pickled run, and the user's files to import before it is unpickled: a pickle only names what they define."""

    task_file: str  # of a user's task, or ""
    spec: str  # of the attention
    pickled: bytes

    @classmethod
    def of(cls, run: Run) -> PackedRun:
        return cls(str(tasks.file_of(run.task) or ""), run.spec, pickle.dumps(run))

    def unpack(self) -> Run:
        """Raises WorkError when the attention's file has changed since the run was packed."""
        if self.task_file:
            find_task(self.task_file, silent=True)  # the process that packed the run has printed its messages
        entry, _ = attention_zoo.find(self.spec)
        run: Run = pickle.loads(self.pickled)
        if entry.source_hash != run.attention.source_hash:
            raise WorkError(f"{entry.path} has changed since the command started; start it again")
        return run
