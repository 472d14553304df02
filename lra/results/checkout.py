"""Where the code is, in a checkout or as an installed package, and its commit."""

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

from lra.errors import SCRIPT

ROOT = Path(__file__).resolve().parents[2]  # the checkout; for an installed package, site-packages
RESULTS = ":(exclude)results"  # data, not code: the record of a run does not change what the next run computes
COPIED_FROM = "copied-from.json"  # beside `lra` in a copy of the code: what `commit` returned where the copy was made


def program() -> tuple[str, ...]:
    """The words after `python` that start the command line, from a checkout or from an installed package."""
    return (str(SCRIPT),) if SCRIPT.exists() else ("-m", "lra")


@functools.cache
def commit() -> dict[str, Any]:
    """The commit of this checkout, and whether its code was edited since; both None for an installed package.

    Every later call returns what the first one found, so a process that makes records calls this before it begins to
    work: its records then name the checkout as it was, even if it changes during a run. A copy of the
    code on another machine reads them from its COPIED_FROM file.
    """
    if (copied := ROOT / COPIED_FROM).exists():
        return json.loads(copied.read_text(encoding="utf-8"))
    return commit_of(ROOT)


def commit_of(root: Path) -> dict[str, Any]:
    """The same for a checkout at `root`; both None if `root` is not the top of a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return {"commit": None, "dirty": None}  # installed inside somebody else's repository
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", ".", RESULTS))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
