"""Finds records: in the files that are named, and in the files of named folders, one level deep."""

from collections.abc import Sequence
from pathlib import Path

from lra.errors import RecordError
from lra.results.bench_record import is_bench, json_files
from lra.results.record import Record, load

REPORT = "report.json"  # what a report writes beside records; it is none


def files_of_runs(paths: Sequence[Path]) -> list[Path]:
    """The files that may be records of runs, each once: named files, and the .json files in named folders."""
    files: dict[Path, None] = {}
    for path in paths:
        inside = [file for file in json_files(path) if file.name != REPORT] if path.is_dir() else [path]
        files |= dict.fromkeys(file for file in inside if not is_bench(file))
    return list(files)


def find_records(paths: Sequence[Path]) -> tuple[dict[Path, Record], list[str]]:
    """The records of files and folders, sorted by name, and a line for each unreadable file."""
    records: dict[Path, Record] = {}
    problems: list[str] = []
    for file in files_of_runs(paths):
        try:
            records[file] = load(file)
        except RecordError as error:
            problems.append(str(error))
    return dict(sorted(records.items(), key=lambda item: (item[1].name, item[0].as_posix()))), problems
