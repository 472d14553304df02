"""Which code of a record may be imported: what the user has run on this machine, or has allowed by LRA_TRUST_RECORDS.

A record names users' files and holds their texts, and it may come from anywhere. So each run notes in the cache the
hash of the users' texts that it ran, and a text in a record is imported only if its hash is noted.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path

import tasks
from lra.console import say
from lra.results.record import Record

VARIABLE = "LRA_TRUST_RECORDS"
REFUSAL = (
    "the record's code has never run on this machine and is not run; read it, and run it with your own file, or set "
    f"{VARIABLE}=1 to run what records hold"
)


def note(text: str, beside: Mapping[str, str]) -> None:
    """Notes that the user has run a file with this text. beside: file name -> text of the files that it uses."""
    with contextlib.suppress(OSError):  # without the note, a record's code is refused later
        place = _place(text, beside)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


def note_code_of(record: Record) -> None:
    """Notes the users' code that a run uses, so that its record may be loaded with it."""
    attention = record.attention
    for about in (*(attention.get("parts") or [attention]), record.backbone):
        if "source" in about:
            note(about["source"], about.get("beside", {}))
    if code := record.data.get("code"):
        note(code, {})


def is_trusted(text: str, beside: Mapping[str, str]) -> bool:
    """May this text of a record, with the files beside it, be imported?"""
    return os.environ.get(VARIABLE) == "1" or _place(text, beside).exists()


def is_the_file(path: str, text: str, beside: Mapping[str, str], what: str) -> bool:
    """Do the file at this path and the files beside it have exactly these texts? If so, says that it is imported."""
    try:
        file = Path(path).expanduser()
        for name, content in {file.name: text, **beside}.items():
            if importlib.util.decode_source((file.parent / name).read_bytes()) != content:
                return False
    except (OSError, SyntaxError, ValueError, RuntimeError):
        return False
    say(f"{path} is imported: it has the text of the record's {what}")
    return True


def _place(text: str, beside: Mapping[str, str]) -> Path:
    content = json.dumps([text, dict(beside)], sort_keys=True)
    return tasks.cache_folder() / "run-before" / hashlib.sha256(content.encode()).hexdigest()
