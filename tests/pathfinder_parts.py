"""The parts of a Pathfinder image, for the tests."""

import numpy as np


def anatomy(images, index):
    """The tables of image `index`, the paddles (K, 3) of each snake: row, column, angle, and the markers (2, 2)."""
    from tasks.pathfinder.images import draw_image

    scratch, image = images.scratch(), np.empty(images.tables[0].size ** 2, np.uint8)
    ends, tables = np.empty(2, np.int64), (images.tables[0], images.tables[-1])
    (long, short), stride, pad = images.paddles, tables[0].stride, tables[0].pad
    margin, short_snakes = draw_image(images.stream, index, tables[0], tables[1], scratch, long, short, ends, image)
    snakes = [scratch.paddles[snake, : long if snake < 2 else short] for snake in range(2 + short_snakes)]

    def cells(places):
        return places // stride - pad, places % stride - pad

    parts = [np.stack([*cells(snake[:, 0]), snake[:, 1]], 1) for snake in snakes]
    return tables[margin], parts, np.stack(cells(ends), 1)
