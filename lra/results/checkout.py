"""Where the code lies, which `git clone` or pip has put there, and its commit."""

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]  # the checkout; of an installed package, the folder of all packages
PROGRAM = ROOT / "run_lra.py"  # not there for an installed package
RESULTS = ":(exclude)results"  # data, not code: the record of a run does not change what the next run computes
COPIED_FROM = "copied-from.json"  # beside the packages of a copy of the code: what `commit` says where it was made


@functools.cache
def commit() -> dict[str, Any]:
    """The commit of this checkout, and whether its code was edited since; None for an installed package.

    A copy that another machine has sent says what it was copied from.
    """
    if (copied := ROOT / COPIED_FROM).exists():
        return json.loads(copied.read_text(encoding="utf-8"))
    return commit_of(ROOT)


def commit_of(root: Path) -> dict[str, Any]:
    """The same for a checkout at `root`; None if that is not the top of a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return {"commit": None, "dirty": None}  # installed inside somebody else's repository
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", ".", RESULTS))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
