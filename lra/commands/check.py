"""hold attentions to the contract, and say what is usually wrong"""

import argparse

from lra.errors import UserError


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "attn", nargs="+", metavar="ATTENTION", help="./mine.py, pola:alpha=5, ...; of a hybrid each part"
    )
    parser.add_argument("--grid", metavar="RxC", help="check it on images of R rows and C columns, e.g. 4x6")


def main(parsed: argparse.Namespace) -> int:
    from lra.testing.outcomes import line, outcomes, parts, title

    grid = _grid(parsed.grid)
    bad = 0
    for spec in dict.fromkeys(part for asked in parsed.attn for part in parts(asked)):
        print(title(spec))
        found = []
        for outcome in outcomes(spec, grid):
            print(line(outcome), flush=True)
            found.append(outcome)
        failed = sum(outcome.bad for outcome in found)
        print(f"  {len(found) - failed} of {len(found)} as they should be, {sum(o.seconds for o in found):.0f} s")
        bad += failed
    return int(bad > 0)


def _grid(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdigit() and int(side) for side in sides):
        raise UserError(f"--grid {text}: write rows x columns, e.g. 4x6")
    return int(sides[0]), int(sides[1])
