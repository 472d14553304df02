"""Pathfinder at 64 x 64 pixels."""

from tasks.pathfinder.task import Pathfinder


class Pathfinder64(Pathfinder):
    """Images of 64 x 64 pixels."""

    name = "pathfinder64"
    title = "Pathfinder-64"
    size = 64


task = Pathfinder64()
