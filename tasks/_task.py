"""What a task is: its name, its settings, and the two things it does, prepare and climb."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tasks._ladders import checked, constant, find_ladder, store_ladder

if TYPE_CHECKING:
    from pathlib import Path

    from tasks._data import Data


@dataclass(frozen=True, kw_only=True)
class Network:
    """A small network as a rung of an image task's ladder. A task only describes it: tasks know nothing of torch."""

    kind: Literal["patches", "convolutions"]
    width: int  # features of the first layer
    steps: int
    batch: int = 128
    lr: float = 3e-3  # the peak
    seed: int = 0


class Task(ABC):
    """A task: its name, the fields of its `data` section, how its data is made, and what trivial baselines score."""

    name: ClassVar[str]
    title: ClassVar[str]
    images: ClassVar[bool] = False  # are samples images, whose spec has a grid?
    size: ClassVar[int] = 0  # rows, and columns, of square images
    settings: ClassVar[type]  # a frozen dataclass with typed defaults: the `data.*` keys of a protocol
    streamed: ClassVar[bool] = False  # are samples made when they are read, and not stored?
    section: ClassVar[dict[str, Any]] = {}  # model, train and data keys for protocols without a section for the task
    file_hash: str = ""  # hash of a user's file, as it was imported
    networks: ClassVar[dict[str, Network]] = {}  # rungs of the ladder that are trained; only `data ladder` does so

    @abstractmethod
    def prepare(self, settings: Any, data_dir: Path | None, cache: Path, progress: bool) -> Data:
        """Finds or generates the data, verifies it, encodes it once and memory-maps it. Raises DataError."""

    def climb(self, data: Data) -> dict[str, float]:
        """Computes the ladder: rung -> accuracy on the test split; each rung reads more than the one before."""
        return {"constant": constant(data)}

    def climbed(self, data: Data) -> dict[str, float]:
        """The checked result of `climb`. Raises DataError for rungs that are no accuracies."""
        return checked(self.name, self.climb(data))

    def quick_rungs(self, data: Data) -> dict[str, float] | None:  # noqa: ARG002
        """The rungs that a run computes where the whole ladder takes long or needs an extra; None: the whole ladder."""
        return None

    def ladder(self, data: Data) -> dict[str, float]:
        """The ladder of this data: shipped, else cached, else its quick rungs, else computed and cached.

        Raises DataError for rungs that are no accuracies.
        """
        rungs = find_ladder(data, self.file_hash) or self.quick_rungs(data)
        if rungs is None:
            rungs = self.climbed(data)
            with suppress(OSError):
                store_ladder(data.folder, data, rungs, self.file_hash)
        return rungs
