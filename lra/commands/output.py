"""What several commands print or write: columns for a terminal, and pages such as those of docs/."""

import argparse
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lra.errors import to_type

if TYPE_CHECKING:
    from lra.results.record import Record


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Rows of cells as lines with aligned columns. right: indices of the columns that are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            word.rjust(width) if i in right else word.ljust(width)
            for i, (word, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def first_process() -> bool:
    """Is this the only process of a command, or the first one under torchrun?"""
    return os.environ.get("TORCHELASTIC_RUN_ID") is None or os.environ.get("RANK") == "0"


def end_of(parsed: argparse.Namespace, outcomes: Sequence["Record | None"], complete: bool = True) -> int:
    """The exit code of a command that ran these: None is a run that another process does, or has paused.

    1: a run failed, some are missing (not `complete`) or there is none. 75: none failed, but some are elsewhere.
    """
    from lra.console import say
    from lra.signals import UNFINISHED

    if complete and not outcomes and parsed.shard != "1/1":
        say(f"part {parsed.shard} has nothing to do: there are fewer runs than parts")
        return 0
    if elsewhere := sum(record is None for record in outcomes):
        done_by = f"{elsewhere} of {len(outcomes)} runs are being done by another process"
        say(f"{done_by}; see: {to_type('status', parsed.out)}")
    failed = not complete or any(record is not None and record.status == "failed" for record in outcomes)
    return 1 if failed or not outcomes else UNFINISHED if elsewhere else 0


def write_page(path: Path, text: str) -> None:
    """Write a page to the file of --page, and print that. Raises WorkError, also where another kind of file exists."""
    from lra.results.files import check_replaceable, encoded, write_named

    check_replaceable(path, "\n".join(text.split("\n")[:3]), "--page")
    write_named(path, encoded(text), "--page")
    print(f"wrote {path}")
