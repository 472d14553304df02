"""A flipped bit in a file of any kind is noticed, or no content that is read changes; `make soak` flips many more."""

import random
from pathlib import Path

import aan_files
import pytest
from soak.flips import MAKERS, kinds_of, outcomes

from tasks import DataError

COUNT = 10  # flips of each kind
OWN_TESTS = {"a_record", "a_bench", "a_checkpoint", "weights", "prepared", "a_ladder", "an_archive"}  # in this folder


@pytest.mark.parametrize("name", sorted(MAKERS.keys() - OWN_TESTS))
def test_no_bit_flips_unnoticed(name: str, tmp_path: Path):
    """If a changed raw file can still be read, its data has another hash, and so counts as other data."""
    for kind in kinds_of(MAKERS[name], tmp_path):
        for result, file in outcomes(kind, random.Random(name), COUNT):
            allowed = {"noticed", "same content", "another identity", *(["words"] if kind.words else [])}
            assert result in allowed, f"{file}: {result}"


def test_the_flips_can_fail(tmp_path: Path):
    """A reader that verifies nothing is reported as unnoticed."""
    (kind,) = kinds_of(MAKERS["a_record"], tmp_path)
    believing = type(kind)(kind.name, kind.files, lambda: ("", kind.files[0].read_bytes()))
    assert {result for result, _ in outcomes(believing, random.Random(0), 3)} == {"unnoticed"}


def test_a_text_that_is_not_utf_8_is_named(tmp_path: Path):
    """Arrow accepts it as a text, and Python cannot decode it."""
    path = aan_files.write_compact(tmp_path) / "aan" / "docs.parquet"
    path.write_bytes(path.read_bytes().replace(b"alpha beta", b"\xeclpha beta"))
    with pytest.raises(DataError, match=r"docs.parquet holds a text that is not UTF-8 .*: copy it again"):
        aan_files.prepare(tmp_path)
