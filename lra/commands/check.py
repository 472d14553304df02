"""hold attentions or backbones to the contract, and say what is usually wrong"""

import argparse
import re
from typing import TYPE_CHECKING

from lra.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lra.testing.outcomes import Outcome


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "attn", nargs="*", metavar="ATTENTION", help="./mine.py, pola:alpha=5, ...; of a hybrid each part"
    )
    parser.add_argument(
        "--backbone", metavar="NAME", help="check this backbone instead, with these attentions in it (default softmax)"
    )
    parser.add_argument("--grid", metavar="RxC", help="check it on images of R rows and C columns, e.g. 4x6")


def main(parsed: argparse.Namespace) -> int:
    from lra.experiments.backbone import find_backbone
    from lra.experiments.plan import expand_attentions
    from lra.testing import backbones
    from lra.testing.outcomes import outcomes, parts, title

    grid = _grid(parsed.grid)
    if not parsed.attn and not parsed.backbone:
        raise UserError("check needs an attention (./mine.py, pola, ...) or --backbone ./mine.py")
    if parsed.backbone:
        find_backbone(parsed.backbone)
        name, attentions = parsed.backbone, expand_attentions(parsed.attn) or ["softmax"]
        bad = sum(_print(f"{name} with {spec}", backbones.outcomes(name, spec, grid)) for spec in attentions)
    else:
        specs = dict.fromkeys(part for asked in expand_attentions(parsed.attn) for part in parts(asked))
        bad = sum(_print(title(spec), outcomes(spec, grid)) for spec in specs)
    return int(bad > 0)


def _print(title: str, outcomes: "Iterator[Outcome]") -> int:
    """Prints a line for each outcome as it comes; returns how many are bad."""
    from lra.testing.outcomes import line

    print(title)
    printed = []
    for outcome in outcomes:
        print(line(outcome), flush=True)
        printed.append(outcome)
    failed = sum(outcome.bad for outcome in printed)
    print(f"  {len(printed) - failed} of {len(printed)} as they should be, {sum(o.seconds for o in printed):.0f} s")
    if any(o.bad and o.check == "runs" and "grid" in o.note for o in printed):
        print("  to check a mechanism that needs the rows and columns of an image, add --grid 4x6")
    return failed


def _grid(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = text.split("x")
    if len(sides) != 2 or not all(re.fullmatch("[0-9]{1,6}", side) and int(side) for side in sides):
        raise UserError(f"--grid {text}: write rows x columns, e.g. 4x6")
    return int(sides[0]), int(sides[1])
