"""The progress bar of a grid whose runs are in other processes, with a line for each run that is under way."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from lra import console
from lra.console import clock, say
from lra.experiments.data import TaskData
from lra.experiments.job import Job
from lra.experiments.local.crew import tokens
from lra.training.progress import FORMAT

WHOLE = "{desc} {percentage:3.0f}%|{bar:24}|{postfix}"
SURE = 0.01  # share of the tokens of all runs that must be done before the time left is shown


class Board:
    """Draws 'k of n runs done', the time left, and a line for each run; draws nothing where stderr is no terminal.

    The time left is estimated from the tokens left and the speed so far.
    """

    def __init__(self, jobs: list[Job], prepared: dict[str, TaskData]):
        self.work = {job.title: tokens(job.run, prepared[job.run.data_key]) for job in jobs}
        self.shares: dict[str, float] = {}  # title -> the share of its steps that is done
        self.first: dict[str, float] = {}  # title -> that share when the run began or was resumed
        self.shown = console.bars() and sys.stderr.isatty()
        self.done, self.began = 0, time.monotonic()
        self.whole: tqdm | None = None
        self.rows: dict[str, tqdm] = {}

    def hear(self, title: str, message: dict[str, Any]) -> None:
        """Prints the line, or draws the progress, that the process of a run has sent; see `console.relay`."""
        if "line" in message:
            say(message["line"])
        elif self.shown:
            self.draw(title, **message)

    def draw(self, title: str, step: int, steps: int, words: str, phase: str) -> None:
        """Draws the progress of a run."""
        if self.whole is None:
            self.whole = tqdm(total=sum(self.work.values()), bar_format=WHOLE, dynamic_ncols=True)
        if title not in self.rows:
            self.rows[title] = tqdm(total=steps, bar_format=FORMAT, dynamic_ncols=True, leave=False)
        row = self.rows[title]
        row.total, row.n = steps, step
        row.set_description_str(f"{title} {phase}".strip(), refresh=False)
        row.set_postfix_str(words)
        if not phase:
            self.first.setdefault(title, step / steps)
            self.shares[title] = step / steps
        self.draw_whole()

    def draw_whole(self) -> None:
        """Draws the progress of all runs together."""
        if self.whole is None:
            return
        done = sum(self.work[title] * share for title, share in self.shares.items())
        gained = done - sum(self.work[title] * share for title, share in self.first.items())
        total = sum(self.work.values())
        left = (time.monotonic() - self.began) * (total - done) / gained if gained > SURE * total else None
        self.whole.n = round(done)
        self.whole.set_description_str(f"{self.done} of {len(self.work)} runs done", refresh=False)
        self.whole.set_postfix_str(f"{clock(left)} left" if left else "")

    def end(self, title: str) -> None:
        """Counts a run that has ended, whether it failed or not, and removes its line."""
        self.done += 1
        if title in self.rows:
            self.rows.pop(title).close()
        self.first.setdefault(title, 0.0)
        self.shares[title] = 1.0
        self.draw_whole()

    def close(self) -> None:
        """Clears what was drawn."""
        for bar in [*self.rows.values(), *([self.whole] if self.whole is not None else [])]:
            bar.leave = False
            bar.close()
