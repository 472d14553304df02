"""An optional tracker, TensorBoard or Weights & Biases, which gets the lines of metrics.jsonl and the test accuracy.

metrics.jsonl is complete without the tracker, and enough to plot progress from. A tracker that fails is reported once
and dropped; the run goes on.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from lra.console import say
from lra.errors import ConfigError, in_one_line
from lra.hashing import identity_of


class Backend(Protocol):
    """What a tracker's package must offer. first: the step of the first line that this process logs."""

    def __init__(self, folder: Path, config: dict[str, Any], first: int): ...
    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def summarise(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Event files in the run's folder: `tensorboard --logdir results/runs/work`."""

    def __init__(self, folder: Path, config: dict[str, Any], first: int):  # noqa: ARG002
        from torch.utils.tensorboard import SummaryWriter

        # A resumed run repeats the steps after its checkpoint: TensorBoard drops what the killed process had logged.
        self.writer = SummaryWriter(str(folder), purge_step=first)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def summarise(self, step: int, values: Mapping[str, float]) -> None:
        self.log(step, values)

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A run named like its folder, in the project WANDB_PROJECT or `lra`; a resumed run goes on in the same one."""

    def __init__(self, folder: Path, config: dict[str, Any], first: int):  # noqa: ARG002
        import wandb  # pyright: ignore[reportMissingImports]

        project = os.environ.get("WANDB_PROJECT") or "lra"
        number = identity_of({"folder": str(folder.resolve())})  # the same run in another folder is another run
        self.run = wandb.init(
            project=project, name=folder.name, id=number, dir=str(folder), config=config, resume="allow"
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def summarise(self, step: int, values: Mapping[str, float]) -> None:  # noqa: ARG002
        self.run.summary.update(dict(values))

    def close(self) -> None:
        self.run.finish()


BACKENDS: dict[str, type[Backend]] = {"tensorboard": TensorBoard, "wandb": WandB}


def check_tracker(name: str) -> None:
    """Raises ConfigError when the package of this tracker is not installed; an empty name needs none."""
    if name and importlib.util.find_spec(name) is None:
        raise ConfigError(f"--track {name} needs a package: pip install -e '.[{name}]', or pip install {name}")


class Tracker:
    """Passes the numbers of each line to the tracker, which starts with the first line; does nothing without a name."""

    def __init__(self, name: str = "", config: dict[str, Any] | None = None):
        self.name, self.config = name, config or {}
        self.backend: Backend | None = None

    def log(self, folder: Path, line: dict[str, Any]) -> None:
        """folder: of the run, where the tracker may keep its files."""
        numbers = {key: value for key, value in line.items() if isinstance(value, int | float) and key != "step"}
        if not self.name:
            return
        try:
            self.started(folder, int(line["step"])).log(int(line["step"]), numbers)
        except Exception as error:
            self.drop(error)

    def summarise(self, folder: Path, step: int, results: dict[str, float]) -> None:
        """Numbers that a run has once, at its end."""
        if not self.name:
            return
        try:
            self.started(folder, step).summarise(step, results)
        except Exception as error:
            self.drop(error)

    def started(self, folder: Path, first: int) -> Backend:
        if self.backend is None:
            self.backend = BACKENDS[self.name](folder, self.config, first)
        return self.backend

    def close(self) -> None:
        try:
            if self.backend is not None:
                self.backend.close()
        except Exception as error:
            self.drop(error)
        self.backend = None

    def drop(self, error: Exception) -> None:
        """Reports the error, and sends no more of this run to the tracker."""
        reason = in_one_line(error, 200)
        say(f"{self.name} failed and is off for the rest of this run; metrics.jsonl has every line: {reason}")
        self.name, self.backend = "", None
