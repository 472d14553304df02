"""What a run starts from: its configuration, its data and its untrained model, for a custom training loop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tasks
from lra.config.schema import Config
from lra.errors import ConfigError, suggestion
from lra.experiments.data import prepare_data
from lra.experiments.fresh_state import kept_generators
from lra.experiments.plan import Request, plan
from lra.experiments.run import Run

if TYPE_CHECKING:
    from torch import Tensor

    from lra.backbones import Classifier


@dataclass(frozen=True)
class Prepared:
    """A run before its first step, and the splits of its data, verified and encoded."""

    run: Run
    data: tasks.Data

    @property
    def config(self) -> Config:
        """The protocol with its overrides: `config.train`, `config.model`, `config.data`."""
        return self.run.config

    def model(self) -> Classifier:
        """A new model with the weights that the run starts from, drawn from its seed; on the CPU, in training mode.

        The caller's generators of random numbers stay as they were. Raises SpecError or ConfigError for sizes that do
        not fit.
        """
        from lra.experiments.build import make_model

        with kept_generators():
            return make_model(self.run, self.data.spec)

    def batch(self, rows: Iterable[int], split: str = "train") -> tuple[Tensor, Tensor | None, Tensor]:
        """Rows of a split as the model takes them; see `batch_of`."""
        return batch_of(self.run, self.data, rows, split)


def prepare(request: Request) -> Prepared:
    """Prepares the run of a request that asks for one. Raises SpecError, DataError or ConfigError."""
    runs = plan(request)
    if len(runs) != 1:
        raise ConfigError(f"one attention on one task can be prepared at a time, not {len(runs)} runs")
    return Prepared(runs[0], prepare_data(runs[0].task, runs[0].config, request.data_dir))


def batch_of(run: Run, data: tasks.Data, rows: Iterable[int], split: str) -> tuple[Tensor, Tensor | None, Tensor]:
    """ids (B, N), or (B, 2, N) for pairs, keep of the same shape, and labels (B,), on the CPU.

    keep is True at real tokens; None: every token is real. split: train, validation or test. Raises ConfigError for
    another split, and for rows that the split does not have.
    """
    if split not in tasks.SPLITS:
        near = suggestion(split, tasks.SPLITS)
        raise ConfigError(f"unknown split {split!r}{near}; there are {', '.join(tasks.SPLITS)}")
    import numpy as np
    import torch

    from lra.experiments.build import padding_of
    from lra.training.loading import load

    samples = getattr(data, split)
    numbers = np.array([*rows])
    indices, count = numbers.astype(np.int64), len(samples.labels)
    if not (len(numbers) and (indices == numbers).all() and indices.min() >= 0 and indices.max() < count):
        raise ConfigError(f"the rows of {split} are whole numbers from 0 to {count - 1}, at least one of them")
    return load(samples, indices, padding_of(run, data.spec), torch.device("cpu"))
