"""Pathfinder at 32 x 32 pixels, the fifth task of the arena."""

from tasks import _pathfinder


class Pathfinder32(_pathfinder.Pathfinder):
    """Images of 32 x 32 pixels."""

    name = "pathfinder"
    title = "Pathfinder"
    size = 32


task = Pathfinder32()
