"""Code that changed without changing a number keeps the identity of recorded runs; other changed code does not."""

import hashlib
from pathlib import Path

import pytest

import attention_zoo
from attention_zoo import _source
from attention_zoo._same_numbers import CHANGES, Change
from lra.config.resolve import config_hash
from lra.experiments.data import resolve_for
from lra.experiments.load import config_of, run_of
from lra.results.find import find_records
from lra.results.record import RESULTS_VERSION, Record

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


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """The committed records of this RESULTS_VERSION."""
    found, problems = find_records([ROOT / "results" / "records", ROOT / "results" / "records" / "audit"])
    assert not problems
    kept = [record for record in found.values() if record.results_version == RESULTS_VERSION]
    assert len(kept) > 100
    return kept


def test_committed_records_are_of_the_mechanisms_as_they_are(records: list[Record]):
    """So a repeated run is skipped. After an intended change of a number, the records must be made again."""
    for record in records:
        entry, _ = attention_zoo.find(str(record.attention["address"]))
        assert entry.source_hash == record.attention["source_hash"], record.name


def test_committed_records_keep_their_identity(records: list[Record]):
    """Identities are computed again from the record; a change of what they cover must raise RESULTS_VERSION."""
    for record in records:
        run = run_of(record, config_of(record))
        assert run.identity(record.data["hash"]) == record.identity, record.name


def test_committed_records_are_of_the_protocols_as_they_are(records: list[Record]):
    plain = [record for record in records if "[" not in record.protocol]
    assert {"quick", "hour", "nystromformer"} <= {record.protocol for record in plain}
    for record in plain:
        now = config_hash(resolve_for(record.task, record.protocol, []))
        assert now == record.config_hash, f"protocol {record.protocol} is another for {record.task}: {record.name}"


def test_any_other_edit_is_another_mechanism(monkeypatch: pytest.MonkeyPatch):
    before = {name: attention_zoo.find(name)[0].source_hash for name in ("elu", "flatten")}

    def read(path: Path) -> str:
        return _source.read(path) + "\nEDITED = True\n" * (path.name == "_kernels.py")

    monkeypatch.setattr(_source, "read_zoo", read)
    assert all(attention_zoo.find(name)[0].source_hash != old for name, old in before.items())
