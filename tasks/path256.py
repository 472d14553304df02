"""Path-256: Pathfinder at 256 x 256 pixels, made when read, so that nothing is stored."""

from tasks.pathfinder.task import Pathfinder


class Path256(Pathfinder):
    """Images of 256 x 256 pixels."""

    name = "path256"
    title = "Path-256"
    size = 256
    streamed = True


task = Path256()
