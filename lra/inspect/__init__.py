"""A look inside the attentions of an encoder, trained or fresh, on real samples; computes on the CPU in float64.

Every mechanism is read by what it does, not by its name: its token-to-token matrix is probed, parts like a gate are
found by the names of their parameters. Sequences of up to 4,096 tokens; the matrices held at a time take at most 64 MB,
and with what is computed from them about 0.5 GB, because beyond that only some rows are read, and it says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lra.console import say
from lra.errors import UserError
from lra.inspect import figures, maps, tables
from lra.inspect.look import Findings, look
from lra.inspect.subjects import InspectError, Subject, fresh, samples, trained
from lra.results.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["InspectError", "Subject", "Written", "fresh", "look", "samples", "trained", "write"]


@dataclass(frozen=True)
class Written:
    """A group's folder, the table for the terminal, and what was left out or sampled."""

    folder: Path
    text: str
    notes: tuple[str, ...]
    looked: int  # subjects with at least one layer that could be read


def write(subjects: Sequence[Subject], count: int, out: Path) -> list[Written]:
    """Looks at each subject on `count` samples; writes figures, CSVs and figures.json below `out`/group.

    A group is the subjects of one task and protocol, trained or fresh. Raises InspectError.
    """
    groups: dict[str, list[Subject]] = {}
    for subject in subjects:
        groups.setdefault(subject.group, []).append(subject)
    return [_write_group(mine, count, out / _slug(name)) for name, mine in groups.items()]


def _write_group(subjects: Sequence[Subject], count: int, folder: Path) -> Written:
    found = []
    for subject in subjects:
        inputs = samples(subject, count)
        say(f"{subject.task} {subject.row}: {subject.origin}, {len(inputs)} validation samples")
        found.append(look(subject.row, subject.origin, subject.model, inputs, subject.data.spec.grid))
    first = subjects[0]
    where = f"{first.task}, {first.protocol.replace(',', ', ')}"
    data = {
        "numbers": tables.numbers(found),
        "powers": tables.powers(found),
        "gates": tables.gates(found),
        "learned": tables.learned(found),
    }
    pictures = figures.compare(found, data["numbers"], data["powers"], where)
    pictures += [picture for one in found for picture in maps.own(one, where)]
    contents = {f"{name}.csv": _csv(table) for name, table in data.items() if len(table)}
    index = _index(subjects, found, pictures, list(contents), count)
    for picture in pictures:
        contents |= picture.render()
    contents["figures.json"] = (json.dumps(index, indent=1, ensure_ascii=False) + "\n").encode()
    _store(contents, folder)
    notes = tuple(note for one in found for note in one.notes)
    return Written(folder, tables.summary(data["numbers"]), notes, sum(bool(one.numbers) for one in found))


def _index(
    subjects: Sequence[Subject],
    found: Sequence[Findings],
    pictures: Sequence[figures.Picture],
    names: list[str],
    n: int,
) -> dict[str, object]:
    """What a page needs to show the folder without opening anything else in it."""
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
        "notes": [note for one in found for note in one.notes],
        "figures": [
            {"title": p.title, "file": f"{p.name}.png", "svg": f"{p.name}.svg", "alt": p.alt} for p in pictures
        ],
        "tables": names,
    }


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9._=-]+", ".", name.lower())[:80].strip(".")


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n", float_format="%.8g").encode()


def _store(contents: dict[str, bytes], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from error
