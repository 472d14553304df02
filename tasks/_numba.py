"""Where numba keeps what it compiled: a folder per state of these sources, because it does not see edits in imports."""

import hashlib
import os
from pathlib import Path


def use_cache(cache: Path) -> None:
    """Names the folder, unless the user did (NUMBA_CACHE_DIR); to be called before numba is imported."""
    if "NUMBA_CACHE_DIR" not in os.environ:
        sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
        os.environ["NUMBA_CACHE_DIR"] = str(cache / f"numba-{hashlib.sha256(sources).hexdigest()[:12]}")
