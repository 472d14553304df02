"""Code that changed without changing a number keeps the identity of the runs recorded before; no other code does."""

import hashlib
from pathlib import Path

import pytest

import attention_zoo
from attention_zoo import _source
from attention_zoo._same_numbers import CHANGES, Change
from lra.report.load import find
from lra.results.record import RESULTS_VERSION

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.file)
def test_an_entry_is_of_the_code_as_it_is(change: Change):
    code = _source.code_of(_source.read(_source.HERE / change.file))
    now = hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()
    assert now == change.now, (
        f"attention_zoo/{change.file} has changed. If outputs and first gradients are still those of the recorded "
        f"code, bit for bit, set now={now!r} in attention_zoo/_same_numbers.py; if not, delete its entry there"
    )
    assert change.why.endswith(".")


def test_committed_records_are_of_the_mechanisms_as_they_are():
    """A run that is asked for again is skipped. Whoever moves a number on purpose makes the records anew."""
    found, _ = find([ROOT / "results" / "records"])
    records = [record for record in found.values() if record.results_version == RESULTS_VERSION]
    assert len(records) > 100
    for record in records:
        entry, _ = attention_zoo.find(str(record.attention["address"]))
        assert entry.source_hash == record.attention["source_hash"], record.name


def test_any_other_edit_is_another_mechanism(monkeypatch: pytest.MonkeyPatch):
    before = {name: attention_zoo.find(name)[0].source_hash for name in ("elu", "flatten")}

    def read(path: Path) -> str:
        return _source.read(path) + "\nEDITED = True\n" * (path.name == "_kernels.py")

    monkeypatch.setattr(_source, "read_zoo", read)
    assert all(attention_zoo.find(name)[0].source_hash != old for name, old in before.items())
