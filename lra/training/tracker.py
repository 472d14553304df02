"""An optional tracker, TensorBoard or Weights & Biases, fed with the lines that metrics.jsonl gets.

The file is the truth and enough to draw progress; a tracker that fails is named once and left out, the run goes on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from lra.console import say
from lra.errors import ConfigError
from lra.hashing import identity_of


class Backend(Protocol):
    """What a tracker's package must do for us."""

    def __init__(self, folder: Path, config: dict[str, Any]): ...
    def log(self, step: int, values: Mapping[str, float]) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """Event files in the cell's folder: `tensorboard --logdir results/runs/work`."""

    def __init__(self, folder: Path, config: dict[str, Any]):  # noqa: ARG002
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A run named like the cell's folder, of the project `lra`; a resumed cell goes on in the same run."""

    def __init__(self, folder: Path, config: dict[str, Any]):
        import wandb  # pyright: ignore[reportMissingImports]

        place = identity_of({"folder": str(folder.resolve())})  # the same cell elsewhere is another run
        self.run = wandb.init(project="lra", name=folder.name, id=place, dir=str(folder), config=config, resume="allow")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


BACKENDS: dict[str, type[Backend]] = {"tensorboard": TensorBoard, "wandb": WandB}


def check_tracker(name: str) -> None:
    """Raises ConfigError when the package of this tracker is not installed; no name asks for none."""
    if name and importlib.util.find_spec(name) is None:
        raise ConfigError(f"--track {name} needs a package: pip install 'lra-suite[{name}]', or pip install {name}")


class Tracker:
    """Passes the numbers of each line on; without a name it does nothing. Started with the first line."""

    def __init__(self, name: str = "", config: dict[str, Any] | None = None):
        self.name, self.config = name, config or {}
        self.backend: Backend | None = None

    def log(self, folder: Path, line: dict[str, Any]) -> None:
        """folder: of the cell, where the tracker may keep its files."""
        if not self.name:
            return
        numbers = {key: value for key, value in line.items() if isinstance(value, int | float) and key != "step"}
        try:
            if self.backend is None:
                self.backend = BACKENDS[self.name](folder, self.config)
            self.backend.log(int(line["step"]), numbers)
        except Exception as error:
            self.give_up(error)

    def close(self) -> None:
        try:
            if self.backend is not None:
                self.backend.close()
        except Exception as error:
            self.give_up(error)
        self.backend = None

    def give_up(self, error: Exception) -> None:
        """No more of this tracker in this cell."""
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        say(f"{self.name} failed and gets no more of this cell; metrics.jsonl has it all: {reason}")
        self.name, self.backend = "", None
