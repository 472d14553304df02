"""Path-X: Pathfinder at 128 x 128 pixels, made when read, so that nothing is stored."""

from dataclasses import dataclass

from tasks import _pathfinder


@dataclass(frozen=True)
class Settings(_pathfinder.Settings):
    """As for 32 pixels, with the number of distractors that LRA's parameter file gives for 128."""

    distractors: int = 8


class PathX(_pathfinder.Pathfinder):
    """Images of 128 x 128 pixels."""

    name = "pathx"
    title = "Path-X"
    settings = Settings
    size = 128
    streamed = True


task = PathX()
