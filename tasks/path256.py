"""Path-256: Pathfinder at 256 x 256 pixels, made when read, so that nothing is stored."""

from dataclasses import dataclass

from tasks import _pathfinder


@dataclass(frozen=True)
class Settings(_pathfinder.Settings):
    """As for 32 pixels, with the number of distractors that LRA's parameter file gives for 256."""

    distractors: int = 7


class Path256(_pathfinder.Pathfinder):
    """Images of 256 x 256 pixels."""

    name = "path256"
    title = "Path-256"
    settings = Settings
    size = 256
    streamed = True


task = Path256()
