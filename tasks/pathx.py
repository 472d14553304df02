"""Path-X: Pathfinder at 128 x 128 pixels, made when read, so that nothing is stored."""

from tasks.pathfinder.task import Pathfinder


class PathX(Pathfinder):
    """Images of 128 x 128 pixels."""

    name = "pathx"
    title = "Path-X"
    size = 128
    streamed = True


task = PathX()
