"""Random words, protocols, records and rows of data must end with exit code 0, or with 2 and one line; no traceback."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import tasks
from lra.cli import is_users, main
from lra.report import terminal
from lra.results.record import load
from soak.counts import Plan, isolated
from soak.kinds import ROOT
from soak.sources import LISTOPS, TREES, write_trees

TINY = ROOT / "tests" / "tiny.yaml"
RUN = ["--attn", "elu", "--task", "listops", "--protocol", "quick", "--dry-run"]
LONGEST = 3000  # characters of a message
ODD = ("", " ", "-1", "0", "1e400", "nan", ".inf", "[1]", "[[[[", "{a: 1}", "{a: [}", "~", "true", "&a [*a]", "9" * 40,
       "9223372036854775808", "2147483648", "1000000000", "!!set {a}", "'", "~nouser/x", "~nouser/x.py", "x" * 300,
       "x" * 300 + ".py", "a\0b", "\ud800", "../../x", "/dev/zero", ".", "-", "--", "é", "pola", "0-99999999999",
       "softmax*99999+elu", "pola:alpha=", "pola:alpha=1e400", "!!python/object:os.system {}")  # fmt: skip
KEYS = ("train.lr", "train.steps", "train.batch", "train.gear", "train.schedule", "model.layers", "model.dim",
        "model.vocab", "model.heads", "model.grid", "model.backbone", "model.length", "data.seed", "data.max_length",
        "data.train_rows")  # fmt: skip
OPTIONS = ("--attn", "--task", "--protocol", "--out", "--seed", "--devices", "--device", "--jobs", "--processes",
           "--shard", "--data-dir", "--backbone", "--sweep")  # fmt: skip


def text(draw: random.Random) -> str:
    """An odd string, random characters, or both."""
    letters = "".join(
        chr(draw.choice((draw.randrange(32, 127), draw.randrange(1, 0x3000)))) for _ in range(draw.randrange(12))
    )
    return draw.choice((draw.choice(ODD), letters, letters + draw.choice(ODD)))


def changed(content: bytes, draw: random.Random) -> bytes:
    """A copy with one, two or four changes of bytes or lines: replaced, inserted, removed or doubled."""
    lines = content.split(b"\n")
    for _ in range(draw.choice((1, 1, 2, 4))):
        row = draw.randrange(len(lines))
        line = bytearray(lines[row])
        at = draw.randrange(len(line) + 1)
        match draw.randrange(5):
            case 0:
                line[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                line[at : at + draw.randrange(9)] = b""
            case 2:
                line[at:at] = text(draw).encode("utf-8", "surrogatepass")
            case 3:
                lines.insert(row, bytes(line))
            case _:
                line = bytearray()
        lines[row] = bytes(line)
    return b"\n".join(lines)


def command(words: list[str], *codes: int) -> str:
    """Runs a command -> the fault in how it ended, or "". codes: exit codes allowed beside 0 and 2, with one line."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = main(words)
    lines = said.getvalue().splitlines()
    if code not in (0, 2, *codes) or (code and (len(lines) != 1 or len(lines[0]) > LONGEST)):
        return f"exit code {code} and {len(lines)} lines: {said.getvalue()[:300]}"
    return ""


def words(draw: random.Random, folder: Path) -> str:
    """Runs a command with an odd value of one option."""
    option = draw.choice(OPTIONS)
    values = [text(draw) for _ in range(draw.choice((1, 1, 2)))]
    given = [word for word in RUN if option not in RUN or word not in (option, RUN[RUN.index(option) + 1])]
    return command([*given, option, *values, *(["--out", str(folder / "out")] if option != "--out" else [])])


def values(draw: random.Random, folder: Path) -> str:
    """Runs a command with odd values of --set."""
    pairs = {draw.choice((*KEYS, text(draw))): text(draw) for _ in range(draw.choice((1, 1, 2)))}
    return command([*RUN, "--out", str(folder / "out"), "--set", *(f"{key}={value}" for key, value in pairs.items())])


