"""The folder that holds what is made once and kept: prepared data, and the code that compilers made."""

import os
from pathlib import Path

from tasks._data import DataError


def cache_folder() -> Path:
    """LRA_CACHE, by default ~/.cache/lra. Raises DataError."""
    return folder_in("LRA_CACHE", os.environ.get("LRA_CACHE") or "~/.cache/lra")


def folder_in(variable: str, text: str) -> Path:
    """The folder that a variable names, with ~ replaced. Raises DataError for what can be none."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{variable} is no folder: {text[:300]}: {getattr(error, 'strerror', None) or error}"
        ) from error
    return path
