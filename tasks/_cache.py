"""The cache folder: prepared data, and code that numba and the compiler of models have made."""

import os
from pathlib import Path

from tasks._data import DataError


def cache_folder() -> Path:
    """LRA_CACHE, by default ~/.cache/lra. Raises DataError."""
    return folder_in("LRA_CACHE", os.environ.get("LRA_CACHE") or "~/.cache/lra")


def folder_in(variable: str, text: str) -> Path:
    """The folder in the text of an environment variable, with ~ expanded. Raises DataError for what can be no path."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{variable} is no folder: {text[:300]}: {getattr(error, 'strerror', None) or error}"
        ) from error
    return path
