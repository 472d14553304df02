"""write tables, figures and a page from records"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lra.commands.choice import add_runs, refuse_others, to_file, to_path

if TYPE_CHECKING:
    from lra.results.record import Record


def add(parser: argparse.ArgumentParser) -> None:
    add_runs(parser, "records or folders (default results/runs)")
    parser.add_argument(
        "--out",
        type=to_path,
        default=Path("results/report"),
        help="folder for the files (default results/report)",
    )
    parser.add_argument(
        "--baseline", default="", metavar="ROW", help="the row that others are compared with (default softmax)"
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="ROW",
        help="only these in the LaTeX tables; verdicts stay those among all rows",
    )
    parser.add_argument(
        "--into",
        type=to_file,
        metavar="FILE",
        help="rebuild the tables of a Markdown file: those between `<!-- table PROTOCOL: ROW ... -->` and "
        "`<!-- end of table -->`",
    )
    parser.add_argument(
        "--pair",
        nargs=2,
        type=lambda text: str(to_path(text)),
        metavar="RECORD",
        help="instead compare two models sample by sample: paths, or prefixes of their names",
    )


def main(parsed: argparse.Namespace) -> int:
    from lra.report import write

    runs = parsed.runs
    if parsed.pair:
        refuse_others(parsed, ("pair",), "report --pair")
        print(compare_models(parsed.pair, runs))
        return 0
    made = write(runs, parsed.out, parsed.baseline, parsed.into, parsed.rows)
    print(made.text)
    for problem in made.problems:
        print(f"skipped: {problem}", file=sys.stderr)
    return int(bool(made.problems))


def compare_models(names: Sequence[str], runs: Sequence[Path]) -> str:
    """The comparison in words. Raises RecordError when the two did not answer the same test rows."""
    from lra.report.tables import pair

    first, second = (pair.find_run(name, runs) for name in names)
    pair.check(first, second)
    right = [pair.right(record, None if record.correct else labels(record)) for record in (first, second)]
    return pair.compare(first, second, *right)


def labels(record: "Record") -> list[int] | None:
    """Labels of the test rows, for a record that does not say which answers were right; None without its data."""
    import tasks
    from lra.experiments.data import prepare_data
    from lra.experiments.load import config_of, task_of

    task = tasks.find(task_of(record))
    try:
        data = prepare_data(task.name, config_of(record), None)
    except tasks.DataError:
        return None
    return [int(n) for n in data.test.labels[: record.test_rows]] if data.hash == record.data.get("hash") else None
