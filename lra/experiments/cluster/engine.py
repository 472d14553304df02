"""The engine that runs jobs on a Ray cluster, and moves a run to another node when its node is lost.

Ray starts the actors and reports when one has died, but restarts none (max_restarts=0). This module moves a lost run,
after a line that says so, and the run continues from the last checkpoint that it can reach on its new node.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from lra import signals
from lra.console import say
from lra.errors import BusyError, RecordError
from lra.experiments.board import Board
from lra.experiments.cluster import node as node_module
from lra.experiments.cluster.connect import Needs, slots
from lra.experiments.cluster.order import keep, order_of, variables
from lra.experiments.data import TaskData
from lra.experiments.engine import Ending, ending_in_words
from lra.experiments.job import Job
from lra.experiments.plan import Request
from lra.results.checkout import COPIED_FROM, ROOT, commit
from lra.results.files import write_atomically
from lra.results.locks import stale_after

TRIES = 3  # losses in a row, without a step between them, that a run survives
ATTENTIVE = 0.5  # seconds within which a signal is noticed
LISTENS = 1.0  # seconds that a node waits for a message of its process
LOOK_AGAIN = 5.0  # seconds between looks for nodes that have joined
MARGIN = 10.0  # seconds that a run's former process may need to end


@dataclass
class Placement:
    """A job and where it runs.

    actor: the Ray actor that starts its process. node: the machine of its process. Both are empty while the job waits.
    step: the last step reported. losses: how often in a row its node was lost without a step beyond lost_at. held: the
    lock of a job whose node cannot reach the output folder; this process holds it instead.
    """

    job: Job
    actor: Any = None
    node: str = ""
    step: int = 0
    losses: int = 0
    lost_at: int = 0
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)


class Ray:
    """The engine. ray: the module, connected. prepared: data by `Run.data_key`."""

    def __init__(self, ray: Any, needs: Needs, prepared: dict[str, TaskData], request: Request):
        self.ray, self.needs, self.prepared, self.request = ray, needs, prepared, request
        self.running: dict[Any, Placement] = {}  # by the Ray reference to the next messages of its process
        self.far: set[str] = set()  # far nodes: those that cannot reach the output folder
        self.places, self.looked, self.stopping = 0, 0.0, False
        self.token = request.out / f".ray.{uuid.uuid4().hex}.tmp"  # `remove_leftovers` knows the name

    def run(self, jobs: list[Job], board: Board) -> Generator[Ending, None, None]:
        """See `Engine`."""
        waiting = [Placement(job) for job in jobs]
        self.board = board
        try:
            self.prepare()
            with signals.held():
                while self.running or (waiting and not self.stopping):
                    while waiting and not self.stopping and len(self.running) < self.count_places():
                        self.start(waiting.pop(0))
                    for reply in self.wait():
                        placement = self.running.pop(reply)
                        ending = self.attend(placement, reply)
                        if placement.actor is None and ending is None:
                            waiting.insert(0, placement)
                        if ending is not None:
                            yield ending
                    if signals.asked() and not self.stopping:
                        self.stop()
        finally:
            for placement in list(self.running.values()):
                self.release(placement)
            self.token.unlink(missing_ok=True)

    def prepare(self) -> None:
        """Sends the code to the cluster, and writes a file that tells a node whether it can reach the output folder."""
        write_atomically(self.token, b"")
        self.ray.cloudpickle.register_pickle_by_value(node_module)
        self.digest = node_module.digest_of(ROOT)
        self.archive = self.ray.put(node_module.pack(ROOT, {COPIED_FROM: json.dumps(commit()).encode()}))
        settings = {"num_cpus": self.needs.cpus, "num_gpus": self.needs.gpus, "max_restarts": 0}
        self.actors = self.ray.remote(**settings)(node_module.Node)

    def count_places(self) -> int:
        """How many runs the cluster takes at a time, counted anew every LOOK_AGAIN seconds because nodes may join."""
        if time.monotonic() - self.looked > LOOK_AGAIN or not self.looked:
            places = slots(self.ray, self.needs)
            if not places and (self.places or not self.looked):
                say(f"no node of the cluster has {self.needs}, which each run needs: the runs wait until one joins")
            self.places, self.looked = places, time.monotonic()
        return self.places

    def start(self, placement: Placement) -> None:
        """Starts the actor of a run, on a node that the cluster chooses."""
        with contextlib.suppress(OSError):
            self.token.touch()  # else another command would take it for a leftover after an hour
        patience = MARGIN + (stale_after() if placement.losses else 0.0)
        about = {"token": self.token.name, "gpu": self.needs.gpus > 0, "bars": self.board.shown, "patience": patience}
        order = order_of(placement.job, self.prepared[placement.job.run.data_key], self.request, **about)
        placement.actor = self.actors.remote(order, str(ROOT), self.digest, self.archive, variables())
        self.listen(placement)

    def listen(self, placement: Placement) -> None:
        self.running[placement.actor.listen.remote(LISTENS)] = placement

    def wait(self) -> list[Any]:
        """The references in `running` that have an answer, or a lost node; waits for one for ATTENTIVE seconds."""
        if not self.running:
            time.sleep(ATTENTIVE)
            return []
        ready, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        return ready or self.ray.wait(list(self.running), timeout=ATTENTIVE)[0]

    def stop(self) -> None:
        """Asks the processes to save their runs."""
        self.stopping = True
        for placement in self.running.values():
            placement.actor.tell.remote("stop")

    def attend(self, placement: Placement, reply: Any) -> Ending | None:
        """Handles the messages of a run's process. Returns the Ending of a job that ended; a lost one has no actor."""
        try:
            for message in self.ray.get(reply):
                if "ended" in message:
                    return self.finish(placement, message)
                if "exit" in message:
                    return self.lose(placement, death_of(message))
                if "node" in message and not self.settle(placement, **message):
                    self.release(placement)
                    return Ending(placement.job)
                self.note(placement, message)
        except self.ray.exceptions.RayError as error:
            return self.lose(placement, loss_of(error))
        self.listen(placement)
        return None

    def settle(self, placement: Placement, node: str, shared: bool) -> bool:
        """Notes the node of a process that started, and locks the job of a far one. Returns whether the job is free."""
        placement.node = node
        if shared:
            return True
        if node not in self.far:
            here = f"{node} cannot reach {self.request.out}"
            say(f"{here}: its runs send their records back when they end; their checkpoints stay there")
            self.far.add(node)
        try:
            placement.held.enter_context(placement.job.folder.lock())
        except BusyError as error:
            say(f"{placement.job.title}: {error}; skipped")
            return False
        placement.job.record = placement.job.outcome()
        return not placement.job.final

    def note(self, placement: Placement, message: dict[str, Any]) -> None:
        """Notes and draws the progress of a run, and prints from which step a lost run continues."""
        if "start" in message:
            placement.step = message["start"]
            if placement.losses:
                how = (
                    f"goes on from step {placement.step}"
                    if placement.step
                    else "no checkpoint can be reached, so it starts from the beginning"
                )
                say(f"{placement.job.title}: {how} on {placement.node}")
        elif "node" not in message:
            placement.step = message.get("step", placement.step)
            self.board.hear(placement.job.title, message)

    def finish(self, placement: Placement, answer: dict[str, Any]) -> Ending | None:
        """Fetches the files of a run from a far node. Returns None if the run was stopped, or moves to another node."""
        if answer.get("stopped") and not self.stopping:
            return self.lose(placement, "it was asked to stop")
        problem = answer.get("problem", "")
        if files := answer.get("files"):
            contents = {name: self.ray.get(placement.actor.fetch.remote(path)) for name, path in files.items()}
            try:
                keep(placement.job, contents)
            except (RecordError, OSError) as error:  # such as a full disk, which the other runs may survive
                problem = str(error)
            else:
                self.ray.get(placement.actor.tell.remote("kept"))
                if answer.get("final"):  # wait while it deletes the files, which are here now
                    self.ray.get(placement.actor.listen.remote(MARGIN))
        self.release(placement)
        return None if answer.get("stopped") else Ending(placement.job, problem=problem)

    def lose(self, placement: Placement, why: str) -> Ending | None:
        """Handles a lost node or process: the run moves, or fails after more than TRIES losses without a step."""
        title, node = placement.job.title, placement.node or "a node"
        self.release(placement)
        if self.stopping:
            return None
        placement.losses = 1 if placement.step > placement.lost_at else placement.losses + 1
        placement.lost_at = max(placement.step, placement.lost_at)
        if placement.losses > TRIES:
            return Ending(
                placement.job, failure=f"lost {placement.losses} times in a row without a step, last on {node}: {why}"
            )
        lost = f"{title}: lost on {node}, last heard of at step {placement.step} ({why})"
        say(f"{lost}; it is started on the next free node")
        return None

    def release(self, placement: Placement) -> None:
        """Ends the process of a job, and gives back its resources and its lock."""
        self.running = {reply: other for reply, other in self.running.items() if other is not placement}
        if placement.actor is not None:
            with contextlib.suppress(Exception):  # it has died
                self.ray.kill(placement.actor)
        placement.actor, placement.node = None, ""
        placement.held.close()


def loss_of(error: Exception) -> str:
    """The first sentence of Ray's message about a loss, without the hexadecimal ids in it."""
    text = " ".join(re.sub(r"\b[0-9a-f]{20,}\b", "", str(error)).split())
    return f"{type(error).__name__}: {text.partition('. ')[0][:120]}"


def death_of(message: dict[str, Any]) -> str:
    """Why a process has ended without an answer, with the last line that it wrote."""
    lines = message["errors"].strip().splitlines()
    return f"its process ended {ending_in_words(message['exit'])}" + (f": {lines[-1][:200]}" if lines else "")
