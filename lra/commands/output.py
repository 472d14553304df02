"""What several commands share: columns for a terminal, pages such as those of docs/, and the end of their runs."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lra.errors import to_type

if TYPE_CHECKING:
    from lra.experiments.plan import Request
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


def end_of(
    request: "Request", planned: int, records: Sequence["Record"], elsewhere: int = 0, complete: bool = True
) -> int:
    """The exit code of a command that had `planned` runs to do and has these records; prints what is left.

    elsewhere: runs that another process has, or has paused. complete: False if a sweep could not tune every attention.
    0: all are done, or the part has no run. 1: a run failed or none could run. 75: none failed, some are elsewhere.
    """
    from lra.console import say
    from lra.signals import UNFINISHED

    if not planned:
        say(f"part {'/'.join(map(str, request.shard))} has nothing to do: there are fewer runs than parts")
        return 0
    if elsewhere:
        total = len(records) + elsewhere
        say(f"{elsewhere} of {total} runs are being done by another process; see: {to_type('status', request.out)}")
    failed = not complete or any(record.status == "failed" for record in records)
    return 1 if failed or not (records or elsewhere) else UNFINISHED if elsewhere else 0


def write_page(path: Path, text: str) -> None:
    """Write a page to the file of --page, and print that. Raises WorkError, also where another kind of file exists."""
    from lra.results.files import check_replaceable, encoded, write_named

    check_replaceable(path, "\n".join(text.split("\n")[:3]), "--page")
    write_named(path, encoded(text), "--page")
    print(f"wrote {path}")
