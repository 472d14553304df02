"""A disk that is full in the middle of a run: a small file system in memory, where this system lets us mount one."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
from pathlib import Path

from soak.commands import Command, contents
from soak.counts import Plan, isolated
from soak.kills import PATIENCE, undisturbed, words_of

TIMES = 8
KIBIBYTES = (30, 420)  # size of the file system; the grid with its checkpoints needs about 500
NEW_MOUNTS, NEW_USERS = 0x20000, 0x10000000  # flags of unshare


def run(plan: Plan) -> None:
    reason = isolated(lambda: refusal(plan.folder / "mount"))
    if reason:
        plan.rows.append(("grids on a full disk", f"0: skipped, {reason}"))
        return
    draw = random.Random(plan.seed + 2)
    calm, _ = undisturbed(plan, plan.folder / "calm-disk", 2)
    for number in range(TIMES):
        if not plan.left():
            break
        fill(plan, plan.folder / f"disk{number}", draw.randint(*KIBIBYTES), calm)
    plan.take("grids on a full disk", "stopped by it with one line", "there, records compared")


def refusal(place: Path) -> str:
    """The reason why nothing can be mounted here, or an empty string."""
    try:
        mount(place, 64)
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error)
    return ""


def mount(place: Path, kibibytes: int) -> None:
    """Mounts a file system in memory that only this process and its children see; OSError or CalledProcessError."""
    users = f"0 {os.getuid()} 1", f"0 {os.getgid()} 1"
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(NEW_MOUNTS | NEW_USERS):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    Path("/proc/self/setgroups").write_text("deny")
    for name, line in zip(("uid_map", "gid_map"), users, strict=True):
        Path("/proc/self", name).write_text(line)
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "none", place], check=True, capture_output=True)


def on_a_small_disk(place: Path, kept: Path, kibibytes: int) -> list[tuple[int | None, str]]:
    """Runs a grid in `place`, then again with room, and copies the disk to `kept` each time -> exit codes, stderr."""
    mount(place, kibibytes)
    outcomes = []
    for number in range(2):
        command = Command(words_of(place, 2), kept.with_suffix(f".{number}.txt"))
        outcomes.append((command.wait(PATIENCE), command.text()))
        shutil.copytree(place, kept / str(number))
        subprocess.run(["mount", "-o", "remount,size=64m", place], check=True, capture_output=True)
    return outcomes


def fill(plan: Plan, kept: Path, kibibytes: int, calm: dict[str, str]) -> None:
    """Runs a grid on a disk of this size, and counts its result and its faults."""
    found = isolated(lambda: on_a_small_disk(kept.with_suffix(".place"), kept, kibibytes))
    if isinstance(found, str):
        plan.fault("losses", f"the disk could not be filled: {found}")
        return
    for _, said in found:
        if "Traceback" in said:
            plan.fault("tracebacks", said[said.index("Traceback") :][-600:])
    (code, said), (again, later) = found
    if code:
        plan.counts["stopped by it with one line"] += 1
        if code not in (1, 2) or "No space left on device" not in said:
            plan.fault("losses", f"a full disk of {kibibytes} KiB ended with {code}: {said[-300:]}")
    if again:
        plan.fault("losses", f"with room again it ended with {again}: {later[-300:]}")
    early, late = contents(kept / "0"), contents(kept / "1")
    for name, content in calm.items():
        plan.counts["there, records compared"] += 1
        if late.get(name) != content:
            plan.fault("losses", f"{name} {'differs' if name in late else 'is missing'} after a full disk")
        if name in early and (kept / "0" / name).read_bytes() != (kept / "1" / name).read_bytes():
            plan.fault("losses", f"{name} was final before the disk was full and has changed")
    plan.counts["grids on a full disk"] += 1
