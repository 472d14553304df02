"""What tests ask for: a run of seconds on a CPU, and a stop at a step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lra.experiments.plan import Request
from lra.training.progress import Progress

TINY = str(Path(__file__).parent / "tiny.yaml")  # a protocol that trains in a second


def asked(out: Path = Path("unused"), **changes: Any) -> Request:
    """One run: elu on ListOps under tests/tiny.yaml, seed 0, on a CPU, unless `changes` say otherwise."""
    usual: dict[str, Any] = {"attentions": ["elu"], "tasks": ["listops"], "seeds": [0], "protocol": TINY}
    return Request(**(usual | {"out": out, "device": "cpu"} | changes))


def stop_at(step: int, phase: str = "") -> Callable[[Progress], None]:
    """For `observe`: ends the run after a step of the training, or of phase "pretraining", as Ctrl-C does."""

    def observe(progress: Progress) -> None:
        if (progress.phase, progress.step) == (phase, step):
            raise KeyboardInterrupt

    return observe
