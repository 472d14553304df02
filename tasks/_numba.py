"""Where numba keeps compiled code: a folder per state of these sources, because it does not notice edits in imports."""

import hashlib
import os
from pathlib import Path


def use_cache(cache: Path) -> None:
    """Sets the folder unless the user did (NUMBA_CACHE_DIR). Call this before numba is imported."""
    if "NUMBA_CACHE_DIR" not in os.environ:
        sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
        os.environ["NUMBA_CACHE_DIR"] = str(cache / f"numba-{hashlib.sha256(sources).hexdigest()[:12]}")
