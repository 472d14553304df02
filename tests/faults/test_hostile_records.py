"""Records from elsewhere: one line names each bad one, whatever is wrong, and the others are reported."""

import base64
import contextlib
import copy
import json
import os
import random
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from records import bench, make

from lra.errors import RecordError
from lra.experiments.status import read_statuses
from lra.report import write
from lra.results import bench_record, record
from lra.results.bench_record import read_benches
from lra.results.find import find_records

COMMITTED = sorted((Path(__file__).parents[2] / "results" / "records").glob("*.json"))
BOMB = base64.b85encode(zlib.compress(bytes(2**26), 1)).decode()
FOREIGN = {  # fields that no record of this suite has, one change of each kind
    "a name that leads outside": {"task": "x/../../../victim/a"},
    "a name that is a path": {"task": "/tmp/a"},
    "another precision": {"precision": "../float32"},
    "two lines": {"row": "a\nb"},
    "words for a number": {"best_step": "d"},
    "words for a section": {"environment": "x"},
    "a number for a title": {"attention": {"title": 5}},
    "a list for a learning rate": {"config": {"train": {"lr": [1]}}},
    "words for a number of batches": {"config": {"train": {"validation_batches": "9"}}},
    "no section": {"config": {"train": None}},
    "a rung beyond one": {"ladder": {"constant": 90.27}},
    "a rung below zero": {"ladder": {"constant": -5}},
    "a point beyond one": {"curve": [{"step": 1, "validation_accuracy": 7}]},
    "a point without a step": {"curve": [{"validation_accuracy": 0.3}]},
    "a negative size": {"parameters": {"total": -1}},
    "more rows than bits": {"test_rows": 10**6, "correct": record.pack(bytes(10))},
    "answers that unpack to 64 MB": {"correct": BOMB},
    "predictions that unpack to 64 MB": {"predictions": BOMB},
    "answers that are no archive": {"correct": "abc"},
    "no version": {"schema_version": True},
}
TEXTS = {
    "an infinite version": '{"schema_version": 1e400}',
    "an integer beyond 64 bits": '{"schema_version": 2, "seed": 1' + "0" * 40 + "}",
    "an infinite rung": '{"schema_version": 2, "ladder": {"constant": Infinity}}',
    "no number": '{"schema_version": 2, "test_accuracy": NaN}',
    "100,000 brackets": "[" * 100_000,
    "brackets that close": "[" * 900 + "]" * 900,
    "half a file": '{"schema_version": 2, ',
    "no Unicode": '{"schema_version": 2, "row": "\udcff"}',
}


def save(folder: Path, name: str, fields: dict[str, Any]) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(fields))
    return path


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_a_record_that_no_run_wrote_is_named(change: dict[str, Any], tmp_path: Path):
    path = save(tmp_path, "changed", asdict(make("softmax", 0.4)) | change)
    with pytest.raises(RecordError, match=r"changed.json is not a record: bad [^\n]*$"):
        record.load(path)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_that_is_no_record_is_named(text: str, tmp_path: Path):
    (tmp_path / "changed.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RecordError, match=r"changed.json is not a record: [^\n]{1,300}$"):
        record.load(tmp_path / "changed.json")


def test_the_rest_is_reported_and_nothing_is_written_elsewhere(tmp_path: Path):
    runs, out = tmp_path / "runs", tmp_path / "deep" / "out"
    runs.mkdir()
    record.save(make("softmax", 0.4), runs)
    for place, change in enumerate(FOREIGN.values()):
        save(runs, str(place), asdict(make("elu", 0.5, seed=place)) | change)
    os.mkfifo(runs / "pipe.json")
    (runs / "zero.json").symlink_to("/dev/zero")
    (runs / "folder.json").mkdir()
    (runs / "large.json").touch()
    os.truncate(runs / "large.json", 2**34)
    made = write([runs], out)
    assert "40.0 (1)" in made.text
    assert len(made.problems) == len(FOREIGN) + 4
    assert all(len(problem.splitlines()) == 1 for problem in made.problems)
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in written if runs not in path.parents} == {*made.files}
    assert all(out in path.parents for path in made.files)


