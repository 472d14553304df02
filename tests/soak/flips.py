"""Flips random bits in an example of each kind of file: a reader must notice, or read the same content."""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from lra.cli import is_users
from soak.counts import Plan, isolated
from soak.kinds import WRITTEN, Kind, Noticed
from soak.sources import READ

MAKERS = {maker.__name__.removeprefix("of_"): maker for maker in (*WRITTEN, *READ)}
LONGEST = 3000  # characters of a message
LEAST = 40  # flips of each kind, even beyond the time


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def kinds_of(maker: Callable[[Path], Kind | list[Kind]], folder: Path) -> list[Kind]:
    made = maker(folder)
    return made if isinstance(made, list) else [made]


def outcome(kind: Kind, whole: tuple) -> str:
    """Reads it -> 'noticed', 'same content', 'another identity', 'words', or a fault: 'unnoticed', a traceback."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = kind.read()
    except Noticed:
        return "noticed"
    except Exception as error:
        if is_users(error) and len(str(error)) < LONGEST:
            return "noticed"
        return "traceback: " + traceback.format_exc(limit=-3)
    if result == whole:
        return "same content"
    if kind.words:
        return "words"
    return "another identity" if result[0] != whole[0] else "unnoticed"


def outcomes(kind: Kind, draw: random.Random, count: int) -> Iterator[tuple[str, str]]:
    """Flips `count` bits, one at a time -> the outcome, and the name of the file, of each."""
    whole = kind.read()
    assert kind.read() == whole, f"{kind.name} is not read twice alike"
    for number in range(count):
        path = kind.files[number % len(kind.files)]
        content = path.read_bytes()
        flip(path, draw)
        yield outcome(kind, whole), path.name
        path.write_bytes(content)


def flip_kind(name: str, seed: int, count: int, seconds: float) -> dict[str, Counter]:
    """Kind -> count of each outcome, where faults name the file. seconds: for all flips, about."""
    by_kind: dict[str, Counter] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds_of(MAKERS[name], Path(folder)):
            counts = by_kind.setdefault(kind.name, Counter())
            for result, file in outcomes(kind, random.Random(f"{seed} {kind.name}"), count):
                counts[f"{result} ({file})" if result.startswith(("traceback", "unnoticed")) else result] += 1
                if time.monotonic() - began > seconds and counts.total() >= LEAST:
                    break
    return by_kind


def run(plan: Plan) -> None:
    """Each maker runs in a process of its own, because a crash of a reader written in C must be a fault, too."""
    for place, name in enumerate(MAKERS):
        seconds = (plan.seconds - (time.monotonic() - plan.began)) / (
            len(MAKERS) - place
        )  # each has its share of the rest
        found = isolated(lambda name=name, seconds=seconds: flip_kind(name, plan.seed, plan.flips, seconds))
        if isinstance(found, str):
            plan.fault("tracebacks", f"flips of {name}: {found}")
            continue
        for kind, counts in found.items():
            plan.rows.append((f"bits flipped: {kind}", table_line(counts)))
            for result, times in counts.items():
                if result.startswith(("traceback", "unnoticed")):
                    plan.fault("tracebacks" if result.startswith("t") else "losses", f"{kind}: {result}", times)


def table_line(counts: Counter) -> str:
    """The total and the count of each outcome, such as 7: 4 noticed, 3 same content, 0 unnoticed."""
    words = Counter()
    for result, times in counts.items():
        words[result.partition(":")[0].partition(" (")[0]] += times
    words.setdefault("unnoticed", 0)
    return f"{sum(words.values())}: {', '.join(f'{times} {word}' for word, times in words.items())}"
