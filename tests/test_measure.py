"""What a record says about the checkout it was made in."""

import subprocess
from pathlib import Path

from lra.results.machine import commit_of


def git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


def test_a_record_does_not_make_the_checkout_a_changed_one(tmp_path: Path):
    root = tmp_path.resolve()
    assert commit_of(root) == {"commit": None, "dirty": None}
    git(root, "init")
    (root / "code.py").write_text("a = 1\n")
    git(root, "add", ".")
    git(root, "commit", "-m", "first")
    found = commit_of(root)
    assert len(found["commit"]) == 40
    assert found["dirty"] is False
    (root / "results").mkdir()
    (root / "results" / "record.json").write_text("{}")
    assert commit_of(root) == found
    (root / "code.py").write_text("a = 2\n")
    assert commit_of(root)["dirty"] is True
    (root / "inner").mkdir()
    assert commit_of(root / "inner") == {"commit": None, "dirty": None}
