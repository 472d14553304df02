"""The folder that holds what is made once and kept: prepared data, and the code that compilers made."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """LRA_CACHE, by default ~/.cache/lra."""
    return Path(os.environ.get("LRA_CACHE") or "~/.cache/lra").expanduser()
