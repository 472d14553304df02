"""What travels between the driver and the nodes: a run as a record without results, and the files that it ends with.

A user's files travel as texts within that record. The node imports its own copy of a file if it has the same text, else
it writes the text to a file; either must have the hash that the driver has computed.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from lra import console
from lra.errors import RecordError, UserError, WorkError
from lra.experiments.data import TaskData
from lra.experiments.job import Job, placeholder_record
from lra.experiments.load import config_of, run_of, task_of
from lra.experiments.plan import Request
from lra.experiments.run import Run
from lra.experiments.trust import note_code_of
from lra.results.files import write_atomically
from lra.results.layout import BEST, ERROR, LAST, METRICS, weights_file
from lra.results.record import Record, load

FILES = (weights_file(BEST), weights_file(LAST), METRICS, ERROR)  # names in a run folder
PASSED = ("OMP_NUM_THREADS", "GOMP_SPINCOUNT")  # variables that are sent, besides those that begin with LRA_


def order_of(job: Job, prepared: TaskData, request: Request, **about: Any) -> bytes:
    """The order for a node, as one line of JSON. about: further fields of the order. Raises RecordError."""
    record = placeholder_record(job, prepared)
    order = {
        "record": asdict(record),
        "name": job.path.stem,
        "title": job.title,
        "out": str(job.path.parent.resolve()),
        "driver": platform.node(),
        "data_dir": str(request.data_dir.resolve()) if request.data_dir else "",
        "track": request.track,
    }
    return json.dumps(order | about).encode()


def variables() -> dict[str, str]:
    """The variables of the driver that a run may depend on."""
    return {name: value for name, value in os.environ.items() if name.startswith("LRA_") or name in PASSED}


def run_of_order(fields: dict[str, Any]) -> Run:
    """The run of an order, on the node. fields: of its record. Raises WorkError where a user's file cannot be used."""
    record = Record(**fields)
    note_code_of(record)
    console.show(bars=False, lines=False)  # the driver has printed the messages about these files
    try:
        task_of(record)
        run = run_of(record, config_of(record))
    except (ValueError, UserError) as error:
        where = " and ".join(paths_of(record)) or record.row
        raise WorkError(
            f"{where} cannot be copied to this node: {error}; put it in a folder that all nodes share"
        ) from error
    finally:
        console.show(bars=False, lines=True)
    return replace(run, planned=record)


def paths_of(record: Record) -> list[str]:
    """Where the user's files of a run are, on the driver."""
    parts = record.attention.get("parts") or [record.attention]
    paths = [*(part.get("path") for part in parts), record.backbone.get("path"), record.data.get("file")]
    return [path for path in paths if path]


def keep(job: Job, contents: Mapping[str, bytes]) -> None:
    """Writes the files that a node has sent, the record last. Raises RecordError for a bad record or another run's."""
    folder = job.folder.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if name in contents:
            write_atomically(folder / name, contents[name])
    arrived = folder / "arrived.json"
    write_atomically(arrived, contents["record"])
    try:
        record = load(arrived)
        if record.name != job.path.stem:
            raise RecordError(f"a node has sent the record of {record.name} for {job.path.stem}")
        job.record = record
        job.keep()
    finally:
        arrived.unlink(missing_ok=True)
    if job.final:
        job.finish()
