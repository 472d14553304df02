"""What several commands print or write: columns for a terminal, and pages such as those of docs/."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path


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


def write_page(path: Path, text: str) -> None:
    """Write a page to the file of --page, and print that. Raises WorkError, also where another kind of file exists."""
    from lra.results.files import check_replaceable, encoded, write_named

    check_replaceable(path, "\n".join(text.split("\n")[:3]), "--page")
    write_named(path, encoded(text), "--page")
    print(f"wrote {path}")
