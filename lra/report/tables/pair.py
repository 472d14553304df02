"""Two models compared sample by sample: the samples that only one of them gets right, and McNemar's test of these."""

from collections.abc import Sequence
from pathlib import Path

from lra.errors import RecordError
from lra.report.format import percent, signed
from lra.report.render import markdown, table
from lra.results.find import files_of_runs
from lra.results.record import Record, hits, load, unpack
from lra.stats.accuracy import mcnemar_p, paired_half_width

CAVEAT = (
    "This compares two trained models on these samples, not two mechanisms: another seed makes another model.\n"
    "For mechanisms, see the differences over seeds in the report."
)


def find_run(text: str, runs: Sequence[Path]) -> Record:
    """The record with this path, or the only one in these files and folders whose name is or starts with `text`.

    Raises RecordError when there is none, or more than one.
    """
    if Path(text).is_file():
        return load(Path(text))
    files = files_of_runs(runs)
    matches = [file for file in files if file.stem == text] or [file for file in files if file.stem.startswith(text)]
    if len(matches) != 1:
        problem = (
            f"{len(matches)} records have names that start with it: {', '.join(f.stem for f in matches[:3])}"
            if matches
            else "no such record"
        )
        raise RecordError(f"{text}: {problem}; give a path or more of the name, from {', '.join(map(str, runs))}")
    return load(matches[0])


def check(first: Record, second: Record) -> None:
    """Raises RecordError unless the records hold the answers of two different models to the same test rows."""
    for record in (first, second):
        if record.status != "done" or not record.predictions:
            raise RecordError(f"{record.name} has no predictions: it is {record.status}; name another run")
    if first == second:
        raise RecordError(f"{first.name} is named twice: name two runs")
    same = (first.task, first.data.get("hash"), first.test_rows) == (
        second.task,
        second.data.get("hash"),
        second.test_rows,
    )
    if not same:
        raise RecordError(
            f"{first.name} and {second.name} answered different test rows: compare runs of one task on the same data"
        )


def right(record: Record, labels: Sequence[int] | None = None) -> list[bool]:
    """Whether the model answered each test row correctly, by its record or, where that does not say, by the labels.

    Raises RecordError without either.
    """
    known = hits(record)
    if known is None and labels is not None:
        known = [p == label for p, label in zip(unpack(record.predictions, record.test_rows), labels, strict=True)]
    if known is None:
        raise RecordError(f"{record.name} does not say which answers were right, and its data is not here")
    return known


def compare(first: Record, second: Record, right_first: Sequence[bool], right_second: Sequence[bool]) -> str:
    """The text of `report --pair`."""
    pairs = list(zip(right_first, right_second, strict=True))
    both, only_first = pairs.count((True, True)), pairs.count((True, False))
    only_second, rows = pairs.count((False, True)), len(pairs)
    a, b = (f"{r.row}, seed {r.seed}, {r.protocol}" for r in (first, second))
    body = [
        [a, percent((both + only_first) / rows, 2), str(only_first)],
        [b, percent((both + only_second) / rows, 2), str(only_second)],
    ]
    shown = markdown(table("", ["Model", "Accuracy", "Right alone"], body))
    gap = signed((only_second - only_first) / rows)
    noise, p = percent(paired_half_width(only_first, only_second, rows), 2), mcnemar_p(only_first, only_second)
    words = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    verdict = "the two models differ on such samples" if p < 0.05 else "the models cannot be told apart"
    return (
        f"{first.task}, {rows:,} test rows ({str(first.data.get('hash', ''))[:12]}): {both:,} right by both, "
        f"{rows - both - only_first - only_second:,} by neither.\n\n{shown}\n"
        f"Second less first: {gap} ± {noise} points (95 %). McNemar, exact: {words}: {verdict}.\n{CAVEAT}"
    )