def test_no_bit_of_a_record_or_a_bench_flips_unnoticed(tmp_path: Path):
    """A digest covers all fields. A flip in white space changes no field, and may be read."""
    draw = random.Random(0)
    for module, made in ((record, make("softmax", 0.4)), (bench_record, bench("softmax", 256))):
        path = module.save(made, tmp_path)
        whole = path.read_bytes()
        for _ in range(150):
            flipped = bytearray(whole)
            flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
            with contextlib.suppress(RecordError):
                assert module.load(path) == made
        path.unlink()


def test_committed_records_are_read_as_they_are():
    records, problems = find_records([COMMITTED[0].parent])
    assert (len(records), problems) == (len(COMMITTED), [])


def places(value: Any, keys: tuple = ()) -> Iterator[tuple]:
    """The path of keys to each value in a record; of lists, to the first two items."""
    yield from [keys] if keys else []
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*keys, key))


HOSTILE = (None, True, "x", "", 0, -1, 5, 1e300, -1e300, 2**62, 0.5, [], {}, ["x"], {"a": 1}, {"a": {"b": "c"}})
HOSTILE += (
    [1e300],
    [[[]]],
    "=1+1",
    "<b>x</b>\n# y",
    "../../x",
    "\ud800",
    "\x00",
    "a" * 3000,
    "$\\frac{",
    {"step": None},
)


def changed(fields: dict[str, Any], draw: random.Random) -> dict[str, Any]:
    """A copy with one to five values replaced or removed."""
    fields = copy.deepcopy(fields)
    for keys in draw.sample(list(places(fields)), draw.choice((1, 1, 2, 5))):
        inside: Any = fields
        try:
            for key in keys[:-1]:
                inside = inside[key]
            if draw.random() < 0.15:
                del inside[keys[-1]]
            else:
                inside[keys[-1]] = copy.deepcopy(draw.choice(HOSTILE))
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change has removed this path
    return fields


def report_on_changed(count: int, seed: int, tmp_path: Path) -> int:
    """Reports on whole records and on `count` changed ones that are still readable -> how many changes were tried."""
    draw, runs, tried, kept = random.Random(seed), tmp_path / "runs", 0, 0
    runs.mkdir()
    originals = [json.loads(path.read_text()) for path in COMMITTED if path.name.startswith("text-")]
    for place, fields in enumerate(originals[:2]):
        save(runs, f"whole-{place}", fields)
    while kept < count:
        path = save(runs, f"changed-{kept}", changed(draw.choice(originals), draw))
        tried += 1
        try:
            record.load(path)
            kept += 1
        except RecordError:
            path.unlink()
    made = write([runs], tmp_path / "out")
    assert all(tmp_path / "out" in path.resolve().parents for path in made.files)
    read_statuses(runs)
    return tried


def test_a_report_on_changed_records_is_made(tmp_path: Path):
    report_on_changed(10, 0, tmp_path)


@pytest.mark.slow
def test_many_reports_on_changed_records_are_made(tmp_path: Path):
    for seed in range(1, 200):
        (tmp_path / str(seed)).mkdir()
        report_on_changed(6, seed, tmp_path / str(seed))


def test_benches_are_held_to_the_same(tmp_path: Path):
    made = asdict(bench("softmax", 256))
    changes = (
        {"shape": "../../x"},
        {"length": -1},
        {"seconds": [0.0]},
        {"environment": {"device": 5}},
        {"row": "a\nb"},
    )
    for place, change in enumerate(changes):
        save(tmp_path, f"bench-{place}", made | change)
    bench_record.save(bench("elu", 256), tmp_path)
    benches, problems = read_benches([tmp_path])
    assert [b.row for b in benches] == ["elu"]
    named = ["shape", "length", "seconds", "environment.device", "row"]
    assert [problem.rpartition(" bad ")[2] for problem in problems] == named
