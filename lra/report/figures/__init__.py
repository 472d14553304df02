"""Figures, one kind per file, in one style (`style`).

Importing this package imports matplotlib without the backend that a notebook leaves in MPLBACKEND. We draw on `Figure`
and need no backend, but matplotlib refuses to be imported if MPLBACKEND names one that it does not know.
"""

import contextlib
import os

backend = os.environ.pop("MPLBACKEND", None)
import matplotlib  # noqa: E402

if backend is not None:  # keep the user's choice for the user's figures
    os.environ["MPLBACKEND"] = backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = backend
