"""What tests ask for: a run of seconds on a CPU, the runs of a request, and a stop at a step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lra.experiments.grid import run_jobs
from lra.experiments.plan import Request, part_of, plan
from lra.results.record import Record
from lra.training.progress import Progress

TINY = str(Path(__file__).parent / "tiny.yaml")  # a protocol that trains in a second


def asked(out: Path = Path("unused"), **changes: Any) -> Request:
    """One run: elu on ListOps under tests/tiny.yaml, seed 0, on a CPU, unless `changes` say otherwise."""
    usual: dict[str, Any] = {"attentions": ["elu"], "tasks": ["listops"], "seeds": [0], "protocol": TINY}
    return Request(**(usual | {"out": out, "device": "cpu"} | changes))


def run_grid(request: Request) -> list[Record]:
    """Runs what has no final record, as `run` does, and returns the records of all runs, also of those that failed."""
    jobs = run_jobs(request, part_of(plan(request), request.shard), forgiving="all" in request.tasks)
    return [job.record for job in jobs if job.record is not None]


def stop_at(step: int, phase: str = "") -> Callable[[Progress], None]:
    """For `observe`: ends the run after a step of the training, or of phase "pretraining", as Ctrl-C does."""

    def observe(progress: Progress) -> None:
        if (progress.phase, progress.step) == (phase, step):
            raise KeyboardInterrupt

    return observe
