"""A few papers and pairs for the tests of Retrieval, in the compact form and in the form of LRA's release."""

from dataclasses import replace

from parquet import write

import tasks
from tasks.retrieval import task as retrieval

TASK = tasks.find("retrieval")
SETTINGS = TASK.settings(length=8)
OFFICIAL = replace(SETTINGS, retrieval_pairs="official")
PAPERS = {"A": "alpha beta gamma", "B": '"quoted', "C": "né", "D": "", "E": 'an "odd" text', "F": "unused"}
LIST = "train\t1\tA\tB\ntrain\t0\tB\tC\ntrain\t1\tD\tA\neval\t0\tA\tB\neval\t1\tA\tC\ntest\t1\tE\tA\ntest\t0\tC\tB\n"
HEADER = "split\tlabel\tid1\tid2\n"
FULL = bytes([*b"alpha be"])


def write_compact(folder, listed=HEADER + LIST, papers=PAPERS, name="pairs.tsv"):
    (folder / "aan").mkdir(parents=True, exist_ok=True)
    write(folder / "aan" / "docs.parquet", id=list(papers), text=list(papers.values()))
    (folder / "aan" / name).write_text(listed)
    return folder


def released(papers=PAPERS):
    """The same pairs in the form of LRA's release: file -> bytes."""
    files = dict.fromkeys(retrieval.FILES.values(), b"")
    for line in LIST.splitlines():
        split, label, *pair = line.split("\t")
        row = "\t".join([f"{label}.0", *pair, *(papers[paper] for paper in pair)])
        files[f"new_aan_pairs.{split}.tsv"] += row.encode() + b"\n"
    return files


def write_released(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def prepare(folder, settings=SETTINGS, cache="cache"):
    return TASK.prepare(settings, folder, folder / cache, False)


def texts(split, row):
    return [split.values[paper, : split.lengths[paper]].tobytes() for paper in split.pairs[row]]


def check_rows(data):
    """The empty paper D is a NUL; paper C is whole, with a second character of two bytes."""
    assert data.spec == tasks.Spec(vocab=257, classes=2, length=8, pair=True)
    assert [texts(data.train, row) for row in range(3)] == [
        [FULL, b'"quoted'],
        [b'"quoted', b"n\xc3\xa9"],
        [b"\0", FULL],
    ]
    assert [texts(data.test, row) for row in range(2)] == [[b'an "odd"', FULL], [b"n\xc3\xa9", b'"quoted']]
    assert [split.labels.tolist() for split in (data.train, data.validation, data.test)] == [[1, 0, 1], [0, 1], [1, 0]]
    assert data.train.groups["label"][0] == ["not cited", "cited"]
    assert data.test.groups["label"][1].tolist() == [1, 0]
    assert data.about["documents"] == len(data.train.values) == 5
