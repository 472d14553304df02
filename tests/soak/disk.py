"""A disk that is full in the middle of a run: a small file system in memory, where this system lets us mount one."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys

from soak.commands import ROOT, contents
from soak.counts import Plan
from soak.kills import PATIENCE, undisturbed, words_of

TIMES = 6
KIBIBYTES = (30, 420)  # of the file system: the grid needs some 500 with its checkpoints
# Within a name space of its own: a grid on a small disk, what there is of it then, the same grid with room, and all.
SCRIPT = """
place=$1 size=$2 first=$3 last=$4; shift 4
mkdir -p "$place" "$first" "$last" && mount -t tmpfs -o size="$size"k none "$place" || exit 9
"$@" 2>"$first.txt" >/dev/null; echo $? >"$first.code"
cp -a "$place/." "$first"
mount -o remount,size=64m "$place" || exit 9
"$@" 2>"$last.txt" >/dev/null; echo $? >"$last.code"
cp -a "$place/." "$last"
"""


def refusal() -> str:
    """Why nothing can be mounted here, or nothing."""
    if shutil.which("unshare") is None:
        return "there is no `unshare` here"
    tried = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    return (tried.stderr.strip() or "nothing can be mounted").splitlines()[0] if tried.returncode else ""


def run(plan: Plan) -> None:
    if reason := refusal():
        plan.rows.append(("grids on a full disk", f"0: skipped, {reason}"))
        return
    draw = random.Random(plan.seed + 2)
    calm, _ = undisturbed(plan, plan.folder / "calm-disk", 2)
    for number in range(TIMES):
        if not plan.left():
            break
        fill(plan, number, draw.randint(*KIBIBYTES), calm)
    plan.take("grids on a full disk", "stopped by it with one line", "there, records compared")


def fill(plan: Plan, number: int, size: int, calm: dict[str, str]) -> None:
    """A grid on a disk of `size` KiB, and then with room."""
    place, first, last = (plan.folder / f"disk{number}-{name}" for name in ("place", "first", "last"))
    program = [sys.executable, str(ROOT / "run_lra.py"), *words_of(place, 2)]
    script = ["sh", "-c", SCRIPT, "sh", str(place), str(size), str(first), str(last), *program]
    if code := subprocess.run(["unshare", "-rm", *script], cwd=ROOT, timeout=2 * PATIENCE, check=False).returncode:
        plan.fault("losses", f"the disk could not be filled: {code}")
        return
    codes = [int(path.with_name(f"{path.name}.code").read_text()) for path in (first, last)]
    said = [path.with_name(f"{path.name}.txt").read_text() for path in (first, last)]
    for text in said:
        if "Traceback" in text:
            plan.fault("tracebacks", text[text.index("Traceback") :][-600:])
    if codes[0]:
        plan.counts["stopped by it with one line"] += 1
        if codes[0] not in (1, 2) or "No space left on device" not in said[0]:
            plan.fault("losses", f"a full disk of {size} KiB ended with {codes[0]}: {said[0][-300:]}")
    if codes[1]:
        plan.fault("losses", f"with room again it ended with {codes[1]}: {said[1][-300:]}")
    found, early = contents(last), contents(first)
    for name, content in calm.items():
        plan.counts["there, records compared"] += 1
        if found.get(name) != content:
            plan.fault("losses", f"{name} {'differs' if name in found else 'is missing'} after a full disk")
        if name in early and (first / name).read_bytes() != (last / name).read_bytes():
            plan.fault("losses", f"{name} was final before the disk was full and has changed")
    plan.counts["grids on a full disk"] += 1
