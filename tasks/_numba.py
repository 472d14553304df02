"""The folder of numba's compiled code, one per state of this package: numba does not notice edits of imported files.

Where a user has set NUMBA_CACHE_DIR, that folder is kept; after a change of a compiled function, touch the files that
import it.
"""

import hashlib
import os
from pathlib import Path


def use_cache(cache: Path) -> None:
    """Sets the folder unless the user did (NUMBA_CACHE_DIR). Call this before numba is imported."""
    if "NUMBA_CACHE_DIR" not in os.environ:
        sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
        os.environ["NUMBA_CACHE_DIR"] = str(cache / f"numba-{hashlib.sha256(sources).hexdigest()[:12]}")
