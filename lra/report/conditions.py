"""The conditions under which two records are compared: data and configuration for accuracy, the machine for speed."""

import json
from typing import Any

from lra.report.load import flat
from lra.results.record import Record, budget_of


def conditions(record: Record) -> str:
    """A text that is equal for records of one task that differ only in mechanism, seed and machine.

    Each mechanism may have its own value of a swept key, as long as the same values were tried. A row with a matched
    number of parameters, and so another MLP, has the same text as the unmatched row.
    """
    budget = budget_of(record.tuning)
    tuned = record.tuning.get("config_hash") or _unswept(record)
    config = tuned if budget else record.matched.get("config_hash") or record.config_hash or record.config
    return json.dumps([record.data.get("hash", ""), config, *([budget] if budget else [])], sort_keys=True)


def _unswept(record: Record) -> dict[str, Any]:
    """The configuration, with the values that were tried in place of the chosen one: 'train.lr' -> '0.1 or 0.2'.

    It lacks the gear and the precision, which are those asked for; other fields of a record hold the ones that ran.
    """
    plain, values = flat("", record.config), budget_of(record.tuning).get("values", {})
    plain |= {"model.mlp": record.matched["protocol_mlp"]} if "protocol_mlp" in record.matched else {}
    plain = {key: value for key, value in plain.items() if key not in ("train.gear", "train.precision")}
    return plain | {key: " or ".join(map(str, tried)) for key, tried in values.items()}


def differences(first: Record, other: Record) -> str:
    """How a variant of a task differs from the first: 'data, train.lr=0.001'."""
    known, changed = _unswept(first), _unswept(other)
    words = ["data"] if first.data.get("hash") != other.data.get("hash") else []
    words += [f"{key}={changed.get(key)}" for key in known | changed if known.get(key, ...) != changed.get(key, ...)]
    return ", ".join(words) or f"configuration {other.config_hash}"


def machine(environment: dict[str, Any]) -> str:
    """What two records must share for speed and memory to be compared: device, processes and, on a CPU, threads."""
    words = [str(environment.get("device_name") or environment.get("device") or "unknown machine")]
    threads = environment.get("threads") if environment.get("device") == "cpu" else None
    words += [] if threads is None else [f"{threads} thread{'s' * (threads != 1)}"]
    processes = environment.get("processes") or 1
    return ", ".join(words + [f"{processes} processes"] * (processes > 1))
