"""BibTeX of the mechanisms, tasks and protocols of a report"""

import argparse
import sys
from pathlib import Path


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", default=["results/runs"], help="records or folders (default results/runs)")


def main(parsed: argparse.Namespace) -> int:
    from lra.errors import RecordError
    from lra.report.cite import cite, read
    from lra.report.frame import find

    found, problems = find([Path(run) for run in parsed.runs])
    if not found:
        raise RecordError(f"no records in {', '.join(parsed.runs)}: name the records or folders that the report is of")
    print(cite(list(found.values()), read()), end="")
    for problem in problems:
        print(f"skipped: {problem}", file=sys.stderr)
    return int(bool(problems))
