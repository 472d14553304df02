"""Figures, one kind a file, in one style (`style`).

Importing this package imports matplotlib without the backend that a notebook leaves in MPLBACKEND. We draw on `Figure`
and need none, but matplotlib refuses to be imported where the name of one is unknown.
"""

import contextlib
import os

backend = os.environ.pop("MPLBACKEND", None)
import matplotlib  # noqa: E402

if backend is not None:  # what the user chose holds for the user's own figures
    os.environ["MPLBACKEND"] = backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend
