"""print the BibTeX of the mechanisms, tasks and protocols in records"""

import argparse
import sys
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", default=["results/runs"], help="records or folders (default results/runs)")


def main(parsed: argparse.Namespace) -> int:
    from lra.report.cite import cite, read
    from lra.report.load import find, none_found

    paths = [Path(run) for run in parsed.runs]
    found, problems = find(paths)
    if not found:
        raise none_found(paths, problems)
    print(cite(list(found.values()), read()), end="")
    for problem in problems:
        print(f"skipped: {problem}", file=sys.stderr)
    return int(bool(problems))