def specs(draw: random.Random, folder: Path) -> str:
    """Runs a command with odd options of an attention."""
    name = draw.choice(("pola", "softmax", "agent", "elu*2+pola", text(draw)))
    options = ",".join(f"{draw.choice(('conv', 'alpha', 'agents', text(draw)))}={text(draw)}" for _ in range(2))
    return command(["--attn", f"{name}:{options}", *RUN[2:], "--out", str(folder / "out")])


def protocols(draw: random.Random, folder: Path) -> str:
    """Runs a command with a protocol file that has changed bytes or lines."""
    (folder / "mine.yaml").write_bytes(changed(TINY.read_bytes(), draw))
    return command([*RUN[:4], "--protocol", str(folder / "mine.yaml"), "--dry-run", "--out", str(folder / "out")])


def records(draw: random.Random, folder: Path) -> str:
    """Reads and reports a record with changed bytes; its digest is removed, because it would reveal every change."""
    fields = json.loads(draw.choice(COMMITTED).read_bytes())
    fields.pop("digest", None)
    path = folder / "listops-elu-quick-s0-0123456789ab.json"
    path.write_bytes(changed(json.dumps(fields, indent=1).encode(), draw))
    try:
        terminal([load(path)])
    except ValueError as error:
        if not is_users(error) or len(str(error).splitlines()) > 1:
            raise
    return command(["status", str(folder)], 1)


def rows(draw: random.Random, folder: Path) -> str:
    """Prepares data from released ListOps files with changed bytes or lines."""
    place = folder / "trees"
    if not place.exists():
        write_trees(place)
    path = draw.choice(sorted(place.glob("basic_*.tsv")))
    content = path.read_bytes()
    path.write_bytes(changed(content, draw))
    try:
        LISTOPS.prepare(TREES, place, folder / "cache", False)
    except tasks.DataError as error:
        return "" if len(str(error).splitlines()) == 1 else f"{error}"
    finally:
        path.write_bytes(content)
        shutil.rmtree(folder / "cache", ignore_errors=True)
    return ""


COMMITTED = sorted((ROOT / "results" / "records").glob("*.json"))
KINDS: dict[str, tuple[Callable[[random.Random, Path], str], float]] = {  # name -> function, and its share of the tries
    "options": (words, 0.25),
    "values of --set": (values, 0.2),
    "specs": (specs, 0.15),
    "protocols": (protocols, 0.2),
    "records": (records, 0.1),
    "rows of TSV files": (rows, 0.1),
}


def fuzz(name: str, seed: int, count: int, seconds: float, folder: Path) -> tuple[int, list[str]]:
    """Tries inputs of a kind -> how many were tried, and a line for each that ended wrong."""
    act, share = KINDS[name]
    wrong, tried, began = [], 0, time.monotonic()
    for tried in range(1, round(count * share) + 1):
        if time.monotonic() - began > seconds * share:
            break
        draw = random.Random(f"{seed} {name} {tried}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = act(draw, folder)
        except Exception:
            found = traceback.format_exc(limit=-4)
        if found:
            wrong.append(f"{name}, seed {seed}, number {tried}: {found}")
    return tried, wrong


def run(plan: Plan) -> None:
    total = 0
    for name in KINDS:
        folder = plan.folder / "fuzz" / name.replace(" ", "-")
        folder.mkdir(parents=True)
        found = isolated(lambda name=name, folder=folder: fuzz(name, plan.seed, plan.tries, plan.seconds, folder))
        if isinstance(found, str):
            plan.fault("tracebacks", f"inputs, {name}: {found}")
            continue
        total += found[0]
        plan.rows.append((f"inputs tried: {name}", str(found[0])))
        for line in found[1]:
            plan.fault("tracebacks", line)
    plan.rows.append(("inputs tried", str(total)))
