"""print the BibTeX of the mechanisms, tasks and protocols in records"""

import argparse
import sys

from lra.commands.choice import add_runs


def add(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, "records or folders (default results/runs)")


def main(parsed: argparse.Namespace) -> int:
    from lra.report.cite import cite, read
    from lra.report.load import none_found
    from lra.results.find import find_records

    records, problems = find_records(parsed.runs)
    if not records:
        raise none_found(parsed.runs, problems)
    print(cite(list(records.values()), read()), end="")
    for problem in problems:
        print(f"skipped: {problem}", file=sys.stderr)
    return int(bool(problems))
