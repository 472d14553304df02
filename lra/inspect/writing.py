"""Tables, figures and numbers of the encoders that were looked at, group by group, as files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import lra.report.figures  # noqa: F401 - takes MPLBACKEND away before matplotlib is imported
from lra.console import say
from lra.errors import in_one_line, to_type
from lra.hashing import identity_of
from lra.inspect import figures, figures_of_one, tables
from lra.inspect.encoders import InspectError, Subject, samples
from lra.inspect.findings import Findings, examine
from lra.report.escape import without_formulas
from lra.results.files import encoded, write_all

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Written:
    """The folder of a group, its table for the terminal, and notes on what was left out or sampled."""

    folder: Path
    text: str
    notes: tuple[str, ...]
    readable: int  # subjects with at least one layer that could be read


def write(subjects: Sequence[Subject], count: int, out: Path) -> list[Written]:
    """Examine each subject on `count` samples; write figures, CSVs and figures.json below `out`/group.

    The subjects of one task and protocol, trained or fresh, make a group. Raises InspectError, and WorkError when the
    folder cannot be written to.
    """
    groups: dict[str, list[Subject]] = {}
    for subject in subjects:
        groups.setdefault(subject.group, []).append(subject)
    return [_write_group(members, count, out / _slug(name)) for name, members in groups.items()]


def _write_group(subjects: Sequence[Subject], count: int, folder: Path) -> Written:
    findings = []
    for subject in subjects:
        inputs = samples(subject, count)
        say(f"{subject.task} {subject.row}: {subject.origin}, {len(inputs)} validation samples")
        try:
            findings.append(examine(subject.row, subject.origin, subject.model, inputs, subject.data.spec.grid))
        except Exception as error:
            if not subject.users:
                raise
            raise InspectError(f"{subject.row}: {in_one_line(error)}; {to_type('check', subject.users)}") from error
    first = subjects[0]
    where = f"{first.task}, {first.protocol.replace(',', ', ')}"
    data = {
        "numbers": tables.numbers(findings),
        "powers": tables.powers(findings),
        "gates": tables.gates(findings),
        "learned": tables.learned(findings),
    }
    pictures = figures.compare(findings, data["numbers"], data["powers"], where)
    pictures += [picture for one in findings for picture in figures_of_one.figures_of(one, where)]
    contents = {f"{name}.csv": _csv(table) for name, table in data.items() if len(table)}
    index = _index(subjects, findings, pictures, list(contents), count)
    for picture in pictures:
        contents |= picture.render()
    contents["figures.json"] = encoded(json.dumps(index, indent=1, ensure_ascii=False) + "\n")
    write_all(contents, folder, ("figures.json", '"samples": '))
    notes = tuple(note for one in findings for note in one.notes)
    return Written(folder, tables.summary(data["numbers"]), notes, sum(bool(one.numbers) for one in findings))


def _index(
    subjects: Sequence[Subject],
    findings: Sequence[Findings],
    pictures: Sequence[figures.Picture],
    names: list[str],
    n: int,
) -> dict[str, object]:
    """The content of figures.json, from which the page of a report shows the folder."""
    first = subjects[0]
    state = "trained" if first.trained else "fresh"
    return {
        "schema_version": 1,
        "title": f"Inside the attention: {first.task}, {first.protocol}, {state} encoders",
        "task": first.task,
        "protocol": first.protocol,
        "trained": first.trained,
        "data_hash": first.data.hash,
        "samples": n,
        "subjects": [{"row": s.row, "seed": s.seed, "origin": s.origin} for s in subjects],
        "notes": [note for one in findings for note in one.notes],
        "figures": [
            {"title": p.title, "file": f"{p.name}.png", "svg": f"{p.name}.svg", "alt": p.alt} for p in pictures
        ],
        "tables": names,
    }


def _slug(name: str) -> str:
    text = re.sub(r"[^a-z0-9._=-]+", ".", name.lower()).strip(".")
    return text if len(text) <= 80 else f"{text[:71]}-{identity_of({'name': name})[:8]}"


def _csv(table: pd.DataFrame) -> bytes:
    return encoded(without_formulas(table).to_csv(index=False, lineterminator="\n", float_format="%.8g"))
