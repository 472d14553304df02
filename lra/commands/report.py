"""tables and plots of records"""

import argparse
import sys
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", default=["results/runs"], help="records or folders (default results/runs)")
    parser.add_argument("--out", default="results/report", help="folder for the files (default results/report)")
    parser.add_argument("--baseline", default="", metavar="ROW", help="take differences to this row (default softmax)")


def main(parsed: argparse.Namespace) -> int:
    from lra.report import write

    made = write([Path(run) for run in parsed.runs], Path(parsed.out), parsed.baseline)
    print(made.text)
    for problem in made.problems:
        print(f"skipped: {problem}", file=sys.stderr)
    return int(bool(made.problems))
